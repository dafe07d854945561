// SPDX-License-Identifier: BSD-3-Clause
#include "ckpt/format/detect.h"

#include <string>
#include <string_view>
#include <vector>

#include "support/catch.h"
#include "support/checkpoint_builder.h"
#include "support/pickle_assembler.h"
#include "support/zip_builder.h"

using namespace ckpt;
using namespace ckpt::test;
using std::string_literals::operator""s;

namespace {

std::string described(const std::string& bytes) {
  const auto source = source_of(bytes);
  const auto prefix = source->read({0, std::min<std::uint64_t>(source->size(), kProbeSize)}).value();
  return describe_foreign({*source, prefix});
}

std::string tar_member(const std::string& name, std::uint64_t size) {
  std::string header(512, '\0');
  header.replace(0, name.size(), name);
  std::string octal(11, '0');
  for (auto at = octal.size(); size > 0; size /= 8) octal[--at] = static_cast<char>('0' + size % 8);
  header.replace(124, 11, octal);
  header.replace(257, 5, "ustar");
  return header + std::string(512, 'x');
}

std::string pickled(std::string_view assembly) {
  const auto bytes = testing::assemble(assembly);
  return std::string(as_text(bytes));
}

std::string text_of(const Bytes& bytes) {
  return std::string(as_text(bytes));
}

}  // namespace

TEST_CASE("a file that is no checkpoint is told what it is", "[format]") {
  const std::vector<std::pair<std::string, std::string>> cases = {
      {"", "an empty file"},
      {"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 1234567890\n",
       "a Git LFS pointer to 1.23 GB; run git lfs pull"},
      {"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\n",
       "a Git LFS pointer; run git lfs pull"},
      {"<!DOCTYPE html>\n<html>", "an HTML page, as a failed download leaves"},
      {"\n  <HTML lang=en>", "an HTML page, as a failed download leaves"},
      {"<?xml version=\"1.0\"?><Error><Code>AccessDenied</Code>", "an XML document"},
      {"{\"error\":\"Repository not found\"}", "a JSON error message, as a failed download leaves"},
      {"{\n  \"metadata\": {\"total_size\": 8},\n  \"weight_map\": {}\n}",
       "the index of a sharded Hugging Face model, which this version does not read"},
      {"{\"hidden_size\": 768}", "JSON text"},
      {"import torch\n", "plain text"},
      {"größe\n", "plain text"},
      {"\x89HDF\r\n\x1a", "no known kind of checkpoint"},  // cut off inside its magic number
      {"\x89HDF\r\n\x1a\n\x01", "an HDF5 file, as Keras writes"},
      {"GGUF\x03\0\0\0"s, "a GGUF model (llama.cpp)"},
      {"lmgg\x01\0\0\0"s, "a GGML model (old llama.cpp)"},
      {"fmgg\x01\0\0\0"s, "a GGML model (old llama.cpp)"},
      {"tjgg\x01\0\0\0"s, "a GGML model (old llama.cpp)"},
      {"\x93NUMPY\x01\0"s, "a NumPy array (.npy)"},
      {"\x1f\x8b\x08\0"s, "gzip data; unpack it first"},
      {"BZh91AY", "bzip2 data; unpack it first"},
      {"\xfd\x37zXZ\0\0"s, "xz data; unpack it first"},
      {"\x28\xb5\x2f\xfd\x04", "zstd data; unpack it first"},
      {"\x04\x22\x4d\x18\x40", "lz4 data; unpack it first"},
      {"7z\xbc\xaf\x27\x1c\0"s, "a 7z archive; unpack it first"},
      {"\x7f"
       "ELF\x02",
       "a program or library (ELF)"},
      {"\x78\x9c\xed", "zlib data, as joblib writes"},
      {"\x78\x01\xed", "zlib data, as joblib writes"},
      {"\x1c\0\0\0TFL3\0"s, "a TensorFlow Lite model"},
      {"\x1c\0\0\0PTMF\0"s, "a PyTorch mobile model (flatbuffer)"},
      {"\x1c\0\0\0ET12\0"s, "an ExecuTorch program"},
      {"\x08\x07\x12\x07pytorch", "an ONNX model"},
      {"PK\5\6" + std::string(18, '\0'), "an empty zip archive"},
      {"SQLite format 3\0\x10"s, "an SQLite database"},
      {std::string(16, '\0') + "\xde\xc0\xef\xbe\x01", "an LMDB database"},
      {"PYTORCH1\x01", "a TorchScript file of PyTorch's 2018 preview, which no release reads"},
      {std::string(100, '\0'), "a file of zero bytes only, as an interrupted download or a full disk leaves"},
      {std::string(3U << 20U, '\0'),
       "a file that begins with 1.05 MB of zero bytes, as an interrupted download or a full disk leaves"},
      {tar_member("sys_info", 9) + tar_member("pickle", 512) + tar_member("tensors", 1) +
           tar_member("storages", 3),
       "a tar file of torch.save before 0.1.10, which this version does not read"},
      {tar_member("./model_config.yaml", 9) + tar_member("./model_weights.ckpt", 9),
       "a NeMo archive (.nemo, a tar file); unpack it first"},
      {tar_member("a.txt", 9), "a tar archive; unpack it first"},
      {pickled("PROTO 4; FRAME 2; NONE; STOP"), "a plain pickle, not a file of torch.save"},
      {pickled("PROTO 2; EMPTY_DICT; STOP"), "a plain pickle, not a file of torch.save"},
      {pickled("MARK; DICT; PUT 0; UNICODE a; INT 1; SETITEM; STOP"),
       "a plain pickle, not a file of torch.save"},
      {pickled("EMPTY_LIST; STOP") + "x", "plain text"},
      {"(hello", "plain text"},
      {"\x01\x02\x03\x04", "no known kind of checkpoint"},
  };
  for (const auto& [bytes, expected] : cases) {
    CAPTURE(bytes.substr(0, 40));
    CHECK(described(bytes) == expected);
  }
}

