// SPDX-License-Identifier: BSD-3-Clause
// Measures a GPU: copies over the bus, kernels against a plain copy in its own memory, and values that come
// from host memory and go back. Prints a table; scripts/bench/gpu runs it.
#include <algorithm>
#include <array>
#include <chrono>
#include <cstdio>
#include <functional>
#include <string>
#include <vector>

#include "gpu/gpu.h"
#include "modules/cuda/element_bits.h"
#include "support/gather_cases.h"

namespace ckpt::test {
namespace {

using cuda::element_size;

constexpr double kGiga = 1e9;
constexpr int kRepeats = 5;

double seconds_of(const std::function<void()>& work) {
  const auto begin = std::chrono::steady_clock::now();
  work();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
}

class Bench {
 public:
  explicit Bench(const CkptTransfer& table) : gpu_(table) {
    size_ = std::min(std::uint64_t{4} << 30U, gpu_.table().budget_left(gpu_.engine()) / 5) / 65536 * 65536;
    source_ = gpu_.allocate(size_);
    target_ = gpu_.allocate(2 * size_);
    fill();
  }

  void run() {
    std::printf("%-58s %10s %8s\n", "", "GB/s", "of copy");
    bus();
    copy_ = kernel("copy in device memory", dense(CKPT_OPAQUE_16, CKPT_OPAQUE_16, size_ / 16));
    std::printf("contiguous casts\n");
    cast("float32 to bfloat16", CKPT_FLOAT32, CKPT_BFLOAT16);
    cast("float32 to float16", CKPT_FLOAT32, CKPT_FLOAT16);
    cast("float32 to float64", CKPT_FLOAT32, CKPT_FLOAT64);
    cast("float64 to float32", CKPT_FLOAT64, CKPT_FLOAT32);
    cast("bfloat16 to float32", CKPT_BFLOAT16, CKPT_FLOAT32);
    cast("bfloat16 to float16", CKPT_BFLOAT16, CKPT_FLOAT16);
    cast("float32 to float8_e4m3fn", CKPT_FLOAT32, CKPT_FLOAT8_E4M3FN);
    cast("bfloat16 to float8_e5m2", CKPT_BFLOAT16, CKPT_FLOAT8_E5M2);
    cast("int64 to int32 (general kernel)", CKPT_INT64, CKPT_INT32);
    cast("float32 to int32 (general kernel)", CKPT_FLOAT32, CKPT_INT32);
    cast("float32 to float8_e4m3fnuz (general kernel)", CKPT_FLOAT32, CKPT_FLOAT8_E4M3FNUZ);
    auto swapped = dense(CKPT_FLOAT32, CKPT_FLOAT32, size_ / 4);
    swapped.swap = 4;
    kernel("float32, byte order turned", swapped);
    std::printf("matrices turned\n");
    turn("items of 1 byte", CKPT_OPAQUE_1, CKPT_OPAQUE_1, 0);
    turn("items of 2 bytes", CKPT_OPAQUE_2, CKPT_OPAQUE_2, 0);
    turn("items of 2 bytes, odd rows", CKPT_OPAQUE_2, CKPT_OPAQUE_2, 1);
    turn("items of 4 bytes", CKPT_OPAQUE_4, CKPT_OPAQUE_4, 0);
    turn("items of 8 bytes", CKPT_OPAQUE_8, CKPT_OPAQUE_8, 0);
    turn("items of 16 bytes", CKPT_OPAQUE_16, CKPT_OPAQUE_16, 0);
    turn("float32 to bfloat16", CKPT_FLOAT32, CKPT_BFLOAT16, 0);
    turn("float32 to float16", CKPT_FLOAT32, CKPT_FLOAT16, 0);
    std::printf("other gathers\n");
    permute("rows of 4 KiB, two outer dimensions changed", 4096);
    permute("rows of 64 bytes, two outer dimensions changed", 64);
    auto column = dense(CKPT_OPAQUE_4, CKPT_OPAQUE_4, size_ / 8);
    column.from[0] = 2;
    kernel("every second item of 4 bytes", column);
    box();
    rows("rows of 4 KiB by a table", 4096);
    rows("rows of 256 bytes by a table", 256);
    std::printf("host memory to host memory, through 3 + 3 pinned buffers of 32 MiB\n");
    pipe("float32 to bfloat16", CKPT_FLOAT32, CKPT_BFLOAT16);
    pipe("float32, byte order turned", CKPT_FLOAT32, CKPT_FLOAT32);
  }

