// SPDX-License-Identifier: BSD-3-Clause
// Passes over values on a GPU. The GPU is a fake that does everything as late as CUDA may, and so are the
// kernels.
#include "ckpt/compute/device_backend.h"

#include <array>
#include <atomic>
#include <memory>
#include <thread>
#include <vector>

#include "support/catch.h"
#include "support/fake_device.h"

namespace ckpt {
namespace {

constexpr std::size_t kPiece = std::size_t{1} << 20U;  // values that go to the GPU at once

/// From a float64 and a float32 a float32: a + 2 b + the place in the tensor, modulo 7.
float combined(double a, float b, std::uint64_t place) {
  return static_cast<float>(a + 2 * static_cast<double>(b) + static_cast<double>(place % 7));
}

double product_of(const double* a, const float* b, std::size_t count) {
  double sum = 0;
  for (std::size_t i = 0; i < count; ++i) sum += a[i] * static_cast<double>(b[i]);
  return sum;
}

/// Kernels that take memory of the GPU alone, and are in no hurry.
class LateKernels final : public TensorBackend {
 public:
  explicit LateKernels(test::FakeCudaDriver& driver) : driver_(driver) {}

  mutable std::atomic<int> passes_left = 1 << 30;

  std::string name() const override { return "Kernels"; }

  bool supports(const CkptKernelCall& call) const override {
    return call.kernel == CKPT_LINEAR || call.kernel == CKPT_GRAM;
  }

  Status combine(const CkptKernelCall& call, const CkptValues& target) const override {
    CKPT_RETURN_IF_ERROR(start(call, target.count));
    if (target.device != 0 || target.offset != 0) return Error(ErrorCode::kInternal, "not on the GPU");
    const auto* const a = static_cast<const double*>(call.inputs[0].buffer);
    const auto* const b = static_cast<const float*>(call.inputs[1].buffer);
    auto* const out = static_cast<float*>(target.buffer);
    const auto first = call.first_element;
    const auto count = target.count;
    driver_.run_later(call.stream, [=] {
      for (std::size_t i = 0; i < count; ++i) out[i] = combined(a[i], b[i], first + i);
    });
    return {};
  }

  Status reduce(const CkptKernelCall& call, std::span<double> results) const override {
    CKPT_RETURN_IF_ERROR(start(call, call.inputs[0].count));
    const auto* const a = static_cast<const double*>(call.inputs[0].buffer);
    const auto* const b = static_cast<const float*>(call.inputs[1].buffer);
    auto* const out = results.data();
    const auto count = call.inputs[0].count;
    driver_.run_later(call.stream, [=] { *out = product_of(a, b, count); });
    driver_.drain(call.stream);
    return {};
  }

 private:
  Status start(const CkptKernelCall& call, std::uint64_t count) const {
    if (passes_left-- <= 0) return Error(ErrorCode::kBackend, "no pass is left");
    for (std::size_t i = 0; i < call.input_count; ++i) {
      const auto& input = call.inputs[i];
      if (input.device != 0 || input.offset != 0 || input.count != count)
        return Error(ErrorCode::kInternal, "not what was uploaded");
    }
    return {};
  }

  test::FakeCudaDriver& driver_;
};

/// Two inputs, which begin three values into their memory.
struct Values {
  std::vector<double> a;
  std::vector<float> b;
  std::uint64_t place = 0;  ///< of the first in its tensor

  explicit Values(std::size_t count, std::uint64_t first = 0) : a(count + 3), b(count + 3), place(first) {
    for (std::size_t i = 0; i < a.size(); ++i) {
      a[i] = static_cast<double>(i % 1009) - 500;
      b[i] = static_cast<float>((i + place) % 8191) / 4;
    }
  }

  std::size_t count() const { return a.size() - 3; }

  std::array<CkptValues, 2> inputs() {
    return {CkptValues{a.data(), 3, count(), CKPT_FLOAT64, -1},
            CkptValues{b.data(), 3, count(), CKPT_FLOAT32, -1}};
  }

  CkptKernelCall call(const std::array<CkptValues, 2>& inputs, CkptKernel kernel) const {
    CkptKernelCall call{};
    call.size = sizeof(call);
    call.kernel = kernel;
    call.accumulate = CKPT_FLOAT64;
    call.target_dtype = CKPT_FLOAT32;
    call.inputs = inputs.data();
    call.input_count = inputs.size();
    call.first_element = place;
    return call;
  }

  Result<std::vector<float>> combined_by(const TensorBackend& backend) {
    const auto in = inputs();
    std::vector<float> out(count() + 1);
    CKPT_RETURN_IF_ERROR(backend.combine(call(in, CKPT_LINEAR), {out.data(), 1, count(), CKPT_FLOAT32, -1}));
    out.erase(out.begin());
    return out;
  }

  Result<double> product_by(const TensorBackend& backend) {
    const auto in = inputs();
    double out = 77;
    CKPT_RETURN_IF_ERROR(backend.reduce(call(in, CKPT_GRAM), {&out, 1}));
    return out;
  }

