// SPDX-License-Identifier: BSD-3-Clause
// Laying out an edited file. The header keeps its text: names that changed and byte positions are spelled
// anew in place, dropped members go with their comma, all else is carried. The buffer keeps the order it has,
// as the format allows no holes; tensors that stay neighbours are one copy. Only where tensors were tied is
// `__metadata__` spelled anew, with their names at its end.
//
// Spaces behind the header choose where the buffer begins. A file system shares only whole pages, so there
// are up to a page of them, for the share of the bytes that can then keep their place within a page.
#include <algorithm>
#include <array>
#include <numeric>
#include <set>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include <fmt/format.h>

#include "ckpt/base/text.h"
#include "ckpt/format/safetensors.h"
#include "ckpt/format/safetensors_buffer.h"
#include "ckpt/format/safetensors_header.h"
#include "ckpt/format/safetensors_ties.h"
#include "ckpt/model/state_dicts.h"

namespace ckpt {
namespace {

constexpr std::size_t kRoom = 4096;  // for names and numbers that grow

class SafetensorsWriter {
 public:
  SafetensorsWriter(const Checkpoint& checkpoint, const SafetensorsData& data)
      : checkpoint_(checkpoint), data_(data), header_(data.header), changes_(checkpoint.tensors.size()) {}

  Result<Layout> run(TiedTensors tied, std::vector<std::string>& notes) {
    CKPT_RETURN_IF_ERROR(collect_changes());
    if (shares_storages()) CKPT_RETURN_IF_ERROR(settle(tied, notes));
    CKPT_RETURN_IF_ERROR(place_tensors());
    metadata_ = metadata();
    spell_header();
    if (is_as_it_was()) return Layout::of_whole_file(checkpoint_.parts.front().source->size());
    return buffer_.lay_out(std::move(text_));
  }

 private:
  Status collect_changes() {
    if (!checkpoint_.dropped_values().empty()) {
      return Error(ErrorCode::kUnsupported, "safetensors hold nothing but tensors");
    }
    for (const auto& [key, change] : checkpoint_.changes()) {
      const auto tensor = checkpoint_.state_dicts[key.first].entries[key.second].tensor;
      if (!change.dropped) CKPT_RETURN_IF_ERROR(check_name(change.name));
      changes_[tensor] = &change;
    }
    for (TensorId tensor = 0; tensor < changes_.size(); ++tensor) {
      if (row(tensor).has(kInserted) && changes_[tensor] == nullptr)
        CKPT_RETURN_IF_ERROR(check_name(row(tensor).name));
    }
    return {};
  }

  static Status check_name(std::string_view name) {
    if (!is_utf8(name)) {
      return Error(ErrorCode::kUnsupported,
                   fmt::format("the name {} is not UTF-8, which safetensors asks for", quoted(name)));
    }
    if (name == kSafetensorsMetadata)
      return Error(ErrorCode::kUnsupported, "a tensor can't be named '__metadata__' in safetensors");
    return {};
  }

  bool is_kept(TensorId tensor) const { return changes_[tensor] == nullptr || !changes_[tensor]->dropped; }

  bool is_written(TensorId tensor) const { return is_kept(tensor) && !kept_under_.contains(tensor); }

  const TensorInfo& row(TensorId tensor) const { return checkpoint_.tensors[tensor]; }

  std::string_view name(TensorId tensor) const {
    const auto* change = changes_[tensor];
    return change != nullptr ? std::string_view(change->name) : row(tensor).name;
  }

  // ---- tensors that an edit tied

  bool shares_storages() const {
    std::vector<bool> is_used(checkpoint_.storages.size());
    for (TensorId tensor = 0; tensor < changes_.size(); ++tensor) {
      if (!is_kept(tensor)) continue;
      const auto storage = row(tensor).storage;
      if (is_used[storage]) return true;
      is_used[storage] = true;
    }
    return false;
  }

  Status settle(TiedTensors tied, std::vector<std::string>& notes) {
    std::vector<NamedRow> rows;
    for (TensorId tensor = 0; tensor < changes_.size(); ++tensor) {
      if (is_kept(tensor)) rows.push_back({std::string(name(tensor)), tensor});
    }
    std::vector<std::string> said;
    CKPT_ASSIGN_OR_RETURN(auto ties, settle_ties(checkpoint_, rows, tied, said));
    aliases_ = std::move(ties.aliases);
    const std::set<std::pair<std::string, std::string>> known(data_.metadata.begin(), data_.metadata.end());
    const auto is_new = [&](const auto& alias) { return !known.contains(alias); };
    if (tied != TiedTensors::kAlias || std::any_of(aliases_.begin(), aliases_.end(), is_new))
      notes.insert(notes.end(), said.begin(), said.end());
    auto alias = aliases_.begin();
    for (std::size_t i = 0; i < rows.size(); ++i) {
      if (!ties.is_written[i]) kept_under_.emplace(rows[i].tensor, (alias++)->second);
    }
    return {};
  }

