// SPDX-License-Identifier: BSD-3-Clause
#include <cmath>

#include "support/catch.h"
#include "support/merge_builder.h"

using namespace ckpt;
using namespace ckpt::test;

namespace {

constexpr auto kInfinity = std::numeric_limits<double>::infinity();
constexpr std::size_t kThreads[] = {1, 2, 5};
constexpr auto kNan = std::numeric_limits<double>::quiet_NaN();

}  // namespace

TEST_CASE("a mean is the sum in float64, divided and rounded once", "[compute]") {
  for (const auto dtype :
       {Dtype::kFloat64, Dtype::kFloat32, Dtype::kFloat16, Dtype::kBfloat16, Dtype::kFloat8E5m2,
        Dtype::kFloat8E4m3fn, Dtype::kFloat8E4m3fnuz, Dtype::kFloat8E5m2fnuz}) {
    const auto tensors = related(3, 5000, dtype);
    const auto result = merged(job_of(MergeMethod::kMean, tensors, dtype));
    REQUIRE(result.status.ok());
    Numbers expected;
    for (std::size_t i = 0; i < 5000; ++i)
      expected.push_back((tensors[0][i] + tensors[1][i] + tensors[2][i]) / 3);
    CHECK(result.bytes == stored(dtype, expected));
  }
}

TEST_CASE("rounding to 16 bits takes no detour over float32", "[compute]") {
  // Halfway between two bfloat16, and a little more that a float32 would lose.
  const Numbers above = {1 + 0x1p-8 + 0x1p-40};
  CHECK(numbers_of(Dtype::kBfloat16, stored(Dtype::kBfloat16, above))[0] == 1 + 0x1p-7);
  CHECK(numbers_of(Dtype::kBfloat16, stored(Dtype::kBfloat16, {1 + 0x1p-8}))[0] == 1);
  CHECK(numbers_of(Dtype::kFloat16, stored(Dtype::kFloat16, {1 + 0x1p-11 + 0x1p-45}))[0] == 1 + 0x1p-10);
  CHECK(numbers_of(Dtype::kFloat16, stored(Dtype::kFloat16, {0x1p-25 + 0x1p-60}))[0] == 0x1p-24);
  CHECK(numbers_of(Dtype::kFloat8E4m3fn, stored(Dtype::kFloat8E4m3fn, {1 + 0x1p-4 + 0x1p-45}))[0] == 1.125);
  CHECK(numbers_of(Dtype::kFloat8E4m3fn, stored(Dtype::kFloat8E4m3fn, {1 + 0x1p-4}))[0] == 1);
  CHECK(numbers_of(Dtype::kFloat16, stored(Dtype::kFloat16, {65519.999999}))[0] == 65504);
  CHECK(numbers_of(Dtype::kFloat16, stored(Dtype::kFloat16, {65520, 1e300})) ==
        Numbers{kInfinity, kInfinity});
}

TEST_CASE("rounding to 8 bits takes the nearest number, half way the even one", "[compute]") {
  struct Case {
    Dtype dtype;
    double smallest;
    double largest;
    unsigned overflow;  ///< what is too large becomes
    unsigned nan;
  };

  const Case cases[] = {{Dtype::kFloat8E5m2, 0x1p-16, 57344, 0x7C, 0x7F},
                        {Dtype::kFloat8E4m3fn, 0x1p-9, 448, 0x7E, 0x7F},
                        {Dtype::kFloat8E5m2fnuz, 0x1p-17, 57344, 0x80, 0x80},
                        {Dtype::kFloat8E4m3fnuz, 0x1p-10, 240, 0x80, 0x80}};
  for (const auto& [dtype, smallest, largest, overflow, nan] : cases) {
    INFO(dtype_info(dtype).name);
    const auto number = [dtype = dtype](unsigned code) {
      return numbers_of(dtype, Bytes{static_cast<std::byte>(code)})[0];
    };
    const auto code_of = [dtype = dtype](double value) {
      return std::to_integer<unsigned>(stored(dtype, {value})[0]);
    };
    CHECK(number(1) == smallest);
    unsigned code = 0;
    for (; number(code) != largest; ++code) {
      const auto low = number(code);
      const auto high = number(code + 1);
      const auto middle = (low + high) / 2;
      const auto even = code + code % 2;
      REQUIRE(low < high);
      REQUIRE(code_of(low) == code);
      REQUIRE(code_of(std::nextafter(middle, low)) == code);
      REQUIRE(code_of(middle) == even);
      REQUIRE(code_of(std::nextafter(middle, high)) == code + 1);
      if (even > 0) REQUIRE(code_of(-middle) == (even | 0x80U));
    }
    CHECK(code_of(largest) == code);
    CHECK(code_of(1e300) == overflow);
    CHECK(code_of(-1e300) == (overflow | 0x80U));
    CHECK(code_of(kNan) == nan);
    CHECK(code_of(-kNan) == nan);
    CHECK(std::isnan(number(nan)));
  }
}

