// SPDX-License-Identifier: BSD-3-Clause
// Tensors of other files as tensors of the base: their bytes once, whoever views them. A tensor whose bytes
// lie in the order that the base wants is a range of its file, which the kernel will copy; any other is
// gathered when it is written.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <tuple>
#include <vector>

#include "ckpt/base/result.h"
#include "ckpt/compute/gathered_source.h"
#include "ckpt/edit/cast_report.h"
#include "ckpt/edit/merge_offers.h"
#include "ckpt/model/checkpoint.h"

namespace ckpt {

using Shape = std::vector<std::int64_t>;

/// The strides of a new tensor in the place of `ours`, of its shape: the same where they are dense; empty is
/// C order.
Shape strides_in_place_of(const Checkpoint& base, const TensorInfo& ours, Dtype dtype);

class Importer {
 public:
  /// The parts that it makes are those behind the base's; `finish` adds them, before anybody else adds some.
  /// `casts` learns where values become others.
  Importer(Checkpoint& base, std::size_t sources, std::vector<CastValues>& casts)
      : base_(base),
        casts_(casts),
        first_part_(static_cast<std::uint32_t>(base.parts.size())),
        gathered_part_(first_part_ + static_cast<std::uint32_t>(sources)) {}

  /// A tensor of `dtype` with `strides` (empty: C order) and the values of `offered`, for `key` of the base.
  /// Errors: kUnsupported for tensors whose values can't be had.
  Result<TensorView> import(const Offered& offered, CastKey key, Dtype dtype, const Shape& strides,
                            std::string_view device);

  /// Adds the files that were used to the base's parts.
  void finish(const std::vector<MergeSource>& sources);

 private:
  using Key =
      std::tuple<std::uint32_t, StorageId, std::uint64_t, Shape, Shape, Dtype, std::uint8_t, std::string>;

  Status check(const Offered& offered, Dtype dtype) const;
  DataRef moved(const Offered& offered) const;
  Gather gather(const Offered& offered, Shape shape, Shape steps, Dtype dtype, bool swapped) const;

  Checkpoint& base_;
  MergeCasts casts_;
  std::uint32_t first_part_;     ///< of the sources
  std::uint32_t gathered_part_;  ///< behind them
  std::shared_ptr<GatheredSource> gathered_ = std::make_shared<GatheredSource>("converted tensors");
  std::map<Key, MergedStorage> imported_;
};

}  // namespace ckpt
