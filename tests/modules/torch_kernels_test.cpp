// SPDX-License-Identifier: BSD-3-Clause
// The module for LibTorch against the native kernels: bit-equal values, and sums within their bound. What
// CKPT_LIBTORCH names computes, on the processor, or with CKPT_TEST_GPU=1 on a GPU, in the memory of
// libckpt_cuda.so.
#include <array>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <random>
#include <string>
#include <vector>

#include <fmt/format.h>

#include "ckpt/base/bytes.h"
#include "ckpt/compute/merge_kernels.h"
#include "ckpt/compute/torch_module.h"
#include "gpu/gpu.h"
#include "support/catch.h"

namespace ckpt::test {
namespace {

struct Float {
  CkptDtype number;
  Dtype dtype;
  std::size_t size;
};

constexpr std::array<Float, 4> kFloats = {{{CKPT_FLOAT16, Dtype::kFloat16, 2},
                                           {CKPT_BFLOAT16, Dtype::kBfloat16, 2},
                                           {CKPT_FLOAT32, Dtype::kFloat32, 4},
                                           {CKPT_FLOAT64, Dtype::kFloat64, 8}}};
constexpr std::uint64_t kNoUpperKey = ~std::uint64_t{0};
constexpr std::size_t kCount = 40001;  // more than the module looks at at once

bool on_gpu() {
  return std::getenv("CKPT_TEST_GPU") != nullptr;
}

const TorchModule& torch_module() {
  static const auto opened = TorchModule::open(LibTorchSearch::from_environment(""),
                                               on_gpu() ? TorchUse::kGpu : TorchUse::kProcessor);
  if (!opened.ok()) FAIL(opened.error().text());
  return *opened.value();
}

Gpu& gpu() {
  static std::string why;
  static const auto* const table = find_gpu(why);
  if (table == nullptr) FAIL(why);
  static Gpu opened(*table);
  return opened;
}

/// Values of all sizes that dtypes have, few enough different ones that inputs agree, cancel and tie.
Bytes some_values(const Float& type, std::mt19937_64& random) {
  const auto& kernels = merge_kernels<double>(VectorUnit::kBaseline);
  constexpr std::array kOdd = {0.0, -0.0, 1e-320, 6e-8, -3e-39, 1e-40, 65504.0, -65520.0, 3.4e38, 1e300};
  Bytes bytes(kCount * type.size);
  for (std::size_t i = 0; i < kCount; ++i) {
    double value = std::normal_distribution<double>(0, 1)(random);
    if (i % 3 == 0) value = static_cast<double>(random() % 7) * 0.25 - 0.75;
    if (i % 101 == 0) value = kOdd.at(random() % kOdd.size());
    if (i % 997 == 0) value = random() % 2 == 0 ? std::nan("") : std::numeric_limits<double>::infinity();
    kernels.encode(type.dtype, &value, bytes.data() + i * type.size, 1);
    if (i % 1994 == 997) std::memset(bytes.data() + i * type.size, 0xff, type.size);  // a NaN with a sign
  }
  return bytes;
}

/// A call with all that it points to.
struct Case {
  CkptKernel kernel = CKPT_LINEAR;
  CkptDtype accumulate = CKPT_FLOAT64;
  Float target = kFloats[2];
  std::vector<Float> types;
  std::vector<Bytes> inputs;
  std::vector<double> parameters;
  std::vector<CkptMask> masks;
  std::uint64_t first_element = 0;

  Case(CkptKernel what, std::vector<Float> of, std::vector<double> with, std::uint64_t seed = 1)
      : kernel(what), types(std::move(of)), parameters(std::move(with)) {
    std::mt19937_64 random(seed);
    for (const auto& type : types) inputs.push_back(some_values(type, random));
  }

  std::vector<CkptValues> in_host_memory() const {
    std::vector<CkptValues> values;
    for (std::size_t i = 0; i < inputs.size(); ++i) {
      void* data = const_cast<std::byte*>(inputs[i].data());  // NOLINT: nobody writes
      values.push_back({data, 0, kCount, types[i].number, -1});
    }
    return values;
  }

  CkptKernelCall call(const std::vector<CkptValues>& values, void* stream = nullptr) const {
    return {sizeof(CkptKernelCall), kernel,        accumulate,        target.number,
            values.data(),          values.size(), parameters.data(), parameters.size(),
            masks.data(),           masks.size(),  first_element,     stream};
  }

  bool is_supported() const {
    const auto values = in_host_memory();
    return torch_module().supports(call(values));
  }

