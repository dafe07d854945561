// SPDX-License-Identifier: BSD-3-Clause
#include "ckpt/compute/number_ranges.h"

#include <cmath>

#include "ckpt/compute/element_types.h"

namespace ckpt {

NumberRange number_range(Dtype dtype) {
  switch (part_dtype(dtype)) {
    case Dtype::kBool: return {1, 0, 1, false, false, false};
    case Dtype::kUint8: return {8, 0, 8, false, false, false};
    case Dtype::kUint16: return {16, 0, 16, false, false, false};
    case Dtype::kUint32: return {32, 0, 32, false, false, false};
    case Dtype::kUint64: return {64, 0, 64, false, false, false};
    case Dtype::kInt8: return {7, 0, 7, true, false, false};  // and -2^7, which floats have, too
    case Dtype::kInt16: return {15, 0, 15, true, false, false};
    case Dtype::kInt32: return {31, 0, 31, true, false, false};
    case Dtype::kInt64: return {63, 0, 63, true, false, false};
    case Dtype::kFloat16: return {11, -24, 16, true, true, true};
    case Dtype::kBfloat16: return {8, -133, 128, true, true, true};
    case Dtype::kFloat32: return {24, -149, 128, true, true, true};
    case Dtype::kFloat64: return {53, -1074, 1024, true, true, true};
    case Dtype::kFloat8E4m3fn: return {4, -9, 9, true, false, true};
    case Dtype::kFloat8E5m2: return {3, -16, 16, true, true, true};
    case Dtype::kFloat8E4m3fnuz: return {4, -10, 8, true, false, true};
    case Dtype::kFloat8E5m2fnuz: return {3, -17, 16, true, false, true};
    case Dtype::kFloat8E8m0fnu: return {1, -127, 128, false, false, true};
    default: return {};
  }
}

bool contains(const NumberRange& outer, const NumberRange& inner) {
  return outer.precision >= inner.precision && outer.unit <= inner.unit && outer.end >= inner.end &&
         (outer.is_signed || !inner.is_signed) && (outer.has_infinities || !inner.has_infinities) &&
         (outer.has_nans || !inner.has_nans);
}

double smallest_normal(const NumberRange& range) {
  return range.unit == 0 || range.precision == 1 ? 0 : std::ldexp(1.0, range.unit + range.precision - 1);
}

}  // namespace ckpt
