// SPDX-License-Identifier: BSD-3-Clause
// Names for look-alikes, mostly by the magic number at their start. None of these files is read; the point
// is to tell people what they have in their hands.
#include "ckpt/format/detect.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <optional>
#include <string_view>

#include <fmt/format.h>

#include "ckpt/base/text.h"
#include "ckpt/pickle/decoder.h"
#include "ckpt/zip/archive_start.h"

namespace ckpt {
namespace {

using std::string_view_literals::operator""sv;

struct Magic {
  std::size_t at;
  std::string_view bytes;
  std::string_view name;
};

// Longer ones first where one begins like another.
constexpr std::array kMagics = {
    Magic{0, "\x89HDF\r\n\x1a\n"sv, "an HDF5 file, as Keras writes"},
    Magic{0, "GGUF"sv, "a GGUF model (llama.cpp)"},
    Magic{0, "lmgg"sv, "a GGML model (old llama.cpp)"},
    Magic{0, "fmgg"sv, "a GGML model (old llama.cpp)"},
    Magic{0, "tjgg"sv, "a GGML model (old llama.cpp)"},
    Magic{0, "\x93NUMPY"sv, "a NumPy array (.npy)"},
    Magic{0, "PYTORCH1"sv, "a TorchScript file of PyTorch's 2018 preview, which no release reads"},
    Magic{4, "PTMF"sv, "a PyTorch mobile model (flatbuffer)"},
    Magic{4, "TFL3"sv, "a TensorFlow Lite model"},
    Magic{4, "ET1"sv, "an ExecuTorch program"},
    Magic{0, "\x1f\x8b"sv, "gzip data; unpack it first"},
    Magic{0, "BZh"sv, "bzip2 data; unpack it first"},
    Magic{0, "\xfd\x37zXZ\0"sv, "xz data; unpack it first"},
    Magic{0, "\x28\xb5\x2f\xfd"sv, "zstd data; unpack it first"},
    Magic{0, "\x04\x22\x4d\x18"sv, "lz4 data; unpack it first"},
    Magic{0, "7z\xbc\xaf\x27\x1c"sv, "a 7z archive; unpack it first"},
    Magic{0, "Rar!\x1a\x07"sv, "a RAR archive; unpack it first"},
    Magic{0, "PK\5\6"sv, "an empty zip archive"},
    Magic{0, "PK\7\x08"sv, "a part of a split zip archive"},
    Magic{0,
          "\x7f"
          "ELF"sv,
          "a program or library (ELF)"},
    Magic{0, "SQLite format 3\0"sv, "an SQLite database"},
    Magic{16, "\xde\xc0\xef\xbe"sv, "an LMDB database"},
    Magic{0, "ARROW1"sv, "an Arrow file"},
    Magic{0, "PAR1"sv, "a Parquet file"},
    Magic{0, "%PDF-"sv, "a PDF document"},
    Magic{0, "\x89PNG\r\n\x1a\n"sv, "a PNG picture"},
    Magic{0, "\xff\xd8\xff"sv, "a JPEG picture"},
};

std::optional<std::string> by_magic(std::string_view text) {
  for (const auto& magic : kMagics) {
    if (text.size() > magic.at && text.substr(magic.at).starts_with(magic.bytes))
      return std::string(magic.name);
  }
  // RFC 1950: deflate with a 32 KiB window, check bits so that the first two bytes divide by 31.
  if (text.starts_with("\x78\x01"sv) || text.starts_with("\x78\x5e"sv) || text.starts_with("\x78\x9c"sv) ||
      text.starts_with("\x78\xda"sv)) {
    return "zlib data, as joblib writes";
  }
  // A protocol buffer: field 1 (ir_version), 3 to 12, then the producer's name or a later string.
  if (text.size() > 2 && text[0] == '\x08' && text[1] >= 3 && text[1] <= 12 &&
      (text[2] == '\x12' || text[2] == '\x3a')) {
    return "an ONNX model";
  }
  return std::nullopt;
}

// ---- tar

constexpr std::uint64_t kTarBlock = 512;
constexpr int kTarMembers = 64;  // looked at before a tar is just a tar

std::uint64_t tar_size(std::string_view header) {
  std::uint64_t size = 0;
  for (const char digit : header.substr(124, 11)) {
    if (digit < '0' || digit > '7') break;
    size = size * 8 + static_cast<std::uint64_t>(digit - '0');
  }
  return size;
}

/// The torch.save of the first months: a tar with these members, PAX headers aside.
std::string describe_tar(const ByteSource& source) {
  int legacy_members = 0;
  std::uint64_t at = 0;
  Bytes block(kTarBlock);
  for (int i = 0; i < kTarMembers && at + kTarBlock <= source.size(); ++i) {
    if (!source.read_at(at, block).ok()) break;
    const auto header = as_text(block);
    auto name = header.substr(0, header.substr(0, 100).find('\0'));
    if (name.starts_with("./")) name.remove_prefix(2);
    if (name.empty()) break;
    if (name == "pickle" || name == "tensors" || name == "storages") ++legacy_members;
    if (name.ends_with("model_weights.ckpt")) return "a NeMo archive (.nemo, a tar file); unpack it first";
    at += kTarBlock + (tar_size(header) + kTarBlock - 1) / kTarBlock * kTarBlock;
  }
  if (legacy_members == 3) return "a tar file of torch.save before 0.1.10, which this version does not read";
  return "a tar archive; unpack it first";
}

// ---- text

std::string lower(std::string_view text) {
  std::string out(text);
  for (auto& letter : out) {
    if (letter >= 'A' && letter <= 'Z') letter = static_cast<char>(letter - 'A' + 'a');
  }
  return out;
}

std::string describe_lfs_pointer(std::string_view text) {
  std::uint64_t size = 0;
  const auto at = text.find("\nsize ");
  if (at != std::string_view::npos) std::from_chars(text.data() + at + 6, text.data() + text.size(), size);
  if (size == 0) return "a Git LFS pointer; run git lfs pull";
  return "a Git LFS pointer to " + human_bytes(size) + "; run git lfs pull";
}

std::string describe_json(const ByteSource& source, std::string_view text) {
  constexpr std::uint64_t kHead = 64 * 1024;  // `metadata` may stand in front of `weight_map`
  const auto head = source.read({0, std::min(source.size(), kHead)});
  if (head.ok() && as_text(*head).find("\"weight_map\"") != std::string_view::npos) {
    return "the index of a sharded Hugging Face model, which this version does not read";
  }
  auto inside = text.substr(1);
  while (!inside.empty() && std::string_view(" \t\r\n").find(inside.front()) != std::string_view::npos)
    inside.remove_prefix(1);
  if (inside.starts_with("\"error")) return "a JSON error message, as a failed download leaves";
  return "JSON text";
}

/// Is the prefix text for people? The last character may be cut.
bool is_plain_text(std::string_view text) {
  while (!text.empty()) {
    const auto length = utf8_sequence(text);
    if (length == 0) return text.size() < 4;
    const auto letter = static_cast<unsigned char>(text.front());
    if (letter < 0x20 && letter != '\n' && letter != '\r' && letter != '\t' && letter != '\f') return false;
    text.remove_prefix(length);
  }
  return true;
}

std::optional<std::string> by_text(const ByteSource& source, std::string_view text) {
  if (text.starts_with("\xef\xbb\xbf")) text.remove_prefix(3);
  while (!text.empty() && std::string_view(" \t\r\n").find(text.front()) != std::string_view::npos)
    text.remove_prefix(1);
  if (text.starts_with("version https://git-lfs.github.com/spec/")) return describe_lfs_pointer(text);
  const auto start = lower(text.substr(0, 64));
  if (start.starts_with("<!doctype html") || start.starts_with("<html") || start.starts_with("<head")) {
    return "an HTML page, as a failed download leaves";
  }
  if (start.starts_with("<?xml")) return "an XML document";
  if (!is_plain_text(text)) return std::nullopt;
  if (text.starts_with('{')) return describe_json(source, text);
  return "plain text";
}

// ---- pickles

/// A pickle with nothing behind it? Protocols 0 and 1 have no magic number: they are decoded.
bool is_plain_pickle(const ByteSource& source, std::string_view text) {
  if (text.size() >= 3 && text[0] == '\x80' && text[1] >= 2 && text[1] <= 5) return true;
  if (text.empty() || std::string_view("(]})cILFVSNKJMGXU").find(text.front()) == std::string_view::npos)
    return false;
  constexpr DecodeLimits kLimits{16U << 20U, 1U << 20U, 1U << 20U};
  const auto graph = decode_pickle(source, {0, source.size()}, kLimits);
  return graph.ok() && graph->extent().size == source.size();
}

/// Only the beginning is looked at, and said so, where the file is long.
std::optional<std::string> by_zeros(const ByteSource& source) {
  constexpr std::uint64_t kLooked = 1U << 20U;
  const auto head = source.read({0, std::min(source.size(), kLooked)});
  if (!head.ok()) return std::nullopt;
  if (std::any_of(head->begin(), head->end(), [](std::byte byte) { return byte != std::byte{0}; }))
    return std::nullopt;
  const std::string cause = ", as an interrupted download or a full disk leaves";
  if (head->size() == source.size()) return "a file of zero bytes only" + cause;
  return "a file that begins with " + human_bytes(head->size()) + " of zero bytes" + cause;
}

}  // namespace

std::string describe_foreign(const Probe& probe) {
  const auto text = as_text(probe.prefix);
  if (text.empty()) return "an empty file";
  if (const auto name = by_magic(text)) return *name;
  if (const auto start = find_archive_behind_bytes(probe.source)) {
    return fmt::format("a zip archive that begins at byte {}; torch.load looks for one at byte 0", *start);
  }
  if (text.size() > 262 && text.substr(257).starts_with("ustar")) return describe_tar(probe.source);
  if (is_plain_pickle(probe.source, text)) return "a plain pickle, not a file of torch.save";
  if (const auto name = by_text(probe.source, text)) return *name;
  if (text.front() == '\0') {
    if (const auto name = by_zeros(probe.source)) return *name;
  }
  return "no known kind of checkpoint";
}

}  // namespace ckpt