  Bytes by_torch() const {
    REQUIRE(is_supported());
    if (on_gpu())
      return by_gpu([&](const CkptKernelCall& made, const CkptValues& result) {
        check(torch_module().combine(made, result));
      });
    Bytes out(kCount * target.size);
    const auto values = in_host_memory();
    check(torch_module().combine(call(values), {out.data(), 0, kCount, target.number, -1}));
    return out;
  }

  std::vector<double> reduced_by_torch(std::size_t results) const {
    REQUIRE(is_supported());
    std::vector<double> out(results);
    if (on_gpu()) {
      by_gpu([&](const CkptKernelCall& made, const CkptValues&) { check(torch_module().reduce(made, out)); });
    } else {
      const auto values = in_host_memory();
      check(torch_module().reduce(call(values), out));
    }
    return out;
  }

 private:
  static void check(const Status& status) {
    if (!status.ok()) FAIL(status.error().text());
  }

  /// `compute(call, target)` with everything in memory of the GPU; what is then in the target.
  template <typename Compute>
  Bytes by_gpu(const Compute& compute) const {
    const auto& table = gpu().table();
    std::vector<CkptDeviceBuffer*> buffers;
    std::vector<CkptValues> values;
    for (std::size_t i = 0; i < inputs.size(); ++i) {
      buffers.push_back(gpu().allocate(inputs[i].size()));
      gpu().upload(inputs[i], {buffers.back(), 0});
      values.push_back({table.device_address(buffers.back()), 0, kCount, types[i].number, 0});
    }
    buffers.push_back(gpu().allocate(kCount * target.size));
    CkptFailure failure;
    gpu().check(table.begin_compute(gpu().engine(), buffers.data(), buffers.size(), &failure));
    compute(call(values, table.compute_stream(gpu().engine())),
            CkptValues{table.device_address(buffers.back()), 0, kCount, target.number, 0});
    gpu().check(table.end_compute(gpu().engine(), buffers.data(), buffers.size(), &failure));
    auto out = gpu().download({buffers.back(), 0}, kCount * target.size);
    for (auto* buffer : buffers) gpu().release(buffer);
    return out;
  }
};

/// The same by the native kernels, block by block.
template <typename Real>
class Native {
 public:
  explicit Native(const Case& of) : case_(of), k_(merge_kernels<Real>(VectorUnit::kBaseline)) {}

  Bytes run() {
    Bytes out(kCount * case_.target.size);
    for (std::size_t first = 0; first < kCount; first += kMergeBlock) {
      const auto count = std::min(kMergeBlock, kCount - first);
      read(first, count);
      combine(count);
      k_.encode(case_.target.dtype, out_.data(), out.data() + first * case_.target.size, count);
    }
    return out;
  }

  std::vector<double> gram() {
    const bool of_changes = case_.kernel == CKPT_GRAM_OF_CHANGES;
    const auto vectors = case_.inputs.size() - (of_changes ? 1 : 0);
    std::vector<double> sums(vectors * (vectors + 1) / 2);
    for (std::size_t first = 0; first < kCount; first += kMergeBlock) {
      const auto count = std::min(kMergeBlock, kCount - first);
      read(first, count);
      k_.gram(vectors, of_changes ? changes_.data() : inputs_.data(), sums.data(), count);
    }
    return sums;
  }

 private:
  struct alignas(64) Block : std::array<Real, kMergeBlock> {};

  void read(std::size_t first, std::size_t count) {
    blocks_.resize(2 * case_.inputs.size());
    inputs_.clear();
    changes_.clear();
    for (std::size_t i = 0; i < case_.inputs.size(); ++i) {
      k_.decode(case_.types[i].dtype, case_.inputs[i].data() + first * case_.types[i].size, blocks_[i].data(),
                count);
      inputs_.push_back(blocks_[i].data());
    }
    for (std::size_t i = 0; i + 1 < case_.inputs.size(); ++i) {
      auto* change = blocks_[case_.inputs.size() + i].data();
      k_.subtract(inputs_[i + 1], inputs_[0], change, count);
      if (!case_.masks.empty()) mask(case_.masks[i], change, first, count);
      changes_.push_back(change);
    }
  }

  void mask(const CkptMask& mask, Real* change, std::size_t first, std::size_t count) {
    using Key = MagnitudeKey<Real>;
    if (mask.kind == CKPT_KEEP_KEYS)
      k_.keep_keys(change, static_cast<Key>(mask.first), static_cast<Key>(mask.second), count);
    if (mask.kind == CKPT_KEEP_RANDOM)
      k_.keep_random(change, mask.first, case_.first_element + first, mask.second, count);
    if (mask.scale != 1) k_.scale(change, static_cast<Real>(mask.scale), count);
  }

