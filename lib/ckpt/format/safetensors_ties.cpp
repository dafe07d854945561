// SPDX-License-Identifier: BSD-3-Clause
#include "ckpt/format/safetensors_ties.h"

#include <algorithm>
#include <map>
#include <string_view>
#include <unordered_set>

#include <fmt/format.h>

#include "ckpt/base/text.h"
#include "ckpt/format/shared_views.h"

namespace ckpt {
namespace {

constexpr std::string_view kFormatKey = "format";  // of `__metadata__`

class Ties {
 public:
  Ties(const Checkpoint& checkpoint, std::span<const NamedRow> rows, std::vector<std::string>& notes)
      : checkpoint_(checkpoint), rows_(rows), notes_(notes), shared_(find_shared_views(checkpoint, rows)) {
    settled_.is_written.assign(rows.size(), true);
  }

  Result<SettledTies> settle(TiedTensors tied) {
    if (tied == TiedTensors::kCopy) {
      note_copies();
    } else {
      CKPT_RETURN_IF_ERROR(check_overlaps());
      if (tied == TiedTensors::kError) CKPT_RETURN_IF_ERROR(refuse_ties());
      CKPT_RETURN_IF_ERROR(make_aliases());
    }
    return std::move(settled_);
  }

 private:
  const std::string& name(std::size_t row) const { return rows_[row].name; }

  void note_copies() {
    const auto groups = shared_.ties.size() + shared_.overlaps.size();
    if (groups > 0)
      notes_.push_back(fmt::format("{} of tensors shared memory and are copies of their own now",
                                   counted(groups, "group")));
  }

  Status check_overlaps() const {
    if (shared_.overlaps.empty()) return {};
    const auto [a, b] = shared_.overlaps.front();
    return Error(ErrorCode::kUnsupported,
                 fmt::format("tensors {} and {} share a part of their memory, which safetensors can't say{}",
                             quoted(name(a)), quoted(name(b)), more(shared_.overlaps.size() - 1)))
        .with_hint("--compact or --tied copy gives each its own bytes");
  }

  Status refuse_ties() const {
    if (shared_.ties.empty()) return {};
    const auto& tie = shared_.ties.front();
    return Error(ErrorCode::kUnsupported,
                 fmt::format("tensors {} and {} are one (--tied error){}", quoted(name(tie[0])),
                             quoted(name(tie[1])), more(shared_.ties.size() - 1)));
  }

  static std::string more(std::size_t count) {
    return count == 0 ? std::string() : fmt::format("; {} more do so", with_separators(count));
  }

  Status make_aliases() {
    std::map<std::size_t, std::size_t> aliases;  // in the order of the rows
    for (const auto& tie : shared_.ties) {
      const auto kept = kept_of(tie);
      for (const auto row : tie) {
        if (row != kept) aliases.emplace(row, kept);
      }
    }
    if (aliases.empty()) return {};
    std::unordered_set<std::string_view> taken = {kFormatKey};  // that mean something else
    for (const auto& entry : checkpoint_.metadata) taken.insert(entry.first);
    for (const auto& [row, kept] : aliases) {
      if (taken.contains(name(row))) {
        return Error(ErrorCode::kUnsupported,
                     fmt::format("a tied tensor can't be called {}: '__metadata__' of safetensors means "
                                 "something else by it",
                                 quoted(name(row))))
            .with_hint("--tied copy gives each its own bytes");
      }
      settled_.is_written[row] = false;
      settled_.aliases.emplace_back(name(row), name(kept));
    }
    const auto& [first, kept] = settled_.aliases.front();
    const auto count = settled_.aliases.size();
    notes_.push_back(fmt::format("{} {} tied: '__metadata__' leads from {} to {}{}", counted(count, "key"),
                                 count == 1 ? "is" : "are", quoted(first), quoted(kept),
                                 count > 1 ? " and so on" : ""));
    return {};
  }

  /// The smallest name; in a file of safetensors the smallest of those that it has already.
  std::size_t kept_of(const std::vector<std::size_t>& tie) const {
    if (checkpoint_.format != FormatId::kSafetensors) return tie.front();
    const auto there = std::find_if(tie.begin(), tie.end(), [&](std::size_t row) {
      return !checkpoint_.tensors[rows_[row].tensor].has(kInserted);
    });
    return there == tie.end() ? tie.front() : *there;
  }

  const Checkpoint& checkpoint_;
  std::span<const NamedRow> rows_;
  std::vector<std::string>& notes_;
  SharedViews shared_;
  SettledTies settled_;
};

}  // namespace

Result<SettledTies> settle_ties(const Checkpoint& checkpoint, std::span<const NamedRow> rows,
                                TiedTensors tied, std::vector<std::string>& notes) {
  return Ties(checkpoint, rows, notes).settle(tied);
}

void append_json_entry(std::string& text, const std::pair<std::string, std::string>& entry) {
  append_json_string(text, entry.first);
  text += ':';
  append_json_string(text, entry.second);
}

}  // namespace ckpt
