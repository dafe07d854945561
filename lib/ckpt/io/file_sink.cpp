// SPDX-License-Identifier: BSD-3-Clause
#include "ckpt/io/file_sink.h"

#include "ckpt/io/kernel_copy.h"

namespace ckpt {
namespace {

// Enough that ten thousand headers are some dozens of writes, little enough that it costs nothing to have.
constexpr std::size_t kGathered = std::size_t{64} << 10;

}  // namespace

Status FileSink::write(ByteView bytes) {
  if (!failure_.ok()) return failure_;
  return settle(append(bytes), bytes.size());
}

Status FileSink::copy_from(const ByteSource& source, Extent extent) {
  if (!failure_.ok()) return failure_;
  return settle(copy(source, extent), extent.size);
}

Status FileSink::skip(std::uint64_t size) {
  CKPT_RETURN_IF_ERROR(flush());
  return settle(file_.skip(size), size);
}

Status FileSink::settle(Status status, std::uint64_t size) {
  if (status.ok()) position_ += size;
  failure_ = std::move(status);
  return failure_;
}

Status FileSink::append(ByteView bytes) {
  if (gathered_.size() + bytes.size() > kGathered) CKPT_RETURN_IF_ERROR(flush());
  if (bytes.size() >= kGathered) return file_.write(bytes);
  append_bytes(gathered_, bytes);
  return {};
}

Status FileSink::copy(const ByteSource& source, Extent extent) {
  CKPT_RETURN_IF_ERROR(source.require(extent));
  if (extent.size < kGathered) return copy_small(source, extent);
  CKPT_RETURN_IF_ERROR(flush());
  return kernel_copy(source, extent, file_);
}

// Reading a few blocks costs less than another round of kernel copies.
Status FileSink::copy_small(const ByteSource& source, Extent extent) {
  if (gathered_.size() + extent.size > kGathered) CKPT_RETURN_IF_ERROR(flush());
  const auto at = gathered_.size();
  gathered_.resize(at + extent.size);
  return source.read_at(extent.offset, std::span(gathered_).subspan(at));
}

Status FileSink::flush() {
  if (!failure_.ok()) return failure_;
  failure_ = file_.write(gathered_);
  gathered_.clear();
  return failure_;
}

}  // namespace ckpt