  void combine(std::size_t count) {
    const auto& p = case_.parameters;
    const std::vector<Real> weights(p.begin(), p.end());
    const auto changes = changes_.size();
    const auto at = [&](std::size_t i) { return i < p.size() ? static_cast<Real>(p[i]) : Real{0}; };
    const TaskSum<Real> task{changes,    changes_.data(), weights.data(),
                             inputs_[0], at(changes),     at(changes + 1)};
    auto* out = out_.data();
    switch (case_.kernel) {
      case CKPT_LINEAR:
        return k_.linear(inputs_.size(), inputs_.data(), weights.data(), at(inputs_.size()), out, count);
      case CKPT_TASK_SUM: return k_.task_sum(task, out, count);
      case CKPT_CONSENSUS_BY_SUM: return k_.task_consensus(task, false, out, count);
      case CKPT_CONSENSUS_BY_COUNT: return k_.task_consensus(task, true, out, count);
      case CKPT_NEARSWAP: return k_.nearswap(inputs_[0], inputs_[1], at(0), out, count);
      case CKPT_RAM: return k_.ram(task, weights.data(), at(changes), out, count);
      case CKPT_SCE: return k_.sce(task, out, count);
      default: return k_.fuse(inputs_[0], inputs_[1], at(0), at(1), out, count);
    }
  }

