// SPDX-License-Identifier: BSD-3-Clause
#include "ckpt/inspect/base_comparison.h"

#include <algorithm>
#include <atomic>
#include <cstring>
#include <unordered_map>
#include <utility>

#include <fmt/format.h>

#include "ckpt/base/text.h"
#include "ckpt/compute/lazy_bits.h"
#include "ckpt/compute/workers.h"
#include "ckpt/inspect/value_stream.h"
#include "ckpt/model/dense_order.h"
#include "ckpt/model/key_path.h"
#include "ckpt/model/state_dicts.h"

namespace ckpt {
namespace {

constexpr std::size_t kChunk = 1U << 18U;             // bytes; a multiple of every item size
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

struct Compared {
  BaseVerdict verdict = BaseVerdict::kNotCompared;
  std::optional<Differences> differences{};
  std::string_view reason{};  ///< why it is not compared
};

/// Compares tensor after tensor, on one thread.
class Comparer {
 public:
  /// `done`: bytes so far, of all comparers.
  Result<Compared> compare(const Side& a, const Side& b, std::atomic<std::uint64_t>& done) {
    if (!same_shape(a, b)) return verdict(BaseVerdict::kOtherShape);
    if (a.tensor.dtype != b.tensor.dtype) return verdict(BaseVerdict::kOtherDtype);
    if (a.tensor.layout != b.tensor.layout) return not_compared("of another layout");
    switch (a.tensor.layout) {
      case TensorLayout::kStrided: return compare_strided(a, b, done);
      case TensorLayout::kSparseCoo:
      case TensorLayout::kSparseCompressed:
      case TensorLayout::kNested: return compare_parts(a, b, done);
      case TensorLayout::kQuantized: return not_compared("quantised");  // scales stand in the pickle
      case TensorLayout::kMeta: return not_compared("without data");
      case TensorLayout::kWrapper: break;
    }
    return not_compared("of a subclass");
  }

 private:
  static Compared verdict(BaseVerdict verdict) { return {verdict, {}, {}}; }

  static Compared not_compared(std::string_view reason) { return {BaseVerdict::kNotCompared, {}, reason}; }

  Result<Compared> compare_strided(const Side& a, const Side& b, std::atomic<std::uint64_t>& done) {
    const auto& info = dtype_info(a.tensor.dtype);
    const bool bytes_alike =
        info.values_per_item == 1 && a.checkpoint.bytes(a.tensor) == b.checkpoint.bytes(b.tensor);
    if (!bytes_alike) return not_compared("with several values in a byte");
    if (repeats(a) || repeats(b)) return not_compared("expanded far beyond its storage");
    if (a.checkpoint.bytes(a.tensor) == 0) return verdict(BaseVerdict::kEqual);
    if (a.tensor.storage == kNoIndex || b.tensor.storage == kNoIndex) return not_compared("without data");
    const auto order = laid_out_alike(a, b) ? ValueOrder::kAsTheyLie : ValueOrder::kC;
    CKPT_ASSIGN_OR_RETURN(auto left, open_values(a, order));
    CKPT_ASSIGN_OR_RETURN(auto right, open_values(b, order));
    Compared out{BaseVerdict::kEqual, {}, {}};
    if (has_differences(a.tensor.dtype)) out.differences.emplace();
    left_.resize(kChunk);
    right_.resize(kChunk);
    for (std::uint64_t at = 0; at < left.size();) {
      const auto size = std::min<std::uint64_t>(kChunk, left.size() - at);
      const auto x = std::span(left_).first(size);
      const auto y = std::span(right_).first(size);
      CKPT_RETURN_IF_ERROR(left.read(x));
      CKPT_RETURN_IF_ERROR(right.read(y));
      resolve_lazy_bits(a.tensor.dtype, lazy_bits_of(a.tensor), x);
      resolve_lazy_bits(b.tensor.dtype, lazy_bits_of(b.tensor), y);
      if (std::memcmp(x.data(), y.data(), size) != 0) out.verdict = BaseVerdict::kChanged;
      if (out.differences) add_differences(*out.differences, differences_of(a.tensor.dtype, x, y));
      at += size;
      done += size;
    }
    return out;
  }

