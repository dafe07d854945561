// SPDX-License-Identifier: BSD-3-Clause
// The bytes that a text of Latin-1 letters stands for, as pickles of protocol 2 spell bytes: UTF-8, two bytes
// for each from 0x80 on. Read like a file; the text stays where it is.
#pragma once

#include <cstdint>
#include <memory>
#include <mutex>
#include <string>

#include "ckpt/base/export.h"
#include "ckpt/base/result.h"
#include "ckpt/io/byte_source.h"

namespace ckpt {

class CKPT_EXPORT Latin1Source final : public ByteSource {
 public:
  /// Reads the text once, to count its letters. Errors: kCorrupt for a letter past U+00FF; those of `text`.
  static Result<std::shared_ptr<const Latin1Source>> open(std::shared_ptr<const ByteSource> text,
                                                          Extent extent);

  const std::string& name() const override { return text_->name(); }

  std::uint64_t size() const override { return size_; }

  /// Quick for who reads forward; who goes back begins anew.
  Status read_at(std::uint64_t offset, std::span<std::byte> out) const override;

 private:
  Latin1Source(std::shared_ptr<const ByteSource> text, Extent extent)
      : text_(std::move(text)), extent_(extent) {}

  Status advance() const;

  std::shared_ptr<const ByteSource> text_;
  Extent extent_;
  std::uint64_t size_ = 0;
  mutable std::mutex mutex_;
  mutable std::uint64_t read_ = 0;   ///< bytes of the text up to the end of `bytes_`
  mutable std::uint64_t begin_ = 0;  ///< of `bytes_` in this source
  mutable Bytes bytes_;              ///< decoded last
};

}  // namespace ckpt