TEST_CASE("dtypes of one tensor may differ, and the result has its own", "[compute]") {
  MergeJob job = job_of(MergeMethod::kMean, {{1, 2, 3}, {3, 4, 8}});
  job.inputs[1] = input_of(Dtype::kBfloat16, stored(Dtype::kBfloat16, {3, 4, 8}), 1);
  job.dtype = Dtype::kFloat16;
  CHECK(merged_numbers(job) == Numbers{2, 3, 5.5});
}

TEST_CASE("linear takes weights as they are, or by their sum", "[compute]") {
  auto job = job_of(MergeMethod::kLinear, {{1, -2, kNan, 4}, {8, 16, 1, kInfinity}});
  job.parameters.weights = {0.5, 0.25};
  const auto normalized = merged_numbers(job);
  CHECK(normalized[0] == 2.5 / 0.75);
  CHECK(std::isnan(normalized[2]));
  CHECK(normalized[3] == kInfinity);
  job.parameters[MergeParameter::kNormalize] = 0;
  CHECK(merged_numbers(job)[0] == 2.5);
}

TEST_CASE("a weight of 0 is a weight", "[compute]") {
  auto job = job_of(MergeMethod::kLinear, {{1, 2}, {8, 16}});
  job.parameters.weights = {0, 2};
  CHECK(merged_numbers(job) == Numbers{8, 16});
}

TEST_CASE("weights that add up to 0 can't be normalized", "[compute]") {
  auto job = job_of(MergeMethod::kLinear, {{1, 2}, {8, 16}});
  job.parameters.weights = {-1, 1};
  CHECK(merged(job).status.error().code() == ErrorCode::kUsage);
  job.parameters[MergeParameter::kNormalize] = 0;
  CHECK(merged_numbers(job) == Numbers{7, 14});
}

TEST_CASE("task arithmetic adds changes to the base", "[compute]") {
  auto job = job_of(MergeMethod::kTaskArithmetic, {{1, 10}, {2, 12}, {5, 6}});
  job.parameters.weights = {0.5, 1};
  CHECK(merged_numbers(job) == Numbers{5.5, 7});
  job.parameters[MergeParameter::kLambda] = 2;
  CHECK(merged_numbers(job) == Numbers{10, 4});
  job.parameters[MergeParameter::kNormalize] = 1;
  CHECK(merged_numbers(job) == Numbers{7, 6});
  job.parameters.weights = {1, -1};  // divided by 1
  CHECK(merged_numbers(job) == Numbers{-5, 22});
  job.base = 1;
  job.parameters = preset_parameters(MergeMethod::kTaskArithmetic, 2);
  CHECK(merged_numbers(job) == Numbers{4, 4});
}

TEST_CASE("four methods of image model mergers", "[compute]") {
  const std::vector<Numbers> three = {{1, 2}, {5, 7}, {2, -1}};
  auto job = job_of(MergeMethod::kAddDifference, three);
  job.parameters[MergeParameter::kAlpha] = 0.5;
  CHECK(merged_numbers(job) == Numbers{2.5, 6});
  job = job_of(MergeMethod::kSumTwice, three);
  CHECK(merged(job).status.error().code() == ErrorCode::kUsage);  // alpha and beta have no preset
  job.parameters[MergeParameter::kAlpha] = 0.5;
  job.parameters[MergeParameter::kBeta] = 0.25;
  CHECK(merged_numbers(job) == Numbers{2.75, 3.125});
  job = job_of(MergeMethod::kTripleSum, three);
  job.parameters[MergeParameter::kAlpha] = 0.5;
  job.parameters[MergeParameter::kBeta] = 0.25;
  CHECK(merged_numbers(job) == Numbers{3.25, 3.75});
  job = job_of(MergeMethod::kWeightedSubtraction, {{1, 2}, {5, 8}});
  job.parameters[MergeParameter::kAlpha] = 0.5;
  job.parameters[MergeParameter::kBeta] = 0.5;
  CHECK(merged_numbers(job) == Numbers{(1 - 0.25 * 5) / 0.75, 0});
  job.parameters[MergeParameter::kBeta] = 2;
  CHECK(merged(job).status.error().code() == ErrorCode::kUsage);
}

