// SPDX-License-Identifier: BSD-3-Clause
#include "modules/torch/stretch.h"

#include <limits>

namespace ckpt::torch_module {
namespace {

constexpr std::uint64_t kMagnitude64 = std::numeric_limits<std::int64_t>::max();
constexpr std::uint64_t kMagnitude32 = std::numeric_limits<std::int32_t>::max();
constexpr std::uint64_t kLower32 = 0xffffffffU;

/// Of the generator that merge_random describes.
constexpr std::uint64_t kStep = 0x9e3779b97f4a7c15U;
constexpr std::uint64_t kFirstFactor = 0xbf58476d1ce4e5b9U;
constexpr std::uint64_t kSecondFactor = 0x94d049bb133111ebU;

/// Shifted without its sign.
Tensor shifted(const Tensor& a, unsigned bits, std::int32_t device) {
  return (a >> integer(bits, device)) & integer(~std::uint64_t{0} >> bits, device);
}

}  // namespace

Tensor Stretch::input(std::size_t index) const {
  return to(tensor_of(call_.inputs[index], first_, count_), dtype());
}

Tensor Stretch::change(std::size_t index, const Tensor& base) const {
  const auto whole = input(index + 1) - base;
  if (call_.mask_count == 0) return whole;
  const auto& mask = call_.masks[index];
  const auto kept = masked(whole, mask);
  return mask.scale == 1 ? kept : kept * number(mask.scale);
}

Tensor Stretch::masked(const Tensor& values, const CkptMask& mask) const {
  if (mask.kind == CKPT_KEEP_ALL) return values;
  if (mask.kind == CKPT_KEEP_RANDOM)
    return where(random(mask.first) < integer(mask.second, device_), values, zero_);
  const auto all = keys(values);
  auto kept = all >= integer(mask.first, device_);
  if (mask.second <= kMagnitude64) kept = kept & (all < integer(mask.second, device_));
  return where(kept, values, zero_);
}

/// The bits of magnitudes as integers.
Tensor Stretch::keys(const Tensor& values) const {
  if (dtype() == ScalarType::Double)
    return bits_as(values, ScalarType::Long) & integer(kMagnitude64, device_);
  return to(bits_as(values, ScalarType::Int), ScalarType::Long) & integer(kMagnitude32, device_);
}

/// 32 random bits for each value.
Tensor Stretch::random(std::uint64_t key) const {
  const auto place = (call_.first_element + first_) / 2;
  const auto pairs = (count_ + 1) / 2;
  const auto steps = repeated(integer(kStep, device_), pairs);
  copy(narrow(steps, 0, 1), integer(key + (place + 1) * kStep, device_));
  auto z = running_sum(steps);
  z = (z ^ shifted(z, 30, device_)) * integer(kFirstFactor, device_);
  z = (z ^ shifted(z, 27, device_)) * integer(kSecondFactor, device_);
  z = z ^ shifted(z, 31, device_);
  const auto halves = to(bits_as(z, ScalarType::Int), ScalarType::Long) & integer(kLower32, device_);
  return narrow(halves, 0, count_);
}

}  // namespace ckpt::torch_module
