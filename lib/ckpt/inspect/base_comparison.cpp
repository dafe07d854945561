// SPDX-License-Identifier: BSD-3-Clause
#include "ckpt/inspect/base_comparison.h"

#include <algorithm>
#include <cstring>
#include <unordered_map>
#include <utility>

#include <fmt/format.h>

#include "ckpt/base/text.h"
#include "ckpt/inspect/value_stream.h"
#include "ckpt/model/dense_order.h"
#include "ckpt/model/key_path.h"
#include "ckpt/model/state_dicts.h"

namespace ckpt {
namespace {

constexpr std::size_t kChunk = 1U << 20U;             // bytes; a multiple of every item size
constexpr std::uint64_t kMostRepeated = 1ULL << 30U;  // bytes of an expanded view that are worth spelling out

struct Side {
  const Checkpoint& checkpoint;
  const TensorInfo& tensor;
};

bool same_shape(const Side& a, const Side& b) {
  return std::ranges::equal(a.checkpoint.shape(a.tensor), b.checkpoint.shape(b.tensor));
}

bool laid_out_alike(const Side& a, const Side& b) {
  const auto strides = a.checkpoint.strides(a.tensor);
  return strides == b.checkpoint.strides(b.tensor) && dense_order(a.checkpoint.shape(a.tensor), strides);
}

Result<ValueStream> open_values(const Side& side, ValueOrder order) {
  auto stream = ValueStream::open(side.checkpoint, side.tensor, order);
  if (!stream.ok()) return std::move(stream).error().in_file(side.checkpoint.parts.front().source->name());
  return stream;
}

/// A view that repeats its bytes so often that nobody wants to see them all.
bool repeats(const Side& side) {
  const auto bytes = side.checkpoint.bytes(side.tensor);
  return bytes > kMostRepeated && bytes > side.checkpoint.view_extent(side.tensor).size;
}

class Comparer {
 public:
  Comparer(std::uint64_t total, Progress* progress) : total_(total), progress_(progress) {}

  Result<BaseVerdict> compare(const Side& a, const Side& b) {
    if (!same_shape(a, b)) return BaseVerdict::kOtherShape;
    if (a.tensor.dtype != b.tensor.dtype) return BaseVerdict::kOtherDtype;
    if (a.tensor.layout != b.tensor.layout) return BaseVerdict::kNotCompared;
    switch (a.tensor.layout) {
      case TensorLayout::kStrided: return compare_strided(a, b);
      case TensorLayout::kSparseCoo:
      case TensorLayout::kSparseCompressed:
      case TensorLayout::kNested: return compare_parts(a, b);
      case TensorLayout::kQuantized:  // scales stand in the pickle
      case TensorLayout::kMeta:
      case TensorLayout::kWrapper: return BaseVerdict::kNotCompared;
    }
    return BaseVerdict::kNotCompared;
  }

 private:
  Result<BaseVerdict> compare_strided(const Side& a, const Side& b) {
    const auto& info = dtype_info(a.tensor.dtype);
    constexpr unsigned kLazy = kConjugate | kNegative;
    const bool same_lazy = (a.tensor.flags & kLazy) == (b.tensor.flags & kLazy);
    const bool bytes_alike =
        info.values_per_item == 1 && a.checkpoint.bytes(a.tensor) == b.checkpoint.bytes(b.tensor);
    if (!same_lazy || !bytes_alike || repeats(a) || repeats(b)) return BaseVerdict::kNotCompared;
    if (a.checkpoint.bytes(a.tensor) == 0) return BaseVerdict::kEqual;
    if (a.tensor.storage == kNoIndex || b.tensor.storage == kNoIndex) return BaseVerdict::kNotCompared;
    const auto order = laid_out_alike(a, b) ? ValueOrder::kAsTheyLie : ValueOrder::kC;
    CKPT_ASSIGN_OR_RETURN(auto left, open_values(a, order));
    CKPT_ASSIGN_OR_RETURN(auto right, open_values(b, order));
    CKPT_ASSIGN_OR_RETURN(const bool equal, same_bytes(left, right));
    return equal ? BaseVerdict::kEqual : BaseVerdict::kChanged;
  }

  /// Stops at the first difference.
  Result<bool> same_bytes(ValueStream& left, ValueStream& right) {
    const auto end = done_ + left.size();
    left_.resize(kChunk);
    right_.resize(kChunk);
    for (std::uint64_t at = 0; at < left.size();) {
      const auto size = std::min<std::uint64_t>(kChunk, left.size() - at);
      const auto a = std::span(left_).first(size);
      const auto b = std::span(right_).first(size);
      CKPT_RETURN_IF_ERROR(left.read(a));
      CKPT_RETURN_IF_ERROR(right.read(b));
      at += size;
      done_ += size;
      if (progress_ != nullptr) progress_->report(done_, total_);
      if (std::memcmp(a.data(), b.data(), size) == 0) continue;
      done_ = end;
      return false;
    }
    return true;
  }

