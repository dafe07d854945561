// SPDX-License-Identifier: BSD-3-Clause
#include "ckpt/zip/coverage.h"

#include <algorithm>
#include <numeric>
#include <optional>
#include <string>
#include <tuple>
#include <vector>

#include <fmt/format.h>

#include "ckpt/base/text.h"
#include "ckpt/zip/finding_tally.h"
#include "ckpt/zip/record_locator.h"

namespace ckpt {
namespace {

// Between the data of two records PyTorch has at most a descriptor (24 bytes), and in the header a zip64
// field (28) and padding to 64 (4 + 63).
constexpr std::uint64_t kPlausibleGap = 24 + 28 + 4 + 63;

// Where headers are not read throughout, at most this many are, to see what a larger hole is.
constexpr int kMaxHolesLookedInto = 4096;

// Zeros up to this length are padding: alignments used for checkpoints end at 64 KiB.
constexpr std::uint64_t kMaxPadding = 64 * 1024;

// Bytes of padding looked at in one file or piece of it, and bytes of each other hole.
constexpr std::uint64_t kPaddingBudget = 4 * 1024 * 1024;
constexpr std::uint64_t kLookedAt = 4096;

/// The records by their place in the file; empty where that is the order of the directory.
std::vector<RecordId> file_order(const EntryTable& table) {
  const auto& entries = table.entries;
  const auto by_offset = [](const ZipEntry& a, const ZipEntry& b) {
    return a.local_header_offset < b.local_header_offset;
  };
  if (std::is_sorted(entries.begin(), entries.end(), by_offset)) return {};
  std::vector<RecordId> order(entries.size());
  std::iota(order.begin(), order.end(), RecordId{0});
  std::stable_sort(order.begin(), order.end(),
                   [&](auto a, auto b) { return by_offset(entries[a], entries[b]); });
  return order;
}

RecordId record_count(const EntryTable& table) {
  return static_cast<RecordId>(table.entries.size());
}

bool all_zero(ByteView bytes) {
  return std::all_of(bytes.begin(), bytes.end(), [](std::byte b) { return b == std::byte{0}; });
}

/// Is there anything in it that a reader could take for part of an archive?
bool holds_zip_record(ByteView bytes) {
  const auto text = as_text(bytes);
  for (auto at = text.find("PK"); at != text.npos; at = text.find("PK", at + 1)) {
    const auto kind = text.substr(at + 2, 2);
    if (kind == "\3\4" || kind == "\1\2" || kind == "\5\6") return true;
  }
  return false;
}

/// Some records that follow each other in the file, and the bytes up to the next one.
struct Stretch {
  RecordId first = 0;
  RecordId end = 0;
};

class Coverage {
 public:
  Coverage(const ByteSource& source, const EntryTable& table, Extent central, LocalHeaders how)
      : table_(table), central_(central), how_(how), locator_(source, table, central) {}

  /// Goes through `stretch` of `order`, which is empty where the directory has the order of the file. What
  /// lies before it is taken to end where the record before does.
  Status run(const std::vector<RecordId>& order, Stretch stretch, const std::stop_token& stop) {
    const auto nth = [&](RecordId i) { return order.empty() ? i : order[i]; };
    if (stretch.first > 0) CKPT_RETURN_IF_ERROR(start_behind(nth(stretch.first - 1)));
    begun_ = reached();
    for (auto i = stretch.first; i < stretch.end; ++i) {
      if (stop.stop_requested()) return {};
      const auto record = nth(i);
      CKPT_RETURN_IF_ERROR(reach(table_.entries[record].local_header_offset, record));
      CKPT_RETURN_IF_ERROR(pass(record));
    }
    return stretch.end < table_.entries.size() ? Status() : reach(central_.offset, std::nullopt);
  }

  /// Was this one right about what lies before it? `before` has gone through that.
  bool continues(const Coverage& before) const { return begun_ == before.reached(); }

  /// Takes over what was found in the stretch behind this one's.
  void append(const Coverage& behind);

  void report(Diagnostics& diagnostics) const;

 private:
  using Reached = std::pair<std::uint64_t, std::optional<RecordId>>;

  Reached reached() const { return {end_, previous_}; }

  Status start_behind(RecordId record);
  Status reach(std::uint64_t offset, std::optional<RecordId> record);
  Status pass(RecordId record);
  void settle(RecordId record);
  void compare(RecordId record, const FoundHeader& found);
  Status look_into(Extent hole);
  Result<bool> is_padding(Extent hole);
  Result<std::optional<std::uint64_t>> announced_end(Extent hole);

  std::string name(RecordId record) const { return table_.full_name(record); }

  const EntryTable& table_;
  Extent central_;
  LocalHeaders how_;
  RecordLocator locator_;

