// SPDX-License-Identifier: BSD-3-Clause
#include "ckpt/compute/merge_values.h"

#include <algorithm>

namespace ckpt {
namespace {

struct Float8Form {
  int mantissa;  ///< bits
  int bias;
  int overflow;          ///< the code of what is too large, without its sign
  bool signed_overflow;  ///< has it a sign?
  int nan;
};

constexpr Float8Form form_of(Dtype dtype) {
  switch (dtype) {
    case Dtype::kFloat8E5m2: return {2, 15, 0x7C, true, 0x7F};
    case Dtype::kFloat8E5m2fnuz: return {2, 16, 0x80, false, 0x80};
    case Dtype::kFloat8E4m3fnuz: return {3, 8, 0x80, false, 0x80};
    default: return {3, 7, 0x7E, true, 0x7F};  // the largest number
  }
}

/// Powers of two, without sign and zero: PyTorch rounds by the bits of a float32, whatever its sign.
std::uint8_t power_of_two(double value) {
  const auto bits = std::bit_cast<std::uint32_t>(static_cast<float>(value));
  const auto exponent = bits >> 23U & 0xFFU;
  if (exponent == 0xFF) return 0xFF;
  const bool half = (bits & 0x400000U) != 0;
  const bool up = half && (exponent > 0 || (bits & 0x3FFFFFU) != 0);
  return static_cast<std::uint8_t>(exponent + (up ? 1 : 0));
}

std::array<float, 256> table_of(Dtype dtype) {
  std::array<float, 256> out;
  for (std::size_t byte = 0; byte < out.size(); ++byte)
    out[byte] = static_cast<float>(float8_value(dtype, static_cast<std::uint8_t>(byte)));
  return out;
}

}  // namespace

const std::array<float, 256>& float8_values(Dtype dtype) {
  static const auto e5m2 = table_of(Dtype::kFloat8E5m2);
  static const auto e4m3fn = table_of(Dtype::kFloat8E4m3fn);
  static const auto e5m2fnuz = table_of(Dtype::kFloat8E5m2fnuz);
  static const auto e4m3fnuz = table_of(Dtype::kFloat8E4m3fnuz);
  static const auto e8m0fnu = table_of(Dtype::kFloat8E8m0fnu);
  switch (dtype) {
    case Dtype::kFloat8E5m2: return e5m2;
    case Dtype::kFloat8E5m2fnuz: return e5m2fnuz;
    case Dtype::kFloat8E4m3fnuz: return e4m3fnuz;
    case Dtype::kFloat8E8m0fnu: return e8m0fnu;
    default: return e4m3fn;
  }
}

std::uint8_t float8_rounded(Dtype dtype, double value) {
  if (dtype == Dtype::kFloat8E8m0fnu) return power_of_two(value);
  const auto form = form_of(dtype);
  const auto sign = std::signbit(value) ? 0x80 : 0;
  const bool has_signs = form.signed_overflow;  // zero and NaN with a sign, too
  if (std::isnan(value)) return static_cast<std::uint8_t>(has_signs ? sign | form.nan : form.nan);
  const auto size = std::fabs(value);
  int code = form.overflow;
  if (std::isfinite(size)) {
    // Numbers below the smallest normal one have its unit. What rounding carries over lands in the exponent.
    const auto exponent = size == 0 ? 1 - form.bias : std::max(std::ilogb(size), 1 - form.bias);
    const auto units = std::nearbyint(std::ldexp(std::min(size, 1e30), form.mantissa - exponent));
    const auto steps = static_cast<double>((exponent + form.bias - 1) * (1 << form.mantissa)) + units;
    code = steps >= form.overflow ? form.overflow : static_cast<int>(steps);
  }
  if (!has_signs && (code == 0 || code == form.overflow)) return static_cast<std::uint8_t>(code);
  return static_cast<std::uint8_t>(sign | code);
}

}  // namespace ckpt
