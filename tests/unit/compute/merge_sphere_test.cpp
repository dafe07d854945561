// SPDX-License-Identifier: BSD-3-Clause
// Each method against the vectors themselves, in long double.
#include <cmath>
#include <numeric>

#include "ckpt/compute/tensor_backend.h"
#include "support/catch.h"
#include "support/merge_builder.h"

using namespace ckpt;
using namespace ckpt::test;

namespace {

using Long = long double;
using Vector = std::vector<Long>;

constexpr std::size_t kThreads[] = {1, 2, 5};

Long dot(const Vector& a, const Vector& b) {
  return std::inner_product(a.begin(), a.end(), b.begin(), Long{0});
}

Long norm(const Vector& a) {
  return std::sqrt(dot(a, a));
}

Vector sum(Long u, const Vector& a, Long v, const Vector& b) {
  Vector out;
  for (std::size_t i = 0; i < a.size(); ++i) out.push_back(u * a[i] + v * b[i]);
  return out;
}

Vector vector(const Numbers& numbers) {
  return {numbers.begin(), numbers.end()};
}

Vector arc(const Vector& a, const Vector& b, Long t) {
  const auto angle = std::acos(dot(a, b) / norm(a) / norm(b));
  return sum(std::sin((1 - t) * angle) / std::sin(angle), a, std::sin(t * angle) / std::sin(angle), b);
}

Vector karcher(const std::vector<Vector>& x, int steps, Long tol) {
  std::vector<Vector> units;
  Long length = 0;
  for (const auto& each : x) {
    length += norm(each) / static_cast<Long>(x.size());
    if (norm(each) > tol) units.push_back(sum(1 / norm(each), each, 0, each));
  }
  const auto share = 1 / static_cast<Long>(units.size());
  Vector mean(x[0].size());
  for (const auto& unit : units) mean = sum(1, mean, share, unit);
  mean = sum(1 / norm(mean), mean, 0, mean);
  for (int step = 0; step < steps; ++step) {
    Vector tangent(mean.size());
    for (const auto& unit : units) {
      const auto cosine = dot(mean, unit);
      const auto angle = std::acos(cosine);
      if (angle < tol) continue;
      tangent = sum(1, tangent, share * angle / std::sin(angle), sum(1, unit, -cosine, mean));
    }
    const auto reach = norm(tangent);
    if (reach < tol) break;
    mean = sum(std::cos(reach), mean, std::sin(reach) / reach, tangent);
    mean = sum(1 / norm(mean), mean, 0, mean);
  }
  return sum(length, mean, 0, mean);
}

}  // namespace

TEST_CASE("slerp follows the arc from the base to the other", "[compute]") {
  const auto tensors = related(2, 3001);
  auto job = job_of(MergeMethod::kSlerp, tensors);
  CHECK(merged(job).status.error().code() == ErrorCode::kUsage);  // t has no preset
  job.parameters[MergeParameter::kT] = 0.3;
  CHECK(distance(merged_numbers(job), arc(vector(tensors[0]), vector(tensors[1]), 0.3L)) < 1e-15);
  job.base = 1;
  CHECK(distance(merged_numbers(job), arc(vector(tensors[1]), vector(tensors[0]), 0.3L)) < 1e-15);
}

TEST_CASE("slerp is a straight line for vectors of nearly one direction, and for 0", "[compute]") {
  auto job = job_of(MergeMethod::kSlerp, {{1, 2}, {2, 4}});
  job.parameters[MergeParameter::kT] = 0.5;
  CHECK(merged_numbers(job) == Numbers{1.5, 3});
  job = job_of(MergeMethod::kSlerp, {{0, 0}, {0, 0}});
  job.parameters[MergeParameter::kT] = 0.5;
  CHECK(merged_numbers(job) == Numbers{0, 0});
}

TEST_CASE("nuslerp takes t from the weights", "[compute]") {
  const auto tensors = related(3, 1200);
  auto job = job_of(MergeMethod::kNuslerp, {tensors[0], tensors[1]});
  job.parameters.weights = {3, 1};
  CHECK(distance(merged_numbers(job), arc(vector(tensors[0]), vector(tensors[1]), 0.25L)) < 1e-15);

  job = job_of(MergeMethod::kNuslerp, tensors);
  job.base = 0;
  job.parameters.weights = {1, -1};
  const auto base = vector(tensors[0]);
  const auto changed = arc(sum(1, vector(tensors[1]), -1, base), sum(1, vector(tensors[2]), -1, base), 0.5L);
  CHECK(distance(merged_numbers(job), sum(1, base, 1, changed)) < 1e-15);
}

