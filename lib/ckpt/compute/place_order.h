// SPDX-License-Identifier: BSD-3-Clause
// Places in a tensor are those of C order. A tensor that lies in another order of its dimensions is read as
// it lies, and who needs the places asks for them, run by run.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "ckpt/base/export.h"

namespace ckpt {

/// Elements that lie behind one another, and whose places are at equal steps.
struct PlaceRun {
  std::uint64_t place = 0;  ///< of the first, in elements
  std::uint64_t step = 1;
  std::uint64_t count = 0;

  /// How many of them, the first ones, have a place before `end`.
  std::uint64_t before(std::uint64_t end) const {
    if (end <= place) return 0;
    const auto fit = (end - place - 1) / step + 1;
    return fit < count ? fit : count;
  }
};

class CKPT_EXPORT PlaceOrder {
 public:
  /// Where elements lie as their places say.
  PlaceOrder() = default;

  /// `shape`: the dimensions as they lie, the last one fastest. `axes`: which dimension of the tensor each
  /// is.
  PlaceOrder(std::span<const std::int64_t> shape, std::span<const std::size_t> axes);

  bool is_plain() const { return axes_.empty(); }

  /// From the element `first` that lies there on, at most `most`.
  PlaceRun run_at(std::uint64_t first, std::uint64_t most) const;

 private:
  struct Axis {
    std::uint64_t size;
    std::uint64_t step;
  };

  std::vector<Axis> axes_;  ///< from the fastest on; none where places are in order
};

}  // namespace ckpt