  /// Of tensors made of others only whether they are equal.
  Result<Compared> compare_parts(const Side& a, const Side& b, std::atomic<std::uint64_t>& done) {
    if (a.tensor.parts != b.tensor.parts) return not_compared("made of other parts");
    bool equal = true;
    for (std::uint8_t i = 1; i <= a.tensor.parts; ++i) {
      const Side left{a.checkpoint, *(&a.tensor + i)};
      const Side right{b.checkpoint, *(&b.tensor + i)};
      CKPT_ASSIGN_OR_RETURN(const auto part, compare(left, right, done));
      if (part.verdict == BaseVerdict::kNotCompared) return part;
      if (part.verdict != BaseVerdict::kEqual) equal = false;  // also of another number of values
    }
    return verdict(equal ? BaseVerdict::kEqual : BaseVerdict::kChanged);
  }

  Bytes left_;
  Bytes right_;
};

/// Adds up the parameters of each group, a tied one where its first key is.
void add_up_groups(const FreezeReport& report, BaseComparison& comparison) {
  comparison.groups.resize(report.groups.size());
  for (std::size_t i = 0; i < report.entries.size(); ++i) {
    const auto& entry = report.entries[i];
    const auto& differences = comparison.differences[i];
    if (!differences || entry.first != i || entry.role.kind != RoleKind::kParameter) continue;
    add_differences(comparison.groups[entry.group], *differences);
    add_differences(comparison.total, *differences);
  }
}

using TensorsByName = std::unordered_map<std::string_view, TensorId>;

TensorsByName tensors_by_name(const Checkpoint& checkpoint, const StateDict& dict) {
  TensorsByName out;
  out.reserve(dict.entries.size());
  for (const auto& entry : dict.entries) {
    if (entry.tensor != kNoIndex) out.emplace(checkpoint.tensors[entry.tensor].name, entry.tensor);
  }
  return out;
}

TensorsByName aliases_of(const Checkpoint& checkpoint) {
  TensorsByName out;
  for (const auto& tied : tied_names(checkpoint))
    out.emplace(checkpoint.metadata[tied.entry].first, tied.tensor);
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
                                         const Checkpoint& base, std::uint32_t base_dict, std::size_t threads,
                                         Progress* progress) {
  auto in_base = tensors_by_name(base, base.state_dicts[base_dict]);
  const auto aliases = aliases_of(base);
  std::uint64_t total = 0;
  std::size_t common = 0;
  for (const auto& entry : report.entries) {
    const auto name = checkpoint.tensors[entry.tensor].name;
    if (!in_base.contains(name) && !aliases.contains(name)) continue;
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
  std::vector<Compared> compared(report.entries.size());
  std::vector<std::pair<std::size_t, TensorId>> pairs;  // entry, tensor of the base
  for (std::size_t i = 0; i < report.entries.size(); ++i) {
    const auto name = checkpoint.tensors[report.entries[i].tensor].name;
    compared[i].verdict = BaseVerdict::kNotInBase;
    if (const auto found = in_base.find(name); found != in_base.end()) {
      pairs.emplace_back(i, found->second);
      in_base.erase(found);
    } else if (const auto alias = aliases.find(name); alias != aliases.end()) {
      pairs.emplace_back(i, alias->second);
    }
  }
  std::atomic<std::uint64_t> done = 0;
  const auto work = [&](std::size_t job, Comparer& comparer) -> Status {
    const auto [entry, other] = pairs[job];
    const auto& tensor = checkpoint.tensors[report.entries[entry].tensor];
    CKPT_ASSIGN_OR_RETURN(compared[entry],
                          comparer.compare({checkpoint, tensor}, {base, base.tensors[other]}, done));
    return {};
  };
  const auto tell = [&] {
    if (progress != nullptr) progress->report(std::min<std::uint64_t>(done, total), total);
  };
  Workers workers(worthwhile_threads(threads, total), pairs.size());
  auto status = workers.run_with<Comparer>(work, tell);
  if (!status.ok()) return std::move(status).error();
  for (auto& one : compared) {
    out.verdicts.push_back(one.verdict);
    out.reasons.push_back(one.reason);
    out.differences.push_back(one.differences);
  }
  add_up_groups(report, out);
  for (const auto& entry : base.state_dicts[base_dict].entries) {
    if (entry.tensor == kNoIndex) continue;
    const auto name = base.tensors[entry.tensor].name;
    if (in_base.contains(name)) out.only_in_base.push_back(name);
  }
  return out;
}

}  // namespace ckpt
