// SPDX-License-Identifier: BSD-3-Clause
#include "ckpt/zip/name_checks.h"

#include <algorithm>
#include <array>
#include <string>
#include <tuple>

#include <fmt/format.h>

#include "ckpt/base/text.h"
#include "ckpt/zip/finding_tally.h"
#include "ckpt/zip/name_index.h"
#include "ckpt/zip/records.h"
#include "ckpt/zip/storage_names.h"

namespace ckpt {
namespace {

// miniz copies names into 512 bytes with a NUL when it lists them, but searches whole ones.
constexpr std::size_t kLongestListed = 511;

// What torch asks for by name. It finds them in any spelling, other readers in this one only.
constexpr std::array<std::string_view, 8> kAskedFor = {
    "data.pkl",           "version",       ".data/version", "byteorder", ".format_version",
    ".storage_alignment", "constants.pkl", "data/"};

enum Trait : std::uint8_t { kPlain = 0, kNul = 1, kPath = 2, kNotAscii = 4 };

constexpr std::array<std::uint8_t, 256> make_traits() {
  std::array<std::uint8_t, 256> traits{};
  traits[0] = kNul;
  traits['\\'] = traits[':'] = traits['.'] = kPath;
  for (std::size_t c = 0x80; c < 256; ++c) traits[c] = kNotAscii;
  return traits;
}

std::uint8_t traits_of(std::string_view name) {
  static constexpr auto kTraits = make_traits();
  std::uint8_t traits = kPlain;
  for (const char c : name) traits |= kTraits[static_cast<unsigned char>(c)];
  return traits;
}

bool climbs(std::string_view name) {
  for (auto at = name.find(".."); at != name.npos; at = name.find("..", at + 1)) {
    const auto is_end = [&](std::size_t i) { return i >= name.size() || name[i] == '/' || name[i] == '\\'; };
    if ((at == 0 || is_end(at - 1)) && is_end(at + 2)) return true;
  }
  return false;
}

/// Would unpacking to a folder write elsewhere, on some system?
bool unsafe(std::string_view full_name) {
  const bool drive = full_name.size() > 1 && full_name[1] == ':';
  return drive || full_name.starts_with('/') || full_name.find('\\') != full_name.npos || climbs(full_name);
}

class NameChecks {
 public:
  NameChecks(const EntryTable& table, Diagnostics& diagnostics) : table_(table), diagnostics_(diagnostics) {}

  bool run() {
    look_for_pairs();
    for (RecordId record = 0; record < table_.entries.size(); ++record) {
      look_at(table_.entries[record], record == 0 ? root_and_first_name() : table_.name(record));
    }
    report();
    return duplicate_.count() + collision_.count() > 0;
  }

 private:
  /// The root is looked at once, with the first entry, from which it comes.
  std::string_view root_and_first_name() { return first_name_ = table_.full_name(0); }

  void look_at(const ZipEntry& entry, std::string_view name);
  void look_for_pairs();
  void look_at_pair(RecordId first, RecordId second);
  void look_at_encoding(const ZipEntry& entry, std::string_view name);
  void look_at_spelling(const ZipEntry& entry);
  void report();

  template <typename Message>
  void count(FindingTally& tally, const ZipEntry& entry, Message message) {
    tally.count([&] { return std::tuple(table_.full_name(entry), std::string(message())); });
  }