  Reached begun_;                     // before the first record
  std::uint64_t end_ = 0;             // what lies before belongs to the records passed
  std::optional<RecordId> previous_;  // the one that ends there
  std::uint16_t previous_flags_ = 0;  // from its header, if that was read
  std::uint32_t previous_stored_size_ = 0;
  FoundHeader header_;  // read last
  int holes_left_ = kMaxHolesLookedInto;
  std::uint64_t padding_left_ = kPaddingBudget;

  FindingTally uncovered_{"zip-uncovered-bytes", Severity::kWarning};
  FindingTally hidden_{"zip-uncovered-bytes", Severity::kError};
  FindingTally overlap_{"zip-overlap", Severity::kError};
  FindingTally no_header_{"zip-no-local-header", Severity::kError};
  FindingTally other_name_{"zip-local-name-differs", Severity::kError};
  FindingTally other_size_{"zip-local-sizes-differ", Severity::kWarning};
  FindingTally cut_{"zip-record-cut", Severity::kError};

  static constexpr FindingTally Coverage::*kTallies[] = {
      &Coverage::overlap_, &Coverage::no_header_, &Coverage::other_name_, &Coverage::cut_,
      &Coverage::hidden_,  &Coverage::uncovered_, &Coverage::other_size_,
  };
};

Status Coverage::start_behind(RecordId record) {
  CKPT_ASSIGN_OR_RETURN(header_, locator_.header(record));
  settle(record);
  return {};
}

/// Accounts for the bytes up to `offset`, where `record` starts, or the central directory.
Status Coverage::reach(std::uint64_t offset, std::optional<RecordId> record) {
  if (offset < end_) {
    overlap_.count([&] {
      const auto what = record ? quoted(name(*record)) : "the central directory";
      return std::tuple(
          previous_ ? name(*previous_) : std::string(),
          fmt::format("the record reaches to byte {}, but {} starts at byte {}", end_, what, offset));
    });
    return {};
  }
  const Extent hole{end_, offset - end_};
  if (hole.size == 0) return {};
  if (how_ == LocalHeaders::kRead || !previous_) return look_into(hole);
  if (hole.size <= kPlausibleGap || holes_left_ == 0) return {};
  --holes_left_;
  CKPT_ASSIGN_OR_RETURN(header_, locator_.header(*previous_));
  previous_flags_ = header_.fields.flags;
  previous_stored_size_ = header_.fields.stored_size;
  const auto data_end = header_.whole.end() + table_.entries[*previous_].stored_size;
  return data_end < offset ? look_into({data_end, offset - data_end}) : Status();
}

Status Coverage::pass(RecordId record) {
  if (how_ == LocalHeaders::kRead) {
    CKPT_ASSIGN_OR_RETURN(header_, locator_.header(record));
    compare(record, header_);
  }
  settle(record);
  return {};
}

/// The bytes up to the end of `record`, whose header was read last if any is, are accounted for.
void Coverage::settle(RecordId record) {
  const auto& entry = table_.entries[record];
  const auto usual_size = std::uint64_t{kLocalHeaderSize} + entry.full_name_size;
  const bool is_read = how_ == LocalHeaders::kRead && header_.valid;
  const auto header_size = is_read ? header_.whole.size : usual_size;
  const auto end = entry.local_header_offset + header_size + entry.stored_size;
  if (previous_ && end < end_) return;  // inside what was passed: reported as an overlap
  end_ = end;
  previous_ = record;
  previous_flags_ = header_.fields.flags;
  previous_stored_size_ = header_.fields.stored_size;
}

void Coverage::compare(RecordId record, const FoundHeader& found) {
  const auto& entry = table_.entries[record];
  if (!found.valid) {
    return no_header_.count([&] {
      return std::tuple(name(record),
                        fmt::format("there is no local header at byte {}", entry.local_header_offset));
    });
  }
  if (!found.same_name) {
    other_name_.count([&] {
      return std::tuple(
          name(record),
          std::string("the record's own header has another name, so Python refuses to read it"));
    });
  }
  const auto& fields = found.fields;
  const bool announced = fields.stored_size != 0 && fields.stored_size != kSaturated32;
  if (announced && (fields.stored_size != entry.stored_size || fields.size != entry.size)) {
    other_size_.count([&] {
      return std::tuple(name(record),
                        fmt::format("the record's own header says {} bytes, the central directory {}",
                                    fields.stored_size, entry.stored_size));
    });
  }
}

/// What the bytes from the end of the previous record to what follows are.
Status Coverage::look_into(Extent hole) {
  // In one read with the header that follows.
  CKPT_RETURN_IF_ERROR(
      locator_.view({hole.offset, std::min<std::uint64_t>(hole.size, kZip64DescriptorSize)}));
  if (previous_) {
    CKPT_ASSIGN_OR_RETURN(const auto cut_to, announced_end(hole));
    if (cut_to) {
      cut_.count([&] {
        const auto size = table_.entries[*previous_].stored_size;
        return std::tuple(name(*previous_),
                          fmt::format("the central directory gives the record {} bytes, it has {}", size,
                                      size + *cut_to - hole.offset));
      });
      return {};
    }
    CKPT_ASSIGN_OR_RETURN(const auto descriptor, locator_.descriptor(*previous_, previous_flags_, hole));
    hole = {descriptor.end(), hole.end() - descriptor.end()};
  }
  CKPT_ASSIGN_OR_RETURN(const bool padding, is_padding(hole));
  if (padding) return {};
  CKPT_ASSIGN_OR_RETURN(const auto bytes, locator_.view({hole.offset, std::min(hole.size, kLookedAt)}));
  const bool hidden = holds_zip_record(bytes);
  auto& tally = hidden ? hidden_ : uncovered_;
  tally.count([&] {
    auto message = fmt::format("{} at byte {} belong to no record", counted(hole.size, "byte"), hole.offset);
    if (hidden) message += ", and look like part of an archive";
    return std::tuple(std::string(), message);
  });
  return {};
}

Result<bool> Coverage::is_padding(Extent hole) {
  if (hole.size == 0) return true;
  if (hole.offset == 0 || hole.size > kMaxPadding || hole.size > padding_left_) return false;
  padding_left_ -= hole.size;
  CKPT_ASSIGN_OR_RETURN(const auto bytes, locator_.view(hole));
  return all_zero(bytes);
}

/// Where the previous record ends by its own header or by the descriptor before `hole`'s end, if that is
/// not where the central directory lets it end.
Result<std::optional<std::uint64_t>> Coverage::announced_end(Extent hole) {
  using End = std::optional<std::uint64_t>;
  const auto& entry = table_.entries[*previous_];
  const auto data = hole.offset - entry.stored_size;
  const auto local_size = previous_stored_size_;
  const bool has_size = local_size != kSaturated32 && local_size > entry.stored_size;
  if (has_size && data + local_size <= hole.end()) return End(data + local_size);
  for (const bool zip64 : {false, true}) {
    const auto size = zip64 ? kZip64DescriptorSize : kDescriptorSize;
    if (hole.size <= size) continue;
    const Extent last{hole.end() - size, size};
    CKPT_ASSIGN_OR_RETURN(const auto bytes, locator_.view(last));
    const auto descriptor = parse_descriptor(bytes, zip64);
    if (descriptor && descriptor->stored_size == last.offset - data) return End(last.offset);
  }
  return End();
}

void Coverage::append(const Coverage& behind) {
  end_ = behind.end_;
  previous_ = behind.previous_;
  for (const auto tally : kTallies) (this->*tally).append(behind.*tally);
}

void Coverage::report(Diagnostics& diagnostics) const {
  for (const auto tally : kTallies) (this->*tally).report(diagnostics);
}

}  // namespace

Status check_coverage(const ByteSource& source, const EntryTable& table, Extent central, LocalHeaders how,
                      Diagnostics& diagnostics) {
  Coverage coverage(source, table, central, how);
  CKPT_RETURN_IF_ERROR(coverage.run(file_order(table), {0, record_count(table)}, {}));
  coverage.report(diagnostics);
  return {};
}

struct CoveragePieces::State {
  const ByteSource& source;
  const EntryTable& table;
  Extent central;
  std::vector<RecordId> order;
  std::vector<std::optional<Coverage>> pieces;
};

CoveragePieces::CoveragePieces(const ByteSource& source, const EntryTable& table, Extent central)
    : state_(std::make_unique<State>(State{source, table, central, file_order(table), {}})) {
  state_->pieces.resize((table.entries.size() + kPieceSize - 1) / kPieceSize);
}

CoveragePieces::~CoveragePieces() = default;

std::size_t CoveragePieces::size() const {
  return state_->pieces.size();
}

Status CoveragePieces::run(std::size_t piece, const std::stop_token& stop) {
  const auto first = static_cast<RecordId>(piece * kPieceSize);
  const auto end = std::min<RecordId>(first + kPieceSize, record_count(state_->table));
  auto& coverage =
      state_->pieces[piece].emplace(state_->source, state_->table, state_->central, LocalHeaders::kRead);
  return coverage.run(state_->order, {first, end}, stop);
}

Status CoveragePieces::report(Diagnostics& diagnostics) const {
  std::optional<Coverage> whole;
  for (const auto& piece : state_->pieces) {
    if (!whole) {
      whole.emplace(*piece);
    } else if (piece->continues(*whole)) {
      whole->append(*piece);
    } else {  // records that lie in each other: only one look from the start tells which
      return check_coverage(state_->source, state_->table, state_->central, LocalHeaders::kRead, diagnostics);
    }
  }
  if (whole) whole->report(diagnostics);
  return {};
}

}  // namespace ckpt
