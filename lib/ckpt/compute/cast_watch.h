// SPDX-License-Identifier: BSD-3-Clause
// A cast that somebody watches while its values are produced: what was lost, and whether that is accepted.
#pragma once

#include <cstdint>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "ckpt/base/export.h"
#include "ckpt/base/result.h"
#include "ckpt/compute/cast_tally.h"

namespace ckpt {

/// What becomes of values that the dtype has no number for.
enum class OnOverflow : std::uint8_t {
  kError,  ///< nothing is written
  kClamp,  ///< the nearest number that it has
  kInf,    ///< as PyTorch does: mostly infinities
};

class CKPT_EXPORT CastWatch {
 public:
  /// `what`: "tensor 'fc.weight'". `shape`: of the values in their order, for messages; none where they are a
  /// storage that tensors view. Precondition: that of CastCounter.
  CastWatch(Dtype from, Dtype to, OnOverflow on_overflow, std::string what,
            std::optional<std::vector<std::int64_t>> shape)
      : counter_(from, to),
        to_(to),
        on_overflow_(on_overflow),
        is_complex_(dtype_info(from).dtype_class == DtypeClass::kComplex),
        what_(std::move(what)),
        shape_(std::move(shape)) {}

  /// All that was counted is forgotten.
  void begin();

  /// Counts values that begin `offset` of them behind the first. By any thread.
  void look(ByteView values, ByteView results, std::uint64_t offset);

  /// Puts what is wanted in the place of results that overflowed.
  void correct(ByteView values, std::span<std::byte> results) const {
    if (on_overflow_ == OnOverflow::kClamp) counter_.clamp(values, results);
  }

  /// When all has been counted. Errors: kRefused for an overflow, where none is accepted.
  Status verdict() const;

  const CastTally& tally() const { return tally_; }

  OnOverflow on_overflow() const { return on_overflow_; }

 private:
  std::string limit_for(double value) const;
  std::string place(std::uint64_t index) const;

  const CastCounter counter_;
  const Dtype to_;
  const OnOverflow on_overflow_;
  const bool is_complex_;
  const std::string what_;
  const std::optional<std::vector<std::int64_t>> shape_;
  std::mutex mutex_;
  CastTally tally_;
};

}  // namespace ckpt