  const EntryTable& table_;
  Diagnostics& diagnostics_;
  std::string first_name_;
  FindingTally duplicate_{"zip-duplicate-name", Severity::kError};
  FindingTally collision_{"zip-case-collision", Severity::kError};
  FindingTally spelling_{"zip-case-differs", Severity::kError};
  FindingTally outside_{"zip-outside-root", Severity::kError};
  FindingTally nul_{"zip-nul-in-name", Severity::kError};
  FindingTally long_{"zip-long-name", Severity::kWarning};
  FindingTally no_text_{"zip-name-encoding", Severity::kError};
  FindingTally unmarked_{"zip-name-unmarked", Severity::kWarning};
  FindingTally unsafe_{"zip-unsafe-name", Severity::kWarning};
};

void NameChecks::look_at(const ZipEntry& entry, std::string_view name) {
  const auto traits = traits_of(name);
  if (!entry.below_root && table_.has_root) {
    count(outside_, entry, [&] { return "the record lies outside the root folder " + quoted(table_.root); });
  }
  if ((traits & kNul) != 0)
    count(nul_, entry, [] { return "the name has a NUL byte, where Python ends it and torch does not"; });
  if (entry.full_name_size > kLongestListed) {
    count(long_, entry, [&] {
      return fmt::format("the name has {} bytes, and torch lists the first 511 of it", entry.full_name_size);
    });
  }
  if ((traits & kNotAscii) != 0) look_at_encoding(entry, name);
  if (((traits & kPath) != 0 || name.starts_with('/')) && unsafe(name)) {
    count(unsafe_, entry,
          [] { return "the name leads out of the folder where it is unpacked, on some systems"; });
  }
  if (entry.below_root && !table_.name(entry).starts_with("data/")) look_at_spelling(entry);
}

void NameChecks::look_at_encoding(const ZipEntry& entry, std::string_view name) {
  const bool marked = (entry.flags & kFlagUtf8) != 0;
  if (!marked) {
    count(unmarked_, entry,
          [] { return "the name is not ASCII and not marked as UTF-8, so Python reads it as another"; });
  } else if (!is_utf8(name)) {
    count(no_text_, entry,
          [] { return "the name is marked as UTF-8 but is none, and Python refuses the archive"; });
  }
}

void NameChecks::look_at_spelling(const ZipEntry& entry) {
  const auto name = table_.name(entry);
  const auto differs = [&](std::string_view asked) {
    const auto start = asked.ends_with('/') ? name.substr(0, asked.size()) : name;
    return start.size() == asked.size() && start != asked && equal_folded(start, asked);
  };
  const auto asked = std::find_if(kAskedFor.begin(), kAskedFor.end(), differs);
  if (asked == kAskedFor.end()) return;
  count(spelling_, entry,
        [&] { return fmt::format("torch finds the record as {}, Python does not", quoted(*asked)); });
}

void NameChecks::look_for_pairs() {
  const auto few = few_besides_storages(table_);
  if (!few || !storage_names_ascend(table_)) {
    NameIndex index(table_);
    return index.insert_all(NameIndex::Keep::kFirst,
                            [&](auto first, auto second) { look_at_pair(first, second); });
  }
  for (auto second = few->begin(); second != few->end(); ++second) {
    const auto same = [&](auto first) { return name_key(table_, first) == name_key(table_, *second); };
    const auto first = std::find_if(few->begin(), second, same);
    if (first != second) look_at_pair(*first, *second);
  }
}

void NameChecks::look_at_pair(RecordId first, RecordId second) {
  const auto& entry = table_.entries[second];
  if (table_.full_name(first) == table_.full_name(second)) {
    count(duplicate_, entry, [] { return "two records have this name, and readers take different ones"; });
  } else {
    count(collision_, entry, [&] {
      return fmt::format("the record {} differs only in case, which torch ignores",
                         quoted(table_.full_name(first)));
    });
  }
}

void NameChecks::report() {
  if (!table_.has_root) {
    diagnostics_.add({"zip-no-root",
                      Severity::kError,
                      {},
                      "the first record lies in no folder, and torch refuses such archives",
                      {}});
  }
  for (const auto* tally :
       {&duplicate_, &collision_, &spelling_, &outside_, &nul_, &long_, &no_text_, &unmarked_, &unsafe_}) {
    tally->report(diagnostics_);
  }
}

}  // namespace

bool check_names(const EntryTable& table, Diagnostics& diagnostics) {
  return NameChecks(table, diagnostics).run();
}

}  // namespace ckpt