  /// New positions in the order of the old ones; a replaced tensor takes the place it had, new ones come
  /// last.
  Status place_tensors() {
    const auto& storages = checkpoint_.storages;
    std::vector<TensorId> order(checkpoint_.tensors.size());
    std::iota(order.begin(), order.end(), 0U);
    const auto inserted =
        std::find_if(order.begin(), order.end(), [&](TensorId tensor) { return row(tensor).has(kInserted); });
    std::stable_sort(
        order.begin(), inserted, [&](TensorId a, TensorId b) {  // each began with its own storage
          const auto& first = storages[a].extent;
          const auto& second = storages[b].extent;
          return first.offset != second.offset ? first.offset < second.offset : first.size < second.size;
        });
    begins_.resize(order.size());
    for (const auto tensor : order) {
      if (!is_written(tensor)) continue;
      CKPT_RETURN_IF_ERROR(check(row(tensor)));
      begins_[tensor] = append(storages[row(tensor).storage]);
    }
    return {};
  }

  /// The format has no views.
  Status check(const TensorInfo& tensor) const {
    const auto unsupported = [&](std::string why) {
      return Error(ErrorCode::kUnsupported,
                   fmt::format("tensor {} {}, which safetensors can't hold", quoted(tensor.name), why));
    };
    if (dtype_info(tensor.dtype).safetensors.empty())
      return unsupported(fmt::format("is of dtype {}", dtype_info(tensor.dtype).name));
    const bool whole = tensor.has(kContiguous) && tensor.offset == 0 &&
                       checkpoint_.bytes(tensor) == checkpoint_.storages[tensor.storage].bytes;
    if (!whole) return unsupported("is a view of a part of its storage");
    return {};
  }

  std::uint64_t append(const Storage& storage) {
    return buffer_.append(storage.is_added ? checkpoint_.added_data[storage.record]
                                           : DataRef{0, storage.extent, {}, {}});
  }

  // ---- the header

  std::string_view original(std::uint32_t begin, std::uint32_t end) const {
    return std::string_view(header_).substr(begin, end - begin);
  }

  void spell_header() {
    const auto& members = data_.members;
    text_.reserve(header_.size() + kRoom);
    bool is_first = true;
    const auto begin_new = [&] {
      text_ += is_first ? '{' : ',';
      is_first = false;
    };
    const bool has_metadata =
        std::any_of(members.begin(), members.end(), [](const auto& item) { return item.tensor == kNoIndex; });
    if (!metadata_.empty() && !has_metadata) {
      begin_new();
      spell_metadata();
    }
    for (std::size_t i = 0; i < members.size(); ++i) {
      const auto& member = members[i];
      if (member.tensor != kNoIndex && !is_written(member.tensor)) continue;
      if (i == 0 && !is_first) {
        text_ += ',';
      } else {
        text_ += is_first ? original(0, members.front().begin) : original(members[i - 1].end, member.begin);
      }
      is_first = false;
      spell_member(member);
    }
    for (TensorId tensor = 0; tensor < checkpoint_.tensors.size(); ++tensor) {
      if (!row(tensor).has(kInserted) || !is_written(tensor)) continue;
      begin_new();
      spell_name(tensor);
      spell_value(tensor);
    }
    if (is_first) text_ += '{';
    const auto end = static_cast<std::uint32_t>(header_.rfind('}') + 1);
    text_ += members.empty() ? std::string_view("}") : original(members.back().end, end);
  }

  /// Keys that were tied and still are, and nothing else?
  bool is_as_it_was() const {
    for (TensorId tensor = 0; tensor < changes_.size(); ++tensor) {
      if (row(tensor).has(kReplaced) || (row(tensor).has(kInserted) && is_written(tensor))) return false;
    }
    return header_.starts_with(text_) && header_.find_first_not_of(' ', text_.size()) == header_.npos;
  }

