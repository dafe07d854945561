// SPDX-License-Identifier: BSD-3-Clause
// Rows that are replaced and inserted, in each container: what is written reads back as the table said.
#include "ckpt/format/convert.h"
#include "ckpt/rewrite/verify.h"
#include "ckpt/zip/directory.h"
#include "support/catch.h"
#include "support/checkpoint_builder.h"
#include "support/pickle_assembler.h"
#include "support/zip_builder.h"

using namespace ckpt;
using namespace ckpt::test;

namespace {

using Lines = std::vector<std::string>;

constexpr const char* kModel = "a float32 2\nb int64 1\nc float16 3";

Bytes counting(std::size_t size) {
  Bytes bytes(size);
  for (std::size_t i = 0; i < size; ++i) bytes[i] = static_cast<std::byte>(i + 1);
  return bytes;
}

/// Lays out, writes, verifies and reads again.
Result<Checkpoint> rewritten(const Checkpoint& checkpoint, Lines* findings = nullptr) {
  CKPT_ASSIGN_OR_RETURN(const auto layout, format_of(checkpoint.format).lay_out(checkpoint));
  auto bytes = written(layout, checkpoint);
  const auto verified = verify(layout, 0, checkpoint, source_of(bytes));
  CHECK((verified.ok() ? "" : verified.error().text()) == std::string());
  return read_bytes(std::move(bytes), findings);
}

Lines table_of(const Result<Checkpoint>& checkpoint) {
  return checkpoint.ok() ? table(*checkpoint) : Lines{checkpoint.error().text()};
}

std::string error_of(const Checkpoint& checkpoint) {
  const auto layout = format_of(checkpoint.format).lay_out(checkpoint);
  return layout.ok() ? "laid out" : layout.error().message();
}

/// The file with `a` replaced by two int16 and `d` added: three float32 from another file.
Checkpoint changed(Bytes file) {
  auto checkpoint = read_bytes(std::move(file)).value();
  checkpoint.parts.push_back({source_of(counting(16)), nullptr, {}});
  const auto small = checkpoint.add_storage(DataRef::of_bytes(counting(4)), Dtype::kInt16);
  const auto copied = checkpoint.add_storage({1, {2, 12}, {}, nullptr}, Dtype::kFloat32);
  checkpoint.replace(0, 0, {Dtype::kInt16, small, 0, {2, 1}, {}});
  checkpoint.insert(0, "d", {Dtype::kFloat32, copied, 0, {3}, {}});
  return checkpoint;
}

const std::string kNewA = "a int16 [2, 1] 01020304";
const std::string kNewD = "d float32 [3] 030405060708090a0b0c0d0e";

TEST_CASE("a tensor is replaced and another one added, whatever the container", "[format]") {
  for (const auto& file : {build_torch_zip(kModel), build_torch_legacy(kModel), build_safetensors(kModel)}) {
    const auto before = table(read_bytes(file).value());
    const auto checkpoint = changed(file);
    Lines findings;
    CHECK(table_of(rewritten(checkpoint, &findings)) == Lines{kNewA, before[1], before[2], kNewD});
    CHECK(findings.empty());
  }
}

TEST_CASE("renaming and dropping go on with new rows", "[format]") {
  for (const auto& file : {build_torch_zip(kModel), build_torch_legacy(kModel), build_safetensors(kModel)}) {
    const auto before = table(read_bytes(file).value());
    auto checkpoint = changed(file);
    checkpoint.rename(0, 0, "x");
    checkpoint.rename(0, 3, "y");
    checkpoint.drop(0, 1);
    CHECK(table_of(rewritten(checkpoint)) == Lines{"x" + kNewA.substr(1), before[2], "y" + kNewD.substr(1)});
    checkpoint.drop(0, 0);
    checkpoint.drop(0, 3);
    const auto left = rewritten(checkpoint);
    CHECK(table_of(left) == Lines{before[2]});
    CHECK(left->storages.size() == 1);
  }
}

TEST_CASE("a row that is replaced twice is what it became last", "[format]") {
  for (const auto& file : {build_torch_zip(kModel), build_torch_legacy(kModel), build_safetensors(kModel)}) {
    auto checkpoint = changed(file);
    const auto other = checkpoint.add_storage(DataRef::of_bytes(counting(1)), Dtype::kUint8);
    checkpoint.replace(0, 0, {Dtype::kUint8, other, 0, {}, {}});
    checkpoint.replace(
        0, 3, {Dtype::kUint8, checkpoint.add_storage(DataRef::of_bytes({}), Dtype::kUint8), 0, {0}, {}});
    const auto after = rewritten(checkpoint);
    CHECK(table_of(after)[0] == "a uint8 [] 01");
    CHECK(table_of(after)[3] == "d uint8 [0] ");
  }
}

TEST_CASE("views share a storage, old or new, also strided ones", "[format]") {
  for (const auto& file : {build_torch_zip(kModel), build_torch_legacy(kModel)}) {
    auto checkpoint = read_bytes(file).value();
    const auto added = checkpoint.add_storage(DataRef::of_bytes(counting(12)), Dtype::kInt16, "cuda:1");
    checkpoint.replace(0, 0, {Dtype::kInt16, added, 0, {2, 3}, {1, 2}});
    checkpoint.insert(0, "d", {Dtype::kInt16, added, 4, {2}, {}});
    checkpoint.insert(0, "e", {Dtype::kFloat16, checkpoint.tensors[2].storage, 1, {1}, {}});
    const auto after = rewritten(checkpoint);
    REQUIRE(after.ok());
    const auto lines = table(*after);
    CHECK(lines[0] == "a int16 [2, 3] strides [1, 2] 0102030405060708090a0b0c");
    CHECK(lines[3] == "d int16 [2] 090a0b0c");
    CHECK(lines[4] == "e float16 [1] " + lines[2].substr(std::string("c float16 [3] ....").size(), 4));
    CHECK(after->tensors[0].storage == after->tensors[3].storage);
    CHECK(after->tensors[2].storage == after->tensors[4].storage);
    CHECK(after->devices[after->storages[after->tensors[0].storage].device] == "cuda:1");
    CHECK(after->storages.size() == 3);
  }
}

TEST_CASE("what wraps a replaced tensor stays", "[format]") {
  auto checkpoint = read_bytes(build_torch_zip("a float32 2 parameter\nb float32 2 parameter")).value();
  const auto half = checkpoint.add_storage(DataRef::of_bytes(counting(6)), Dtype::kFloat16);
  const auto tiny = checkpoint.add_storage(DataRef::of_bytes(counting(2)), Dtype::kFloat8E5m2);
  checkpoint.replace(0, 0, {Dtype::kFloat16, half, 1, {2}, {}});
  checkpoint.replace(0, 1, {Dtype::kFloat8E5m2, tiny, 0, {2}, {}});
  CHECK(table_of(rewritten(checkpoint)) ==
        Lines{"a float16 [2] parameter 03040506", "b float8_e5m2 [2] parameter 0102"});
  SECTION("unless it can't hold the new values") {
    const auto whole = checkpoint.add_storage(DataRef::of_bytes(counting(8)), Dtype::kInt64);
    checkpoint.replace(0, 0, {Dtype::kInt64, whole, 0, {1}, {}});
    CHECK(table_of(rewritten(checkpoint))[0] == "a int64 [1] 0102030405060708");
  }
}

TEST_CASE("a tensor that stands under two keys is replaced under one", "[format]") {
  TensorPickle tensor;
  tensor.view = "";
  const auto pickle = "PROTO 2; EMPTY_DICT; MARK; BINUNICODE \"a\"; " + tensor.value() +
                      "; BINPUT 9; BINUNICODE \"b\"; BINGET 9; SETITEMS; STOP";
  const auto body = testing::assemble(pickle);
  const auto zip = build_zip("r/data.pkl body=" + escaped(as_text(body)) +
                             "\nr/data/0 body=" + escaped(as_text(counting(8))) + "\nr/version body=3");
  for (const std::uint32_t entry : {0U, 1U}) {
    auto checkpoint = read_bytes(zip).value();
    REQUIRE(checkpoint.state_dicts.at(0).entries.size() == 2);
    const auto added = checkpoint.add_storage(DataRef::of_bytes(counting(1)), Dtype::kUint8);
    checkpoint.replace(0, entry, {Dtype::kUint8, added, 0, {1}, {}});
    const auto lines = table_of(rewritten(checkpoint));
    INFO(lines[0] + " / " + lines[1]);
    CHECK(lines.at(entry).substr(1) == " uint8 [1] 01");
    CHECK(lines.at(1 - entry).substr(1) == " float32 [2] 0102030405060708");
  }
}

TEST_CASE("added records have names that are free, and checksums", "[format]") {
  auto checkpoint = changed(build_torch_zip(kModel));
  const auto layout = format_of(checkpoint.format).lay_out(checkpoint);
  REQUIRE(layout.ok());
  const auto bytes = written(*layout, checkpoint);
  Diagnostics diagnostics;
  const auto directory = ZipDirectory::read(source_of(bytes), diagnostics);
  REQUIRE(directory.ok());
  CHECK(diagnostics.findings().empty());
  for (const auto* name : {"data/3", "data/4"}) {
    const auto record = directory->find(name);
    REQUIRE(record);
    CHECK(directory->locate(*record)->data.offset % 64 == 0);
    CHECK(directory->entry(*record).crc32 != 0);
    CHECK(read_record(*directory, *record, 1000).ok());  // the checksum is right
  }
  CHECK_FALSE(directory->find("data/0"));
  CHECK_FALSE(directory->find(".format_version"));
}

namespace {

struct Tied {
  std::string header;
  std::string error;
  std::vector<std::string> notes;
};

/// A file of `header`, with two tensors of float32 that get one storage.
Tied tie(std::string_view header, TiedTensors tied = TiedTensors::kAlias) {
  auto checkpoint = read_bytes(safetensors_file(header, "1234567812345678")).value();
  const auto added = checkpoint.add_storage(DataRef::of_bytes(counting(8)), Dtype::kFloat32);
  checkpoint.replace(0, 0, {Dtype::kFloat32, added, 0, {2}, {}});
  checkpoint.replace(0, 1, {Dtype::kFloat32, added, 0, {2}, {}});
  Tied out;
  const auto layout = lay_out_as({std::nullopt, tied}, checkpoint, out.notes);
  if (!layout) {
    out.error = layout.error().text();
    return out;
  }
  const auto bytes = written(*layout, checkpoint);
  CHECK(verify(*layout, 0, checkpoint, source_of(bytes), nullptr).ok());
  out.header = std::string(as_text(bytes).substr(8, load_le<std::uint64_t>(bytes.data())));
  out.header.resize(out.header.find_last_not_of(' ') + 1);
  return out;
}

}  // namespace

TEST_CASE("tensors that an edit ties are aliases in safetensors", "[format]") {
  const std::string v = R"("v": {"dtype":"F32","shape":[2],"data_offsets":[0,8]}, )";
  const std::string old = R"("d": {"dtype":"F32","shape":[2],"data_offsets":[8,16]})";
  const std::string d = R"("d":{"dtype":"F32","shape":[2],"data_offsets":[0,8]})";
  SECTION("a file without metadata gets some, with a format") {
    const auto out = tie("{ " + v + old + " }");
    CHECK(out.header == R"({"__metadata__":{"format":"pt","v":"d"}, )" + d + " }");
    CHECK(out.notes == std::vector<std::string>{"1 key is tied: '__metadata__' leads from 'v' to 'd'"});
  }
  SECTION("the entries that there were stay, and lead to where the bytes are") {
    const auto out = tie(R"({ "__metadata__": {"w":"v","x":"y","y":"w"} , )" + v + old + "}");
    CHECK(out.header == R"({ "__metadata__":{"w":"d","x":"y","y":"w","v":"d"}, )" + d + "}");
    CHECK(tie("{" + v + old + R"(, "__metadata__": {"x":"y"}})").header ==
          "{" + d + R"(, "__metadata__":{"x":"y","v":"d"}})");
  }
  SECTION("or copies, or refused") {
    const auto out = tie("{" + v + old + "}", TiedTensors::kCopy);
    CHECK(out.header == R"({"v":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}, )"
                        R"("d":{"dtype":"F32","shape":[2],"data_offsets":[8,16]}})");
    CHECK(out.notes ==
          std::vector<std::string>{"1 group of tensors shared memory and are copies of their own now"});
    CHECK(tie("{" + v + old + "}", TiedTensors::kError).error ==
          "tensors 'd' and 'v' are one (--tied error)");
    CHECK(tie(R"({"__metadata__": {"v":"y"} , )" + v + old + "}").error ==
          "a tied tensor can't be called 'v': '__metadata__' of safetensors means something else by it");
  }
}

TEST_CASE("what a container can't hold is said before anything is written", "[format]") {
  SECTION("safetensors have no views and no sharing") {
    auto checkpoint = read_bytes(build_safetensors(kModel)).value();
    const auto added = checkpoint.add_storage(DataRef::of_bytes(counting(8)), Dtype::kFloat32);
    checkpoint.insert(0, "d", {Dtype::kFloat32, added, 0, {1}, {}});
    CHECK(error_of(checkpoint) ==
          "tensor 'd' is a view of a part of its storage, which safetensors can't hold");
    checkpoint.drop(0, 3);
    checkpoint.insert(0, "e", {Dtype::kFloat32, added, 0, {2}, {}});
    checkpoint.insert(0, "f", {Dtype::kFloat32, added, 0, {2}, {}});
    CHECK(error_of(checkpoint) == "tensors 'e' and 'f' are one (--tied error)");
  }
  SECTION("safetensors have few dtypes, and names in UTF-8") {
    auto checkpoint = read_bytes(build_safetensors(kModel)).value();
    const auto added = checkpoint.add_storage(DataRef::of_bytes(counting(16)), Dtype::kComplex128);
    checkpoint.insert(0, "d", {Dtype::kComplex128, added, 0, {1}, {}});
    CHECK(error_of(checkpoint) == "tensor 'd' is of dtype complex128, which safetensors can't hold");
    checkpoint.drop(0, 3);
    const auto byte = checkpoint.add_storage(DataRef::of_bytes(counting(1)), Dtype::kUint8);
    checkpoint.insert(0, "__metadata__", {Dtype::kUint8, byte, 0, {1}, {}});
    CHECK(error_of(checkpoint) == "a tensor can't be named '__metadata__' in safetensors");
  }
  SECTION("the legacy stream has no untyped storages that load") {
    auto checkpoint = read_bytes(build_torch_legacy(kModel)).value();
    const auto added = checkpoint.add_storage(DataRef::of_bytes(counting(1)), Dtype::kFloat8E5m2);
    checkpoint.insert(0, "d", {Dtype::kFloat8E5m2, added, 0, {1}, {}});
    CHECK(error_of(checkpoint) == "PyTorch can't load float8_e5m2 tensors from its legacy stream");
  }
}

}  // namespace
