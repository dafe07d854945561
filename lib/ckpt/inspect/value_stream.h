// SPDX-License-Identifier: BSD-3-Clause
// The bytes of a tensor's values, little-endian, whatever its strides and its file's byte order. Read in
// pieces: of tensors in C order nothing is kept in memory, of others what a gather keeps.
#pragma once

#include <cstdint>
#include <memory>
#include <span>

#include "ckpt/base/export.h"
#include "ckpt/base/result.h"
#include "ckpt/model/checkpoint.h"

namespace ckpt {

enum class ValueOrder : std::uint8_t {
  kC,          ///< the last index moves fastest, as in PyTorch's own output
  kAsTheyLie,  ///< that of the storage, which spares gathering where order does not matter
};

class CKPT_EXPORT ValueStream {
 public:
  /// Preconditions: the tensor has a storage, and whole bytes an element, and with kAsTheyLie
  /// no holes between them. The checkpoint must outlive it.
  /// Errors: kUnsupported for compressed records; kCorrupt, kIo.
  static Result<ValueStream> open(const Checkpoint& checkpoint, const TensorInfo& tensor,
                                  ValueOrder order = ValueOrder::kC);

  /// Bytes in all: numel × item size.
  std::uint64_t size() const { return size_; }

  /// The next `out.size()` bytes, a multiple of the item size. Precondition: so many are left.
  Status read(std::span<std::byte> out);

 private:
  ValueStream() = default;

  std::shared_ptr<const ByteSource> source_;
  std::uint64_t begin_ = 0;  ///< of the first element, in the source
  std::uint64_t size_ = 0;
  std::uint64_t done_ = 0;
  Dtype dtype_ = Dtype::kUint8;
  bool swapped_ = false;  ///< what is read has the other byte order
};

}  // namespace ckpt