TEST_CASE("nuslerp goes along rows or columns where it is told", "[compute]") {
  for (const bool with_base : {false, true}) {
    constexpr std::size_t kRows = 37;
    constexpr std::size_t kColumns = 2049;
    const auto tensors = related(with_base ? 3 : 2, kRows * kColumns);
    auto job = job_of(MergeMethod::kNuslerp, tensors);
    job.shape = {kRows, kColumns};
    if (with_base) job.base = 0;
    job.parameters.weights = {1, 3};
    job.parameters[MergeParameter::kFlatten] = 0;
    const Vector zeros(kRows * kColumns);
    const auto base = with_base ? vector(tensors[0]) : zeros;
    const auto a = sum(1, vector(tensors[with_base ? 1 : 0]), -1, base);
    const auto b = sum(1, vector(tensors[with_base ? 2 : 1]), -1, base);
    const auto expected = [&](std::size_t vectors, std::size_t step, std::size_t size, std::size_t stride) {
      auto out = base;
      for (std::size_t v = 0; v < vectors; ++v) {
        Vector left;
        Vector right;
        for (std::size_t i = 0; i < size; ++i) {
          left.push_back(a[v * step + i * stride]);
          right.push_back(b[v * step + i * stride]);
        }
        const auto between = arc(left, right, 0.75L);
        for (std::size_t i = 0; i < size; ++i) out[v * step + i * stride] += between[i];
      }
      return out;
    };
    CHECK(distance(merged_numbers(job), expected(kRows, kColumns, kColumns, 1)) < 1e-15);
    job.parameters[MergeParameter::kRowWise] = 1;
    CHECK(distance(merged_numbers(job), expected(kColumns, 1, kRows, kColumns)) < 1e-15);
    CHECK(merged(job, 5).bytes == merged(job, 1, VectorUnit::kBaseline).bytes);
  }
}

TEST_CASE("multislerp stays on the sphere", "[compute]") {
  const auto tensors = related(4, 5000);
  auto job = job_of(MergeMethod::kMultislerp, tensors);
  job.parameters.weights = {1, 2, 3, 4};
  Vector mean(5000);
  Long length = 0;
  for (std::size_t k = 0; k < 4; ++k) {
    const auto x = vector(tensors[k]);
    const auto share = static_cast<Long>(job.parameters.weights[k]) / 10;
    mean = sum(1, mean, share / (norm(x) + 1e-8L), x);
    length += share * norm(x);
  }
  mean = sum(length / norm(mean), mean, 0, mean);
  CHECK(distance(merged_numbers(job), mean) < 1e-12);
}

TEST_CASE("multislerp of tensors that cancel each other out", "[compute]") {
  CHECK(merged_numbers(job_of(MergeMethod::kMultislerp, {{1, 2}, {-1, -2}})) == Numbers{0, 0});
  auto job = job_of(MergeMethod::kMultislerp, {{1, 2}, {1, 2}, {-2, -4}});
  job.parameters.weights = {1, 1, 2};
  CHECK(merged(job).status.error().code() == ErrorCode::kUnsupported);
  CHECK(merged_numbers(job_of(MergeMethod::kMultislerp, {{1, 2}})) == Numbers{1, 2});
}

TEST_CASE("the Karcher mean is found from inner products alone", "[compute]") {
  const auto tensors = related(3, 4000);
  const auto job = job_of(MergeMethod::kKarcher, tensors);
  const std::vector<Vector> x = {vector(tensors[0]), vector(tensors[1]), vector(tensors[2])};
  CHECK(distance(merged_numbers(job), karcher(x, 10, 1e-5L)) < 1e-14);
  auto wide =
      job_of(MergeMethod::kKarcher, {normal_numbers(50, 1), normal_numbers(50, 2), normal_numbers(50, 3)});
  const std::vector<Vector> y = {vector(normal_numbers(50, 1)), vector(normal_numbers(50, 2)),
                                 vector(normal_numbers(50, 3))};
  CHECK(distance(merged_numbers(wide), karcher(y, 10, 1e-5L)) < 1e-13);
}

TEST_CASE("a Karcher mean leaves out tensors of zeros, but not their share of the length", "[compute]") {
  const auto result = merged_numbers(job_of(MergeMethod::kKarcher, {{3, 4}, {0, 0}}));
  CHECK(result[0] == Approx(1.5));
  CHECK(result[1] == Approx(2));
  CHECK(merged_numbers(job_of(MergeMethod::kKarcher, {{0, 0}, {0, 0}})) == Numbers{0, 0});
}

