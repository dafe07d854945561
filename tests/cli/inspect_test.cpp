// SPDX-License-Identifier: BSD-3-Clause
#include <algorithm>

#include "support/cli_files.h"
#include "support/pickle_assembler.h"
#include "support/zip_builder.h"

namespace ckpt::test {
namespace {

using Lines = std::vector<std::string>;

std::string file_of(Bytes bytes) {
  return std::string(as_text(bytes));
}

bool has(const std::string& text, std::string_view part) {
  return text.find(part) != std::string::npos;
}

TEST_CASE("the container and the generation that wrote it are named", "[cli][inspect]") {
  const Cli cli;

  struct Case {
    const char* file;
    const char* header;
  };

  const Case cases[] = {
      {"torch-2.15-tiny.pt", "f: torch zip, 1.63 kB, written by PyTorch 2.7 or later"},
      {"torch-2.6-tiny.pt", "f: torch zip, 1.22 kB, written by PyTorch 2.1 to 2.6"},
      {"torch-1.13-tiny.pt", "f: torch zip, 771 B, written by PyTorch 1.6 to 2.0"},
      {"torch-2.15-tiny-legacy.pt", "f: torch legacy, 357 B"},
      {"torch-2.15-dataparallel.safetensors", "f: safetensors, 876 B"},
      {"torch-2.15-rezipped-stored.pt", "f: torch zip, 2.61 kB, written by a tool other than PyTorch"},
  };
  for (const auto& [file, header] : cases) {
    CAPTURE(file);
    cli.take(file, "f");
    CHECK(split_lines(cli.good("inspect -s f")).front().starts_with(header));
    std::filesystem::remove("f");
  }
  cli.take("torch-2.15-bigendian.pt", "f");
  CHECK(has(split_lines(cli.good("inspect f")).front(), ", big-endian"));
}

TEST_CASE("parts of a tensor count where the tensor does", "[cli][inspect]") {
  const Cli cli;
  cli.take("torch-2.15-sparse.pt", "in.pt");
  const auto text = cli.good("inspect -s in.pt");
  CHECK(has(text, "  8 tensors, 68 values, 560 B in 19 storages\n"));
  CHECK(has(text, "  by dtype: float32 560 B (8 tensors)\n  by section: model 560 B (8 tensors)\n"));
}

TEST_CASE("tensors, entries, totals and findings, in that order", "[cli][inspect]") {
  const Cli cli;
  cli.take("torch-2.15-training.pt", "in.pt");
  const auto text = cli.good("inspect in.pt");
  std::size_t at = 0;
  for (const auto* part :
       {"state dict model, 9 keys:\n",
        "  module.conv.weight             float32  [2, 1, 3, 3]       72 B  parameter\n",
        "  module.bn.running_mean         float32  [2]                 8 B  buffer\n",
        "state dict ema, 9 keys:\n", "tensors outside state dicts:\n",
        "  optimizer.state{0}.exp_avg     float32  [2, 1, 3, 3]       72 B  optimizer\n", "entries:\n",
        "  epoch ", "totals:\n", "  by dtype: ", "  by section: ", "findings:\n"}) {
    CAPTURE(part);
    at = text.find(part, at);
    REQUIRE(at != std::string::npos);
  }
}

TEST_CASE("--summary has totals and findings alone", "[cli][inspect]") {
  const Cli cli;
  cli.take("torch-2.15-dataparallel.pt", "in.pt");
  const auto lines = split_lines(cli.good("inspect --summary in.pt"));
  const Lines wanted = {
      "in.pt: torch zip, 4.28 kB, written by PyTorch 2.7 or later",
      "",
      "totals:",
      "  9 tensors, 38 values, 156 B in 9 storages",
      "  6 parameter tensors, 3 buffers",
      "  by dtype: float32 148 B (8 tensors), int64 8 B (1 tensor)",
      "  by section: model 156 B (9 tensors)",
      "",
      "findings:",
      "  warning: the keys carry the name of a wrapper: 'module.' [wrapper-prefix]",
      "    fix: ckpt strip-dataparallel in.pt -o in.fixed.pt",
  };
  CHECK(lines == wanted);
  CHECK(cli.good("inspect -s in.pt") == cli.good("inspect --summary in.pt"));
}

TEST_CASE("--tree sums up modules, to the depth asked for", "[cli][inspect]") {
  const Cli cli;
  cli.write("in.pt", zip_of("m/layer10.w float32 2; m/layer2.w float32 3; m/layer2.b.w int64 1; epoch = 1"));
  const auto words = [](const std::string& line) {
    Lines out;
    for (auto& word : shell_words(line)) out.push_back(word);
    return out;
  };
  auto lines = split_lines(cli.good("inspect --tree in.pt"));
  REQUIRE(lines.size() == 8);
  CHECK(words(lines[1]) == Lines{"state", "dict", "m", "6", "values", "28", "B", "3", "tensors"});
  CHECK(words(lines[2]) == Lines{"layer2", "4", "values", "20", "B", "2", "tensors"});
  CHECK(words(lines[3]) == Lines{"b", "1", "values", "8", "B", "1", "tensor"});
  CHECK(words(lines[6]) == Lines{"layer10", "2", "values", "8", "B", "1", "tensor"});
  CHECK(split_lines(cli.good("inspect --tree --depth 1 in.pt")).size() == 4);
  CHECK(split_lines(cli.good("inspect --tree --depth 0 in.pt")).size() == 2);
}

TEST_CASE("--tree lists only what --root and --select choose", "[cli][inspect]") {
  const Cli cli;
  cli.write("in.pt", zip_of("a/w float32 1; b/v float32 1; epoch = 1"));
  const auto chosen = split_lines(cli.good("inspect --tree --root b in.pt"));
  REQUIRE(chosen.size() == 3);
  CHECK(chosen[1].starts_with("state dict b "));
  CHECK(split_lines(cli.good("inspect --tree --select w in.pt"))[1].starts_with("state dict a "));
}

TEST_CASE("--quiet asks whether a file can be read, and leaves what was asked for", "[cli][inspect]") {
  const Cli cli;
  cli.take("torch-2.15-flat.pt", "in.pt");
  cli.write("bad.pt", "hello\n");
  for (const auto* view : {"", "--summary", "--tree", "--globals"}) {
    CAPTURE(view);
    CHECK(cli.good("inspect -q in.pt in.pt " + std::string(view)).empty());
  }
  CHECK(cli.bad("inspect -q in.pt bad.pt") == "ckpt: bad.pt: this is plain text\n");
  CHECK(cli.good("inspect -q --keys in.pt") == cli.good("inspect --keys in.pt"));
  CHECK(cli.good("inspect -q --get fc.bias in.pt") == cli.good("inspect --get fc.bias in.pt"));
  CHECK(cli.good("inspect -q --json in.pt") == cli.good("inspect --json in.pt"));
}

TEST_CASE("a fix for several findings stands once", "[cli][inspect]") {
  const Cli cli;
  cli.write("in.pt", zip_of("a/module.w float32 1; b/net.module.v float32 1; epoch = 1"));
  const auto text = cli.good("inspect -s in.pt");
  CHECK(has(text,
            "  warning: the keys of 'a' carry the name of a wrapper: 'module.' [wrapper-prefix]\n"
            "  warning: the keys of 'b' carry the name of a wrapper: 'net.module.' [wrapper-prefix]\n"
            "    fix: ckpt strip-dataparallel in.pt -o in.fixed.pt\n"));
  CHECK(text.find("fix:") == text.rfind("fix:"));
}

TEST_CASE("--keys prints keys as they are, one a line or with NUL", "[cli][inspect]") {
  const Cli cli;
  cli.take("torch-2.15-training.pt", "in.pt");
  CHECK(cli.keys("in.pt").size() == 18);
  const auto text = cli.good("inspect --keys -0 in.pt");
  CHECK(text.find('\n') == std::string::npos);
  CHECK(split_lines(text, '\0') == cli.keys("in.pt"));
  CHECK(cli.good("inspect --keys --null in.pt") == text);
}

TEST_CASE("--select lists only tensors whose keys match", "[cli][inspect]") {
  const Cli cli;
  cli.take("torch-2.15-flat.pt", "in.pt");
  CHECK(split_lines(cli.good("inspect --keys --select fc in.pt")) == Lines{"fc.weight", "fc.bias"});
  CHECK(split_lines(cli.good("inspect --keys --select '**.bias' --select fc in.pt")) ==
        Lines{"conv.bias", "bn.bias", "fc.weight", "fc.bias"});
  cli.write("list", "fc.bias\n");
  CHECK(cli.good("inspect --keys --select @=list in.pt") == "fc.bias\n");
  CHECK(cli.bad("inspect --select nope in.pt") == "ckpt: in.pt: 'nope' matches no key\n");
  CHECK(cli.bad("inspect --select fc --select 'conv.wieght' in.pt") ==
        "ckpt: in.pt: 'conv.wieght' matches no key\n  hint: did you mean 'conv.weight'?\n");
  cli.write("deep.pt", zip_of("a.b.w float32 1"));
  CHECK(cli.bad("inspect --select 'a.*' deep.pt") ==
        "ckpt: deep.pt: 'a.*' matches no key; 'a.**' would match 1\n");
  const auto text = cli.good("inspect --select fc in.pt");
  CHECK(has(text, "fc.weight"));
  CHECK_FALSE(has(text, "conv.weight"));
}

TEST_CASE("--root lists one state dict, or any mapping with string keys", "[cli][inspect]") {
  const Cli cli;
  cli.write("in.pt", zip_of("a/w float32 1; b/v float32 1; c float32 1; epoch = 1"));
  CHECK(cli.good("inspect --keys --root b in.pt") == "v\n");
  CHECK(cli.good("inspect --keys --root '' in.pt") == "c\n");
  CHECK(cli.good("inspect --keys --root a --root b in.pt") == "w\nv\n");
  CHECK(has(cli.bad("inspect --root nope in.pt"), "no mapping with string keys at 'nope'"));
}

TEST_CASE("--sort by name counts as people do, by bytes the largest come first", "[cli][inspect]") {
  const Cli cli;
  cli.write("in.pt", zip_of("layer10.w float32 2; layer2.w float32 3; a float32 1"));
  CHECK(split_lines(cli.good("inspect --keys --sort name in.pt")) == Lines{"a", "layer2.w", "layer10.w"});
  CHECK(split_lines(cli.good("inspect --keys --sort bytes in.pt")) == Lines{"layer2.w", "layer10.w", "a"});
  CHECK(split_lines(cli.good("inspect --keys --sort file in.pt")) == Lines{"layer10.w", "layer2.w", "a"});
}

TEST_CASE("--get prints one value, raw", "[cli][inspect]") {
  const Cli cli;
  cli.take("torch-2.15-training.pt", "in.pt");

  struct Case {
    const char* path;
    const char* value;
  };

  const Case cases[] = {
      {"epoch", "12\n"},
      {"args@arch", "small-resnet\n"},
      {"args@lr", "0.001\n"},
      {"args@distributed", "true\n"},
      {"args@milestones", "[30,60]\n"},
      {"args@milestones[1]", "60\n"},
      {"args",
       R"({"@class":"argparse.Namespace","arch":"small-resnet","lr":0.001,"data":"/data/images","distributed":true,"milestones":[30,60]})"
       "\n"},
      {"optimizer.param_groups[0].params", "[0,1,2,3,4,5]\n"},
      {"optimizer.param_groups[0].foreach", "null\n"},
      {"optimizer.param_groups[0].betas", "[0.9,0.999]\n"},
      {"optimizer.state{0}.exp_avg", "optimizer.state{0}.exp_avg float32 [2, 1, 3, 3] 72 B\n"},
      {"model[\"module.fc.bias\"]", "model[\"module.fc.bias\"] float32 [3] 12 B\n"},
      {"rng", "rng uint8 [64] 64 B\n"},
  };
  for (const auto& [path, value] : cases) {
    CAPTURE(path);
    const auto done = cli.run_words({"inspect", "in.pt", "--get", path});
    CHECK(done.err == "");
    CHECK(done.out == value);
    CHECK(done.status == 0);
  }
  CHECK(cli.bad("inspect in.pt --get epohc") ==
        "ckpt: in.pt: no 'epohc' in the file: nothing is called 'epohc' there\n  hint: did you mean "
        "'epoch'?\n");
  CHECK(has(cli.bad("inspect in.pt --get 'optimizer.param_groups[7]'"), "1 element there"));
  CHECK(has(cli.bad("inspect in.pt --get .epoch"), "'.epoch' is no path: unexpected text at column 1"));
}

TEST_CASE("--get takes a key of a state dict in place of a path", "[cli][inspect]") {
  const Cli cli;
  cli.take("torch-2.15-training.pt", "in.pt");
  CHECK(cli.good("inspect in.pt --get module.fc.bias") == "model[\"module.fc.bias\"] float32 [3] 12 B\n");
  cli.take("torch-2.15-dataparallel.safetensors", "in.safetensors");
  CHECK(has(cli.good("inspect in.safetensors --get module.fc.bias"), "float32 [3] 12 B\n"));
  CHECK(has(cli.bad("inspect in.safetensors --get nope"), "'nope'"));
}

TEST_CASE("keys of every kind are found by the path that is shown", "[cli][inspect]") {
  const Cli cli;
  cli.take("torch-2.15-keys-objects.pt", "in.pt");
  for (const auto* path : {"table{0}", "table{(1, 2)}", "table{None}", "table{True}", "table{2.5}",
                           "table{-7}.deep", "table{1180591620717411303424}", "{5}[\"module.w\"]"}) {
    CAPTURE(path);
    const auto done = cli.run_words({"inspect", "in.pt", "--get", path});
    CHECK(done.status == 0);
    CHECK(done.out.starts_with(std::string(path) + " float32"));
  }
  CHECK(cli.run_words({"inspect", "in.pt", "--get", "table{('a', (None, False))}"}).out == "1\n");
}

TEST_CASE("--values prints the first values of a tensor, whatever its dtype and strides", "[cli][inspect]") {
  const Cli cli;
  cli.take("torch-2.15-dtypes.pt", "in.pt");

  struct Case {
    const char* key;
    Lines values;
  };

  const Case cases[] = {
      // the bytes are 0, 1, 2, …
      {"uint8", {"0", "1", "2"}},
      {"int8", {"0", "1", "2"}},
      {"int16", {"256", "770", "1284"}},
      {"int32", {"50462976", "117835012", "185207048"}},
      {"int64", {"506097522914230528", "1084818905618843912", "1663540288323457296"}},
      {"float16", {"1.5258789e-05", "4.5895576e-05", "7.6532364e-05"}},
      {"bfloat16", {"2.3509887e-38", "3.8203566e-37", "6.20661e-36"}},
      {"float32", {"3.8204714e-37", "1.0082514e-34", "2.6584628e-32"}},
      {"float64", {"7.949928895127363e-275", "3.6919162048650923e-236", "1.846323925681849e-197"}},
      {"bool", {"true", "false", "true"}},
      {"complex64",
       {"[3.8204714e-37,1.0082514e-34]", "[2.6584628e-32,7.003653e-30]", "[1.8436203e-27,4.849422e-25]"}},
  };
  for (const auto& [key, values] : cases) {
    CAPTURE(key);
    CHECK(split_lines(cli.good("inspect in.pt --values 3 --get module." + std::string(key))) == values);
  }
  CHECK(cli.good("inspect in.pt --values 0 --get module.int8") == "");
  CHECK(split_lines(cli.good("inspect in.pt --values 999999999999 --get module.int32")).size() < 100);
}

TEST_CASE("values of the same model are the same in every container", "[cli][inspect]") {
  const Cli cli;
  for (const auto* file :
       {"torch-2.15-flat.pt", "torch-2.15-flat-legacy.pt", "torch-2.15-rezipped-deflated.pt"})
    cli.take(file);
  const auto wanted = cli.good("inspect torch-2.15-flat.pt --values 99 --get fc.weight");
  CHECK(split_lines(wanted).size() == 6);
  CHECK(cli.good("inspect torch-2.15-flat-legacy.pt --values 99 --get fc.weight") == wanted);
}

TEST_CASE("a transposed view shows its values in its own order", "[cli][inspect]") {
  const Cli cli;
  cli.write("in.pt", zip_of("w float32 2x3; t float32 3x2 storage=w strides=1x3"));
  const auto w = split_lines(cli.good("inspect in.pt --values 6 --get w"));
  REQUIRE(w.size() == 6);
  CHECK(split_lines(cli.good("inspect in.pt --values 6 --get t")) ==
        Lines{w[0], w[3], w[1], w[4], w[2], w[5]});
}

TEST_CASE("--globals lists what loading would import", "[cli][inspect]") {
  const Cli cli;
  cli.take("torch-2.15-training-dataparallel.pt", "in.pt");
  CHECK(split_lines(cli.good("inspect --globals in.pt")) ==
        Lines{"argparse.Namespace  (refused by weights_only=True)", "collections.OrderedDict",
              "torch.FloatStorage", "torch.LongStorage", "torch._utils._rebuild_tensor_v2"});
}

TEST_CASE("several files stand one below the other, with an empty line between", "[cli][inspect]") {
  const Cli cli;
  cli.take("torch-2.15-tiny.pt", "a.pt");
  cli.take("torch-2.15-tiny.pt", "b.pt");
  const auto text = cli.good("inspect a.pt b.pt");
  CHECK(text.starts_with("a.pt: "));
  CHECK(has(text, "\n\nb.pt: "));
  CHECK(split_lines(cli.good("inspect --keys a.pt b.pt")).size() == 2);
}

TEST_CASE("colours only where wanted", "[cli][inspect]") {
  const Cli cli;
  cli.take("torch-2.15-dataparallel.pt", "in.pt");
  CHECK_FALSE(has(cli.good("inspect in.pt"), "\x1b"));
  CHECK_FALSE(has(cli.good("inspect --color never in.pt"), "\x1b"));
  CHECK(has(cli.good("inspect --color always in.pt"), "\x1b[33mwarning\x1b[0m"));
}

TEST_CASE("names from a file can't reach the terminal", "[cli][inspect]") {
  const Cli cli;
  cli.take("torch-2.15-keys.pt", "in.pt");
  for (const auto* view : {"", "--tree", "-s", "--globals"}) {
    CAPTURE(view);
    for (const char c : cli.good("inspect in.pt " + std::string(view))) {
      const auto byte = static_cast<unsigned char>(c);
      REQUIRE((byte >= 0x20 || c == '\n'));
      REQUIRE(byte != 0x7F);
    }
  }
}

TEST_CASE("every golden file is read", "[cli][inspect]") {
  const Cli cli;
  for (const auto& entry : std::filesystem::directory_iterator(CKPT_TEST_DATA)) {
    const auto path = entry.path().string();
    const auto extension = entry.path().extension();
    if (extension != ".pt" && extension != ".safetensors" && extension != ".pth" && extension != ".bin")
      continue;
    CAPTURE(path);
    cli.good("inspect " + path);
    cli.good("inspect --json " + path);
    cli.good("inspect --tree " + path);
  }
}

TEST_CASE("one description in three containers has the same keys and sizes", "[cli][inspect]") {
  const Cli cli;
  const auto* description = "a.w float32 2x3; a.b float16 3; c int64 scalar";
  cli.write("a.pt", file_of(build_torch_zip(description)));
  cli.write("b.pt", file_of(build_torch_legacy(description)));
  cli.write("c.safetensors", file_of(build_safetensors(description)));
  for (const auto* file : {"a.pt", "b.pt", "c.safetensors"}) {
    auto keys = cli.keys(file);
    std::sort(keys.begin(), keys.end());
    CHECK(keys == Lines{"a.b", "a.w", "c"});
    CHECK(has(cli.good("inspect -s " + std::string(file)), "  3 tensors, 10 values, 38 B in 3 storages\n"));
  }
}

TEST_CASE("values that are no finite numbers are counted and found", "[cli][inspect]") {
  const Cli cli;
  auto bytes = build_torch_legacy("v float32 3; w float32 2");
  cli.write("in.pt", as_text(bytes));
  CHECK(has(cli.good("inspect --stats in.pt"), "\nvalues:\n"));
  CHECK_FALSE(has(cli.good("inspect in.pt"), "\nvalues:\n"));
  CHECK_FALSE(has(cli.good("inspect --stats -s in.pt"), "values-not-finite"));
  CHECK(has(cli.good("inspect --stats --json in.pt"), R"("stats":{"count":3,)"));
  CHECK(has(cli.good("inspect --stats --bins 2 --json in.pt"), R"("histogram":{"low":)"));
  bytes.back() = std::byte{0x7f};
  bytes[bytes.size() - 2] = std::byte{0xc0};
  cli.write("in.pt", as_text(bytes));
  CHECK(has(cli.good("inspect --stats -s in.pt"),
            "  warning: 1 tensor has NaN or infinite values: 'w' [values-not-finite]\n"));
  CHECK(has(cli.good("inspect --stats --json --select w in.pt"), R"("count":2,"zeros":0,"nan":1,)"));
}

TEST_CASE("lazily negated integers wrap as those of PyTorch do", "[cli][inspect]") {
  const Cli cli;
  TensorPickle tensor;
  tensor.view = "";
  tensor.more = "EMPTY_DICT; BINUNICODE neg; NEWTRUE; SETITEM";

  struct Case {
    const char* storage_class;
    Lines values;  ///< of bytes 1 and 128
    const char* extremes;
    const char* bins;
  };

  const Case cases[] = {
      {"GLOBAL torch ByteStorage", {"255", "128"}, R"("min":128,"max":255,"mean":191.5,)", "[1,0,1]"},
      {"GLOBAL torch CharStorage", {"-1", "-128"}, R"("min":-128,"max":-1,"mean":-64.5,)", "[1,0,1]"},
  };
  for (const auto& [storage_class, values, extremes, bins] : cases) {
    tensor.storage_class = storage_class;
    const auto pickle =
        testing::assemble("PROTO 2; EMPTY_DICT; BINUNICODE i; " + tensor.value() + "; SETITEM; STOP");
    cli.write("in.pt", as_text(build_zip("archive/data.pkl body=" + escaped(as_text(pickle)) +
                                         ";archive/data/0 body=\\x01\\x80;archive/version body=3\\n")));
    CHECK(split_lines(cli.good("inspect --values 2 --get i in.pt")) == values);
    const auto report = cli.good("inspect --stats --bins 3 --json in.pt");
    CHECK(has(report, extremes));
    CHECK(has(report, R"("counts":)" + std::string(bins)));
  }
}

TEST_CASE("--stats and --bins go with what shows them", "[cli][inspect]") {
  const Cli cli;
  cli.write("in.pt", zip_of("w float32 4"));
  CHECK(cli.bad("inspect --stats --keys in.pt") ==
        "ckpt: --stats goes with the list of tensors, --summary or --json\n");
  CHECK(cli.bad("inspect --bins 3 in.pt") == "ckpt: --bins goes with --stats\n");
  CHECK(cli.bad("inspect --stats --bins 0 in.pt") == "ckpt: --bins takes 1 to 65536\n");
  std::string many;
  for (int i = 0; i < 300; ++i) many += "t" + std::to_string(i) + " uint8 1; ";
  cli.write("many.pt", zip_of(many));
  CHECK(cli.bad("inspect --stats --bins 65536 many.pt") ==
        "ckpt: many.pt: 65536 bins for each of 300 tensors are too many to hold\n"
        "  hint: choose tensors with --select, or fewer bins\n");
  cli.good("inspect --stats --bins 65536 --select t1 many.pt");
}

TEST_CASE("tensors that have no statistics say why", "[cli][inspect]") {
  const Cli cli;
  cli.take("torch-2.15-sparse.pt", "sparse.pt");
  CHECK(has(cli.good("inspect --stats sparse.pt"), "(composite)"));
  cli.take("torch-2.15-rezipped-deflated.pt", "packed.pt");
  CHECK(has(cli.good("inspect --stats packed.pt"), "(compressed)"));
}

}  // namespace
}  // namespace ckpt::test