  std::vector<float> expected() const {
    std::vector<float> out;
    for (std::size_t i = 0; i < count(); ++i) out.push_back(combined(a[i + 3], b[i + 3], place + i));
    return out;
  }
};

struct Rig {
  test::FakeDevice fake;
  std::shared_ptr<LateKernels> kernels = std::make_shared<LateKernels>(fake.driver);
  std::unique_ptr<DeviceBackend> backend;

  explicit Rig(unsigned seed = 1, DeviceSums sums = DeviceSums::kNo)
      : fake(seed), backend(std::make_unique<DeviceBackend>(kernels, fake.device(), sums)) {}

  /// What nobody has given back when all is closed.
  std::size_t lost() {
    backend.reset();
    fake.close();
    return fake.driver.alive();
  }
};

}  // namespace

TEST_CASE("values go to a GPU in pieces and come back as they would be here", "[compute][modules]") {
  for (const std::size_t count : {std::size_t{1}, kPiece, 2 * kPiece + 12345}) {
    Values values(count, 4);
    const auto expected = values.expected();
    for (unsigned seed = 0; seed < 2; ++seed) {
      Rig rig(seed);
      const auto found = values.combined_by(*rig.backend);
      REQUIRE(found.ok());
      CHECK(found.value() == expected);
      CHECK(rig.fake.device()->computed() == 4 * count);
      CHECK(rig.lost() == 0);
    }
  }
}

TEST_CASE("threads have streams of their own, which come round again", "[compute][modules]") {
  constexpr std::size_t kThreads = 4;
  Rig rig;
  std::vector<int> wrong(kThreads);
  const auto work = [&](std::size_t thread) {
    for (std::size_t round = 0; round < 3; ++round) {
      Values values(30'000 + 1000 * thread + round, 2 * thread);
      const auto found = values.combined_by(*rig.backend);
      wrong[thread] += found.ok() && found.value() == values.expected() ? 0 : 1;
    }
  };
  {
    std::vector<std::jthread> threads;
    for (std::size_t thread = 0; thread < kThreads; ++thread) threads.emplace_back(work, thread);
  }
  CHECK(wrong == std::vector<int>(kThreads));
  const auto alive = rig.fake.driver.alive();
  work(0);
  CHECK(rig.fake.driver.alive() == alive);
  CHECK(rig.lost() == 0);
}

TEST_CASE("an error of the kernels is the caller's, and the next pass succeeds", "[compute][modules]") {
  Values values(2 * kPiece + 5);
  Rig rig(1, DeviceSums::kYes);
  for (const int passes : {0, 2}) {
    rig.kernels->passes_left = passes;
    const auto found = values.combined_by(*rig.backend);
    REQUIRE_FALSE(found.ok());
    CHECK(found.error().message() == "no pass is left");
    rig.kernels->passes_left = passes;
    CHECK(values.product_by(*rig.backend).error().message() == "no pass is left");
  }
  CHECK(rig.fake.device()->computed() == 0);
  rig.kernels->passes_left = 3;
  const auto found = values.combined_by(*rig.backend);
  REQUIRE(found.ok());
  CHECK(found.value() == values.expected());
  CHECK(rig.lost() == 0);
}

TEST_CASE("an error of the driver is the caller's, wherever it happens", "[compute][modules]") {
  Values values(kPiece + 5);
  Rig rig;
  const auto expected = values.expected();
  for (int copies = 0;; ++copies) {
    REQUIRE(copies <= 6);  // two inputs and a result, twice
    rig.fake.driver.copies_left = copies;
    const auto found = values.combined_by(*rig.backend);
    if (found.ok()) {
      CHECK(copies == 6);
      CHECK(found.value() == expected);
      break;
    }
    CHECK(found.error().code() == ErrorCode::kBackend);
    CHECK(found.error().message() == "GPU: the bus is broken");
  }
  CHECK(rig.lost() == 0);
  for (int allocations = 0; allocations < 9; ++allocations) {  // six pinned buffers, three of the GPU
    Rig poor;
    poor.fake.driver.allocations_left = allocations;
    CHECK(values.combined_by(*poor.backend).error().message() == "GPU: out of memory");
    CHECK(poor.lost() == 0);
  }
}

TEST_CASE("sums are made on a GPU by who was asked for them", "[compute][modules]") {
  Values values(2 * kPiece + 999);
  const auto in = values.inputs();
  const auto call = values.call(in, CKPT_GRAM);
  Rig unasked;
  CHECK_FALSE(unasked.backend->makes_sums());
  CHECK_FALSE(unasked.backend->supports(call));
  CHECK(unasked.backend->supports(values.call(in, CKPT_LINEAR)));
  CHECK_FALSE(values.product_by(*unasked.backend).ok());
  unasked.backend.reset();

  double expected = 0;  // piece by piece
  for (std::size_t first = 0; first < values.count(); first += kPiece)
    expected += product_of(values.a.data() + 3 + first, values.b.data() + 3 + first,
                           std::min(kPiece, values.count() - first));
  for (unsigned seed = 0; seed < 2; ++seed) {
    Rig asked(seed, DeviceSums::kYes);
    CHECK(asked.backend->makes_sums());
    CHECK(asked.backend->supports(call));
    const auto found = values.product_by(*asked.backend);
    REQUIRE(found.ok());
    CHECK(found.value() == expected);
    CHECK(asked.lost() == 0);
  }
}

}  // namespace ckpt
