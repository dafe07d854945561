// SPDX-License-Identifier: BSD-3-Clause
// Files laid out in another container: what stays, what is spelled otherwise, and what is refused.
#include "ckpt/format/convert.h"

#include <algorithm>
#include <string>
#include <vector>

#include <fmt/format.h>

#include "ckpt/edit/apply.h"
#include "ckpt/format/format.h"
#include "ckpt/rewrite/verify.h"
#include "support/catch.h"
#include "support/checkpoint_builder.h"
#include "support/pickle_assembler.h"
#include "support/zip_builder.h"

using namespace ckpt;
using namespace ckpt::test;

namespace {

constexpr auto kZip = FormatId::kTorchZip;
constexpr auto kLegacy = FormatId::kTorchLegacy;
constexpr auto kSafetensors = FormatId::kSafetensors;

struct Converted {
  std::string error;
  Bytes bytes;
  std::vector<std::string> notes;

  std::string_view text() const { return as_text(bytes); }

  std::string header() const {
    const auto length = load_le<std::uint64_t>(bytes.data());
    auto json = std::string(text().substr(8, length));
    return json.substr(0, json.find_last_not_of(' ') + 1);
  }

  Checkpoint read() const {
    REQUIRE(error == "");
    std::vector<std::string> findings;
    auto checkpoint = read_bytes(bytes, &findings);
    CHECK(findings.empty());
    if (!checkpoint) FAIL(checkpoint.error().text());
    return std::move(checkpoint).value();
  }

  std::vector<std::string> table() const { return test::table(read()); }

  bool notes_say(std::string_view text) const {
    return std::any_of(notes.begin(), notes.end(),
                       [&](const auto& note) { return note.find(text) != std::string::npos; });
  }
};

/// Converted after the edits of `plan`, and verified.
Converted convert(const Bytes& input, FormatId to, TiedTensors tied = TiedTensors::kAlias, Plan plan = {}) {
  auto checkpoint = read_bytes(input);
  if (!checkpoint) FAIL(checkpoint.error().text());
  if (!plan.edits.empty()) REQUIRE(apply_plan(plan, *checkpoint).ok());
  Converted out;
  const auto layout = lay_out_as({to, tied}, *checkpoint, out.notes);
  if (!layout) {
    out.error = layout.error().text() + (layout.error().hint().empty() ? "" : " | " + layout.error().hint());
    return out;
  }
  out.bytes = written(*layout, *checkpoint);
  const auto same = verify(*layout, 0, *checkpoint, source_of(out.bytes), nullptr);
  if (!same) FAIL(same.error().text());
  return out;
}

std::string refusal(const Bytes& input, FormatId to, TiedTensors tied = TiedTensors::kAlias) {
  return convert(input, to, tied).error;
}

std::vector<std::string> names(const Checkpoint& checkpoint) {
  std::vector<std::string> out;
  for (const auto& row : checkpoint.tensors) out.emplace_back(row.name);
  return out;
}

Plan renaming(const std::string& prefix) {
  Plan plan;
  plan.edits.emplace_back(RenameKeys{{{RenameRule::Kind::kAddPrefix, std::nullopt, prefix}}});
  return plan;
}

Plan dropping(const std::string& key) {
  Plan plan;
  FilterKeys filter;
  filter.rules.push_back({false, NamePattern::exact(key)});
  plan.edits.emplace_back(std::move(filter));
  return plan;
}

constexpr auto kFlat = "w float32 4x3; b float32 4; n int64 scalar; e float16 0x5; h bfloat16 6";

}  // namespace

// ---- to safetensors

TEST_CASE("a state dict becomes safetensors in the order of its keys", "[format]") {
  for (const auto& input : {build_torch_zip(kFlat), build_torch_legacy(kFlat)}) {
    const auto done = convert(input, kSafetensors);
    CHECK(done.table() == table(read_bytes(build_safetensors(kFlat)).value()));
    CHECK(done.header() ==
          R"({"__metadata__":{"format":"pt"},"w":{"dtype":"F32","shape":[4,3],"data_offsets":[0,48]},)"
          R"("b":{"dtype":"F32","shape":[4],"data_offsets":[48,64]},)"
          R"("n":{"dtype":"I64","shape":[],"data_offsets":[64,72]},)"
          R"("e":{"dtype":"F16","shape":[0,5],"data_offsets":[72,72]},)"
          R"("h":{"dtype":"BF16","shape":[6],"data_offsets":[72,84]}})");
    CHECK(done.notes.empty());
  }
}

