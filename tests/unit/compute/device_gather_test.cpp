// SPDX-License-Identifier: BSD-3-Clause
// What a GPU gathers is what a processor gathers. The GPU is a fake that does everything as late as CUDA may.
#include "ckpt/compute/device_gather.h"

#include <algorithm>
#include <cstring>
#include <mutex>
#include <vector>

#include "support/catch.h"
#include "support/fake_device.h"

namespace ckpt {
namespace {

constexpr std::uint64_t kMebibyte = std::uint64_t{1} << 20U;

/// Large tensors of several kinds, and a small one between them.
std::shared_ptr<GatheredSource> several() {
  Bytes content(std::size_t{24} << 20U);
  std::uint32_t state = 7;
  for (auto& byte : content) byte = static_cast<std::byte>((state = state * 1664525U + 1013904223U) >> 24U);
  const auto file = std::make_shared<MemorySource>("values", std::move(content));
  auto source = std::make_shared<GatheredSource>("gathered");
  source->add({file, 8, 0, {1'500'003}, {1}, Dtype::kFloat32, Dtype::kBfloat16, false});
  source->add({file, 0, 5, {1500, 2000}, {1, 1500}, Dtype::kInt32, Dtype::kInt32, true});
  source->add({file, 0, 0, {50}, {17}, Dtype::kInt32, Dtype::kInt64, false});
  source->add({file, 64, 3, {700, 2, 900}, {1, 630'000, 700}, Dtype::kFloat16, Dtype::kFloat32, false});
  return source;
}

Bytes produced(const GatheredSource& source, const std::shared_ptr<const Device>& device) {
  Bytes out(source.size());
  std::mutex mutex;
  const auto deliver = [&](std::size_t, std::uint64_t offset, ByteView bytes) {
    const std::lock_guard lock(mutex);
    std::copy(bytes.begin(), bytes.end(), out.begin() + static_cast<std::ptrdiff_t>(offset));
    return Status();
  };
  const std::vector<Extent> whole = {{0, source.size()}};
  REQUIRE(source.produce(whole, {2, device, nullptr}, deliver, [] {}).ok());
  return out;
}

constexpr std::uint64_t kPinned = kMebibyte + 64;  // results take several

}  // namespace

TEST_CASE("a GPU gathers what a processor gathers", "[compute][modules]") {
  const auto source = several();
  const auto expected = produced(*source, nullptr);
  for (unsigned seed = 0; seed < 3; ++seed) {
    test::FakeDevice fake(seed, kPinned);
    CHECK(produced(*source, fake.device()) == expected);
    CHECK(fake.device()->copied() == 12'000'000);
    CHECK(fake.device()->computed() == 2 * 1'500'003 + 4 * 1'260'000);
  }
}

TEST_CASE("what the memory of a GPU does not hold is left to the processor", "[compute][modules]") {
  const auto source = several();
  const auto expected = produced(*source, nullptr);
  // Less than the matrix needs on both sides; less than a second pair of buffers for values in order.
  for (const auto memory : {20 * kMebibyte, 3 * kMebibyte}) {
    test::FakeDevice fake(1, kPinned);
    fake.driver.memory_free = memory;
    CHECK(produced(*source, fake.device()) == expected);
    CHECK(fake.device()->copied() == 0);
    CHECK(fake.device()->computed() > 0);
  }
}

TEST_CASE("a failure of whoever takes the bytes ends the work of a GPU", "[compute][modules]") {
  const auto source = several();
  test::FakeDevice fake(1, kPinned);
  const auto refuse = [](std::size_t, std::uint64_t, ByteView) -> Status {
    return Error(ErrorCode::kIo, "the disk is full");
  };
  const std::vector<Extent> whole = {{0, source->size()}};
  const auto done = source->produce(whole, {2, fake.device(), nullptr}, refuse, [] {});
  REQUIRE_FALSE(done.ok());
  CHECK(done.error().message() == "the disk is full");
}

}  // namespace ckpt
