// SPDX-License-Identifier: BSD-3-Clause
// The kernels and the engine on a real GPU, each against a processor, bit for bit. Without a GPU there is
// nothing to test: the program says so and succeeds.
#define CATCH_CONFIG_RUNNER
#include "gpu/gpu.h"

#include <cstdio>
#include <thread>
#include <vector>

#include "ckpt/compute/device.h"
#include "ckpt/compute/overlaid_source.h"
#include "modules/cuda/element_bits.h"
#include "support/catch.h"
#include "support/gather_cases.h"

namespace ckpt::test {
namespace {

using cuda::element_size;

const CkptTransfer* gpu_table = nullptr;

/// "" or the first element that differs, with its source.
std::string first_difference(const CkptGather& gather, const Bytes& source, const Bytes& found,
                             const Bytes& expected) {
  const auto from = element_size(gather.source_dtype);
  const auto to = element_size(gather.target_dtype);
  const auto at = std::mismatch(found.begin(), found.end(), expected.begin());
  if (at.first == found.end()) return {};
  const auto index = static_cast<std::size_t>(at.first - found.begin()) / to;
  std::uint64_t input = 0;
  std::uint64_t output = 0;
  std::uint64_t wanted = 0;
  std::memcpy(&input, source.data() + index * from, from);
  std::memcpy(&output, found.data() + index * to, to);
  std::memcpy(&wanted, expected.data() + index * to, to);
  char text[200];
  std::snprintf(text, sizeof text, "element %zu: %llx became %llx instead of %llx", index,
                static_cast<unsigned long long>(input), static_cast<unsigned long long>(output),
                static_cast<unsigned long long>(wanted));
  return text;
}

TEST_CASE("every cast gives the bits that a processor gives", "[gpu]") {
  Gpu gpu(*gpu_table);
  Random random(1);
  for (const auto from : kNumbers) {
    const std::size_t count = element_size(from) == 1 ? 259 : element_size(from) == 2 ? 65539 : 300007;
    const auto values = telling_values(random, from, count);
    for (const auto to : kNumbers) {
      const auto gather = dense(from, to, count);
      Bytes expected(count * element_size(to));
      gather_slowly(gather, values.data(), expected.data());
      const Bytes rubbish(expected.size(), std::byte{0x5A});
      INFO("dtype " << from << " to " << to);
      // Aligned, and a few elements off: by vectors and one by one.
      CHECK(first_difference(gather, values, gpu.gathered(gather, values, rubbish, 0, 0), expected).empty());
      CHECK(first_difference(gather, values,
                             gpu.gathered(gather, values, rubbish, element_size(from), element_size(to) * 3),
                             expected)
                .empty());
      // As a column: no two side by side.
      auto column = gather;
      column.from[0] = 2;
      column.sizes[0] = count / 2;
      Bytes half(column.sizes[0] * element_size(to));
      gather_slowly(column, values.data(), half.data());
      CHECK(gpu.gathered(column, values, Bytes(half.size()), 0, 0) == half);
    }
  }
}

TEST_CASE("gathers give what a loop gives, and touch nothing else", "[gpu]") {
  Gpu gpu(*gpu_table, std::uint64_t{1} << 20U);
  Random random(2);
  for (int round = 0; round < 1500; ++round) {
    const auto gather = random_gather(random, 1 + below(random, round % 10 == 0 ? 300000 : 5000));
    INFO(round << ": " << text_of(gather));
    const auto source = random_bytes(random, reach(gather, gather.from, gather.source_dtype));
    auto expected = random_bytes(random, reach(gather, gather.to, gather.target_dtype));
    const auto found =
        gpu.gathered(gather, source, expected, below(random, 3) * element_size(gather.source_dtype),
                     below(random, 3) * element_size(gather.target_dtype));
    gather_slowly(gather, source.data(), expected.data());
    REQUIRE(found == expected);
  }
}

TEST_CASE("matrices of odd sizes are turned", "[gpu]") {
  Gpu gpu(*gpu_table);
  Random random(3);
  for (const auto dtype : kOpaque) {
    for (const std::uint64_t rows : {8U, 31U, 64U, 129U, 1000U}) {
      for (const std::uint64_t columns : {8U, 33U, 128U, 500U}) {
        CkptGather gather = dense(dtype, dtype, rows);
        gather.rank = 2;
        gather.sizes[0] = rows;
        gather.sizes[1] = columns;
        gather.from[0] = 1;
        gather.from[1] = rows;
        gather.to[0] = columns;
        gather.to[1] = 1;
        const auto source = random_bytes(random, rows * columns * element_size(dtype));
        Bytes expected(source.size());
        gather_slowly(gather, source.data(), expected.data());
        INFO(text_of(gather));
        REQUIRE(gpu.gathered(gather, source, Bytes(source.size()), 0, 0) == expected);
      }
    }
  }
}

TEST_CASE("rows come from where the table says", "[gpu]") {
  Gpu gpu(*gpu_table);
  Random random(4);
  for (const std::uint64_t row_bytes : {4096U, 24U, 6U, 7U, 2U, 4U}) {
    const std::uint64_t rows = 3001;
    const std::uint64_t step = row_bytes + 2;
    const auto source = random_bytes(random, 500 * step);
    auto expected = random_bytes(random, rows * row_bytes);
    std::vector<std::int64_t> table(rows);
    for (auto& row : table) row = static_cast<std::int64_t>(below(random, 501)) - 1;
    CkptRows call{};
    call.source = {gpu.allocate(source.size()), 0};
    call.target = {gpu.allocate(expected.size()), 0};
    call.table = {gpu.allocate(rows * 8), 0};
    call.rows = rows;
    call.row_bytes = row_bytes;
    call.source_step = step;
    call.target_step = row_bytes;
    gpu.upload(source, call.source);
    gpu.upload(expected, call.target);
    gpu.upload(std::as_bytes(std::span(table)), call.table);
    gpu.gather_rows(call);
    for (std::size_t i = 0; i < rows; ++i) {
      if (table[i] < 0) continue;
      std::memcpy(expected.data() + i * row_bytes,
                  source.data() + static_cast<std::uint64_t>(table[i]) * step, row_bytes);
    }
    CHECK(gpu.download(call.target, expected.size()) == expected);
    for (const auto& view : {call.source, call.target, call.table}) gpu.release(view.buffer);
  }
}

/// A number for every element that tells it from its neighbours.
std::uint32_t marked(std::uint64_t element) {
  return static_cast<std::uint32_t>((element * 0x9E3779B97F4A7C15U) >> 32U);
}

TEST_CASE("tensors of several gigabytes arrive whole, while up- and downloads run at once", "[gpu]") {
  Gpu gpu(*gpu_table);
  const std::uint64_t rows = 33333;
  const std::uint64_t columns = 32771;  // 4.4 GB of float32, more than 2^30 elements
  const std::uint64_t count = rows * columns;
  if (gpu.table().budget(gpu.engine()) < 2 * count * 4) {
    WARN("the GPU is too small for this case");
    return;
  }
  CkptGather turn = dense(CKPT_OPAQUE_4, CKPT_OPAQUE_4, rows);
  turn.source = {gpu.allocate(count * 4), 0};
  turn.target = {gpu.allocate(count * 4), 0};
  turn.rank = 2;
  turn.sizes[0] = columns;
  turn.sizes[1] = rows;
  turn.from[0] = 1;
  turn.from[1] = columns;
  turn.to[0] = rows;
  turn.to[1] = 1;
  CkptFailure failure{};
  const auto piece = gpu.table().host_buffer_bytes(gpu.engine()) / 4;
  for (std::uint64_t done = 0; done < count; done += piece) {
    CkptHostBuffer* buffer = nullptr;
    void* data = nullptr;
    gpu.check(gpu.table().next_host_buffer(gpu.engine(), CKPT_TO_DEVICE, &buffer, &data, &failure));
    const auto part = std::min(piece, count - done);
    for (std::uint64_t i = 0; i < part; ++i) static_cast<std::uint32_t*>(data)[i] = marked(done + i);
    gpu.check(
        gpu.table().upload(gpu.engine(), buffer, 0, part * 4, {turn.source.buffer, done * 4}, &failure));
  }
  gpu.gather(turn);
  std::uint64_t wrong = 0;
  for (std::uint64_t done = 0; done < count; done += piece) {
    CkptHostBuffer* buffer = nullptr;
    void* data = nullptr;
    const auto part = std::min(piece, count - done);
    gpu.check(gpu.table().next_host_buffer(gpu.engine(), CKPT_TO_HOST, &buffer, &data, &failure));
    gpu.check(
        gpu.table().download(gpu.engine(), {turn.target.buffer, done * 4}, part * 4, buffer, 0, &failure));
    gpu.check(gpu.table().wait_host_buffer(gpu.engine(), buffer, &failure));
    for (std::uint64_t i = 0; i < part; ++i) {
      const auto at = done + i;
      const auto expected = marked(at % rows * columns + at / rows);
      wrong += static_cast<const std::uint32_t*>(data)[i] == expected ? 0 : 1;
    }
  }
  CHECK(wrong == 0);
}

TEST_CASE("a cast of more than 2^31 elements reaches the last of them", "[gpu]") {
  Gpu gpu(*gpu_table);
  const std::uint64_t count = (std::uint64_t{1} << 31U) * 2 + 12345;
  if (gpu.table().budget(gpu.engine()) < 2 * count + 4096) {
    WARN("the GPU is too small for this case");
    return;
  }
  auto gather = dense(CKPT_UINT8, CKPT_BOOL, count);
  gather.source = {gpu.allocate(count + 16), 3};  // not aligned: one element a thread
  gather.target = {gpu.allocate(count), 0};
  const Bytes mark(1, std::byte{7});
  const std::uint64_t places[] = {0, 1, 0x7fffffff, 0x80000000, 0xffffffff, 0x100000000, count - 1};
  for (const auto place : places) gpu.upload(mark, {gather.source.buffer, 3 + place});
  gpu.gather(gather);
  for (const auto place : places) CHECK(gpu.download({gather.target.buffer, place}, 1)[0] == std::byte{1});
}

TEST_CASE("pieces stream through three buffers as through a pipe", "[gpu]") {
  Gpu gpu(*gpu_table, std::uint64_t{1} << 20U);
  Random random(5);
  const std::uint64_t piece = (std::uint64_t{1} << 20U) - 4;
  const auto values = random_bytes(random, 200 * piece);
  auto gather = dense(CKPT_FLOAT32, CKPT_BFLOAT16, piece / 4);
  gather.source = {gpu.allocate(piece), 0};
  gather.target = {gpu.allocate(piece / 2), 0};
  Bytes found;
  std::vector<std::pair<CkptHostBuffer*, void*>> waiting;
  CkptFailure failure{};
  const auto collect = [&] {
    gpu.check(gpu.table().wait_host_buffer(gpu.engine(), waiting.front().first, &failure));
    append_bytes(found, {static_cast<const std::byte*>(waiting.front().second), piece / 2});
    waiting.erase(waiting.begin());
  };
  for (std::size_t done = 0; done < values.size(); done += piece) {
    gpu.upload(ByteView(values).subspan(done, piece), gather.source);
    gpu.gather(gather);
    if (waiting.size() == 3) collect();
    auto& next = waiting.emplace_back();
    gpu.check(gpu.table().next_host_buffer(gpu.engine(), CKPT_TO_HOST, &next.first, &next.second, &failure));
    gpu.check(gpu.table().download(gpu.engine(), gather.target, piece / 2, next.first, 0, &failure));
  }
  while (!waiting.empty()) collect();
  Bytes expected(values.size() / 2);
  gather_slowly(dense(CKPT_FLOAT32, CKPT_BFLOAT16, values.size() / 4), values.data(), expected.data());
  CHECK(found == expected);
}

TEST_CASE("rows of an old head are those that a processor reads", "[gpu]") {
  Random random(6);
  const std::int64_t columns = 1234;
  for (const bool is_transposed : {false, true}) {
    for (const bool are_neighbours : {false, true}) {
      Gather old;
      old.source = std::make_shared<MemorySource>("old", random_bytes(random, 30'000 * columns * 2));
      old.shape = {30'000, columns};
      old.strides = {columns, 1};
      if (is_transposed) old.strides = {1, 30'000};
      old.from = old.to = Dtype::kFloat16;
      OverlaidSource::Rows rows;
      for (std::uint64_t to = 100; to < 28'000; ++to)
        rows[to] = are_neighbours ? to - 7 : below(random, 30'000);
      const OverlaidSource source(
          std::make_shared<MemorySource>("new", random_bytes(random, 40'000 * columns * 2)), old, rows);
      const auto device = Device::open(0);
      REQUIRE(device.ok());
      Bytes found(source.size());
      const auto deliver = [&](std::size_t, std::uint64_t offset, ByteView bytes) -> Status {
        std::memcpy(found.data() + offset, bytes.data(), bytes.size());
        return {};
      };
      const std::vector<Extent> whole = {{0, source.size()}};
      REQUIRE(source.produce(whole, {4, device.value(), nullptr}, deliver, [] {}).ok());
      CHECK(found == source.read({0, source.size()}).value());
      CHECK(device.value()->copied() == rows.size() * columns * 2);
    }
  }
}

TEST_CASE("what the budget does not hold is refused", "[gpu]") {
  Gpu gpu(*gpu_table);
  CkptFailure failure{};
  CkptDeviceBuffer* buffer = nullptr;
  const auto budget = gpu.table().budget(gpu.engine());
  CHECK(gpu.table().allocate(gpu.engine(), budget + 1, &buffer, &failure) == CKPT_NO_MEMORY);
  CkptDevice device{};
  REQUIRE(gpu.table().describe_device(0, &device, &failure) == CKPT_OK);
  CHECK(budget <= device.memory_total / 10 * 8 + 8);
  CHECK(gpu.table().describe_device(99, &device, &failure) == CKPT_UNAVAILABLE);
  INFO(failure.text);
  CHECK(std::string(failure.text).find("describing a GPU") == 0);
}

}  // namespace
}  // namespace ckpt::test

int main(int argc, char** argv) {
  std::string why;
  ckpt::test::gpu_table = ckpt::test::find_gpu(why);
  if (ckpt::test::gpu_table == nullptr) {
    std::printf("skipped: %s\n0 passed, 0 failed, 1 skipped\n", why.c_str());
    return 0;
  }
  CkptDevice device{};
  CkptFailure failure{};
  ckpt::test::gpu_table->describe_device(0, &device, &failure);
  std::printf("on %s, compute capability %d.%d, driver for CUDA %d, runtime %d\n", device.name,
              device.capability_major, device.capability_minor, device.driver_version,
              device.runtime_version);
  return Catch::Session().run(argc, argv);
}