TEST_CASE("bytes are ordered by item size where a tensor would not be aligned", "[format]") {
  const auto done =
      convert(build_torch_zip("m bool 3; w float32 2; n int64 scalar; v float32 1"), kSafetensors);
  CHECK(names(done.read()) == std::vector<std::string>{"m", "w", "n", "v"});
  CHECK(done.header().find(R"("n":{"dtype":"I64","shape":[],"data_offsets":[0,8]})") != std::string::npos);
  CHECK(done.header().find(R"("w":{"dtype":"F32","shape":[2],"data_offsets":[8,16]})") != std::string::npos);
  CHECK(done.header().find(R"("v":{"dtype":"F32","shape":[1],"data_offsets":[16,20]})") != std::string::npos);
  CHECK(done.header().find(R"("m":{"dtype":"BOOL","shape":[3],"data_offsets":[20,23]})") !=
        std::string::npos);
  CHECK(done.notes_say("ordered by item size"));
}

TEST_CASE("strided views are dense in safetensors", "[format]") {
  const auto input = build_torch_zip(
      "t float32 3x2 strides=1x3; x float32 2x3 strides=0x1; row uint8 4 numel=20 offset=5 storage=s");
  const auto done = convert(input, kSafetensors);
  CHECK(done.notes_say("2 tensors had strides and are in C order now"));
  CHECK(done.table() == std::vector<std::string>{
                            "t float32 [3, 2] 838a9198d7dee5ec9fa6adb4f3fa0108bbc2c9d00f161d24",
                            "x float32 [2, 3] 878e959ca3aab1b8bfc6cdd4878e959ca3aab1b8bfc6cdd4",
                            "row uint8 [4] a5acb3ba",
                        });
}

TEST_CASE("what safetensors can't hold is listed with the options that take it away", "[format]") {
  const auto hint_dict = std::string("--state-dict takes the state dict alone (--root PATH names it)");
  const auto hint_tensors =
      std::string("--tensors-only takes the tensors of the state dict alone (--root PATH names it)");
  CHECK(refusal(build_torch_zip("epoch = 7; model/w float32 2; args/lr = 1"), kSafetensors) ==
        "safetensors can't hold 'epoch', 'args' | " + hint_dict);
  CHECK(refusal(build_torch_zip("w float32 2; epoch = 7"), kSafetensors) ==
        "safetensors can't hold 'epoch' | " + hint_tensors);
  CHECK(refusal(build_torch_zip("model/w float32 2; model/a._extra_state = 7; t float32 1"), kSafetensors) !=
        "");
  CHECK(refusal(build_torch_zip("a/w float32 2; b/w float32 2"), kSafetensors) ==
        "there are 2 state dicts in the file: 'a', 'b' | name the one to keep: --state-dict --root PATH");
  CHECK(refusal(build_torch_zip("w complex128 2; v float32 1"), kSafetensors) ==
        "safetensors can't hold 'w' (complex128)");
  CHECK(refusal(build_torch_zip("__metadata__ float32 2; v float32 1"), kSafetensors) ==
        "safetensors can't hold '__metadata__' (a name that means something else there)");
  CHECK(refusal(build_torch_zip("groups = [1]"), kSafetensors) == "there is no state dict in the file");
}

TEST_CASE("the only state dict of a file with nothing else is at the root of safetensors", "[format]") {
  const auto done = convert(build_torch_zip("state_dict/a.w float32 2"), kSafetensors);
  CHECK(names(done.read()) == std::vector<std::string>{"a.w"});
}

TEST_CASE("what an edit took away is not in the way", "[format]") {
  Plan plan;
  DropEntries drop;
  drop.paths = {"epoch", "args"};
  plan.edits.emplace_back(drop);
  const auto done = convert(build_torch_zip("epoch = 7; model/w float32 2; args/lr = 1"), kSafetensors,
                            TiedTensors::kAlias, plan);
  CHECK(names(done.read()) == std::vector<std::string>{"w"});
  const auto kept = convert(build_torch_zip("w complex128 2; v float32 1"), kSafetensors, TiedTensors::kAlias,
                            dropping("w"));
  CHECK(names(kept.read()) == std::vector<std::string>{"v"});
}

