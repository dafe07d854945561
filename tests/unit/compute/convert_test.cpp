// SPDX-License-Identifier: BSD-3-Clause
#include "ckpt/compute/convert.h"

#include <bit>
#include <cmath>
#include <limits>

#include "ckpt/compute/narrow_floats.h"
#include "support/catch.h"

using namespace ckpt;

namespace {

std::uint16_t float16_bits(float value) {
  return Float16(value).bits;
}

std::uint16_t bfloat16_bits(float value) {
  return Bfloat16(value).bits;
}

float float16_value(std::uint16_t bits) {
  Float16 half;
  half.bits = bits;
  return half;
}

}  // namespace

TEST_CASE("every half survives the way through float32", "[compute]") {
  for (std::uint32_t bits = 0; bits < 0x10000U; ++bits) {
    const auto value = float16_value(static_cast<std::uint16_t>(bits));
    if (std::isnan(value)) {
      CHECK((float16_bits(value) & 0x7FFFU) == 0x7E00U);
    } else if (float16_bits(value) != bits) {
      FAIL_CHECK(bits);
    }
  }
}

TEST_CASE("halves are rounded to the nearest, ties to even", "[compute]") {
  struct Case {
    float value;
    std::uint16_t bits;
  };

  const Case cases[] = {
      {1.0F, 0x3C00},
      {1.0F + 0x1p-11F, 0x3C00},             // a tie, to even
      {1.0F + 0x1p-11F + 0x1p-20F, 0x3C01},  // above it
      {1.0F + 3 * 0x1p-11F, 0x3C02},         // a tie, to even
      {65504.0F, 0x7BFF},
      {65519.996F, 0x7BFF},
      {65520.0F, 0x7C00},  // infinity
      {-1e30F, 0xFC00},
      {0x1p-24F, 0x0001},
      {0x1p-25F, 0x0000},             // a tie, to zero
      {0x1.8p-24F, 0x0002},           // a tie, to even
      {0x1p-14F - 0x1p-26F, 0x0400},  // becomes normal
      {-0.0F, 0x8000},
      {1e-45F, 0x0000},
  };
  for (const auto& [value, bits] : cases) CHECK(float16_bits(value) == bits);
}

TEST_CASE("bfloat16 takes the upper half of float32, rounded", "[compute]") {
  CHECK(bfloat16_bits(1.0F) == 0x3F80);
  CHECK(bfloat16_bits(std::bit_cast<float>(0x3F808000U)) == 0x3F80);  // a tie, to even
  CHECK(bfloat16_bits(std::bit_cast<float>(0x3F818000U)) == 0x3F82);
  CHECK(bfloat16_bits(std::bit_cast<float>(0x3F808001U)) == 0x3F81);
  CHECK(bfloat16_bits(std::numeric_limits<float>::max()) == 0x7F80);
  CHECK(bfloat16_bits(std::numeric_limits<float>::quiet_NaN()) == 0x7FC0);
  CHECK(static_cast<float>(Bfloat16(-5.0F)) == -5.0F);
}

TEST_CASE("numbers can be converted among each other, other dtypes only to themselves", "[compute]") {
  CHECK(can_convert(Dtype::kFloat64, Dtype::kFloat16));
  CHECK(can_convert(Dtype::kBool, Dtype::kInt64));
  CHECK(can_convert(Dtype::kComplex64, Dtype::kComplex64));
  CHECK_FALSE(can_convert(Dtype::kComplex64, Dtype::kFloat32));
  CHECK_FALSE(can_convert(Dtype::kQint8, Dtype::kInt8));
  CHECK_FALSE(can_convert(Dtype::kFloat8E5m2, Dtype::kFloat32));
}

TEST_CASE("both halves of a complex number are turned round on their own", "[compute]") {
  Bytes bytes;
  for (int i = 0; i < 8; ++i) bytes.push_back(static_cast<std::byte>(i));
  swap_byte_order(Dtype::kComplex64, bytes);
  Bytes expected;
  for (const int i : {3, 2, 1, 0, 7, 6, 5, 4}) expected.push_back(static_cast<std::byte>(i));
  CHECK(bytes == expected);
}
