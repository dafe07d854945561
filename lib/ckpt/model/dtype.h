// SPDX-License-Identifier: BSD-3-Clause
// Element types: one row each, with the spellings of PyTorch and safetensors. Sources: PyTorch's
// c10/core/ScalarType.h and torch/storage.py, safetensors' src/tensor.rs.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string_view>

#include "ckpt/base/export.h"

namespace ckpt {

enum class Dtype : std::uint8_t {
  kUint8,
  kInt8,
  kInt16,
  kInt32,
  kInt64,
  kFloat16,
  kFloat32,
  kFloat64,
  kComplex32,
  kComplex64,
  kComplex128,
  kBool,
  kQint8,
  kQuint8,
  kQint32,
  kBfloat16,
  kQuint4x2,
  kQuint2x4,
  kBits1x8,
  kBits2x4,
  kBits4x2,
  kBits8,
  kBits16,
  kFloat8E5m2,
  kFloat8E4m3fn,
  kFloat8E5m2fnuz,
  kFloat8E4m3fnuz,
  kUint16,
  kUint32,
  kUint64,
  kFloat8E8m0fnu,
  kFloat4E2m1fnX2,
  kBcomplex32,
  kFloat6E2m3,  ///< safetensors only
  kFloat6E3m2,  ///< safetensors only
};

enum class DtypeClass : std::uint8_t { kFloat, kComplex, kInteger, kBool, kQuantized, kBits };

struct DtypeInfo {
  Dtype dtype;
  std::string_view name;           ///< PyTorch's, without "torch."
  std::string_view storage_class;  ///< "FloatStorage"; empty where storages are untyped
  std::string_view safetensors;    ///< "F32"; empty where the format has none
  std::uint8_t item_size;          ///< bytes of a storage element
  std::uint8_t bits;               ///< bits of a value as safetensors counts them
  std::uint8_t values_per_item;    ///< 2 and 4 for quint4x2 and quint2x4, else 1
  DtypeClass dtype_class;
};

CKPT_EXPORT const DtypeInfo& dtype_info(Dtype dtype);
CKPT_EXPORT std::span<const DtypeInfo> all_dtypes();
/// Can a tensor of it require a gradient? PyTorch: floating point and complex ones.
bool is_differentiable(Dtype dtype);

/// "float32" → kFloat32; also PyTorch's aliases (half, float, double, long, …).
CKPT_EXPORT std::optional<Dtype> dtype_by_name(std::string_view name);
/// What somebody means who writes fp32, BF16 or torch.half: for suggestions.
CKPT_EXPORT std::optional<Dtype> dtype_meant_by(std::string_view name);
/// "FloatStorage" → kFloat32.
std::optional<Dtype> dtype_by_storage_class(std::string_view name);
/// The class that TorchScript archives name, which have one for every dtype: "FloatStorage", "UInt16Storage".
/// Empty for dtypes that PyTorch doesn't have.
CKPT_EXPORT std::string_view script_storage_class(Dtype dtype);
std::optional<Dtype> dtype_by_script_storage_class(std::string_view name);
/// "F32" → kFloat32; "F4" is counted in values, so the shape differs from PyTorch's.
std::optional<Dtype> dtype_by_safetensors(std::string_view name);

}  // namespace ckpt
