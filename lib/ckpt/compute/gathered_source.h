// SPDX-License-Identifier: BSD-3-Clause
// Tensors that have to be computed before they can be written: strided views made dense, dtypes converted,
// byte orders turned. They read like a file; a few megabytes of values exist at a time.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "ckpt/base/export.h"
#include "ckpt/compute/cast_watch.h"
#include "ckpt/compute/computed_source.h"
#include "ckpt/compute/lazy_bits.h"
#include "ckpt/model/dtype.h"

namespace ckpt {

/// A dense copy of a view: its values in the order of `shape`, the last dimension fastest. To get another
/// order, permute sizes and strides alike.
struct Gather {
  std::shared_ptr<const ByteSource> source;
  std::uint64_t storage = 0;  ///< where the view's storage begins in `source`, bytes
  std::uint64_t offset = 0;   ///< first element, in elements of `from`
  std::vector<std::int64_t> shape;
  std::vector<std::int64_t> strides;  ///< elements
  Dtype from = Dtype::kFloat32;
  Dtype to = Dtype::kFloat32;             ///< precondition: `can_convert`
  bool swapped = false;                   ///< the source's numbers have the other byte order
  LazyBits lazy = {};                     ///< what the source's numbers stand for
  bool result_swapped = false;            ///< the result's are to have it
  std::shared_ptr<CastWatch> watch = {};  ///< of `from` and `to`; null: nobody wants to know

  std::uint64_t numel() const;
};

/// The results of any number of gathers, one behind the other.
class CKPT_EXPORT GatheredSource final : public ComputedSource {
 public:
  explicit GatheredSource(std::string name) : name_(std::move(name)) {}

  /// Where in this source the result lies. Preconditions: the view lies in its storage, the storage in its
  /// source; sizes and strides are not negative. Not while others read.
  Extent add(Gather gather);

  const std::string& name() const override { return name_; }

  std::uint64_t size() const override { return size_; }

  /// Quick for who reads forward. Errors: those of the sources.
  Status read_at(std::uint64_t offset, std::span<std::byte> out) const override;

  /// Some cast is watched. What is read with `read_at` is not counted.
  bool has_verdict() const override;

  void add_inputs(Extent wanted, std::vector<SourceStretch>& out) const override;

  /// Errors, besides: what a watch refuses, of the first in order.
  Status produce(std::span<const Extent> pieces, const ComputeOptions& options, const Deliver& deliver,
                 const std::function<void()>& report) const override;

 private:
  struct Placed {
    Gather gather;
    Extent extent;
  };

  /// Values computed last: a box of one result.
  struct Box {
    Extent extent;  ///< in this source
    Bytes values;
    Bytes gathered;  ///< before they were converted
  };

  class Work;

  /// As many of the bytes as come in one way. Returns how many, as the next three do.
  Result<std::uint64_t> read_some(std::uint64_t offset, std::span<std::byte> out) const;
  /// From the source itself, where values lie as they are wanted.
  static Result<std::uint64_t> read_straight(const Placed& placed, std::uint64_t offset,
                                             std::span<std::byte> out);
  /// The few values that are wanted, without those around them. The box stays what it was.
  Result<std::uint64_t> read_sample(const Placed& placed, std::uint64_t offset,
                                    std::span<std::byte> out) const;
  /// What the box holds of it. Precondition: it holds `offset`.
  static std::uint64_t copy_from(const Box& box, std::uint64_t offset, std::span<std::byte> out);

  static bool is_plain(const Gather& gather);
  const Placed& result_at(std::uint64_t offset) const;
  static Extent box_at(const Placed& placed, std::uint64_t offset);
  static Extent sample_at(const Placed& placed, std::uint64_t offset, std::uint64_t size);
  static Status compute(const Placed& placed, Extent extent, Box& box, Extent watched = {});

  std::string name_;
  std::vector<Placed> results_;  ///< ascending; without empty ones
  std::uint64_t size_ = 0;
  mutable std::mutex mutex_;
  mutable std::array<Box, 2> boxes_;  ///< that were read last: threads that go on together cross their border
  mutable std::size_t last_ = 0;
  mutable Box sample_;  ///< of a short read elsewhere
};

}  // namespace ckpt
