// SPDX-License-Identifier: BSD-3-Clause
// The header lists tensors in the order of the state dict, and the buffer holds them in that order, too, as
// loaders of today give keys in the order of their bytes. Only where a tensor would then not lie on a
// multiple of its item size, the bytes are ordered by falling item size, as the reference does it.
#include "ckpt/format/safetensors_target.h"

#include <algorithm>
#include <limits>
#include <numeric>
#include <set>
#include <span>
#include <string_view>

#include <fmt/format.h>

#include "ckpt/base/text.h"
#include "ckpt/format/safetensors_buffer.h"
#include "ckpt/format/safetensors_header.h"
#include "ckpt/format/safetensors_ties.h"
#include "ckpt/format/state_dict_content.h"
#include "ckpt/format/tensor_bytes.h"
#include "ckpt/model/dense_order.h"
#include "ckpt/model/key_path.h"

namespace ckpt {
namespace {

constexpr std::size_t kShown = 8;          // things that an error lists
constexpr std::size_t kRoomOfTensor = 96;  // bytes of the header

/// All that the format can't hold, and what can be done about it.
class Obstacles {
 public:
  void add(std::string what, std::string_view hint = {}) {
    things_.push_back(std::move(what));
    if (!hint.empty() && std::find(hints_.begin(), hints_.end(), hint) == hints_.end())
      hints_.push_back(hint);
  }

  Status status() const {
    if (things_.empty()) return {};
    const auto shown = std::span(things_).first(std::min(kShown, things_.size()));
    auto message = fmt::format("safetensors can't hold {}", fmt::join(shown, ", "));
    if (things_.size() > kShown)
      message += fmt::format(" and {} more", with_separators(things_.size() - kShown));
    Error error(ErrorCode::kUnsupported, std::move(message));
    if (hints_.empty()) return error;
    return std::move(error).with_hint(fmt::format("{}", fmt::join(hints_, "; ")));
  }

 private:
  std::vector<std::string> things_;
  std::vector<std::string_view> hints_;
};

class SafetensorsTarget {
 public:
  SafetensorsTarget(Checkpoint& checkpoint, TiedTensors tied, std::vector<std::string>& notes)
      : checkpoint_(checkpoint), tied_(tied), notes_(notes), bytes_(checkpoint) {}

  Result<Layout> run() {
    CKPT_ASSIGN_OR_RETURN(content_, state_dict_content(checkpoint_));
    check_content();
    for (const auto& row : content_.rows) check_row(row);
    CKPT_RETURN_IF_ERROR(obstacles_.status());
    CKPT_ASSIGN_OR_RETURN(ties_, settle_ties(checkpoint_, content_.rows, tied_, notes_));
    CKPT_RETURN_IF_ERROR(place());
    bytes_.finish();
    note_losses();
    return buffer_.lay_out(spell_header());
  }

 private:
  const TensorInfo& tensor(std::size_t row) const { return checkpoint_.tensors[content_.rows[row].tensor]; }

  // ---- what the format can't hold

  void check_content() {
    const auto hint = content_.extras.empty()
                          ? "--state-dict takes the state dict alone (--root PATH names it)"
                          : "--tensors-only takes the tensors of the state dict alone (--root PATH names it)";
    for (const auto& path : content_.around) obstacles_.add(quoted_path(path), hint);
    for (const auto& path : content_.extras) obstacles_.add(quoted_path(path), hint);
  }

  void check_row(const NamedRow& row) {
    const auto& info = checkpoint_.tensors[row.tensor];
    const auto refuse = [&](std::string_view why) {
      obstacles_.add(fmt::format("{} ({})", quoted(row.name), why));
    };
    if (!is_utf8(row.name)) return refuse("a name that is not UTF-8");
    if (row.name == kSafetensorsMetadata) return refuse("a name that means something else there");
    if (info.layout != TensorLayout::kStrided || info.storage == kNoIndex)
      return refuse(tensor_layout_name(info.layout));
    const auto& dtype = dtype_info(info.dtype);
    if (dtype.safetensors.empty()) return refuse(dtype.name);
    const auto shape = checkpoint_.shape(info);
    if (dtype.bits < 8 && (shape.empty() || shape.back() > std::numeric_limits<std::int64_t>::max() / 2))
      return refuse("pairs of values in a last dimension that can't be doubled");
  }

