// SPDX-License-Identifier: BSD-3-Clause
#include "render/row_chunks.h"

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <exception>
#include <mutex>
#include <system_error>
#include <thread>

namespace ckpt::cli {
namespace {

/// Chunks are handed out in order, so the one whose turn it is to be written is always being printed, and no
/// thread waits for one that waits itself.
class ChunkQueue {
 public:
  ChunkQueue(std::size_t rows, const ChunkPrinter& print, Stream& out)
      : rows_(rows), print_(print), out_(out) {}

  /// Prints chunks until none is left, or one failed. Runs in every thread.
  void work() noexcept {
    try {
      ChunkStream stream(*this);
      while (take_next(stream)) {
        const auto begin = stream.chunk * kRowsOfChunk;
        print_(begin, std::min(begin + kRowsOfChunk, rows_), stream);
        stream.flush();
        end_turn(stream.chunk);
      }
    } catch (...) {
      fail(std::current_exception());
    }
  }

  /// Throws what a thread met. All of them have ended.
  void check() const {
    if (failure_) std::rethrow_exception(failure_);
  }

 private:
  /// Holds a chunk back until its turn. A chunk larger than a stream's buffer waits in the middle.
  class ChunkStream final : public Stream {
   public:
    explicit ChunkStream(ChunkQueue& queue) : queue_(queue) {}

    std::size_t chunk = 0;

   protected:
    void emit(std::string_view text) override {
      if (queue_.wait_for_turn(chunk)) queue_.out_.print_now(text);
    }

   private:
    ChunkQueue& queue_;
  };

  bool take_next(ChunkStream& stream) {
    stream.chunk = next_++;
    return stream.chunk * kRowsOfChunk < rows_;
  }

  /// False if a thread failed: then nothing more is written.
  bool wait_for_turn(std::size_t chunk) {
    std::unique_lock lock(mutex_);
    moved_.wait(lock, [&] { return turn_ == chunk || failure_ != nullptr; });
    return failure_ == nullptr;
  }

  void end_turn(std::size_t chunk) {
    if (!wait_for_turn(chunk)) return;  // it may have printed nothing
    const std::lock_guard lock(mutex_);
    ++turn_;
    moved_.notify_all();
  }

  void fail(std::exception_ptr failure) {
    next_ = rows_ / kRowsOfChunk + 1;
    const std::lock_guard lock(mutex_);
    if (failure_ == nullptr) failure_ = std::move(failure);
    moved_.notify_all();
  }

  std::size_t rows_;
  const ChunkPrinter& print_;
  Stream& out_;
  std::atomic<std::size_t> next_{0};
  std::mutex mutex_;
  std::condition_variable moved_;
  std::size_t turn_ = 0;  // the chunk that may be written
  std::exception_ptr failure_;
};

}  // namespace

void print_in_chunks(std::size_t rows, const ChunkPrinter& print, Stream& out) {
  if (rows < kManyRows) return print(0, rows, out);
  ChunkQueue queue(rows, print, out);
  std::thread helper;
  try {
    helper = std::thread([&] { queue.work(); });
  } catch (const std::system_error&) {  // there is none to be had
  }
  queue.work();
  if (helper.joinable()) helper.join();
  queue.check();
}

}  // namespace ckpt::cli
