// SPDX-License-Identifier: BSD-3-Clause
#include "ckpt/model/dtype.h"

#include <algorithm>
#include <array>
#include <cctype>
#include <string>
#include <utility>

namespace ckpt {
namespace {

using C = DtypeClass;

// Row i describes the i-th enumerator.
constexpr std::array<DtypeInfo, 35> kDtypes = {{
    {Dtype::kUint8, "uint8", "ByteStorage", "U8", 1, 8, 1, C::kInteger},
    {Dtype::kInt8, "int8", "CharStorage", "I8", 1, 8, 1, C::kInteger},
    {Dtype::kInt16, "int16", "ShortStorage", "I16", 2, 16, 1, C::kInteger},
    {Dtype::kInt32, "int32", "IntStorage", "I32", 4, 32, 1, C::kInteger},
    {Dtype::kInt64, "int64", "LongStorage", "I64", 8, 64, 1, C::kInteger},
    {Dtype::kFloat16, "float16", "HalfStorage", "F16", 2, 16, 1, C::kFloat},
    {Dtype::kFloat32, "float32", "FloatStorage", "F32", 4, 32, 1, C::kFloat},
    {Dtype::kFloat64, "float64", "DoubleStorage", "F64", 8, 64, 1, C::kFloat},
    {Dtype::kComplex32, "complex32", "", "", 4, 32, 1, C::kComplex},
    {Dtype::kComplex64, "complex64", "ComplexFloatStorage", "C64", 8, 64, 1, C::kComplex},
    {Dtype::kComplex128, "complex128", "ComplexDoubleStorage", "", 16, 128, 1, C::kComplex},
    {Dtype::kBool, "bool", "BoolStorage", "BOOL", 1, 8, 1, C::kBool},
    {Dtype::kQint8, "qint8", "QInt8Storage", "", 1, 8, 1, C::kQuantized},
    {Dtype::kQuint8, "quint8", "QUInt8Storage", "", 1, 8, 1, C::kQuantized},
    {Dtype::kQint32, "qint32", "QInt32Storage", "", 4, 32, 1, C::kQuantized},
    {Dtype::kBfloat16, "bfloat16", "BFloat16Storage", "BF16", 2, 16, 1, C::kFloat},
    {Dtype::kQuint4x2, "quint4x2", "QUInt4x2Storage", "", 1, 4, 2, C::kQuantized},
    {Dtype::kQuint2x4, "quint2x4", "QUInt2x4Storage", "", 1, 2, 4, C::kQuantized},
    {Dtype::kBits1x8, "bits1x8", "", "", 1, 8, 1, C::kBits},
    {Dtype::kBits2x4, "bits2x4", "", "", 1, 8, 1, C::kBits},
    {Dtype::kBits4x2, "bits4x2", "", "", 1, 8, 1, C::kBits},
    {Dtype::kBits8, "bits8", "", "", 1, 8, 1, C::kBits},
    {Dtype::kBits16, "bits16", "", "", 2, 16, 1, C::kBits},
    {Dtype::kFloat8E5m2, "float8_e5m2", "", "F8_E5M2", 1, 8, 1, C::kFloat},
    {Dtype::kFloat8E4m3fn, "float8_e4m3fn", "", "F8_E4M3", 1, 8, 1, C::kFloat},
    {Dtype::kFloat8E5m2fnuz, "float8_e5m2fnuz", "", "F8_E5M2FNUZ", 1, 8, 1, C::kFloat},
    {Dtype::kFloat8E4m3fnuz, "float8_e4m3fnuz", "", "F8_E4M3FNUZ", 1, 8, 1, C::kFloat},
    {Dtype::kUint16, "uint16", "", "U16", 2, 16, 1, C::kInteger},
    {Dtype::kUint32, "uint32", "", "U32", 4, 32, 1, C::kInteger},
    {Dtype::kUint64, "uint64", "", "U64", 8, 64, 1, C::kInteger},
    {Dtype::kFloat8E8m0fnu, "float8_e8m0fnu", "", "F8_E8M0", 1, 8, 1, C::kFloat},
    {Dtype::kFloat4E2m1fnX2, "float4_e2m1fn_x2", "", "F4", 1, 4, 1, C::kFloat},
    {Dtype::kBcomplex32, "bcomplex32", "", "", 4, 32, 1, C::kComplex},
    {Dtype::kFloat6E2m3, "float6_e2m3", "", "F6_E2M3", 1, 6, 1, C::kFloat},
    {Dtype::kFloat6E3m2, "float6_e3m2", "", "F6_E3M2", 1, 6, 1, C::kFloat},
}};

using OtherName = std::pair<std::string_view, Dtype>;

/// c10::toString of a ScalarType and "Storage", where torch.save writes untyped storages.
constexpr std::array<OtherName, 16> kScriptStorages = {{
    {"ComplexHalfStorage", Dtype::kComplex32},
    {"Bits1x8Storage", Dtype::kBits1x8},
    {"Bits2x4Storage", Dtype::kBits2x4},
    {"Bits4x2Storage", Dtype::kBits4x2},
    {"Bits8Storage", Dtype::kBits8},
    {"Bits16Storage", Dtype::kBits16},
    {"Float8_e5m2Storage", Dtype::kFloat8E5m2},
    {"Float8_e4m3fnStorage", Dtype::kFloat8E4m3fn},
    {"Float8_e5m2fnuzStorage", Dtype::kFloat8E5m2fnuz},
    {"Float8_e4m3fnuzStorage", Dtype::kFloat8E4m3fnuz},
    {"UInt16Storage", Dtype::kUint16},
    {"UInt32Storage", Dtype::kUint32},
    {"UInt64Storage", Dtype::kUint64},
    {"Float8_e8m0fnuStorage", Dtype::kFloat8E8m0fnu},
    {"Float4_e2m1fn_x2Storage", Dtype::kFloat4E2m1fnX2},
    {"BComplex32Storage", Dtype::kBcomplex32},
}};

/// PyTorch's own second names.
constexpr std::array<OtherName, 9> kAliases = {{
    {"half", Dtype::kFloat16},
    {"float", Dtype::kFloat32},
    {"double", Dtype::kFloat64},
    {"short", Dtype::kInt16},
    {"int", Dtype::kInt32},
    {"long", Dtype::kInt64},
    {"chalf", Dtype::kComplex32},
    {"cfloat", Dtype::kComplex64},
    {"cdouble", Dtype::kComplex128},
}};

/// What people write; safetensors' names beside these.
constexpr std::array<OtherName, 8> kNicknames = {{
    {"fp16", Dtype::kFloat16},
    {"fp32", Dtype::kFloat32},
    {"fp64", Dtype::kFloat64},
    {"bfloat", Dtype::kBfloat16},
    {"single", Dtype::kFloat32},
    {"byte", Dtype::kUint8},
    {"char", Dtype::kInt8},
    {"boolean", Dtype::kBool},
}};

template <typename Field>
std::optional<Dtype> find_by(std::string_view text, Field field) {
  if (text.empty()) return std::nullopt;
  const auto found = std::find_if(kDtypes.begin(), kDtypes.end(),
                                  [&](const DtypeInfo& info) { return info.*field == text; });
  if (found == kDtypes.end()) return std::nullopt;
  return found->dtype;
}

template <std::size_t N>
std::optional<Dtype> find_in(const std::array<OtherName, N>& names, std::string_view name) {
  const auto found =
      std::find_if(names.begin(), names.end(), [&](const OtherName& other) { return other.first == name; });
  if (found == names.end()) return std::nullopt;
  return found->second;
}

}  // namespace

const DtypeInfo& dtype_info(Dtype dtype) {
  return kDtypes[static_cast<std::size_t>(dtype)];
}

std::span<const DtypeInfo> all_dtypes() {
  return kDtypes;
}

bool is_differentiable(Dtype dtype) {
  const auto kind = dtype_info(dtype).dtype_class;
  return kind == DtypeClass::kFloat || kind == DtypeClass::kComplex;
}

std::optional<Dtype> dtype_by_name(std::string_view name) {
  if (const auto dtype = find_by(name, &DtypeInfo::name)) return dtype;
  return find_in(kAliases, name);
}

std::optional<Dtype> dtype_meant_by(std::string_view name) {
  std::string lower(name);
  std::string upper(name);
  for (auto& letter : lower) letter = static_cast<char>(std::tolower(static_cast<unsigned char>(letter)));
  for (auto& letter : upper) letter = static_cast<char>(std::toupper(static_cast<unsigned char>(letter)));
  if (lower.starts_with("torch.")) lower.erase(0, 6);
  if (const auto dtype = dtype_by_name(lower)) return dtype;
  if (const auto dtype = dtype_by_safetensors(upper)) return dtype;
  return find_in(kNicknames, lower);
}

std::optional<Dtype> dtype_by_storage_class(std::string_view name) {
  return find_by(name, &DtypeInfo::storage_class);
}

std::string_view script_storage_class(Dtype dtype) {
  for (const auto& [name, other] : kScriptStorages) {
    if (other == dtype) return name;
  }
  return dtype_info(dtype).storage_class;
}

std::optional<Dtype> dtype_by_script_storage_class(std::string_view name) {
  if (const auto dtype = dtype_by_storage_class(name)) return dtype;
  return find_in(kScriptStorages, name);
}

std::optional<Dtype> dtype_by_safetensors(std::string_view name) {
  return find_by(name, &DtypeInfo::safetensors);
}

}  // namespace ckpt