TEST_CASE("model stock goes from the base to the mean as far as the changes agree", "[compute]") {
  const auto tensors = related(4, 3000);
  const auto expected = [&](std::ptrdiff_t from, std::ptrdiff_t to) {
    std::vector<Vector> x;
    for (const auto& numbers : tensors) x.emplace_back(numbers.begin() + from, numbers.begin() + to);
    Long cosine = 0;
    for (std::size_t i = 1; i < 4; ++i) {
      for (std::size_t j = i + 1; j < 4; ++j) {
        const auto a = sum(1, x[i], -1, x[0]);
        const auto b = sum(1, x[j], -1, x[0]);
        cosine += dot(a, b) / norm(a) / norm(b) / 3;
      }
    }
    const auto t = 3 * cosine / (1 + 2 * cosine);
    const auto mean = sum(1 / 3.0L, x[1], 1 / 3.0L, sum(1, x[2], 1, x[3]));
    return sum(t, mean, 1 - t, x[0]);
  };
  auto job = job_of(MergeMethod::kModelStock, tensors);
  CHECK(distance(merged_numbers(job), expected(0, 3000)) < 1e-14);
  job.shape = {3, 1000};
  job.parameters[MergeParameter::kFilterWise] = 1;
  auto rows = expected(0, 1000);
  for (const std::ptrdiff_t row : {1, 2}) {
    const auto more = expected(row * 1000, row * 1000 + 1000);
    rows.insert(rows.end(), more.begin(), more.end());
  }
  CHECK(distance(merged_numbers(job), rows) < 1e-14);
}

TEST_CASE("model stock keeps the base where there is no answer", "[compute]") {
  CHECK(merged_numbers(job_of(MergeMethod::kModelStock, {{1, 2}, {2, 2}, {0, 2}})) == Numbers{1, 2});
  CHECK(merged_numbers(job_of(MergeMethod::kModelStock, {{1, 2}, {1, 2}, {1, 2}})) == Numbers{1, 2});
}

TEST_CASE("angles do not depend on threads and vector units", "[compute]") {
  for (const auto method : {MergeMethod::kKarcher, MergeMethod::kModelStock, MergeMethod::kMultislerp}) {
    const auto job = job_of(method, related(3, 700'003, Dtype::kBfloat16), Dtype::kBfloat16);
    const auto one = merged(job, 1, VectorUnit::kBaseline);
    REQUIRE(one.status.ok());
    CHECK(one.measures.known);
    for (const auto threads : kThreads) CHECK(merged(job, threads).bytes == one.bytes);
    CHECK(merged(job, 2, std::min(VectorUnit::kAvx2, best_vector_unit())).bytes == one.bytes);
  }
}

namespace {

/// Adds up float64 numbers one after the other, and is no good for anything else.
class PlainSums final : public TensorBackend {
 public:
  explicit PlainSums(bool is_asked) : is_asked_(is_asked) {}

  std::string name() const override { return "plain sums"; }

  bool supports(const CkptKernelCall& call) const override { return call.kernel >= CKPT_GRAM; }

  bool makes_sums() const override { return is_asked_; }

  Status combine(const CkptKernelCall&, const CkptValues&) const override {
    return Error(ErrorCode::kInternal, "nobody should ask for that");
  }

  Status reduce(const CkptKernelCall& call, std::span<double> results) const override {
    const auto at = [&](std::size_t input, std::size_t i) {
      return static_cast<const double*>(call.inputs[input].buffer)[i];
    };
    const bool of_changes = call.kernel == CKPT_GRAM_OF_CHANGES;
    const auto value = [&](std::size_t vector, std::size_t i) {
      return of_changes ? at(vector + 1, i) - at(0, i) : at(vector, i);
    };
    std::size_t pair = 0;
    for (std::size_t a = 0; a + (of_changes ? 1 : 0) < call.input_count; ++a) {
      for (std::size_t b = 0; b <= a; ++b, ++pair) {
        results[pair] = 0;
        for (std::size_t i = 0; i < call.inputs[0].count; ++i) results[pair] += value(a, i) * value(b, i);
      }
    }
    return {};
  }

 private:
  bool is_asked_;
};

}  // namespace

TEST_CASE("sums of a back end are taken if the user asked for them, and not otherwise", "[compute]") {
  constexpr std::size_t kCount = 300'001;
  for (const auto method :
       {MergeMethod::kSlerp, MergeMethod::kKarcher, MergeMethod::kMultislerp, MergeMethod::kModelStock}) {
    auto job = job_of(method, related(method == MergeMethod::kSlerp ? 2 : 3, kCount));
    if (method == MergeMethod::kSlerp) job.parameters[MergeParameter::kT] = 0.3;
    const auto native = merged(job);
    REQUIRE(native.status.ok());
    const PlainSums unasked(false);
    CHECK(merged(job, 2, best_vector_unit(), &unasked).bytes == native.bytes);
    CHECK(unasked.summed() == 0);

    const auto numbers = numbers_of(job.dtype, native.bytes);
    const PlainSums asked(true);
    const auto first = merged(job, 1, best_vector_unit(), &asked);
    REQUIRE(first.status.ok());
    CHECK(asked.summed() == kCount);
    CHECK(distance(numbers_of(job.dtype, first.bytes), {numbers.begin(), numbers.end()}) < 1e-12);
    for (const auto threads : kThreads)
      CHECK(merged(job, threads, best_vector_unit(), &asked).bytes == first.bytes);
  }
}
