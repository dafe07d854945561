// SPDX-License-Identifier: BSD-3-Clause
// A GPU without a GPU, as unhelpful as CUDA allows: nothing happens before somebody has to wait for it,
// streams overtake each other at random, and fresh memory is full of rubbish. For any number of threads.
#pragma once

#include <cstring>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <random>
#include <set>
#include <utility>
#include <vector>

#include "modules/cuda/driver.h"
#include "support/run_launches.h"

namespace ckpt::test {

class FakeCudaDriver final : public cuda::Driver {
 public:
  explicit FakeCudaDriver(unsigned seed = 1) : random_(seed) {}

  ~FakeCudaDriver() override {
    for (const auto& [memory, bytes] : memory_) delete[] static_cast<std::byte*>(memory);
  }

  std::uint64_t memory_free = std::uint64_t{1} << 30U;
  int synchronized = 0;  ///< times that the caller waited
  int allocations_left = 1000;
  int copies_left = 1 << 30;  ///< up and down, before the bus breaks
  bool heeds_events = true;   ///< false: as if nobody had recorded any

  std::size_t alive() const {
    const std::lock_guard lock(mutex_);
    return memory_.size() + streams_.size() + events_.size();
  }

  Result<int> device_count() override { return 1; }

  Result<CkptDevice> describe(int) override {
    CkptDevice device{};
    device.memory_total = device.memory_free = memory_free;
    return device;
  }

  Status select(int) override { return {}; }

  Result<void*> allocate_host(std::uint64_t bytes) override { return allocate(bytes); }

  void free_host(void* memory) override { free(memory); }

  Result<void*> allocate_device(std::uint64_t bytes) override { return allocate(bytes); }

  void free_device(void* memory) override {
    const std::lock_guard lock(mutex_);
    while (run_something()) {
    }
    free(memory);
  }

  Result<Stream> create_stream() override {
    const std::lock_guard lock(mutex_);
    streams_.push_back(std::make_unique<Queue>());
    return Stream{streams_.back().get()};
  }

  void destroy_stream(Stream stream) override {
    const std::lock_guard lock(mutex_);
    std::erase_if(streams_, [&](const auto& queue) { return queue.get() == stream; });
  }

  Result<Event> create_event() override {
    const std::lock_guard lock(mutex_);
    events_.push_back(std::make_unique<Mark>());
    return Event{events_.back().get()};
  }

  void destroy_event(Event event) override {
    const std::lock_guard lock(mutex_);
    std::erase_if(events_, [&](const auto& mark) { return mark.get() == event; });
  }

  Status record(Event event, Stream stream) override {
    const std::lock_guard lock(mutex_);
    auto* const mark = static_cast<Mark*>(event);
    const auto number = ++mark->recorded;
    queue(stream).push_back({[mark, number] { mark->happened = number; }, {}});
    return {};
  }

  Status wait(Stream stream, Event event) override {
    const std::lock_guard lock(mutex_);
    auto* const mark = static_cast<Mark*>(event);
    const auto number = mark->recorded;
    queue(stream).push_back(
        {[] {}, [this, mark, number] { return !heeds_events || mark->happened >= number; }});
    return {};
  }

  Status synchronize(Event event) override {
    const std::lock_guard lock(mutex_);
    ++synchronized;
    const auto* const mark = static_cast<Mark*>(event);
    while (mark->happened < mark->recorded) {
      if (!run_something()) return Error(ErrorCode::kBackend, "the streams wait for each other");
    }
    return {};
  }

  Status upload(void* to, const void* from, std::uint64_t bytes, Stream stream) override {
    return copy(to, from, bytes, stream);
  }

  Status download(void* to, const void* from, std::uint64_t bytes, Stream stream) override {
    return copy(to, from, bytes, stream);
  }

  Status launch(const cuda::Launch& launch, Stream stream) override {
    run_later(stream, [launch] { run_launch(launch); });
    return {};
  }

  Status launch(const cuda::RowsLaunch& launch, Stream stream) override {
    run_later(stream, [launch] { run_launch(launch); });
    return {};
  }

  /// A kernel of somebody else's.
  void run_later(Stream stream, std::function<void()> kernel) {
    const std::lock_guard lock(mutex_);
    queue(stream).push_back({std::move(kernel), {}});
  }

  /// Until the stream has done all that it was given.
  void drain(Stream stream) {
    const std::lock_guard lock(mutex_);
    while (!queue(stream).empty() && run_something()) {
    }
  }

  /// One piece of work of any stream that may go on; false if there is none.
  bool run_something() {
    const std::lock_guard lock(mutex_);
    std::vector<Queue*> ready;
    for (const auto& stream : streams_) {
      auto& work = stream->work;
      if (!work.empty() && (!work.front().may_run || work.front().may_run())) ready.push_back(stream.get());
    }
    if (ready.empty()) return false;
    auto& work = ready[random_() % ready.size()]->work;
    const auto step = std::move(work.front());
    work.pop_front();
    step.run();
    return true;
  }

 private:
  struct Work {
    std::function<void()> run;
    std::function<bool()> may_run;
  };

  struct Queue {
    std::deque<Work> work;
  };

  struct Mark {
    int recorded = 0;
    int happened = 0;
  };

  static std::deque<Work>& queue(Stream stream) { return static_cast<Queue*>(stream)->work; }

  Status copy(void* to, const void* from, std::uint64_t bytes, Stream stream) {
    const std::lock_guard lock(mutex_);
    if (copies_left-- <= 0) return Error(ErrorCode::kBackend, "the bus is broken");
    queue(stream).push_back({[=] { std::memcpy(to, from, bytes); }, {}});
    return {};
  }

  Result<void*> allocate(std::uint64_t bytes) {
    const std::lock_guard lock(mutex_);
    if (allocations_left-- <= 0) return Error(ErrorCode::kRefused, "out of memory");
    auto* const memory = new std::byte[bytes];
    std::memset(memory, 0xA5, bytes);
    memory_[memory] = bytes;
    return static_cast<void*>(memory);
  }

  void free(void* memory) {
    const std::lock_guard lock(mutex_);
    memory_.erase(memory);
    delete[] static_cast<std::byte*>(memory);
  }

  mutable std::recursive_mutex mutex_;
  std::mt19937 random_;
  std::map<void*, std::uint64_t> memory_;
  std::vector<std::unique_ptr<Queue>> streams_;
  std::vector<std::unique_ptr<Mark>> events_;
};

}  // namespace ckpt::test