// ---- ties

TEST_CASE("one view under two names is written once, and metadata leads to it", "[format]") {
  const auto input = build_torch_zip("enc.w float32 2x2; dec.w float32 2x2 storage=enc.w; b float32 1");
  const auto done = convert(input, kSafetensors);
  CHECK(done.header().find(R"({"__metadata__":{"format":"pt","enc.w":"dec.w"})") == 0);
  CHECK(names(done.read()) == std::vector<std::string>{"dec.w", "b"});

  SECTION("--tied copy writes each") {
    const auto copied = convert(input, kSafetensors, TiedTensors::kCopy);
    CHECK(names(copied.read()) == std::vector<std::string>{"enc.w", "dec.w", "b"});
    CHECK(copied.header().find(R"({"__metadata__":{"format":"pt"})") == 0);
  }
  SECTION("--tied error refuses") {
    CHECK(refusal(input, kSafetensors, TiedTensors::kError) ==
          "tensors 'dec.w' and 'enc.w' are one (--tied error)");
  }
  SECTION("on the way back they are one again") {
    for (const auto to : {kZip, kLegacy}) {
      const auto back = convert(done.bytes, to).read();
      CHECK(names(back) == std::vector<std::string>{"dec.w", "b", "enc.w"});
      CHECK(back.tensors[0].storage == back.tensors[2].storage);
      CHECK(back.storages.size() == 2);
    }
  }
  SECTION("edits of keys reach both names, and the bytes stay until both are gone") {
    for (const auto to : {kZip, kSafetensors}) {
      CHECK(names(convert(done.bytes, to, TiedTensors::kAlias, dropping("dec.w")).read()) ==
            std::vector<std::string>{"b", "enc.w"});
      CHECK(names(convert(done.bytes, to, TiedTensors::kAlias, dropping("enc.w")).read()) ==
            std::vector<std::string>{"dec.w", "b"});
    }
    CHECK(names(convert(done.bytes, kZip, TiedTensors::kAlias, renaming("m.")).read()) ==
          std::vector<std::string>{"m.dec.w", "m.b", "m.enc.w"});
    const auto renamed = convert(done.bytes, kSafetensors, TiedTensors::kAlias, renaming("m."));
    CHECK(renamed.header().find(R"({"__metadata__":{"format":"pt","m.enc.w":"m.dec.w"})") == 0);
    CHECK(convert(done.bytes, kSafetensors, TiedTensors::kAlias, dropping("b"))
              .header()
              .find(R"({"__metadata__":{"format":"pt","enc.w":"dec.w"},"dec.w")") == 0);
  }
}

TEST_CASE("views that reach into each other are refused, unless each becomes a copy", "[format]") {
  const auto input =
      build_torch_zip("w float32 2x2; row float32 2 storage=w offset=2; t float32 2x2 storage=w strides=1x2");
  CHECK(refusal(input, kSafetensors) ==
        "tensors 'w' and 't' share a part of their memory, which safetensors can't say; 1 more do so | "
        "--compact or --tied copy gives each its own bytes");
  const auto done = convert(input, kSafetensors, TiedTensors::kCopy);
  CHECK(names(done.read()) == std::vector<std::string>{"w", "row", "t"});
}

TEST_CASE("views of one storage that stay apart are written each", "[format]") {
  const auto done =
      convert(build_torch_zip("a float32 2 storage=s; b float32 3 storage=s offset=2"), kSafetensors);
  CHECK(names(done.read()) == std::vector<std::string>{"a", "b"});
}

// ---- from safetensors

TEST_CASE("safetensors become a dict of tensors on storages of their own", "[format]") {
  for (const auto to : {kZip, kLegacy}) {
    const auto done = convert(build_safetensors(kFlat), to);
    CHECK(done.table() == table(read_bytes(build_safetensors(kFlat)).value()));
  }
  const auto zip = convert(build_safetensors(kFlat), kZip).read();
  CHECK(zip.writer == "PyTorch 2.7 or later");
  CHECK(zip.storages[0].key == "0");
}

