// SPDX-License-Identifier: BSD-3-Clause
// Reading: five pickles, then one count per storage. Tensor bytes are skipped, never read.
#include <algorithm>
#include <array>
#include <string>
#include <string_view>

#include <fmt/format.h>

#include "ckpt/base/text.h"
#include "ckpt/format/torch_legacy.h"
#include "ckpt/format/torch_legacy_storages.h"
#include "ckpt/pickle/decoder.h"

namespace ckpt {
namespace {

using std::string_view_literals::operator""sv;

constexpr std::int64_t kProtocol = 1001;
constexpr std::uint64_t kSmallPickle = 64;  // magic and protocol number: 21 bytes in all, as text 34

// ---- the magic number

enum class Match : std::uint8_t { kNo, kYes, kCut };

/// 0x1950A86A20F9469CFC6C as each pickle protocol spells a whole number.
struct MagicSpelling {
  std::string_view head;
  std::string_view rest;
  bool any_protocol;  ///< the byte behind `head` is the protocol, 2 to 5
};

constexpr std::string_view kNumber = "\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19."sv;
constexpr std::string_view kFramedNumber =
    "\x95\x0d\0\0\0\0\0\0\0\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19."sv;

constexpr std::array kSpellings = {
    MagicSpelling{"\x80", kNumber, true},
    MagicSpelling{"\x80", kFramedNumber, true},
    MagicSpelling{"L119547037146038801333356L\n.", "", false},
    MagicSpelling{"L119547037146038801333356\n.", "", false},
};

/// A file that ends inside the number is a cut one, if enough of it is there to tell.
Match match_one(const MagicSpelling& spelling, std::string_view text, std::uint64_t& size) {
  constexpr std::size_t kEnough = 6;
  std::string expected(spelling.head);
  if (spelling.any_protocol) {
    const bool known = text.size() > 1 && text[1] >= 2 && text[1] <= 5;
    expected += known ? text[1] : '\x02';
  }
  expected += spelling.rest;
  size = expected.size();
  if (text.starts_with(expected)) return Match::kYes;
  return text.size() >= kEnough && std::string_view(expected).starts_with(text) ? Match::kCut : Match::kNo;
}

Match match_magic(std::string_view text, std::uint64_t& size) {
  for (const auto& spelling : kSpellings) {
    const auto match = match_one(spelling, text, size);
    if (match != Match::kNo) return match;
  }
  return Match::kNo;
}

// ---- the pickles

/// Decodes one of the five, which begins at `at` and is at most `limit` bytes long.
Result<ValueGraph> decode_piece(const ByteSource& source, std::uint64_t at, std::uint64_t limit,
                                const char* name) {
  auto graph = decode_pickle(source, {at, std::min(limit, source.size() - at)});
  if (!graph.ok()) return std::move(graph).error().in_record(name);
  return graph;
}

Result<std::uint64_t> skip_magic(const ByteSource& source) {
  CKPT_ASSIGN_OR_RETURN(const auto head, source.read({0, std::min(source.size(), kSmallPickle)}));
  std::uint64_t size = 0;
  switch (match_magic(as_text(head), size)) {
    case Match::kYes: return size;
    case Match::kCut: break;
    case Match::kNo:
      return Error(ErrorCode::kCorrupt, "the file does not begin with the magic number of torch.save");
  }
  return Error(ErrorCode::kCorrupt, fmt::format("the file ends inside the magic number, after {}",
                                                counted(source.size(), "byte")));
}

Result<std::uint64_t> skip_protocol(const ByteSource& source, std::uint64_t at) {
  CKPT_ASSIGN_OR_RETURN(const auto graph, decode_piece(source, at, kSmallPickle, "protocol"));
  const auto number = graph.integer(graph.root());
  if (number == kProtocol) return graph.extent().end();
  if (!number)
    return Error(ErrorCode::kCorrupt, "the protocol version is no number, expected 1001")
        .in_record("protocol");
  return Error(ErrorCode::kUnsupported,
               fmt::format("the protocol version is {}, expected {}", *number, kProtocol))
      .in_record("protocol");
}

Result<std::unique_ptr<Document>> read_document(const std::shared_ptr<const ByteSource>& source,
                                                std::uint64_t at, const char* name) {
  auto document = std::make_unique<Document>();
  document->name = name;
  document->source = source;
  CKPT_ASSIGN_OR_RETURN(document->graph, decode_piece(*source, at, source->size(), name));
  return document;
}

/// Behind the last storage: no loader looks there, and it is carried.
void check_trailing(const ByteSource& source, Extent trailing, Diagnostics& diagnostics) {
  if (trailing.size == 0) return;
  constexpr std::uint64_t kZipEnd = 22 + 65535;  // where a zip reader looks for the end of a directory
  const auto tail_size = std::min(trailing.size, kZipEnd);
  const auto head = source.read({trailing.offset, std::min(trailing.size, kSmallPickle)});
  const auto tail = source.read({trailing.end() - tail_size, tail_size});
  if (tail.ok() && as_text(*tail).find("PK\5\6"sv) != std::string_view::npos) {
    diagnostics.add(
        {"legacy-and-zip", Severity::kError, "",
         "a zip archive follows the last storage: PyTorch loads the stream, zip readers the archive", ""});
    return;
  }
  std::uint64_t size = 0;
  const bool another = head.ok() && match_magic(as_text(*head), size) == Match::kYes;
  diagnostics.add(
      {"legacy-trailing-bytes", Severity::kWarning, "",
       fmt::format("{} follow the last storage; {}", counted(trailing.size, "byte"),
                   another ? "they begin like another file of torch.save" : "no reader looks at them"),
       ""});
}

}  // namespace

bool TorchLegacyFormat::probe(const Probe& probe) const {
  std::uint64_t size = 0;
  const auto match = match_magic(as_text(probe.prefix), size);
  return match == Match::kYes || (match == Match::kCut && probe.source.size() == probe.prefix.size());
}

Result<Checkpoint> TorchLegacyFormat::read(std::shared_ptr<const ByteSource> source, Diagnostics& diagnostics,
                                           Intent /*intent*/) const {
  CKPT_ASSIGN_OR_RETURN(auto at, skip_magic(*source));
  CKPT_ASSIGN_OR_RETURN(at, skip_protocol(*source, at));
  CKPT_ASSIGN_OR_RETURN(const auto system, decode_piece(*source, at, source->size(), "system"));
  CKPT_ASSIGN_OR_RETURN(auto object, read_document(source, system.extent().end(), "object"));
  CKPT_ASSIGN_OR_RETURN(auto keys, read_document(source, object->graph.extent().end(), "keys"));
  Checkpoint checkpoint;
  checkpoint.format = FormatId::kTorchLegacy;
  auto data = std::make_shared<TorchLegacyData>();
  auto& part = checkpoint.parts.emplace_back(Part{source, data, {}});
  part.documents.push_back(std::move(object));
  part.documents.push_back(std::move(keys));
  const auto& list = part.documents[1]->graph;
  LegacyStorages storages(checkpoint, diagnostics);
  auto used = storages.collect_uses();
  if (!used.ok()) return std::move(used).error().in_record("object");
  CKPT_ASSIGN_OR_RETURN(at, storages.place(list, *data, list.extent().end()));
  data->trailing = {at, source->size() - at};
  check_trailing(*source, data->trailing, diagnostics);
  auto collected = collect_objects(checkpoint, storages, diagnostics);
  if (!collected.ok()) return std::move(collected).error().in_record("object");
  return checkpoint;
}

}  // namespace ckpt
