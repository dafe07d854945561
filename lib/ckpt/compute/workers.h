// SPDX-License-Identifier: BSD-3-Clause
// Work on values by several threads. A thread reads, computes and finishes a job by itself, since values that
// another processor has in its cache are slow to come by.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <mutex>
#include <span>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

#include "ckpt/base/bytes.h"
#include "ckpt/base/result.h"
#include "ckpt/io/blocked_signals.h"

namespace ckpt {

inline constexpr std::size_t kWorkerBuffer = std::size_t{256} << 10U;  ///< bytes that are in a near cache

/// Of `threads` those that are worth starting for so many bytes.
inline std::size_t worthwhile_threads(std::size_t threads, std::uint64_t bytes) {
  return bytes < (std::uint64_t{4} << 20U) ? 1 : threads;
}

/// Threads that take job after job. The first failure is the one that is told, and ends the others' work.
class Workers {
 public:
  /// `threads`: the calling one too; 0: one a processor.
  Workers(std::size_t threads, std::size_t jobs)
      : jobs_(jobs), threads_(std::min<std::size_t>(jobs, threads > 0 ? threads : processors())) {}

  /// `work(job, buffer)` for each job, on any thread and in any order, returns a Status; `buffer` has
  /// `kWorkerBuffer` bytes of the thread's own. `report()` after each job of the calling thread.
  template <typename Work, typename Report>
  Status run(const Work& work, const Report& report) {
    const auto with_buffer = [&](std::size_t job, Bytes& buffer) {
      buffer.resize(kWorkerBuffer);
      return work(job, std::span(buffer));
    };
    return run_with<Bytes>(with_buffer, report);
  }

  /// The same for `work(job, own)`, where `own` is an `Own` that each thread has from its first job to its
  /// last.
  template <typename Own, typename Work, typename Report>
  Status run_with(const Work& work, const Report& report) {
    {
      std::vector<std::jthread> helpers;  // they end before what they use
      start<Own>(helpers, work);
      take_jobs<Own>(work, report);
    }
    if (failure_) std::rethrow_exception(failure_);
    return std::move(status_);
  }

 private:
  static std::size_t processors() { return std::max(1U, std::thread::hardware_concurrency()); }

  template <typename Own, typename Work>
  void start(std::vector<std::jthread>& helpers, const Work& work) {
    const BlockedSignals blocked;
    try {
      for (std::size_t i = 1; i < threads_; ++i)
        helpers.emplace_back([this, &work] { take_jobs<Own>(work, [] {}); });
    } catch (const std::system_error&) {  // no more threads to be had
    }
  }

  template <typename Own, typename Work, typename Report>
  void take_jobs(const Work& work, const Report& report) noexcept {
    try {
      Own own;
      for (auto job = next_++; job < jobs_; job = next_++) {
        auto status = work(job, own);
        report();
        if (status.ok()) continue;
        stop([&] { status_ = std::move(status); });
        return;
      }
    } catch (...) {  // memory ran out: for the thread that asks to say
      stop([&] { failure_ = std::current_exception(); });
    }
  }

  template <typename Note>
  void stop(const Note& note) {
    const std::lock_guard lock(mutex_);
    if (status_.ok() && !failure_) note();
    next_ = jobs_;
  }

  const std::size_t jobs_;
  const std::size_t threads_;
  std::atomic<std::size_t> next_ = 0;
  std::mutex mutex_;
  Status status_;
  std::exception_ptr failure_;
};

}  // namespace ckpt