TEST_CASE("nearswap goes to the other where it is near", "[compute]") {
  auto job = job_of(MergeMethod::kNearswap, {{1, 1, 1}, {1.25, 3, 1}});
  job.parameters[MergeParameter::kT] = 0.5;
  CHECK(merged_numbers(job) == Numbers{1.25, 1.5, 1});
}

TEST_CASE("tensors of no dimension and of no values merge", "[compute]") {
  auto job = job_of(MergeMethod::kMean, {{1}, {2}});
  job.shape = {};
  CHECK(merged_numbers(job) == Numbers{1.5});
  job = job_of(MergeMethod::kMean, {{}, {}});
  const auto result = merged(job);
  CHECK(result.status.ok());
  CHECK_FALSE(result.measures.known);
}

TEST_CASE("bytes do not depend on threads, vector units or pieces", "[compute]") {
  const auto tensors = related(3, 600'001, Dtype::kFloat32);
  const auto job = job_of(MergeMethod::kLinear, tensors, Dtype::kFloat32);
  const auto one = merged(job);
  REQUIRE(one.status.ok());
  for (const auto unit : {VectorUnit::kBaseline, VectorUnit::kAvx2, VectorUnit::kAvx512}) {
    if (unit > best_vector_unit()) continue;
    for (const auto threads : kThreads) {
      const auto other = merged(job, threads, unit);
      CHECK(other.bytes == one.bytes);
      CHECK(other.measures.gram == one.measures.gram);
    }
  }
  MergedSource source("merged", std::nullopt);
  source.add(job_of(MergeMethod::kMean, {{1, 2}, {3, 4}}));
  const auto extent = source.add(job);
  Bytes read(extent.size);
  REQUIRE(source.read_at(extent.offset, read).ok());
  CHECK(read == one.bytes);
  Bytes part(1000);
  REQUIRE(source.read_at(extent.offset + 333'333, part).ok());
  CHECK(std::equal(part.begin(), part.end(), one.bytes.begin() + 333'333));
  const std::vector<Extent> pieces = {{extent.offset + 1'000'001, 555'555}, {4, 30}};
  std::vector<Bytes> got = {Bytes(555'555), Bytes(30)};
  const auto deliver = [&](std::size_t piece, std::uint64_t offset, ByteView bytes) -> Status {
    std::copy(bytes.begin(), bytes.end(), got[piece].begin() + static_cast<std::ptrdiff_t>(offset));
    return {};
  };
  REQUIRE(source.produce(pieces, {}, deliver, [] {}).ok());
  CHECK(std::equal(got[0].begin(), got[0].end(), one.bytes.begin() + 1'000'001));
  CHECK(std::equal(got[1].begin() + 12, got[1].end(), one.bytes.begin()));
  CHECK_FALSE(source.measures()[1].known);
  CHECK(source.measures()[0].known);
}

TEST_CASE("numbers of the other byte order and with lazy signs", "[compute]") {
  auto job = job_of(MergeMethod::kMean, {{1, 2}, {3, 4}});
  Bytes turned = stored(Dtype::kFloat64, {3, 4});
  std::reverse(turned.begin(), turned.begin() + 8);
  std::reverse(turned.begin() + 8, turned.end());
  job.inputs[1] = input_of(Dtype::kFloat64, turned, 1);
  job.inputs[1].swapped = true;
  job.inputs[0].lazy.negative = true;
  CHECK(merged_numbers(job) == Numbers{1, 1});
}

TEST_CASE("complex numbers are merged part by part", "[compute]") {
  auto job = job_of(MergeMethod::kMean, {{1, 2, 3, 4}, {3, 6, -3, 8}});
  job.shape = {2};
  for (auto& input : job.inputs) input.dtype = Dtype::kComplex128;
  job.inputs[1].lazy.conjugate = true;
  job.dtype = Dtype::kComplex128;
  const auto result = merged(job);
  REQUIRE(result.status.ok());
  CHECK(numbers_of(Dtype::kFloat64, result.bytes) == Numbers{2, -2, 0, -2});
  job.method = MergeMethod::kNearswap;
  CHECK(check_merge_job(job).error().code() == ErrorCode::kUnsupported);
}

TEST_CASE("norms and cosines come with the merge", "[compute]") {
  const auto result = merged(job_of(MergeMethod::kMean, {{3, 4}, {4, -3}, {6, 8}}));
  REQUIRE(result.measures.known);
  CHECK(result.measures.norm(0) == 5);
  CHECK(result.measures.norm(2) == 10);
  CHECK(result.measures.cosine(0, 1) == 0);
  CHECK(result.measures.cosine(0, 2) == 1);
}

TEST_CASE("models that point elsewhere are refused when all has been seen", "[compute]") {
  MergedSource source("merged", 0.3);
  const std::vector<Extent> all = {source.add(job_of(MergeMethod::kMean, {{1, 0}, {1, 0}})),
                                   source.add(job_of(MergeMethod::kMean, {{10, 0}, {0, 10}}))};
  const auto deliver = [](std::size_t, std::uint64_t, ByteView) { return Status(); };
  CHECK(source.has_verdict());
  const auto status = source.produce(all, {}, deliver, [] {});
  REQUIRE_FALSE(status.ok());
  CHECK(status.error().code() == ErrorCode::kRefused);
  CHECK(status.error().message() ==
        "'file0' and 'file1' are not related: the cosine of their values is 0.010, which is less than 0.3");
  CHECK(source.total_cosine(0, 1) == Approx(1.0 / 101));
}

TEST_CASE("integers are merged by a rule and never become floats", "[compute]") {
  MergeJob job;
  job.name = "num_batches_tracked";
  job.dtype = Dtype::kInt64;
  job.method = MergeMethod::kTies;
  job.shape = {};
  for (const std::int64_t value : {5, 9}) {
    Bytes bytes;
    append_le(bytes, value);
    job.inputs.push_back(input_of(Dtype::kInt64, bytes, job.inputs.size()));
  }
  auto result = merged(job);
  CHECK(result.status.error().code() == ErrorCode::kRefused);
  CHECK(result.status.error().message() == "tensor 'num_batches_tracked' of int64 differs in 'file1'");
  job.integers = IntegerRule::kFirst;
  CHECK(load_le<std::int64_t>(merged(job).bytes.data()) == 5);
  job.integers = IntegerRule::kMax;
  CHECK(load_le<std::int64_t>(merged(job).bytes.data()) == 9);
  job.integers = IntegerRule::kSum;
  CHECK(load_le<std::int64_t>(merged(job).bytes.data()) == 14);
  Bytes most;
  append_le(most, std::numeric_limits<std::int64_t>::max());
  job.inputs[0] = input_of(Dtype::kInt64, most, 0);
  CHECK(merged(job).status.error().code() == ErrorCode::kRefused);
  job.inputs[1] = input_of(Dtype::kFloat64, most, 1);
  CHECK(merged(job).status.error().code() == ErrorCode::kUnsupported);
}

TEST_CASE("lazily negated integers are merged as the values that they stand for", "[compute]") {
  const auto job_of_bytes = [](Dtype dtype, const std::vector<Bytes>& tensors) {
    MergeJob job;
    job.name = "steps";
    job.dtype = dtype;
    job.shape = {static_cast<std::int64_t>(tensors[0].size())};
    for (const auto& bytes : tensors) job.inputs.push_back(input_of(dtype, bytes, job.inputs.size()));
    job.inputs[0].lazy.negative = true;
    return job;
  };
  const auto bytes = [](const std::vector<int>& values) {
    Bytes out;
    for (const auto value : values) out.push_back(static_cast<std::byte>(value));
    return out;
  };
  auto job = job_of_bytes(Dtype::kInt8, {bytes({1, 2, -128}), bytes({-5, -1, 3})});
  job.integers = IntegerRule::kFirst;
  CHECK(merged(job).bytes == bytes({-1, -2, -128}));
  job.integers = IntegerRule::kMax;
  CHECK(merged(job).bytes == bytes({-1, -1, 3}));
  job.integers = IntegerRule::kSum;
  CHECK(merged(job).bytes == bytes({-6, -3, -125}));
  job.integers = IntegerRule::kEqual;
  CHECK(merged(job).status.error().code() == ErrorCode::kRefused);
  CHECK(merged(job_of_bytes(Dtype::kInt8, {bytes({1, 2}), bytes({-1, -2})})).status.ok());
  CHECK(merged(job_of_bytes(Dtype::kUint8, {bytes({1, 128}), bytes({255, 128})})).status.ok());
}

TEST_CASE("bools are merged as truth values", "[compute]") {
  MergeJob job;
  job.name = "mask";
  job.dtype = Dtype::kBool;
  job.shape = {3};
  job.inputs = {input_of(Dtype::kBool, Bytes{std::byte{0}, std::byte{1}, std::byte{2}}, 0),
                input_of(Dtype::kBool, Bytes{std::byte{0}, std::byte{0}, std::byte{1}}, 1)};
  for (const auto rule : {IntegerRule::kMax, IntegerRule::kSum}) {
    job.integers = rule;
    CHECK(merged(job).bytes == Bytes{std::byte{0}, std::byte{1}, std::byte{1}});
  }
}