 private:
  void line(const std::string& name, std::uint64_t bytes, double seconds) const {
    const auto speed = static_cast<double>(bytes) / seconds / kGiga;
    if (copy_ > 0) {
      std::printf("  %-56s %10.1f %7.0f%%\n", name.c_str(), speed, 100 * speed / copy_);
    } else {
      std::printf("  %-56s %10.1f\n", name.c_str(), speed);
    }
    std::fflush(stdout);
  }

  double median(const std::function<void()>& work) {
    std::vector<double> times;
    for (int i = 0; i <= kRepeats; ++i) {
      times.push_back(seconds_of([&] {
        work();
        gpu_.synchronize();
      }));
    }
    times.erase(times.begin());  // warms up
    std::sort(times.begin(), times.end());
    return times[times.size() / 2];
  }

  /// GB/s, bytes read and bytes written.
  double kernel(const std::string& name, CkptGather gather) {
    gather.source = {source_, 0};
    gather.target = {target_, 0};
    std::uint64_t count = 1;
    for (std::uint32_t i = 0; i < gather.rank; ++i) count *= gather.sizes[i];
    const auto bytes = count * (element_size(gather.source_dtype) + element_size(gather.target_dtype));
    const auto seconds = median([&] { gpu_.gather(gather); });
    line(name, bytes, seconds);
    return static_cast<double>(bytes) / seconds / kGiga;
  }

  void cast(const std::string& name, std::int32_t from, std::int32_t to) {
    kernel(name, dense(from, to, size_ / std::max(element_size(from), element_size(to))));
  }

  void turn(const std::string& name, std::int32_t from, std::int32_t to, std::uint64_t odd) {
    const auto item = std::max(element_size(from), element_size(to));
    std::uint64_t side = 64;
    while ((side + 64) * (side + 64) * item <= size_) side += 64;
    side -= odd;
    auto gather = dense(from, to, side);
    gather.rank = 2;
    gather.sizes[0] = gather.sizes[1] = side;
    gather.from[0] = 1;
    gather.from[1] = side;
    gather.to[0] = side;
    gather.to[1] = 1;
    kernel(name, gather);
  }

  void permute(const std::string& name, std::uint64_t row) {
    auto gather = dense(CKPT_OPAQUE_4, CKPT_OPAQUE_4, row / 4);
    const std::uint64_t rows = size_ / row / 64;
    gather.rank = 3;
    gather.sizes[0] = 64;
    gather.sizes[1] = rows;
    gather.sizes[2] = row / 4;
    gather.from[0] = row / 4;
    gather.from[1] = row / 4 * 64;
    gather.from[2] = 1;
    gather.to[0] = row / 4 * rows;
    gather.to[1] = row / 4;
    gather.to[2] = 1;
    kernel(name, gather);
  }

  void box() {
    auto gather = dense(CKPT_OPAQUE_2, CKPT_OPAQUE_2, 4096);
    gather.rank = 2;
    gather.sizes[0] = size_ / 8192;
    gather.sizes[1] = 4096;
    gather.from[0] = 4096;
    gather.from[1] = 1;
    gather.to[0] = 8192;
    gather.to[1] = 1;
    kernel("dense rows of 8 KiB into a box of rows of 16 KiB", gather);
  }

  void rows(const std::string& name, std::uint64_t row_bytes) {
    CkptRows call{};
    call.rows = size_ / row_bytes;
    std::vector<std::int64_t> table(call.rows);
    for (std::uint64_t i = 0; i < call.rows; ++i)
      table[i] = static_cast<std::int64_t>(i * 0x9E3779B97F4A7C15U % call.rows);
    call.source = {source_, 0};
    call.target = {target_, 0};
    call.table = {gpu_.allocate(call.rows * 8), 0};
    call.row_bytes = call.source_step = call.target_step = row_bytes;
    gpu_.upload(std::as_bytes(std::span(table)), call.table);
    line(name, 2 * call.rows * row_bytes, median([&] { gpu_.gather_rows(call); }));
    gpu_.release(call.table.buffer);
  }

