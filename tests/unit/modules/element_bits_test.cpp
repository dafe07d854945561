// SPDX-License-Identifier: BSD-3-Clause
#include "modules/cuda/element_bits.h"

#include "ckpt/compute/convert.h"
#include "support/catch.h"
#include "support/gather_cases.h"

namespace ckpt::cuda {
namespace {

std::int32_t code_of(Dtype dtype) {
  return dtype == Dtype::kFloat8E8m0fnu ? CKPT_FLOAT8_E8M0FNU : static_cast<std::int32_t>(dtype);
}

TEST_CASE("the rules for GPUs are those of convert, bit for bit", "[modules]") {
  test::Random random(5);
  int pairs = 0;
  for (const auto& from : all_dtypes()) {
    for (const auto& to : all_dtypes()) {
      const bool is_complex = from.dtype_class == DtypeClass::kComplex;
      if (from.dtype == to.dtype || is_complex || !can_convert(from.dtype, to.dtype)) continue;
      INFO(from.name << " to " << to.name);
      const auto source = code_of(from.dtype);
      const auto target = code_of(to.dtype);
      REQUIRE(is_number(source));
      REQUIRE(element_size(source) == from.item_size);
      const std::size_t count = 200000;
      const auto values = test::telling_values(random, source, count);
      Bytes expected(count * to.item_size);
      convert(from.dtype, values, to.dtype, expected.data());
      Bytes found(expected.size() + 8);
      for (std::size_t i = 0; i < count; ++i) {
        std::uint64_t bits = 0;
        std::memcpy(&bits, values.data() + i * from.item_size, from.item_size);
        const auto result = cast_bits(source, target, bits);
        std::memcpy(found.data() + i * to.item_size, &result, 8);
      }
      found.resize(expected.size());
      const auto difference = std::mismatch(found.begin(), found.end(), expected.begin());
      if (difference.first != found.end()) {
        const auto at = static_cast<std::size_t>(difference.first - found.begin()) / to.item_size;
        std::uint64_t bits = 0;
        std::memcpy(&bits, values.data() + at * from.item_size, from.item_size);
        FAIL_CHECK("element " << at << ", " << std::hex << bits);
      }
      ++pairs;
    }
  }
  CHECK(pairs == 306);
}

}  // namespace
}  // namespace ckpt::cuda