TEST_CASE("an edit and a conversion are one pass", "[format]") {
  const auto done = convert(build_safetensors(kFlat), kZip, TiedTensors::kAlias, renaming("net."));
  CHECK(names(done.read()).front() == "net.w");
  const auto other = convert(build_torch_legacy(kFlat), kSafetensors, TiedTensors::kAlias, renaming("net."));
  CHECK(names(other.read()).front() == "net.w");
  const auto third = convert(build_torch_legacy(kFlat), kZip, TiedTensors::kAlias, dropping("w")).read();
  CHECK(names(third).front() == "b");
  CHECK(third.storages.size() == 4);
}

TEST_CASE("half-byte floats count values in safetensors and pairs in PyTorch", "[format]") {
  const auto input = safetensors_file(R"({"w":{"dtype":"F4","shape":[2,4],"data_offsets":[0,4]}})", "abcd");
  const auto zip = convert(input, kZip);
  const auto checkpoint = zip.read();
  CHECK(checkpoint.shape(checkpoint.tensors[0])[1] == 2);
  CHECK(checkpoint.tensors[0].dtype == Dtype::kFloat4E2m1fnX2);
  const auto back = convert(zip.bytes, kSafetensors);
  CHECK(back.header().find(R"("shape":[2,4],"data_offsets":[0,4])") != std::string::npos);
  const auto odd = safetensors_file(R"({"w":{"dtype":"F4","shape":[4,1],"data_offsets":[0,2]}})", "ab");
  CHECK(refusal(odd, kZip).find("a last dimension that is not even") != std::string::npos);
  const auto six = safetensors_file(R"({"w":{"dtype":"F6_E2M3","shape":[4],"data_offsets":[0,3]}})", "abc");
  CHECK(refusal(six, kZip).find("which PyTorch does not have") != std::string::npos);
}

TEST_CASE("dtypes that no PyTorch reads from a legacy stream are refused by the tensor's name", "[format]") {
  const auto input = safetensors_file(R"({"w":{"dtype":"U16","shape":[1],"data_offsets":[0,2]}})", "ab");
  const auto zip = convert(input, kZip);
  CHECK(zip.table() == table(read_bytes(input).value()));
  const auto text = "tensor 'w' is of dtype uint16, which no PyTorch reads from a legacy stream";
  CHECK(refusal(input, kLegacy) == text);
  CHECK(refusal(zip.bytes, kLegacy) == text);
}

// ---- between the torch containers

TEST_CASE("torch zip and legacy stream hold the same", "[format]") {
  const auto text =
      "epoch = 7; model/w float32 2x3; model/t float32 3x2 storage=model/w strides=1x3; "
      "model/p float32 3 storage=model/w offset=3 parameter; best/w uint8 3 numel=10 offset=5 device=cuda:0; "
      "optimizer/state/#0/step float32 scalar; groups = [{'params':[0,1]}]";
  const auto zip = build_torch_zip(text);
  const auto legacy = build_torch_legacy(text);
  const auto lines = table(read_bytes(zip).value());
  CHECK(convert(zip, kLegacy).table() == lines);
  CHECK(convert(legacy, kZip).table() == lines);
  const auto again = convert(convert(legacy, kZip).bytes, kLegacy).read();
  CHECK(test::table(again) == lines);
  CHECK(again.storages.size() == 3);
  CHECK(again.devices.back() == "cuda:0");
  CHECK(again.storages[0].key == "0");
}

TEST_CASE("a part of a storage becomes an offset in the whole", "[format]") {
  TensorPickle tensor;
  tensor.numel = "BININT 10";
  tensor.view = "MARK; BINUNICODE \"7\"; BININT 4; BININT 5; TUPLE";
  tensor.offset = "BININT 1";
  auto pieces = legacy_pieces("0 float32 10");
  pieces.object = tensor.pickle();
  const auto input = pieces.build();
  const auto zip = convert(input, kZip).read();
  CHECK(zip.tensors[0].offset == 5);
  CHECK(zip.storages[0].bytes == 40);
  CHECK(table(zip) == table(read_bytes(input).value()));
  pieces.object =
      "PROTO 2; MARK; BINUNICODE \"storage\"; GLOBAL torch FloatStorage; BINUNICODE \"0\"; BINUNICODE "
      "\"cpu\"; BININT 10; MARK; BINUNICODE \"7\"; BININT 4; BININT 5; TUPLE; TUPLE; BINPERSID; STOP";
  CHECK(refusal(pieces.build(), kZip) == "a part of a storage stands in the file without a tensor");
}

