// SPDX-License-Identifier: BSD-3-Clause
#include <array>
#include <utility>
#include <vector>

#include "ckpt/base/bytes.h"
#include "modules/cuda/engine.h"
#include "support/catch.h"
#include "support/fake_cuda_driver.h"
#include "support/gather_cases.h"

namespace ckpt::cuda {
namespace {

using test::FakeCudaDriver;

constexpr std::uint64_t kPiece = 64;  // bytes of a host buffer

CkptEngineOptions small_options() {
  CkptEngineOptions options{};
  options.size = sizeof(options);
  options.host_bytes = kPiece;
  return options;
}

std::unique_ptr<Engine> open(FakeCudaDriver& driver, const CkptEngineOptions& options = small_options()) {
  auto engine = Engine::open(driver, options);
  REQUIRE(engine.ok());
  return std::move(engine).value();
}

CkptGather turn_order(CkptDeviceBuffer* from, CkptDeviceBuffer* to) {
  CkptGather gather{};
  gather.source = {from, 0};
  gather.target = {to, 0};
  gather.rank = 1;
  gather.swap = 2;
  gather.source_dtype = gather.target_dtype = CKPT_INT16;
  gather.sizes[0] = kPiece / 2;
  gather.from[0] = gather.to[0] = 1;
  return gather;
}

/// Uploads pieces, turns their bytes on the device and downloads them, with two device buffers used over and
/// over.
Bytes piped(Engine& engine, const Bytes& values) {
  auto* const source = engine.allocate(kPiece).value();
  auto* const target = engine.allocate(kPiece).value();
  Bytes results;
  std::vector<CkptHostBuffer*> waiting;
  const auto collect = [&] {
    REQUIRE(engine.wait(*waiting.front()).ok());
    append_bytes(results, {static_cast<const std::byte*>(waiting.front()->data), kPiece});
    waiting.erase(waiting.begin());
  };
  for (std::size_t done = 0; done < values.size(); done += kPiece) {
    auto* const in = engine.next_host_buffer(CKPT_TO_DEVICE).value();
    std::memcpy(in->data, values.data() + done, kPiece);
    REQUIRE(engine.upload(*in, 0, kPiece, {source, 0}).ok());
    REQUIRE(engine.gather(turn_order(source, target)).ok());
    if (waiting.size() == 3) collect();
    waiting.push_back(engine.next_host_buffer(CKPT_TO_HOST).value());
    REQUIRE(engine.download({target, 0}, kPiece, *waiting.back(), 0).ok());
  }
  while (!waiting.empty()) collect();
  engine.release(source);
  engine.release(target);
  return results;
}

Bytes turned(Bytes values) {
  for (std::size_t i = 0; i + 1 < values.size(); i += 2) std::swap(values[i], values[i + 1]);
  return values;
}

TEST_CASE("events keep the order that streams don't", "[modules]") {
  test::Random random(1);
  const auto values = test::random_bytes(random, 40 * kPiece);
  for (unsigned seed = 0; seed < 50; ++seed) {
    FakeCudaDriver driver(seed);
    {
      const auto engine = open(driver);
      REQUIRE(piped(*engine, values) == turned(values));
      CHECK(engine->budget_left() == engine->budget());
    }
    CHECK(driver.alive() == 0);
  }
}

TEST_CASE("without its events the same schedule goes wrong", "[modules]") {
  test::Random random(1);
  const auto values = test::random_bytes(random, 40 * kPiece);
  FakeCudaDriver driver;
  driver.heeds_events = false;
  const auto engine = open(driver);
  CHECK(piped(*engine, values) != turned(values));
}

TEST_CASE("the loop waits for host buffers alone", "[modules]") {
  test::Random random(1);
  FakeCudaDriver driver;
  const auto engine = open(driver);
  const auto pieces = 40;
  piped(*engine, test::random_bytes(random, pieces * kPiece));
  // A buffer is waited for once in each direction, but for the first three that go up.
  CHECK(driver.synchronized == 2 * pieces - 3);
}

TEST_CASE("kernels of others stand between the uploads and the downloads", "[modules]") {
  FakeCudaDriver driver(9);
  const auto engine = open(driver);
  auto* const buffer = engine->allocate(kPiece).value();
  auto* const in = engine->next_host_buffer(CKPT_TO_DEVICE).value();
  auto* const out = engine->next_host_buffer(CKPT_TO_HOST).value();
  std::memset(in->data, 7, kPiece);
  REQUIRE(engine->upload(*in, 0, kPiece, {buffer, 0}).ok());
  const std::array buffers = {buffer};
  REQUIRE(engine->begin_compute(buffers).ok());
  const auto launch = plan_gather(turn_order(buffer, buffer), buffer->data, buffer->data + 2).value().front();
  auto shifted = std::get<GroupLaunch>(launch);
  shifted.walk.count = 1;
  REQUIRE(driver.launch(shifted, engine->compute_stream()).ok());
  REQUIRE(engine->end_compute(buffers).ok());
  REQUIRE(engine->download({buffer, 0}, kPiece, *out, 0).ok());
  REQUIRE(engine->wait(*out).ok());
  CHECK(static_cast<const char*>(out->data)[0] == 7);
  CHECK(static_cast<const char*>(out->data)[kPiece - 1] == 7);
}

TEST_CASE("the budget is a share of the free memory, and what is beyond it is refused", "[modules]") {
  FakeCudaDriver driver;
  driver.memory_free = 10000;
  const auto engine = open(driver);
  CHECK(engine->budget() == 8000);
  auto* const buffer = engine->allocate(4000).value();
  CHECK(engine->budget_left() == 8000 - 4096);
  const auto refused = engine->allocate(4000);
  REQUIRE(!refused.ok());
  CHECK(refused.error().code() == ErrorCode::kRefused);
  CHECK(refused.error().message() == "4000 bytes are more than the 3904 that are left of the GPU's budget");
  engine->release(buffer);
  CHECK(engine->allocate(7000).ok());
}

TEST_CASE("an engine that can't have its memory leaves nothing behind", "[modules]") {
  for (int allocations = 0; allocations < 6; ++allocations) {
    FakeCudaDriver driver;
    driver.allocations_left = allocations;
    CHECK(Engine::open(driver, small_options()).error().code() == ErrorCode::kRefused);
    CHECK(driver.alive() == 0);
  }
}

TEST_CASE("bytes outside of a buffer are refused before the GPU hears of them", "[modules]") {
  FakeCudaDriver driver;
  const auto engine = open(driver);
  auto* const buffer = engine->allocate(kPiece).value();
  auto* const in = engine->next_host_buffer(CKPT_TO_DEVICE).value();
  auto* const out = engine->next_host_buffer(CKPT_TO_HOST).value();
  CHECK(!engine->upload(*in, 0, kPiece + 1, {buffer, 0}).ok());
  CHECK(!engine->upload(*in, 0, kPiece, {buffer, 256}).ok());
  CHECK(!engine->upload(*out, 0, kPiece, {buffer, 0}).ok());
  CHECK(!engine->download({buffer, 0}, kPiece, *in, 0).ok());
  CHECK(!engine->download({buffer, 0}, 8, *out, kPiece).ok());
  auto gather = turn_order(buffer, buffer);
  gather.sizes[0] = 200;
  CHECK(!engine->gather(gather).ok());
  CkptRows rows{};
  rows.source = rows.target = rows.table = {buffer, 0};
  rows.rows = 30;
  rows.row_bytes = 16;
  rows.target_step = 16;
  CHECK(!engine->gather_rows(rows).ok());
}

TEST_CASE("a GPU that isn't there is named", "[modules]") {
  FakeCudaDriver driver;
  auto options = small_options();
  options.device = 1;
  const auto engine = Engine::open(driver, options);
  REQUIRE(!engine.ok());
  CHECK(engine.error().code() == ErrorCode::kNotFound);
  CHECK(engine.error().message() == "there is no GPU 1, only 1 GPU");
}

}  // namespace
}  // namespace ckpt::cuda
