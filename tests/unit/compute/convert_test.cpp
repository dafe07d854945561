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
      CHECK(float16_bits(value) == (bits | 0x0200U));  // quiet
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
  CHECK(can_convert(Dtype::kFloat8E5m2, Dtype::kFloat32));
  CHECK(can_convert(Dtype::kComplex128, Dtype::kComplex32));
}

TEST_CASE("a cast gives the bits of PyTorch's vector code", "[compute]") {
  struct Case {
    Dtype from;
    std::uint64_t value;
    Dtype to;
    std::uint64_t expected;
  };

  const Case cases[] = {
      {Dtype::kFloat32, 0x7FA13AAE, Dtype::kFloat16, 0x7F09},  // a NaN keeps sign and payload
      {Dtype::kFloat32, 0xFFC9495A, Dtype::kBfloat16, 0xFFFF},
      {Dtype::kFloat16, 0xFE00, Dtype::kBfloat16, 0x7FC0},
      {Dtype::kFloat16, 0x7C01, Dtype::kFloat32, 0x7FC02000},  // and becomes quiet
      {Dtype::kFloat64, 0xFFF90D256333BFCE, Dtype::kFloat32, 0xFFC8692B},
      {Dtype::kFloat32, 0x43E80000, Dtype::kFloat8E4m3fn, 0x7E},  // 464: the largest number
      {Dtype::kFloat32, 0xFF800000, Dtype::kFloat8E4m3fn, 0xFE},
      {Dtype::kFloat32, 0x47700000, Dtype::kFloat8E5m2, 0x7C},      // 61440: infinite
      {Dtype::kFloat32, 0x43780000, Dtype::kFloat8E4m3fnuz, 0x80},  // 248: the NaN
      {Dtype::kFloat32, 0x80000001, Dtype::kFloat8E4m3fnuz, 0x00},  // there is one zero
      {Dtype::kFloat32, 0xC0400000, Dtype::kFloat8E8m0fnu, 0x81},   // -3 becomes 4
      {Dtype::kFloat8E8m0fnu, 0x00, Dtype::kFloat32, 0x00400000},
      {Dtype::kFloat64, 0x40EFFDFFFFFFFFFF, Dtype::kFloat16, 0x7C00},  // rounded twice, by way of float32
      {Dtype::kFloat32, 0x7FC00000, Dtype::kInt32, 0x80000000},
      {Dtype::kFloat32, 0x7FC00000, Dtype::kInt16, 0},
      {Dtype::kFloat32, 0xBF800000, Dtype::kUint8, 0xFF},
      {Dtype::kFloat32, 0x4F800000, Dtype::kUint32, 0},
      {Dtype::kFloat32, 0xCF800000, Dtype::kUint32, 0x80000000},
      {Dtype::kFloat16, 0xFC00, Dtype::kUint32, 0},
      {Dtype::kFloat8E5m2fnuz, 0x80, Dtype::kInt64, 0},
      {Dtype::kFloat32, 0x7F800000, Dtype::kUint64, 0},
      {Dtype::kFloat32, 0x7FC00000, Dtype::kBool, 1},
      {Dtype::kBool, 0x02, Dtype::kFloat32, 0x3F800000},
      {Dtype::kUint64, 0xFFFFFFFFFFFFFFFF, Dtype::kFloat32, 0x5F800000},
      {Dtype::kInt64, 0x8000000000000000, Dtype::kInt8, 0},
      {Dtype::kComplex64, 0x3F8000007F7FFFFF, Dtype::kComplex32, 0x3C007C00},
  };
  for (const auto& [from, value, to, expected] : cases) {
    Bytes bytes;
    append_le(bytes, value);
    bytes.resize(dtype_info(from).item_size);
    Bytes out(dtype_info(to).item_size);
    convert(from, bytes, to, out.data());
    Bytes wanted;
    append_le(wanted, expected);
    wanted.resize(out.size());
    INFO(dtype_info(from).name << " " << std::hex << value << " to " << dtype_info(to).name);
    CHECK(out == wanted);
  }
}

TEST_CASE("whole blocks are cast like one value after the other", "[compute]") {
  Bytes bytes;
  std::uint64_t state = 1;
  for (int i = 0; i < 1 << 13; ++i)
    append_le(bytes, state = state * 6364136223846793005U + 1442695040888963407U);
  const auto names = {Dtype::kFloat16,
                      Dtype::kBfloat16,
                      Dtype::kFloat32,
                      Dtype::kFloat64,
                      Dtype::kFloat8E4m3fn,
                      Dtype::kFloat8E5m2,
                      Dtype::kFloat8E4m3fnuz,
                      Dtype::kFloat8E5m2fnuz,
                      Dtype::kInt64,
                      Dtype::kUint8,
                      Dtype::kBool};
  for (const auto from : names) {
    for (const auto to : names) {
      const std::size_t from_size = dtype_info(from).item_size;
      const std::size_t to_size = dtype_info(to).item_size;
      const auto count = bytes.size() / from_size;
      Bytes at_once(count * to_size);
      Bytes one_by_one(count * to_size);
      convert(from, bytes, to, at_once.data());
      for (std::size_t i = 0; i < count; ++i)
        convert(from, ByteView(bytes).subspan(i * from_size, from_size), to, one_by_one.data() + i * to_size);
      INFO(dtype_info(from).name << " to " << dtype_info(to).name);
      CHECK(at_once == one_by_one);
    }
  }
}

TEST_CASE("both halves of a complex number are turned round on their own", "[compute]") {
  Bytes bytes;
  for (int i = 0; i < 8; ++i) bytes.push_back(static_cast<std::byte>(i));
  swap_byte_order(Dtype::kComplex64, bytes);
  Bytes expected;
  for (const int i : {3, 2, 1, 0, 7, 6, 5, 4}) expected.push_back(static_cast<std::byte>(i));
  CHECK(bytes == expected);
}
