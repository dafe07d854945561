// SPDX-License-Identifier: BSD-3-Clause
// Gathers for tests, made at random, and the slow obvious way to do one.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <numeric>
#include <random>
#include <string>
#include <vector>

#include "ckpt/base/bytes.h"
#include "ckpt/compute/module_abi.h"
#include "modules/cuda/element_bits.h"

namespace ckpt::test {

inline constexpr std::int32_t kNumbers[] = {CKPT_BOOL,
                                            CKPT_UINT8,
                                            CKPT_INT8,
                                            CKPT_UINT16,
                                            CKPT_INT16,
                                            CKPT_UINT32,
                                            CKPT_INT32,
                                            CKPT_UINT64,
                                            CKPT_INT64,
                                            CKPT_FLOAT16,
                                            CKPT_BFLOAT16,
                                            CKPT_FLOAT32,
                                            CKPT_FLOAT64,
                                            CKPT_FLOAT8_E4M3FN,
                                            CKPT_FLOAT8_E5M2,
                                            CKPT_FLOAT8_E4M3FNUZ,
                                            CKPT_FLOAT8_E5M2FNUZ,
                                            CKPT_FLOAT8_E8M0FNU};
inline constexpr std::int32_t kOpaque[] = {CKPT_OPAQUE_1, CKPT_OPAQUE_2, CKPT_OPAQUE_4, CKPT_OPAQUE_8,
                                           CKPT_OPAQUE_16};

using Random = std::mt19937_64;

/// For messages.
inline std::string text_of(const CkptGather& gather) {
  std::string text = std::to_string(gather.source_dtype) + " to " + std::to_string(gather.target_dtype) +
                     " swap " + std::to_string(gather.swap);
  for (std::uint32_t i = 0; i < gather.rank; ++i) {
    text += " [" + std::to_string(gather.sizes[i]) + ": " + std::to_string(gather.from[i]) + " to " +
            std::to_string(gather.to[i]) + "]";
  }
  return text;
}

/// `count` elements that lie in order on both sides.
inline CkptGather dense(std::int32_t from, std::int32_t to, std::uint64_t count) {
  CkptGather gather{};
  gather.rank = 1;
  gather.source_dtype = from;
  gather.target_dtype = to;
  gather.sizes[0] = count;
  gather.from[0] = gather.to[0] = 1;
  return gather;
}

inline std::uint64_t below(Random& random, std::uint64_t limit) {
  return random() % limit;
}

inline Bytes random_bytes(Random& random, std::size_t size) {
  Bytes bytes(size + 8);
  for (std::size_t i = 0; i < size; i += 8) {
    const auto number = random();
    std::memcpy(bytes.data() + i, &number, 8);
  }
  bytes.resize(size);
  return bytes;
}

/// One element, turned and converted.
inline void gather_element(const CkptGather& gather, const std::byte* from, std::byte* to) {
  const auto from_size = cuda::element_size(gather.source_dtype);
  std::byte item[16] = {};
  std::memcpy(item, from, from_size);
  if (gather.swap > 1) {
    for (std::uint32_t at = 0; at < from_size; at += gather.swap)
      std::reverse(item + at, item + at + gather.swap);
  }
  if (gather.source_dtype != gather.target_dtype) {
    std::uint64_t bits = 0;
    std::memcpy(&bits, item, from_size);
    bits = cuda::cast_bits(gather.source_dtype, gather.target_dtype, bits);
    std::memcpy(item, &bits, sizeof(bits));
  }
  std::memcpy(to, item, cuda::element_size(gather.target_dtype));
}

inline void gather_slowly(const CkptGather& gather, const std::byte* source, std::byte* target,
                          std::uint32_t dimension = 0) {
  if (dimension == gather.rank) return gather_element(gather, source, target);
  const auto from = gather.from[dimension] * cuda::element_size(gather.source_dtype);
  const auto to = gather.to[dimension] * cuda::element_size(gather.target_dtype);
  for (std::uint64_t i = 0; i < gather.sizes[dimension]; ++i)
    gather_slowly(gather, source + i * from, target + i * to, dimension + 1);
}

/// Bytes that a gather reads and writes, from its first elements to its last.
inline std::size_t reach(const CkptGather& gather, const std::uint64_t* strides, std::int32_t dtype) {
  std::uint64_t last = 0;
  for (std::uint32_t i = 0; i < gather.rank; ++i) {
    if (gather.sizes[i] == 0) return 0;
    last += (gather.sizes[i] - 1) * strides[i];
  }
  return (last + 1) * cuda::element_size(dtype);
}

/// Strides of a tensor that is a little larger than the box in some dimensions, in a random order of them.
inline void random_strides(Random& random, CkptGather& gather, std::uint64_t* strides, bool in_order) {
  std::vector<std::uint32_t> order(gather.rank);
  std::iota(order.rbegin(), order.rend(), 0U);
  if (!in_order) std::shuffle(order.begin(), order.end(), random);
  const bool is_roomy = below(random, 2) == 0;
  std::uint64_t stride = is_roomy && below(random, 3) == 0 ? 1 + below(random, 3) : 1;
  for (const auto dimension : order) {
    strides[dimension] = stride;
    stride *= gather.sizes[dimension] + (is_roomy && below(random, 2) == 0 ? below(random, 4) : 0);
  }
}

/// A gather of about `elements` elements: permuted, sliced, expanded, into a dense tensor or a box.
inline CkptGather random_gather(Random& random, std::uint64_t elements) {
  CkptGather gather{};
  gather.rank = static_cast<std::uint32_t>(below(random, CKPT_MAX_RANK + 1));
  if (below(random, 2) == 0) gather.rank = std::min(gather.rank, 3U);
  std::uint64_t left = elements;
  for (std::uint32_t i = 0; i < gather.rank; ++i) {
    const auto share = i + 1 == gather.rank ? left : 1 + below(random, std::max<std::uint64_t>(1, left));
    gather.sizes[i] =
        std::max<std::uint64_t>(1, std::min(left, below(random, 4) == 0 ? 1 + below(random, 5) : share));
    if (below(random, 3) == 0) gather.sizes[i] = std::min<std::uint64_t>(left, 16 * (1 + below(random, 8)));
    left = std::max<std::uint64_t>(1, left / gather.sizes[i]);
  }
  std::shuffle(gather.sizes, gather.sizes + gather.rank, random);
  random_strides(random, gather, gather.from, below(random, 3) == 0);
  random_strides(random, gather, gather.to, below(random, 3) != 0);
  for (std::uint32_t i = 0; i < gather.rank; ++i) {
    if (below(random, 12) == 0) gather.from[i] = 0;
  }
  if (below(random, 2) == 0) {
    gather.source_dtype = kNumbers[below(random, std::size(kNumbers))];
    gather.target_dtype = kNumbers[below(random, std::size(kNumbers))];
  } else {
    gather.source_dtype = gather.target_dtype = kOpaque[below(random, std::size(kOpaque))];
  }
  const auto size = cuda::element_size(gather.source_dtype);
  if (below(random, 3) == 0) gather.swap = size <= 8 ? size : 8;
  if (gather.swap == 8 && gather.source_dtype == gather.target_dtype && below(random, 2) == 0)
    gather.swap = size == 8 ? 4 : 8;
  return gather;
}

/// Random bit patterns of a dtype, in front of them the ones that rules are made of.
inline Bytes telling_values(Random& random, std::int32_t dtype, std::size_t count) {
  const auto size = cuda::element_size(dtype);
  auto bytes = random_bytes(random, count * size);
  std::vector<std::uint64_t> patterns;
  if (size <= 2) {
    for (std::uint64_t i = 0; i < std::uint64_t{1} << (8U * size); ++i) patterns.push_back(i);
  } else if (dtype == CKPT_FLOAT32 || dtype == CKPT_FLOAT64) {
    const unsigned mantissa = dtype == CKPT_FLOAT32 ? 23 : 52;
    const unsigned exponents = dtype == CKPT_FLOAT32 ? 256 : 2048;
    const auto one = std::uint64_t{1};
    for (std::uint64_t exponent = 0; exponent < exponents; ++exponent) {
      for (const std::uint64_t top :
           {one << (mantissa - 1), one << (mantissa - 2), one << (mantissa - 3), one << (mantissa - 4),
            one << (mantissa - 8), one << (mantissa - 9), one << (mantissa - 11), one << (mantissa - 12),
            (one << mantissa) - (one << (mantissa - 9)), one << mantissa >> 20U, std::uint64_t{0}}) {
        for (const std::int64_t step : {-1, 0, 1}) {
          const auto pattern = (exponent << mantissa) + top + static_cast<std::uint64_t>(step);
          const auto sign = one << (8U * size - 1);
          patterns.push_back(pattern & (sign - 1));
          patterns.push_back((pattern & (sign - 1)) | sign);
        }
      }
    }
    // Small integers and halves, on both sides of zero: what becomes integers.
    for (int i = -70000; i < 70000; i += 37) {
      const double value = i / 2.0;
      patterns.push_back(dtype == CKPT_FLOAT32 ? bits_as<std::uint32_t>(static_cast<float>(value))
                                               : bits_as<std::uint64_t>(value));
    }
  } else {
    for (unsigned bit = 0; bit < 8U * size; ++bit) {
      for (const std::int64_t step : {-2, -1, 0, 1, 2}) {
        patterns.push_back((std::uint64_t{1} << bit) + static_cast<std::uint64_t>(step));
        patterns.push_back(~((std::uint64_t{1} << bit) + static_cast<std::uint64_t>(step)));
      }
    }
  }
  patterns.resize(std::min(patterns.size(), count));
  for (std::size_t i = 0; i < patterns.size(); ++i) std::memcpy(bytes.data() + i * size, &patterns[i], size);
  if (dtype == CKPT_BOOL) {
    for (auto& byte : bytes) byte &= std::byte{1};
  }
  return bytes;
}

}  // namespace ckpt::test
