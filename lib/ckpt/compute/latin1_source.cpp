// SPDX-License-Identifier: BSD-3-Clause
#include "ckpt/compute/latin1_source.h"

#include <algorithm>
#include <cstring>
#include <utility>

namespace ckpt {
namespace {

constexpr std::uint64_t kChunk = std::uint64_t{1} << 20U;

}  // namespace

Result<std::shared_ptr<const Latin1Source>> Latin1Source::open(std::shared_ptr<const ByteSource> text,
                                                               Extent extent) {
  const std::shared_ptr<Latin1Source> source(new Latin1Source(std::move(text), extent));
  while (source->read_ < extent.size) CKPT_RETURN_IF_ERROR(source->advance());
  source->size_ = source->begin_ + source->bytes_.size();
  return std::shared_ptr<const Latin1Source>(source);
}

/// Decodes the next stretch of the text.
Status Latin1Source::advance() const {
  Bytes chunk(std::min(kChunk, extent_.size - read_));
  CKPT_RETURN_IF_ERROR(text_->read_at(extent_.offset + read_, chunk));
  begin_ += bytes_.size();
  bytes_.clear();
  std::size_t i = 0;
  while (i < chunk.size()) {
    const auto first = std::to_integer<unsigned>(chunk[i]);
    if (first < 0x80) {
      bytes_.push_back(chunk[i++]);
      continue;
    }
    if (i + 1 == chunk.size() && read_ + chunk.size() < extent_.size) break;  // its half comes next
    if ((first != 0xC2 && first != 0xC3) || i + 1 == chunk.size())
      return Error(ErrorCode::kCorrupt, "a text that stands for bytes has a letter past U+00FF")
          .at(extent_.offset + read_ + i);
    const auto second = std::to_integer<unsigned>(chunk[i + 1]);
    bytes_.push_back(static_cast<std::byte>(((first << 6U) | (second & 0x3FU)) & 0xFFU));
    i += 2;
  }
  read_ += i;
  return {};
}

Status Latin1Source::read_at(std::uint64_t offset, std::span<std::byte> out) const {
  CKPT_RETURN_IF_ERROR(require({offset, out.size()}));
  const std::lock_guard lock(mutex_);
  if (offset < begin_) {
    begin_ = 0;
    read_ = 0;
    bytes_.clear();
  }
  while (!out.empty()) {
    if (offset >= begin_ + bytes_.size()) {
      CKPT_RETURN_IF_ERROR(advance());
      continue;
    }
    const auto size = std::min<std::uint64_t>(out.size(), begin_ + bytes_.size() - offset);
    std::memcpy(out.data(), bytes_.data() + (offset - begin_), size);
    out = out.subspan(size);
    offset += size;
  }
  return {};
}

}  // namespace ckpt