TEST_CASE("an archive behind other bytes is told where it begins", "[format]") {
  const std::string records = "; a/data.pkl; a/version; a/data/0";
  const std::string behind_8 = "a zip archive that begins at byte 8; torch.load looks for one at byte 0";
  CHECK(described(text_of(build_zip("before junkjunk" + records))) == behind_8);
  CHECK(described(text_of(build_zip("before-all junkjunk" + records))) == behind_8);
  CHECK(described(text_of(build_zip("before-all junkjunk; zip64" + records))) == behind_8);
  CHECK(described("#!/bin/sh\nexit 0\n" + text_of(build_zip(records))) ==
        "a zip archive that begins at byte 17; torch.load looks for one at byte 0");
  CHECK(described("plain text\nPK\5\6" + std::string(18, '\0')) == "no known kind of checkpoint");
}

TEST_CASE("a tar whose sizes lie ends the search", "[format]") {
  auto tar = tar_member("pickle", 077777777777) + tar_member("tensors", 1) + tar_member("storages", 1);
  CHECK(described(tar) == "a tar archive; unpack it first");
}

TEST_CASE("what no format claims is refused by name", "[format]") {
  CHECK(outcome({}) == "x: this is an empty file");
  const auto text = as_bytes("<html>404</html>");
  CHECK(outcome(Bytes(text.begin(), text.end())) == "x: this is an HTML page, as a failed download leaves");
}

TEST_CASE("a length that looks like a pickle's protocol is still safetensors", "[format]") {
  std::string header = R"({"w":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}})";
  header.resize(0x280, ' ');  // the file begins 80 02
  const auto checkpoint = read_bytes(safetensors_file(header, std::string(8, '\0')));
  REQUIRE(checkpoint);
  CHECK(checkpoint->format == FormatId::kSafetensors);
}