TEST_CASE("the source of a module's class is left behind", "[format]") {
  auto pieces = legacy_pieces("0 float32 2");
  pieces.object = "PROTO 2; MARK; " + TensorPickle().value() +
                  "; MARK; BINUNICODE \"module\"; GLOBAL my Net; BINUNICODE \"net.py\"; BINUNICODE \"class "
                  "Net: pass\"; TUPLE; "
                  "BINPERSID; EMPTY_TUPLE; NEWOBJ; TUPLE; STOP";
  const auto done = convert(pieces.build(), kZip);
  CHECK(done.notes_say("the source text of 1 class is not in the output"));
  const auto zip = done.read();
  CHECK(zip.graph().count(Opcode::kBinpersid) == 1);
  CHECK(done.text().find("class Net") == std::string_view::npos);
  CHECK(done.text().find("cmy\nNet\n") != std::string_view::npos);
}

TEST_CASE("persistent ids of another kind are refused", "[format]") {
  auto pieces = legacy_pieces("0 float32 2");
  pieces.object =
      "PROTO 2; MARK; " + TensorPickle().value() + "; BINUNICODE \"x\"; TUPLE1; BINPERSID; TUPLE; STOP";
  CHECK(refusal(pieces.build(), kZip) == "the pickle has a persistent id that names no storage");
}

TEST_CASE("a storage that stands in the pickle and in no value of it is refused", "[format]") {
  TensorPickle tensor;
  tensor.view = "";
  const auto pickle = testing::assemble("PROTO 2; " + tensor.value() + "; EMPTY_DICT; STOP");
  const auto zip = build_zip("a/data.pkl body=" + escaped(as_text(pickle)) + "; a/version; a/data/0");
  CHECK(refusal(zip, kLegacy) == "the pickle names a storage '0' that no value of it has");
}

TEST_CASE("nothing changes where the container is the one that is asked for", "[format]") {
  for (const auto& [input, id] :
       {std::pair(build_torch_zip(kFlat), kZip), std::pair(build_torch_legacy(kFlat), kLegacy),
        std::pair(build_safetensors(kFlat), kSafetensors)})
    CHECK(convert(input, id).bytes == input);
}

TEST_CASE("what no other container has a place for is told", "[format]") {
  const auto zip =
      build_zip("a/data.pkl; a/version; a/data/0; a/data/7 body=x; a/notes.txt body=x; a/more body=x");
  const auto legacy = convert(zip, kLegacy);
  CHECK(legacy.notes_say("2 records of the archive are not in the output: 'notes.txt' and others"));
  CHECK(legacy.notes_say("1 storage that nothing uses is not in the output"));
  auto pieces = legacy_pieces("0 float32 2");
  pieces.trailing = "more";
  CHECK(convert(pieces.build(), kZip).notes_say("4 bytes behind the last storage are not in the output"));
  const auto metadata = safetensors_file(
      R"({"__metadata__":{"format":"pt","author":"me","w":"w"},"w":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}})",
      "a");
  CHECK(convert(metadata, kZip).notes_say("2 entries of '__metadata__' are not in the output"));
}

TEST_CASE("a state dict that becomes the root can become safetensors", "[format]") {
  Plan plan;
  Convert edit;
  edit.state_dict = true;
  plan.edits.emplace_back(edit);
  plan.roots = {"model"};
  const auto done = convert(build_torch_zip("epoch = 7; model/w float32 2; best/w float32 3; lr = 1"),
                            kSafetensors, TiedTensors::kAlias, plan);
  CHECK(names(done.read()) == std::vector<std::string>{"w"});
  for (const auto& [input, to] :
       {std::pair(build_torch_zip("epoch = 7; model/w float32 2; best/w float32 3"), kLegacy),
        std::pair(build_torch_legacy("epoch = 7; model/w float32 2; best/w float32 3"), kZip)}) {
    const auto moved = convert(input, to, TiedTensors::kAlias, plan).read();
    CHECK(names(moved) == std::vector<std::string>{"w"});
    CHECK(moved.storages.size() == 1);
  }
}
