// SPDX-License-Identifier: BSD-3-Clause
#include "ckpt/compute/cast_watch.h"

#include <cmath>

#include <fmt/format.h>

#include "ckpt/base/text.h"

namespace ckpt {

void CastWatch::begin() {
  tally_ = {};
}

void CastWatch::look(ByteView values, ByteView results, std::uint64_t offset) {
  const auto counted = counter_.count(values, results);
  const std::lock_guard lock(mutex_);
  tally_.add(counted, is_complex_ ? 2 * offset : offset);
}

Status CastWatch::verdict() const {
  if (on_overflow_ != OnOverflow::kError || tally_.overflows == 0) return {};
  const auto others = tally_.overflows - 1;
  return Error(ErrorCode::kRefused,
               fmt::format("{}: {} at {} does not fit {}, {}{}", what_, tally_.first_value,
                           place(is_complex_ ? tally_.first / 2 : tally_.first), dtype_info(to_).name,
                           limit_for(tally_.first_value),
                           others == 0 ? ""
                                       : fmt::format("; {} more {} not", with_separators(others),
                                                     others == 1 ? "does" : "do")))
      .with_hint("--on-overflow clamp writes the nearest number, --on-overflow inf what PyTorch makes of it");
}

std::string CastWatch::limit_for(double value) const {
  if (std::isnan(value)) return "which has no NaN";
  return value < 0 ? fmt::format("whose smallest number is {}", counter_.smallest())
                   : fmt::format("whose largest number is {}", counter_.largest());
}

std::string CastWatch::place(std::uint64_t index) const {
  if (!shape_) return fmt::format("value {} of its storage", with_separators(index));
  std::vector<std::uint64_t> position(shape_->size());
  for (auto i = shape_->size(); i-- > 0;) {
    const auto size = static_cast<std::uint64_t>((*shape_)[i]);
    position[i] = index % size;
    index /= size;
  }
  return fmt::format("[{}]", fmt::join(position, ", "));
}

}  // namespace ckpt
