// SPDX-License-Identifier: BSD-3-Clause
// The values that a merge computes, as storages of the base: what is one tensor in every file is computed
// once and stays one tensor.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <tuple>
#include <utility>
#include <vector>

#include "ckpt/base/result.h"
#include "ckpt/compute/gathered_source.h"
#include "ckpt/compute/merged_source.h"
#include "ckpt/edit/cast_report.h"
#include "ckpt/edit/merge_report.h"
#include "ckpt/model/checkpoint.h"

namespace ckpt {

/// A tensor of one of the files.
struct PlacedTensor {
  const Checkpoint* checkpoint = nullptr;
  TensorInfo tensor;
  std::string_view file;   ///< for messages
  std::size_t number = 0;  ///< 0: the base
};

/// What is computed in C order comes to lie as the view says. False: it can't, and the view is in C order
/// now.
bool put_in_order(MergeJob& job, TensorView& view);
/// Says of so many results, at least one, that they could not.
std::string reordered_note(std::uint64_t tensors);

class MergeJobs {
 public:
  /// Its results become part `part` of the base, what it converts the one behind: `finish` adds them.
  /// `casts` learns where what it converts becomes other values.
  MergeJobs(Checkpoint& base, const MergeRecipe& recipe, std::uint32_t part, std::vector<CastValues>& casts);

  /// The tensor with its dimensions in the order of `axes`, all of them, dense.
  /// Errors: kUnsupported for tensors whose values can't be had.
  Result<MergeInput> input(const PlacedTensor& placed, const std::vector<std::size_t>& axes);
  /// The same for a matrix that is the transpose of the tensor.
  Result<MergeInput> transposed(const PlacedTensor& placed);

  /// A storage with the result, of `device`, and which job it is. Errors: those of `check_merge_job`.
  Result<std::pair<StorageId, std::size_t>> add(MergeJob job, std::string_view device);

  /// The tensor, for `key`, with its values as another dtype, with the strides it has where they are dense.
  /// What is one tensor under several keys has one storage again.
  Result<TensorView> convert(const PlacedTensor& placed, CastKey key, Dtype dtype, std::string_view device);

  const std::shared_ptr<MergedSource>& source() const { return merged_; }

  void finish();

 private:
  using Shape = std::vector<std::int64_t>;
  /// Checkpoint, storage, offset, sizes, strides, dtype.
  using ViewKey = std::tuple<const Checkpoint*, StorageId, std::uint64_t, Shape, Shape, Dtype>;
  /// Where its inputs begin and what they are, its shape, what it is told, its dtype and device.
  using JobKey = std::tuple<std::vector<std::tuple<const ByteSource*, std::uint64_t, Dtype, unsigned>>, Shape,
                            std::vector<std::uint64_t>, Dtype, std::string>;

  Result<Gather> view(const PlacedTensor& placed, const std::vector<std::size_t>& axes) const;
  static ViewKey view_key(const PlacedTensor& placed, const Gather& gather);
  static JobKey key_of(const MergeJob& job, std::string_view device);

  Checkpoint& base_;
  std::uint32_t part_;
  MergeCasts casts_;
  std::shared_ptr<MergedSource> merged_;
  std::map<std::size_t, std::shared_ptr<GatheredSource>> views_;  ///< that are merged, by file
  std::shared_ptr<GatheredSource> converted_ = std::make_shared<GatheredSource>("converted tensors");
  std::map<ViewKey, Extent> gathered_;
  std::map<JobKey, std::pair<StorageId, std::size_t>> results_;
  std::map<std::tuple<ViewKey, bool, Dtype, std::string>, MergedStorage> conversions_;  ///< bool: negated
};

}  // namespace ckpt
