// SPDX-License-Identifier: BSD-3-Clause
#include "ckpt/compute/cast_tally.h"

#include <cmath>
#include <limits>
#include <span>
#include <vector>

#include "ckpt/compute/cast_watch.h"
#include "ckpt/compute/convert.h"
#include "support/catch.h"

using namespace ckpt;

namespace {

constexpr auto kInfinity = std::numeric_limits<float>::infinity();
constexpr auto kNan = std::numeric_limits<float>::quiet_NaN();

struct Result {
  CastTally tally;
  Bytes clamped;
};

template <typename Number>
Result cast(Dtype from, const std::vector<Number>& numbers, Dtype to) {
  const auto values = std::as_bytes(std::span(numbers));
  Result result;
  result.clamped.resize(numbers.size() * dtype_info(to).item_size);
  convert(from, values, to, result.clamped.data());
  const CastCounter counter(from, to);
  result.tally = counter.count(values, result.clamped);
  counter.clamp(values, result.clamped);
  return result;
}

/// What a byte array holds, as float32s.
std::vector<float> floats(Dtype dtype, const Bytes& bytes) {
  std::vector<float> out(bytes.size() / dtype_info(dtype).item_size);
  convert(dtype, bytes, Dtype::kFloat32, std::as_writable_bytes(std::span(out)).data());
  return out;
}

}  // namespace

TEST_CASE("a cast tells what it does to values", "[compute]") {
  const std::vector<float> numbers = {1, 65519, 65520, -1e6F, kInfinity, kNan,
                                      0, -0.0F, 1e-9F, 1e-5F, 1e-38F,    3.14159265F};
  const auto [tally, clamped] = cast(Dtype::kFloat32, numbers, Dtype::kFloat16);
  CHECK(tally.values == 12);
  CHECK(tally.overflows == 2);
  CHECK(tally.first == 2);
  CHECK(tally.first_value == 65520);
  CHECK(tally.zeros == 2);
  CHECK(tally.subnormals == 1);
  CHECK(tally.nans == 1);
  CHECK(tally.largest_error == Approx(0.0013).epsilon(0.1));
  const auto now = floats(Dtype::kFloat16, clamped);
  CHECK(now[2] == 65504);
  CHECK(now[3] == -65504);
  CHECK(now[4] == kInfinity);
  CHECK(std::isnan(now[5]));
}

TEST_CASE("what a dtype has no infinities, NaNs or signs for does not fit", "[compute]") {
  const std::vector<float> numbers = {kInfinity, kNan, 448, 464, 465, -1};
  CHECK(cast(Dtype::kFloat32, numbers, Dtype::kFloat8E4m3fn).tally.overflows == 2);
  CHECK(cast(Dtype::kFloat32, numbers, Dtype::kFloat8E4m3fnuz).tally.overflows == 4);
  const auto [tally, clamped] = cast(Dtype::kFloat32, numbers, Dtype::kUint8);
  CHECK(tally.overflows == 6);
  CHECK(floats(Dtype::kUint8, clamped) == std::vector<float>{255, 0, 255, 255, 255, 0});
  CHECK(cast(Dtype::kFloat32, std::vector<float>{-128.9F, 127.9F, -129, 128}, Dtype::kInt8).tally.overflows ==
        2);
}

TEST_CASE("integers fit integers or do not, exactly", "[compute]") {
  const auto most = std::numeric_limits<std::int64_t>::max();
  const std::vector<std::uint64_t> numbers = {0, static_cast<std::uint64_t>(most),
                                              static_cast<std::uint64_t>(most) + 1};
  CHECK(cast(Dtype::kUint64, numbers, Dtype::kInt64).tally.overflows == 1);
  const std::vector<std::int64_t> others = {-1, most, -128, 255, 256};
  CHECK(cast(Dtype::kInt64, others, Dtype::kUint8).tally.overflows == 4);
  CHECK(floats(Dtype::kUint8, cast(Dtype::kInt64, others, Dtype::kUint8).clamped) ==
        std::vector<float>{0, 255, 0, 255, 255});
  CHECK(cast(Dtype::kInt8, std::vector<std::int8_t>{-1, 1}, Dtype::kUint64).tally.overflows == 1);
}

TEST_CASE("some casts keep every value", "[compute]") {
  CHECK(is_exact_cast(Dtype::kBfloat16, Dtype::kFloat32));
  CHECK(is_exact_cast(Dtype::kFloat8E5m2, Dtype::kFloat16));
  CHECK(is_exact_cast(Dtype::kInt8, Dtype::kBfloat16));
  CHECK(is_exact_cast(Dtype::kComplex64, Dtype::kComplex128));
  CHECK_FALSE(is_exact_cast(Dtype::kFloat16, Dtype::kBfloat16));
  CHECK_FALSE(is_exact_cast(Dtype::kInt32, Dtype::kFloat32));
  CHECK_FALSE(is_exact_cast(Dtype::kUint8, Dtype::kInt8));
}

TEST_CASE("an overflow that nobody accepts is told with its place", "[compute]") {
  std::vector<float> numbers(6000, 1);
  numbers[4100] = 1e9F;
  numbers[5000] = -1e9F;
  const auto values = std::as_bytes(std::span(numbers));
  Bytes results(numbers.size() * 2);
  convert(Dtype::kFloat32, values, Dtype::kFloat16, results.data());
  CastWatch watch(Dtype::kFloat32, Dtype::kFloat16, OnOverflow::kError, "tensor 'w'", {{60, 100}});
  watch.look(values.subspan(4 * 4500), ByteView(results).subspan(2 * 4500), 4500);
  watch.look(values.first(4 * 4500), ByteView(results).first(2 * 4500), 0);
  const auto verdict = watch.verdict();
  REQUIRE_FALSE(verdict.ok());
  CHECK(verdict.error().code() == ErrorCode::kRefused);
  CHECK(verdict.error().message() ==
        "tensor 'w': 1000000000 at [41, 0] does not fit float16, whose largest number is 65504; 1 more does "
        "not");
}

TEST_CASE("an overflow names the end of the dtype's numbers that it lies beyond", "[compute]") {
  const auto told = [](float number, Dtype to) {
    const std::vector<float> numbers = {0, number};
    const auto values = std::as_bytes(std::span(numbers));
    Bytes results(numbers.size() * dtype_info(to).item_size);
    convert(Dtype::kFloat32, values, to, results.data());
    CastWatch watch(Dtype::kFloat32, to, OnOverflow::kError, "w", {{2}});
    watch.look(values, results, 0);
    return watch.verdict().error().message();
  };
  CHECK(told(256, Dtype::kUint8) == "w: 256 at [1] does not fit uint8, whose largest number is 255");
  CHECK(told(-5, Dtype::kUint8) == "w: -5 at [1] does not fit uint8, whose smallest number is 0");
  CHECK(told(-129, Dtype::kInt8) == "w: -129 at [1] does not fit int8, whose smallest number is -128");
  CHECK(told(-1e9F, Dtype::kFloat16) ==
        "w: -1000000000 at [1] does not fit float16, whose smallest number is -65504");
  CHECK(told(NAN, Dtype::kInt8) == "w: nan at [1] does not fit int8, which has no NaN");
}