  /// The entries that there are and the new ones. What led to a tensor follows it: to its new name, to where
  /// its bytes are if it is an alias now, or away. Readers that ask for a format when there are entries find
  /// it in new ones.
  std::vector<std::pair<std::string, std::string>> metadata() const {
    auto entries = checkpoint_.metadata;
    if (data_.metadata.empty() && !aliases_.empty()) entries.emplace_back("format", "pt");
    for (const auto& tied : tied_names(checkpoint_)) {
      const auto kept = kept_under_.find(tied.tensor);
      entries[tied.entry].second = kept != kept_under_.end() ? kept->second : std::string(name(tied.tensor));
    }
    entries.insert(entries.end(), aliases_.begin(), aliases_.end());
    const auto sorted = [](auto list) {
      std::sort(list.begin(), list.end());
      return list;
    };
    return sorted(entries) == sorted(data_.metadata) ? data_.metadata : entries;
  }

  void spell_metadata() {
    text_ += json_string(kSafetensorsMetadata);
    text_ += ":{";
    for (std::size_t i = 0; i < metadata_.size(); ++i) {
      if (i > 0) text_ += ',';
      append_json_entry(text_, metadata_[i]);
    }
    text_ += '}';
  }

  void spell_member(const SafetensorsData::Member& member) {
    if (member.tensor == kNoIndex && metadata_ != data_.metadata) return spell_metadata();
    if (member.tensor == kNoIndex) {
      text_ += original(member.begin, member.end);
      return;
    }
    if (changes_[member.tensor] != nullptr) {
      spell_name(member.tensor);
    } else {
      text_ += original(member.begin, member.name_end);
    }
    if (row(member.tensor).has(kReplaced)) return spell_value(member.tensor);
    text_ += original(member.name_end, member.offsets_begin);
    spell_offsets(member);
    text_ += original(member.offsets_end, member.end);
  }

  void spell_name(TensorId tensor) { append_json_string(text_, name(tensor)); }

  /// A value that the input doesn't have, in the reference's spelling.
  void spell_value(TensorId tensor) {
    const auto begin = begins_[tensor];
    text_ +=
        fmt::format(R"(:{{"dtype":"{}","shape":[{}],"data_offsets":[{},{}]}})",
                    dtype_info(row(tensor).dtype).safetensors, fmt::join(checkpoint_.shape(row(tensor)), ","),
                    begin, begin + checkpoint_.storages[row(tensor).storage].bytes);
  }

  /// "[0, 24]" with two other numbers: spaces stay.
  void spell_offsets(const SafetensorsData::Member& member) {
    const auto begin = begins_[member.tensor];
    const std::array<std::uint64_t, 2> numbers = {begin, begin + checkpoint_.storages[member.tensor].bytes};
    auto is_digit = [](char letter) { return letter >= '0' && letter <= '9'; };
    std::size_t next = 0;
    auto rest = original(member.offsets_begin, member.offsets_end);
    while (!rest.empty()) {
      if (!is_digit(rest.front())) {
        text_ += rest.front();
        rest.remove_prefix(1);
        continue;
      }
      text_ += std::to_string(numbers[next++]);
      while (is_digit(rest.front())) rest.remove_prefix(1);
    }
  }

  const Checkpoint& checkpoint_;
  const SafetensorsData& data_;
  const std::string& header_;
  std::vector<const KeyChange*> changes_;  ///< by tensor
  std::vector<std::uint64_t> begins_;      ///< by tensor: in the new buffer
  /// By tensor that is not written, as it is tied to another: the name of that one.
  std::unordered_map<TensorId, std::string> kept_under_;
  std::vector<std::pair<std::string, std::string>> aliases_;   ///< the same, by name
  std::vector<std::pair<std::string, std::string>> metadata_;  ///< of the output
  SafetensorsBuffer buffer_;
  std::string text_;  ///< of the new header
};

}  // namespace

Result<Layout> lay_out_edited_safetensors(const Checkpoint& checkpoint, TiedTensors tied,
                                          std::vector<std::string>& notes) {
  const auto& part = checkpoint.parts.front();
  if (!checkpoint.edited()) return Layout::of_whole_file(part.source->size());
  return SafetensorsWriter(checkpoint, static_cast<const SafetensorsData&>(*part.container)).run(tied, notes);
}

Result<Layout> SafetensorsFormat::lay_out(const Checkpoint& checkpoint) const {
  std::vector<std::string> notes;
  return lay_out_edited_safetensors(checkpoint, TiedTensors::kError, notes);
}

}  // namespace ckpt