  // ---- the buffer

  Status place() {
    std::vector<std::size_t> order;
    for (std::size_t row = 0; row < content_.rows.size(); ++row) {
      if (ties_.is_written[row]) order.push_back(row);
    }
    if (!is_aligned(order)) {
      std::stable_sort(order.begin(), order.end(),
                       [&](std::size_t a, std::size_t b) { return item_size(a) > item_size(b); });
      notes_.emplace_back("the bytes are ordered by item size, so that each tensor is aligned");
    }
    extents_.resize(content_.rows.size());
    for (const auto row : order) {
      CKPT_ASSIGN_OR_RETURN(const auto data, bytes_.tensor(tensor(row)));
      extents_[row] = {buffer_.append(data), data.size()};
    }
    return {};
  }

  std::uint64_t item_size(std::size_t row) const { return dtype_info(tensor(row).dtype).item_size; }

  bool is_aligned(const std::vector<std::size_t>& order) const {
    std::uint64_t at = 0;
    for (const auto row : order) {
      if (at % item_size(row) != 0) return false;
      at += checkpoint_.bytes(tensor(row));
    }
    return true;
  }

  // ---- the header

  std::string spell_header() const {
    std::string text;
    text.reserve(content_.rows.size() * kRoomOfTensor);
    text += R"({"__metadata__":{"format":"pt")";
    for (const auto& alias : ties_.aliases) {
      text += ',';
      append_json_entry(text, alias);
    }
    text += '}';
    for (std::size_t row = 0; row < content_.rows.size(); ++row) {
      if (!ties_.is_written[row]) continue;
      text += ',';
      append_json_string(text, content_.rows[row].name);
      const auto& info = tensor(row);
      const auto& dtype = dtype_info(info.dtype);
      const auto sizes = checkpoint_.shape(info);
      std::vector<std::int64_t> shape(sizes.begin(), sizes.end());
      if (dtype.bits < 8) shape.back() *= 8 / dtype.bits;  // values, where PyTorch counts bytes
      text += fmt::format(R"(:{{"dtype":"{}","shape":[{}],"data_offsets":[{},{}]}})", dtype.safetensors,
                          fmt::join(shape, ","), extents_[row].offset, extents_[row].end());
    }
    text += '}';
    return text;
  }

  // ---- what the output does not say

  void note_losses() {
    std::size_t parameters = 0;
    std::size_t strided = 0;
    std::set<std::string_view> devices;
    for (std::size_t row = 0; row < content_.rows.size(); ++row) {
      const auto& info = tensor(row);
      if (!content_.of_module && (info.has(kIsParameter) || info.has(kRequiresGrad))) ++parameters;
      if (!is_c_order(checkpoint_.shape(info), checkpoint_.strides(info))) ++strided;
      const auto& device = checkpoint_.devices[checkpoint_.storages[info.storage].device];
      if (device != "cpu") devices.insert(device);
    }
    if (content_.has_metadata)
      notes_.emplace_back("_metadata, the versions of the modules, is not in the output");
    if (content_.has_attributes) notes_.emplace_back("Python attributes of tensors are not in the output");
    if (parameters > 0)
      notes_.push_back(fmt::format("that {} {} nn.Parameter or {} a gradient is not in the output",
                                   counted(parameters, "tensor"), parameters == 1 ? "is an" : "are an",
                                   parameters == 1 ? "wants" : "want"));
    if (!devices.empty())
      notes_.push_back(fmt::format("device tags are not in the output: {}", fmt::join(devices, ", ")));
    if (strided > 0)
      notes_.push_back(fmt::format("{} had strides and {} in C order now", counted(strided, "tensor"),
                                   strided == 1 ? "is" : "are"));
  }

  Checkpoint& checkpoint_;
  TiedTensors tied_;
  std::vector<std::string>& notes_;
  TensorBytes bytes_;
  Obstacles obstacles_;
  StateDictContent content_;
  SettledTies ties_;
  std::vector<Extent> extents_;  ///< by row: in the buffer
  SafetensorsBuffer buffer_;
};

}  // namespace

Result<Layout> lay_out_safetensors(Checkpoint& checkpoint, TiedTensors tied,
                                   std::vector<std::string>& notes) {
  return SafetensorsTarget(checkpoint, tied, notes).run();
}

}  // namespace ckpt
