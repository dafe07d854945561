// SPDX-License-Identifier: BSD-3-Clause
// operator new of the program: large blocks and a heap that has grown lie on huge pages where the system
// gives them on request. The tables of a file with a million tensors are half a gigabyte; touched for the
// first time in pages of 4 KiB they cost a third of the time that `inspect` takes. operator delete is the
// usual one, which calls free.
#include <malloc.h>
#include <sys/mman.h>
#include <unistd.h>

#include <atomic>
#include <cstdint>
#include <cstdlib>
#include <new>

namespace {

constexpr std::size_t kHugePage = 2U << 20U;
constexpr std::size_t kLarge = 2 * kHugePage;  // below, alignment would waste more than it gains

// What the heap grows by. The huge page in which one step ends and the next begins is none: it is touched
// before the rest of it is there.
constexpr std::size_t kHeapStep = 8 * kHugePage;

std::uintptr_t end_of_heap() {
  return reinterpret_cast<std::uintptr_t>(sbrk(0));
}

/// Where the heap of `malloc` ended when huge pages were last asked for. The first megabytes stay as they
/// are: most files need no more, and zeroing a huge page takes as long as fifty faults.
std::atomic<std::uintptr_t> asked_up_to = end_of_heap() + kHugePage;

/// `block` is new; if the heap has grown for it, it asks for the pages that were added.
void look_at_growth(std::uintptr_t block) {
  auto from = asked_up_to.load(std::memory_order_relaxed);
  if (block < from) return;
  const auto end = end_of_heap();
  if (block >= end) return;  // of another thread's arena
  if (!asked_up_to.compare_exchange_strong(from, end)) return;
  const auto begin = from / kHugePage * kHugePage;
  madvise(reinterpret_cast<void*>(begin), end - begin, MADV_HUGEPAGE);  // NOLINT(performance-no-int-to-ptr)
}

void* allocate(std::size_t size) {
  if (size < kLarge) {
    void* const block = std::malloc(size > 0 ? size : 1);
    look_at_growth(reinterpret_cast<std::uintptr_t>(block));
    return block;
  }
  if (size > SIZE_MAX - kHugePage) return nullptr;
  void* const block = std::aligned_alloc(kHugePage, (size + kHugePage - 1) / kHugePage * kHugePage);
  if (block != nullptr) madvise(block, size, MADV_HUGEPAGE);  // a wish: whether it is granted does not matter
  return block;
}

/// Freed memory is used again instead of being given back and asked for again, a page fault for each 4 KiB.
[[maybe_unused]] const bool kKeepsMemory = [] {
  mallopt(M_MMAP_THRESHOLD, static_cast<int>(kLarge));
  mallopt(M_TRIM_THRESHOLD, static_cast<int>(64 * kLarge));
  mallopt(M_TOP_PAD, static_cast<int>(kHeapStep));
  return true;
}();

}  // namespace

void* operator new(std::size_t size) {
  while (true) {
    if (void* const block = allocate(size)) return block;
    const auto handler = std::get_new_handler();
    if (handler == nullptr) throw std::bad_alloc();
    handler();
  }
}
