// SPDX-License-Identifier: BSD-3-Clause
#include "ckpt/compute/small_floats.h"

#include <cmath>

namespace ckpt {

double small_float(std::uint32_t bits, int exponent, int mantissa, int bias, bool finite) {
  const auto sign = (bits >> static_cast<unsigned>(exponent + mantissa)) & 1U;
  const auto e = static_cast<int>((bits >> static_cast<unsigned>(mantissa)) &
                                  ((1U << static_cast<unsigned>(exponent)) - 1));
  const auto m = bits & ((1U << static_cast<unsigned>(mantissa)) - 1);
  const auto top = (1 << exponent) - 1;
  double value = 0;
  if (!finite && e == top) {
    value = m == 0 ? INFINITY : NAN;
  } else if (e == 0) {
    value = std::ldexp(static_cast<double>(m), 1 - bias - mantissa);
  } else {
    value = std::ldexp(static_cast<double>(m | (1U << static_cast<unsigned>(mantissa))), e - bias - mantissa);
  }
  return sign != 0 ? -value : value;
}

double float8_value(Dtype dtype, std::uint8_t byte) {
  switch (dtype) {
    case Dtype::kFloat8E5m2: return small_float(byte, 5, 2, 15, false);
    case Dtype::kFloat8E4m3fn: return (byte & 0x7FU) == 0x7FU ? NAN : small_float(byte, 4, 3, 7, true);
    case Dtype::kFloat8E5m2fnuz: return byte == 0x80U ? NAN : small_float(byte, 5, 2, 16, true);
    case Dtype::kFloat8E4m3fnuz: return byte == 0x80U ? NAN : small_float(byte, 4, 3, 8, true);
    case Dtype::kFloat8E8m0fnu: return byte == 0xFFU ? NAN : std::ldexp(1.0, static_cast<int>(byte) - 127);
    default: return NAN;
  }
}

}  // namespace ckpt