  const Case& case_;
  const MergeKernels<Real>& k_;
  std::vector<Block> blocks_;
  std::vector<const Real*> inputs_;
  std::vector<const Real*> changes_;
  Block out_;
};

Bytes by_native(const Case& of) {
  return of.accumulate == CKPT_FLOAT32 ? Native<float>(of).run() : Native<double>(of).run();
}

/// A value, and its bits: NaNs differ in nothing else.
std::string described(const Float& type, const std::byte* value) {
  std::array<double, 16> number{};
  merge_kernels<double>(VectorUnit::kBaseline).decode(type.dtype, value, number.data(), 1);
  std::uint64_t bits = 0;
  std::memcpy(&bits, value, type.size);
  return fmt::format("{} ({:#x})", number[0], bits);
}

/// The first value that differs, if only by a bit.
std::string difference(const Float& type, const Bytes& found, const Bytes& wanted) {
  for (std::size_t i = 0; i < kCount; ++i) {
    const auto* a = found.data() + i * type.size;
    const auto* b = wanted.data() + i * type.size;
    if (std::memcmp(a, b, type.size) != 0)
      return fmt::format("value {}: {}, expected {}", i, described(type, a), described(type, b));
  }
  return "";
}

void check_equal(Case of) {
  for (const auto accumulate : {CKPT_FLOAT64, CKPT_FLOAT32}) {
    of.accumulate = accumulate;
    for (const auto& target : kFloats) {
      of.target = target;
      CAPTURE(of.kernel, static_cast<int>(accumulate), static_cast<int>(target.number));
      CHECK(difference(target, of.by_torch(), by_native(of)) == "");
    }
  }
}

std::vector<Float> all_of(std::size_t count, const Float& type) {
  return std::vector<Float>(count, type);
}

/// Inputs of one dtype, of each; and of all of them mixed.
std::vector<std::vector<Float>> type_lists(std::size_t count) {
  std::vector<std::vector<Float>> lists;
  for (const auto& type : kFloats) lists.push_back(all_of(count, type));
  lists.emplace_back();
  for (std::size_t i = 0; i < count; ++i) lists.back().push_back(kFloats.at(i % kFloats.size()));
  return lists;
}

TEST_CASE("linear combinations have the bits of the native ones", "[torch]") {
  for (const auto& types : type_lists(3)) check_equal({CKPT_LINEAR, types, {0.3, -1.7, 0.1, 1}});
  check_equal({CKPT_LINEAR, all_of(1, kFloats[1]), {1, 1}});
  check_equal({CKPT_LINEAR, all_of(6, kFloats[2]), {1, 1, 1, 1, 1, 1, 6}});
}

TEST_CASE("sums of changes have the bits of the native ones", "[torch]") {
  for (const auto& types : type_lists(4)) {
    check_equal({CKPT_TASK_SUM, types, {0.3, 0.4, -0.5, 1, 1}});
    check_equal({CKPT_TASK_SUM, types, {0.3, 0.4, 0.5, 1.2, 0.7}});
  }
}

TEST_CASE("the election of signs has the bits of the native one", "[torch]") {
  for (const auto kernel : {CKPT_CONSENSUS_BY_SUM, CKPT_CONSENSUS_BY_COUNT}) {
    for (const auto& types : type_lists(4)) {
      check_equal({kernel, types, {1, 1, 1, 2, 1}});
      check_equal({kernel, types, {0.3, 0.7, -0.2, 1, 0.9}});
    }
  }
}

TEST_CASE("methods of their own have the bits of the native ones", "[torch]") {
  for (const auto& types : type_lists(2)) {
    check_equal({CKPT_NEARSWAP, types, {0.25}});
    check_equal({CKPT_FUSE, types, {0.01, 0.004}});
  }
  for (const auto& types : type_lists(4)) {
    check_equal({CKPT_RAM, types, {1, 1.1, 0.9, 1e-5}});
    check_equal({CKPT_SCE, types, {0.2, 0.5, 0.3}});
  }
}

TEST_CASE("masks keep what the native ones keep", "[torch]") {
  for (const auto accumulate : {CKPT_FLOAT64, CKPT_FLOAT32}) {
    const bool is_double = accumulate == CKPT_FLOAT64;
    const std::uint64_t half = is_double ? 0x3fe0000000000000U : 0x3f000000U;  // keys of 0.5 and 2
    const std::uint64_t two = is_double ? 0x4000000000000000U : 0x40000000U;
    for (const auto& target : kFloats) {
      Case of(CKPT_CONSENSUS_BY_SUM, all_of(4, kFloats[2]), {1, 0.5, 1, 2, 1});
      of.accumulate = accumulate;
      of.target = target;
      of.masks = {{CKPT_KEEP_KEYS, half, is_double ? kNoUpperKey : 0xffffffffU, 1},
                  {CKPT_KEEP_KEYS, half, two, 1.25},
                  {CKPT_KEEP_ALL, 0, 0, 3}};
      CHECK(difference(target, of.by_torch(), by_native(of)) == "");
      of.first_element = 123456;
      of.masks = {{CKPT_KEEP_RANDOM, 0x123456789abcdefU, 1U << 31U, 2},
                  {CKPT_KEEP_RANDOM, 0xfedcba9876543210U, std::uint64_t{1} << 32U, 1},
                  {CKPT_KEEP_RANDOM, 7, 12345678, 1.5}};
      CHECK(difference(target, of.by_torch(), by_native(of)) == "");
    }
  }
}

/// Finite values of sizes whose products are finite, too.
void make_tame(Case& of) {
  for (std::size_t input = 0; input < of.inputs.size(); ++input) {
    const auto& type = of.types[input];
    for (std::size_t i = 0; i < kCount; ++i) {
      const double value = std::sin(static_cast<double>(i * (input + 1) + type.size));
      merge_kernels<double>(VectorUnit::kBaseline)
          .encode(type.dtype, &value, of.inputs[input].data() + i * type.size, 1);
    }
  }
}

TEST_CASE("inner products are those of the native kernels, up to the order of sums", "[torch]") {
  for (const auto kernel : {CKPT_GRAM, CKPT_GRAM_OF_CHANGES}) {
    for (const auto& types : type_lists(3)) {
      Case of(kernel, types, {});
      make_tame(of);
      const auto wanted = Native<double>(of).gram();
      REQUIRE(wanted.size() == (kernel == CKPT_GRAM ? 6U : 3U));
      const auto found = of.reduced_by_torch(wanted.size());
      const double bound = 8.0 * kCount * std::numeric_limits<double>::epsilon() * kCount;
      for (std::size_t i = 0; i < found.size(); ++i) CHECK(std::abs(found[i] - wanted[i]) <= bound);
    }
  }
}

TEST_CASE("what the module has no pass for is declined", "[torch]") {
  Case of(CKPT_LINEAR, all_of(2, kFloats[2]), {1, 1, 2});
  CHECK(of.is_supported());
  of.types[1].number = CKPT_INT64;
  CHECK_FALSE(of.is_supported());
  of.types[1].number = CKPT_FLOAT32;
  of.target.number = CKPT_FLOAT8_E4M3FN;
  CHECK_FALSE(of.is_supported());
  of.target.number = CKPT_FLOAT32;
  of.parameters.pop_back();
  CHECK_FALSE(of.is_supported());
}

}  // namespace
}  // namespace ckpt::test
