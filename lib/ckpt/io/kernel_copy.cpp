// SPDX-License-Identifier: BSD-3-Clause
#include "ckpt/io/kernel_copy.h"

#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/sendfile.h>
#include <unistd.h>

#include <algorithm>
#include <cstdint>

#include "ckpt/base/checked_math.h"
#include "ckpt/base/text.h"

namespace ckpt {
namespace {

constexpr std::uint64_t kStepSize = std::uint64_t{64} << 20;  // so that a signal is served within a moment
// The kernel moves 16 pages at a time. From a multiple of 64 KiB on they are whole large folios of the
// destination's page cache; from anywhere else they are split, and both copying and writing back take a tenth
// longer.
constexpr std::uint64_t kAlignment = std::uint64_t{1} << 20;
constexpr std::uint64_t kPage = 4096;
constexpr std::uint64_t kBufferSize = std::uint64_t{1} << 20;

// In the order in which they are tried. A method that declines is not tried again in the same copy.
enum class Method { kCopyFileRange, kSendfile, kBuffer };

// The answers of a kernel, a file system or a seccomp filter that mean "not this way": wrong kinds of
// files, two file systems, a destination that appends (EBADF) or does not wait (EAGAIN). The next method
// meets the same error if it is a real one.
bool declined(int number) {
  switch (number) {
    case EACCES:
    case EAGAIN:
    case EBADF:
    case EINVAL:
    case ENOSYS:
    case ENOTTY:
    case EOPNOTSUPP:
    case EPERM:
    case ETXTBSY:
    case EXDEV: return true;
    default: return false;
  }
}

class Copy {
 public:
  Copy(const ByteSource& source, Extent extent, const File& destination)
      : source_(source), destination_(destination), from_(extent.offset), left_(extent.size) {}

  Status run() {
    const auto position = ::lseek(destination_.descriptor(), 0, SEEK_CUR);
    to_ = position > 0 ? static_cast<std::uint64_t>(position) : 0;  // 0 for a pipe
    if (moves_within_page()) method_ = Method::kBuffer;
    const auto blocks = shareable_blocks();
    if (blocks.size > 0) {
      CKPT_RETURN_IF_ERROR(move(blocks.offset - from_));
      CKPT_RETURN_IF_ERROR(share(blocks.size));
    }
    return move(left_);
  }

 private:
  // On a local file system (others prefer larger blocks than a page, and may copy at their own end) the
  // kernel splits every page of such a copy in two, which takes a third longer than a buffer.
  bool moves_within_page() const {
    FileStatus status{};
    if (method_ == Method::kBuffer || from_ % kPage == to_ % kPage) return false;
    if (::fstat(destination_.descriptor(), &status) != 0 || !S_ISREG(status.st_mode)) return false;
    return status.st_blksize > 0 && static_cast<std::uint64_t>(status.st_blksize) <= kPage;
  }

  // The part of the source whose blocks could become blocks of the destination; empty where that can't be.
  Extent shareable_blocks() const {
    if (source_.descriptor() < 0) return {};
    FileStatus status{};
    const auto position = ::lseek(destination_.descriptor(), 0, SEEK_CUR);
    if (position < 0 || ::fstat(destination_.descriptor(), &status) != 0) return {};
    if (!S_ISREG(status.st_mode) || status.st_blksize <= 0) return {};
    const auto block = static_cast<std::uint64_t>(status.st_blksize);
    if (from_ % block != static_cast<std::uint64_t>(position) % block) return {};
    const auto begin = align_up(from_, block);
    const auto end = (from_ + left_) / block * block;
    return begin < end ? Extent{begin, end - begin} : Extent{};
  }

  // Shares the next `size` bytes, or leaves all of them to `move`.
  Status share(std::uint64_t size) {
    const auto position = ::lseek(destination_.descriptor(), 0, SEEK_CUR);
    if (position < 0) return {};
    file_clone_range range{source_.descriptor(), from_, size, static_cast<std::uint64_t>(position)};
    const auto clone = [&] { return ::ioctl(destination_.descriptor(), FICLONERANGE, &range); };
    if (retry_interrupted(clone) != 0) return declined(errno) ? Status() : failure();
    const auto end = position + static_cast<off_t>(size);
    if (::lseek(destination_.descriptor(), end, SEEK_SET) != end) return failure();
    advance(size);
    return {};
  }

  Status move(std::uint64_t size) {
    while (size > 0) {
      if (method_ == Method::kBuffer) return move_through_buffer(size);
      const auto moved = retry_interrupted([&] { return move_in_kernel(std::min(size, next_step())); });
      if (moved > 0) {
        size -= static_cast<std::uint64_t>(moved);
        advance(static_cast<std::uint64_t>(moved));
      } else if (moved == 0 || declined(errno)) {  // at an early end, reading finds the words for it
        method_ = method_ == Method::kCopyFileRange ? Method::kSendfile : Method::kBuffer;
      } else {
        return failure();
      }
    }
    return {};
  }

  std::uint64_t next_step() const {
    const auto beyond = to_ % kAlignment;
    return beyond == 0 ? kStepSize : kAlignment - beyond;
  }

  ssize_t move_in_kernel(std::uint64_t size) const {
    auto from = static_cast<off_t>(from_);
    const auto to = destination_.descriptor();
    if (method_ == Method::kSendfile) return ::sendfile(to, source_.descriptor(), &from, size);
    return ::copy_file_range(source_.descriptor(), &from, to, nullptr, size, 0);
  }

  Status move_through_buffer(std::uint64_t size) {
    Bytes buffer(std::min(size, kBufferSize));
    while (size > 0) {
      const auto piece = std::span(buffer).first(std::min<std::uint64_t>(size, buffer.size()));
      CKPT_RETURN_IF_ERROR(source_.read_at(from_, piece));
      CKPT_RETURN_IF_ERROR(destination_.write(piece));
      size -= piece.size();
      advance(piece.size());
    }
    return {};
  }

  void advance(std::uint64_t size) {
    from_ += size;
    to_ += size;
    left_ -= size;
  }

  Error failure() const {
    return system_error(errno, "cannot copy from " + quoted(source_.name()), destination_.name());
  }

  const ByteSource& source_;
  const File& destination_;
  std::uint64_t from_;
  std::uint64_t to_ = 0;  ///< where the destination stands
  std::uint64_t left_;
  Method method_ = source_.descriptor() < 0 ? Method::kBuffer : Method::kCopyFileRange;
};

}  // namespace

Status kernel_copy(const ByteSource& source, Extent extent, const File& destination) {
  CKPT_RETURN_IF_ERROR(source.require(extent));
  return Copy(source, extent, destination).run();
}

}  // namespace ckpt
