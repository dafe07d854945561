// SPDX-License-Identifier: BSD-3-Clause
// The C++ types of elements, by dtype.
#pragma once

#include <cstdint>

#include "ckpt/compute/element_casts.h"
#include "ckpt/model/dtype.h"

namespace ckpt {

/// Calls `use` with an element of the type that stands for `dtype` where it is a number that is not complex;
/// false if it is none.
template <typename Use>
bool with_real_element(Dtype dtype, Use use) {
  switch (dtype) {
    case Dtype::kBool: return use(StoredBool{}), true;
    case Dtype::kUint8: return use(std::uint8_t{}), true;
    case Dtype::kInt8: return use(std::int8_t{}), true;
    case Dtype::kInt16: return use(std::int16_t{}), true;
    case Dtype::kInt32: return use(std::int32_t{}), true;
    case Dtype::kInt64: return use(std::int64_t{}), true;
    case Dtype::kUint16: return use(std::uint16_t{}), true;
    case Dtype::kUint32: return use(std::uint32_t{}), true;
    case Dtype::kUint64: return use(std::uint64_t{}), true;
    case Dtype::kFloat16: return use(Float16{}), true;
    case Dtype::kBfloat16: return use(Bfloat16{}), true;
    case Dtype::kFloat32: return use(float{}), true;
    case Dtype::kFloat64: return use(double{}), true;
    case Dtype::kFloat8E4m3fn: return use(Float8E4m3fn{}), true;
    case Dtype::kFloat8E5m2: return use(Float8E5m2{}), true;
    case Dtype::kFloat8E4m3fnuz: return use(Float8E4m3fnuz{}), true;
    case Dtype::kFloat8E5m2fnuz: return use(Float8E5m2fnuz{}), true;
    case Dtype::kFloat8E8m0fnu: return use(Float8E8m0fnu{}), true;
    default: return false;
  }
}

/// The dtype of both halves of a complex one; of any other, itself.
inline Dtype part_dtype(Dtype dtype) {
  switch (dtype) {
    case Dtype::kComplex32: return Dtype::kFloat16;
    case Dtype::kBcomplex32: return Dtype::kBfloat16;
    case Dtype::kComplex64: return Dtype::kFloat32;
    case Dtype::kComplex128: return Dtype::kFloat64;
    default: return dtype;
  }
}

}  // namespace ckpt