  void up(std::uint64_t bytes, CkptView to) {
    CkptHostBuffer* buffer = nullptr;
    void* data = nullptr;
    gpu_.check(gpu_.table().next_host_buffer(gpu_.engine(), CKPT_TO_DEVICE, &buffer, &data, &failure_));
    gpu_.check(gpu_.table().upload(gpu_.engine(), buffer, 0, bytes, to, &failure_));
  }

  void down(std::uint64_t bytes, CkptView from) {
    CkptHostBuffer* buffer = nullptr;
    void* data = nullptr;
    gpu_.check(gpu_.table().next_host_buffer(gpu_.engine(), CKPT_TO_HOST, &buffer, &data, &failure_));
    gpu_.check(gpu_.table().download(gpu_.engine(), from, bytes, buffer, 0, &failure_));
  }

  void bus() {
    const auto piece = gpu_.table().host_buffer_bytes(gpu_.engine());
    const auto pieces = size_ / piece;
    std::printf("over the bus, pinned\n");
    const auto all = [&](bool upwards, bool downwards) {
      return median([&] {
        for (std::uint64_t i = 0; i < pieces; ++i) {
          if (upwards) up(piece, {source_, i * piece});
          if (downwards) down(piece, {target_, i * piece});
        }
      });
    };
    line("host to device", pieces * piece, all(true, false));
    line("device to host", pieces * piece, all(false, true));
    line("both at once, together", 2 * pieces * piece, all(true, true));
  }

  /// The bytes in both directions; the copies from and to pageable memory are those that a reader and a
  /// writer make.
  void pipe(const std::string& name, std::int32_t from, std::int32_t to) {
    const auto piece = gpu_.table().host_buffer_bytes(gpu_.engine());
    const auto pieces = std::min<std::uint64_t>(size_ / piece, 64);
    const auto count = piece / std::max(element_size(from), element_size(to));
    auto gather = dense(from, to, count);
    gather.swap = from == to ? element_size(from) : 0;
    const auto in = count * element_size(from);
    const auto out = count * element_size(to);
    const std::array sources = {gpu_.allocate(in), gpu_.allocate(in), gpu_.allocate(in)};
    const std::array targets = {gpu_.allocate(out), gpu_.allocate(out), gpu_.allocate(out)};
    const auto seconds = median([&] {
      for (std::uint64_t i = 0; i < pieces; ++i) {
        gather.source = {sources[i % 3], 0};
        gather.target = {targets[i % 3], 0};
        up(in, gather.source);
        gpu_.gather(gather);
        down(out, gather.target);
      }
    });
    line(name, pieces * (in + out), seconds);
  }

  void fill() {
    const auto piece = gpu_.table().host_buffer_bytes(gpu_.engine());
    std::uint64_t state = 1;
    for (std::uint64_t done = 0; done < size_; done += piece) {
      CkptHostBuffer* buffer = nullptr;
      void* data = nullptr;
      gpu_.check(gpu_.table().next_host_buffer(gpu_.engine(), CKPT_TO_DEVICE, &buffer, &data, &failure_));
      for (std::uint64_t i = 0; i < piece / 8; ++i) {
        state += 0x9E3779B97F4A7C15U;
        static_cast<std::uint64_t*>(data)[i] = (state ^ state >> 30U) * 0xBF58476D1CE4E5B9U;
      }
      gpu_.check(gpu_.table().upload(gpu_.engine(), buffer, 0, std::min(piece, size_ - done), {source_, done},
                                     &failure_));
    }
  }

  Gpu gpu_;
  CkptFailure failure_{};
  std::uint64_t size_ = 0;
  CkptDeviceBuffer* source_ = nullptr;
  CkptDeviceBuffer* target_ = nullptr;
  double copy_ = 0;
};

}  // namespace
}  // namespace ckpt::test

int main() {
  std::string why;
  const auto* const table = ckpt::test::find_gpu(why);
  if (table == nullptr) {
    std::printf("skipped: %s\n", why.c_str());
    return 0;
  }
  CkptDevice device{};
  CkptFailure failure{};
  table->describe_device(0, &device, &failure);
  std::printf("%s, compute capability %d.%d, %.0f GB, driver for CUDA %d.%d, runtime %d.%d\n", device.name,
              device.capability_major, device.capability_minor,
              static_cast<double>(device.memory_total) / 1e9, device.driver_version / 1000,
              device.driver_version % 1000 / 10, device.runtime_version / 1000,
              device.runtime_version % 1000 / 10);
  ckpt::test::Bench(*table).run();
  return 0;
}
