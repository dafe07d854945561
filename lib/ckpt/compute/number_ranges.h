// SPDX-License-Identifier: BSD-3-Clause
// Which numbers a dtype has.
#pragma once

#include "ckpt/model/dtype.h"

namespace ckpt {

/// Numbers are m · 2^e for integers m of at most `precision` bits and e from `unit` on, below 2^`end`.
struct NumberRange {
  int precision = 0;
  int unit = 0;
  int end = 0;
  bool is_signed = true;
  bool has_infinities = false;
  bool has_nans = false;
};

/// Of one part of a complex dtype. Precondition: a dtype of numbers with whole bytes.
NumberRange number_range(Dtype dtype);

/// Is every number, infinity and NaN of `inner` one of `outer`?
bool contains(const NumberRange& outer, const NumberRange& inner);

/// The smallest number of full precision; below are subnormal ones. 0 where there are none.
double smallest_normal(const NumberRange& range);

}  // namespace ckpt