  Result<BaseVerdict> compare_parts(const Side& a, const Side& b) {
    if (a.tensor.parts != b.tensor.parts) return BaseVerdict::kNotCompared;
    for (std::uint8_t i = 1; i <= a.tensor.parts; ++i) {
      const Side left{a.checkpoint, *(&a.tensor + i)};
      const Side right{b.checkpoint, *(&b.tensor + i)};
      CKPT_ASSIGN_OR_RETURN(const auto part, compare(left, right));
      if (part == BaseVerdict::kNotCompared) return part;
      if (part != BaseVerdict::kEqual) return BaseVerdict::kChanged;  // also of another number of values
    }
    return BaseVerdict::kEqual;
  }

  std::uint64_t total_;
  std::uint64_t done_ = 0;
  Progress* progress_;
  Bytes left_;
  Bytes right_;
};

using TensorsByName = std::unordered_map<std::string_view, TensorId>;

TensorsByName tensors_by_name(const Checkpoint& checkpoint, const StateDict& dict) {
  TensorsByName out;
  out.reserve(dict.entries.size());
  for (const auto& entry : dict.entries) {
    if (entry.tensor != kNoIndex) out.emplace(checkpoint.tensors[entry.tensor].name, entry.tensor);
  }
  return out;
}

}  // namespace

std::string_view verdict_name(BaseVerdict verdict) {
  switch (verdict) {
    case BaseVerdict::kEqual: return "equal";
    case BaseVerdict::kChanged: return "changed";
    case BaseVerdict::kOtherShape: return "other-shape";
    case BaseVerdict::kOtherDtype: return "other-dtype";
    case BaseVerdict::kNotInBase: return "not-in-base";
    case BaseVerdict::kNotCompared: return "not-compared";
  }
  return "not-compared";
}

Result<std::uint32_t> choose_base(Checkpoint& base, std::string_view root,
                                  const std::optional<std::string>& base_root) {
  if (base_root) {
    CKPT_ASSIGN_OR_RETURN(const auto chosen, choose_state_dicts(base, {*base_root}));
    return chosen.front();
  }
  CKPT_ASSIGN_OR_RETURN(const auto chosen, choose_state_dicts(base, {}));
  std::vector<std::string> paths;
  for (const auto index : chosen) {
    paths.push_back(base.path(base.state_dicts[index].place));
    if (paths.back() == root) return index;
  }
  if (chosen.size() == 1) return chosen.front();
  for (auto& path : paths) path = quoted_path(path);
  return Error(ErrorCode::kUsage, fmt::format("several state dicts, and none at {} as in the file: {}",
                                              quoted_path(root), fmt::join(paths, ", ")))
      .with_hint("choose one with --base-root PATH");
}

Result<BaseComparison> compare_with_base(const Checkpoint& checkpoint, const FreezeReport& report,
                                         const Checkpoint& base, std::uint32_t base_dict,
                                         Progress* progress) {
  auto in_base = tensors_by_name(base, base.state_dicts[base_dict]);
  std::uint64_t total = 0;
  std::size_t common = 0;
  for (const auto& entry : report.entries) {
    if (!in_base.contains(checkpoint.tensors[entry.tensor].name)) continue;
    total += checkpoint.bytes(checkpoint.tensors[entry.tensor]);
    ++common;
  }
  if (common == 0 && !report.entries.empty()) {
    return Error(ErrorCode::kNotFound,
                 fmt::format("no key in common with {}: {} here, {} there, for example",
                             quoted(base.parts.front().source->name()),
                             quoted(checkpoint.tensors[report.entries.front().tensor].name),
                             quoted(base.original_name(base_dict, 0))))
        .with_hint("bring the keys into line with 'ckpt strip-dataparallel' or 'ckpt rename-keys'");
  }
  BaseComparison out;
  out.root = base.path(base.state_dicts[base_dict].place);
  Comparer comparer(total, progress);
  for (const auto& entry : report.entries) {
    const auto& tensor = checkpoint.tensors[entry.tensor];
    const auto found = in_base.find(tensor.name);
    if (found == in_base.end()) {
      out.verdicts.push_back(BaseVerdict::kNotInBase);
      continue;
    }
    auto verdict = comparer.compare({checkpoint, tensor}, {base, base.tensors[found->second]});
    if (!verdict.ok()) return std::move(verdict).error();
    out.verdicts.push_back(*verdict);
    in_base.erase(found);
  }
  for (const auto& entry : base.state_dicts[base_dict].entries) {
    if (entry.tensor == kNoIndex) continue;
    const auto name = base.tensors[entry.tensor].name;
    if (in_base.contains(name)) out.only_in_base.push_back(name);
  }
  return out;
}

}  // namespace ckpt
