// SPDX-License-Identifier: BSD-3-Clause
#include "ckpt/compute/merge_integers.h"

#include <algorithm>
#include <cstring>

#include <fmt/format.h>

#include "ckpt/compute/convert.h"

namespace ckpt {
namespace {

/// Bools of any byte but 0 are true.
template <typename Integer>
Integer load(const std::byte* at, bool is_bool) {
  Integer out;
  std::memcpy(&out, at, sizeof out);
  return is_bool && out != 0 ? Integer{1} : out;
}

/// Makes `out` the greater of both, or their sum; false where it is too large.
template <typename Integer>
bool put_together(IntegerRule rule, bool is_bool, ByteView more, std::span<std::byte> out) {
  bool fits = true;
  for (std::size_t at = 0; at + sizeof(Integer) <= out.size(); at += sizeof(Integer)) {
    const auto a = load<Integer>(out.data() + at, is_bool);
    const auto b = load<Integer>(more.data() + at, is_bool);
    auto sum = std::max(a, b);
    if (rule == IntegerRule::kSum && !is_bool) fits = !__builtin_add_overflow(a, b, &sum) && fits;
    std::memcpy(out.data() + at, &sum, sizeof sum);
  }
  return fits;
}

bool put_together(Dtype dtype, IntegerRule rule, ByteView more, std::span<std::byte> out) {
  switch (dtype) {
    case Dtype::kBool: return put_together<std::uint8_t>(rule, true, more, out);
    case Dtype::kUint8: return put_together<std::uint8_t>(rule, false, more, out);
    case Dtype::kInt8: return put_together<std::int8_t>(rule, false, more, out);
    case Dtype::kInt16: return put_together<std::int16_t>(rule, false, more, out);
    case Dtype::kInt32: return put_together<std::int32_t>(rule, false, more, out);
    case Dtype::kUint16: return put_together<std::uint16_t>(rule, false, more, out);
    case Dtype::kUint32: return put_together<std::uint32_t>(rule, false, more, out);
    case Dtype::kUint64: return put_together<std::uint64_t>(rule, false, more, out);
    default: return put_together<std::int64_t>(rule, false, more, out);
  }
}

class IntegerMerge final : public TensorMerge {
 public:
  explicit IntegerMerge(const MergeJob& job) : job_(job) {
    const auto& info = dtype_info(job.dtype);
    item_ = info.item_size;
    size_ = (job.numel() + info.values_per_item - 1) / info.values_per_item * item_;
  }

  std::uint64_t chunks() const override { return (size_ + kChunk - 1) / kChunk; }

  Extent chunk(std::uint64_t index) const override {
    return {index * kChunk, std::min(kChunk, size_ - index * kChunk)};
  }

  Status combine(std::uint64_t chunk, MergeScratch& scratch, const Emit& emit) override {
    const auto extent = this->chunk(chunk);
    const auto first = job_.base.value_or(0);
    scratch.out.resize(extent.size);
    CKPT_RETURN_IF_ERROR(read(first, extent, scratch.out));
    if (job_.integers != IntegerRule::kFirst) {
      scratch.raw.resize(std::max<std::size_t>(scratch.raw.size(), 1));
      auto& other = scratch.raw[0];
      other.resize(extent.size);
      for (std::size_t i = 0; i < job_.inputs.size(); ++i) {
        if (i == first) continue;
        CKPT_RETURN_IF_ERROR(read(i, extent, other));
        CKPT_RETURN_IF_ERROR(add(i, other, scratch.out));
      }
    }
    return emit(extent.offset, scratch.out);
  }

 private:
  static constexpr std::uint64_t kChunk = std::uint64_t{1} << 18U;  ///< bytes

  Status read(std::size_t index, Extent extent, std::span<std::byte> out) const {
    const auto& input = job_.inputs[index];
    CKPT_RETURN_IF_ERROR(input.source->read_at(input.offset + extent.offset, out));
    if (input.swapped) swap_byte_order(input.dtype, out);
    if (dtype_info(input.dtype).dtype_class == DtypeClass::kInteger)
      resolve_lazy_bits(input.dtype, input.lazy, out);
    return {};
  }

  Status add(std::size_t input, ByteView more, std::span<std::byte> out) const {
    if (job_.integers == IntegerRule::kEqual) {
      const auto [place, other] = std::mismatch(out.begin(), out.end(), more.begin());
      if (place == out.end()) return {};
      return Error(ErrorCode::kRefused,
                   fmt::format("tensor '{}' of {} differs in '{}'", job_.name, dtype_info(job_.dtype).name,
                               job_.inputs[input].source->name()))
          .with_hint("--integers first, max or sum says which value the result gets");
    }
    if (put_together(job_.dtype, job_.integers, more, out)) return {};
    return Error(ErrorCode::kRefused, fmt::format("tensor '{}': the sum is more than {} holds", job_.name,
                                                  dtype_info(job_.dtype).name));
  }

  const MergeJob& job_;
  std::size_t item_;
  std::uint64_t size_;  ///< bytes
};

}  // namespace

std::unique_ptr<TensorMerge> make_integer_merge(const MergeJob& job) {
  return std::make_unique<IntegerMerge>(job);
}

}  // namespace ckpt
