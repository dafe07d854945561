// SPDX-License-Identifier: BSD-3-Clause
// Elements of tensors as bytes, for code that is a template over what they are: float, double or one of the
// floats of 16 bits.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstring>
#include <span>
#include <type_traits>
#include <utility>

#include "ckpt/base/bytes.h"
#include "ckpt/compute/narrow_floats.h"
#include "ckpt/model/dtype.h"

namespace ckpt {

inline constexpr std::uint64_t kBatch = 624;  ///< elements made at once: a state of the generator

/// `function(element)` for an element of the dtype, whose type is what counts. Precondition: one of the four.
template <typename Function>
auto with_element(Dtype dtype, Function function) {
  switch (dtype) {
    case Dtype::kFloat16: return function(Float16());
    case Dtype::kBfloat16: return function(Bfloat16());
    case Dtype::kFloat64: return function(double());
    default: return function(float());
  }
}

template <typename Element>
inline constexpr bool kIsNarrow = sizeof(Element) == 2;

/// What an operation on elements computes in, before it rounds.
template <typename Element>
using Computed = std::conditional_t<kIsNarrow<Element>, float, Element>;

/// Rounded as a cast does it: by way of float32 where the element is narrower.
template <typename Element>
Element rounded(double value) {
  return Element(static_cast<Computed<Element>>(value));
}

/// Bytes seen as elements.
template <typename Element>
class Elements {
 public:
  explicit Elements(std::uint64_t count) : bytes_(count * sizeof(Element)) {}

  explicit Elements(Bytes bytes) : bytes_(std::move(bytes)) {}

  std::uint64_t size() const { return bytes_.size() / sizeof(Element); }

  Element operator[](std::uint64_t i) const {
    Element element;
    std::memcpy(&element, bytes_.data() + i * sizeof(Element), sizeof(Element));
    return element;
  }

  void set(std::uint64_t i, Element element) { set(i, std::span<const Element>(&element, 1)); }

  void set(std::uint64_t i, std::span<const Element> elements) {
    std::memcpy(bytes_.data() + i * sizeof(Element), elements.data(), elements.size_bytes());
  }

  /// Batch after batch from `make(batch)`.
  template <typename Make>
  static Elements in_batches(std::uint64_t count, Make make) {
    Bytes bytes;
    bytes.reserve(count * sizeof(Element));
    std::array<Element, kBatch> batch;
    for (std::uint64_t done = 0; done < count; done += kBatch) {
      const auto part = std::span(batch).first(std::min(kBatch, count - done));
      make(part);
      append_bytes(bytes, std::as_bytes(part));
    }
    return Elements(std::move(bytes));
  }

  /// Each element made another by `change(element)`.
  template <typename Change>
  void transform(Change change) {
    for (std::uint64_t i = 0; i < size(); ++i) set(i, change((*this)[i]));
  }

  Bytes take() && { return std::move(bytes_); }

 private:
  Bytes bytes_;
};

}  // namespace ckpt
