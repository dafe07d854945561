// SPDX-License-Identifier: BSD-3-Clause
#include "ckpt/inspect/value_stream.h"

#include <algorithm>

#include "ckpt/inspect/values.h"

namespace ckpt {
namespace {

constexpr std::uint64_t kLoaded = 64ULL << 20U;  // a strided view's span that is gathered in memory

}  // namespace

Result<ValueStream> ValueStream::open(const Checkpoint& checkpoint, const TensorInfo& tensor,
                                      ValueOrder order) {
  const auto& info = dtype_info(tensor.dtype);
  CKPT_ASSIGN_OR_RETURN(const auto storage, storage_extent(checkpoint, tensor.storage));
  ValueStream stream;
  const auto view = checkpoint.view_extent(tensor);
  stream.source_ = checkpoint.parts.front().source.get();
  stream.begin_ = storage.offset + view.offset;
  stream.extent_ = view.size;
  stream.size_ = checkpoint.bytes(tensor);
  stream.item_ = info.item_size;
  stream.contiguous_ = tensor.has(kContiguous) || order == ValueOrder::kAsTheyLie;
  if (checkpoint.big_endian && !checkpoint.storages[tensor.storage].untyped)
    stream.swapped_ = info.dtype_class == DtypeClass::kComplex ? stream.item_ / 2 : stream.item_;
  if (stream.contiguous_ || stream.size_ == 0) return stream;

  const auto shape = checkpoint.shape(tensor);
  const auto strides = checkpoint.strides(tensor);
  stream.run_ = stream.item_;
  auto outer = static_cast<std::size_t>(tensor.rank);
  for (; outer > 0; --outer) {  // dimensions that lie in C order are one run
    const auto size = static_cast<std::uint64_t>(shape[outer - 1]);
    const auto step = static_cast<std::uint64_t>(strides[outer - 1]) * stream.item_;
    if (size != 1 && step != stream.run_) break;
    stream.run_ *= size;
  }
  for (std::size_t i = 0; i < outer; ++i) {
    stream.sizes_.push_back(static_cast<std::uint64_t>(shape[i]));
    stream.steps_.push_back(static_cast<std::uint64_t>(strides[i]) * stream.item_);
  }
  stream.index_.assign(outer, 0);
  CKPT_RETURN_IF_ERROR(stream.load());
  return stream;
}

Status ValueStream::load() {
  if (extent_ > kLoaded) return {};
  loaded_.resize(extent_);
  return source_->read_at(begin_, loaded_);
}

Status ValueStream::read_at(std::uint64_t offset, std::span<std::byte> out) const {
  if (loaded_.empty()) return source_->read_at(begin_ + offset, out);
  std::copy_n(loaded_.begin() + static_cast<std::ptrdiff_t>(offset), out.size(), out.begin());
  return {};
}

Status ValueStream::read_runs(std::span<std::byte> out) {
  while (!out.empty()) {
    std::uint64_t offset = in_run_;
    for (std::size_t i = 0; i < index_.size(); ++i) offset += index_[i] * steps_[i];
    const auto size = std::min<std::uint64_t>(out.size(), run_ - in_run_);
    CKPT_RETURN_IF_ERROR(read_at(offset, out.first(size)));
    out = out.subspan(size);
    in_run_ += size;
    if (in_run_ < run_) continue;
    in_run_ = 0;
    for (auto i = index_.size(); i-- > 0;) {
      if (++index_[i] < sizes_[i]) break;
      index_[i] = 0;
    }
  }
  return {};
}

Status ValueStream::read(std::span<std::byte> out) {
  if (contiguous_) {
    CKPT_RETURN_IF_ERROR(source_->read_at(begin_ + done_, out));
  } else {
    CKPT_RETURN_IF_ERROR(read_runs(out));
  }
  done_ += out.size();
  if (swapped_ > 1) {
    for (std::size_t at = 0; at < out.size(); at += swapped_)
      std::reverse(out.data() + at, out.data() + at + swapped_);
  }
  return {};
}

}  // namespace ckpt
