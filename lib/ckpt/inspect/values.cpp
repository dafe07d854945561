// SPDX-License-Identifier: BSD-3-Clause
#include "ckpt/inspect/values.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include <fmt/format.h>

#include "ckpt/compute/convert.h"
#include "ckpt/compute/element_types.h"
#include "ckpt/compute/lazy_bits.h"
#include "ckpt/format/torch_zip.h"
#include "ckpt/model/byte_order.h"
#include "ckpt/model/key_path.h"

namespace ckpt {
namespace {

/// Of a float, or of the first half of a complex number.
double float_value(Dtype dtype, const std::byte* data) {
  double out = NAN;
  with_real_element(part_dtype(dtype), [&](auto element) {
    std::memcpy(&element, data, sizeof element);
    out = static_cast<double>(number_of(element));
  });
  return out;
}

std::string json_float(double value, Dtype dtype) {
  if (std::isnan(value)) return "\"NaN\"";
  if (std::isinf(value)) return value < 0 ? "\"-Infinity\"" : "\"Infinity\"";
  if (dtype == Dtype::kFloat64 || dtype == Dtype::kComplex128) return python_float(value);
  return fmt::format("{}", static_cast<float>(value));
}

std::string raw_bits(const std::byte* data, std::size_t size) {
  std::string out = "\"0x";
  for (std::size_t i = size; i-- > 0;) out += fmt::format("{:02x}", static_cast<unsigned>(data[i]));
  return out + '"';
}

/// Flags are those of floats and complex numbers: integers have been negated.
std::string value_text(Dtype dtype, std::uint16_t flags, const std::byte* data) {
  const auto& info = dtype_info(dtype);
  const double sign = (flags & kNegative) != 0 ? -1 : 1;
  switch (info.dtype_class) {
    case DtypeClass::kBool: return data[0] == std::byte{0} ? "false" : "true";
    case DtypeClass::kFloat:
      if (info.bits < 8) return raw_bits(data, 1);
      return json_float(sign * float_value(dtype, data), dtype);
    case DtypeClass::kComplex: {
      const auto imaginary =
          float_value(dtype, data + info.item_size / 2) * ((flags & kConjugate) != 0 ? -1 : 1);
      return fmt::format("[{},{}]", json_float(sign * float_value(dtype, data), dtype),
                         json_float(sign * imaginary, dtype));
    }
    default: break;
  }
  switch (dtype) {
    case Dtype::kUint8:
    case Dtype::kQuint8: return std::to_string(load_le<std::uint8_t>(data));
    case Dtype::kInt8:
    case Dtype::kQint8: return std::to_string(load_le<std::int8_t>(data));
    case Dtype::kInt16: return std::to_string(load_le<std::int16_t>(data));
    case Dtype::kUint16: return std::to_string(load_le<std::uint16_t>(data));
    case Dtype::kInt32:
    case Dtype::kQint32: return std::to_string(load_le<std::int32_t>(data));
    case Dtype::kUint32: return std::to_string(load_le<std::uint32_t>(data));
    case Dtype::kInt64: return std::to_string(load_le<std::int64_t>(data));
    case Dtype::kUint64: return std::to_string(load_le<std::uint64_t>(data));
    default: return raw_bits(data, info.item_size);
  }
}

}  // namespace

Result<Extent> storage_extent(const Checkpoint& checkpoint, StorageId id) {
  const auto& storage = checkpoint.storages[id];
  const bool in_records =
      checkpoint.format == FormatId::kTorchZip || checkpoint.format == FormatId::kTorchScript;
  if (!in_records) return storage.extent;
  const auto& data = static_cast<const TorchZipData&>(*checkpoint.parts.front().container);
  if (!data.directory.entry(storage.record).stored()) {
    return Error(ErrorCode::kUnsupported, "the record is compressed")
        .in_record(data.directory.name(storage.record));
  }
  CKPT_ASSIGN_OR_RETURN(const auto location, data.directory.locate(storage.record));
  return location.data;
}

Result<std::vector<std::string>> first_values(const Checkpoint& checkpoint, const TensorInfo& tensor,
                                              std::uint64_t count) {
  const auto& info = dtype_info(tensor.dtype);
  const bool packed =
      info.values_per_item > 1 || (checkpoint.format == FormatId::kSafetensors && info.bits < 8);
  if (tensor.storage == kNoIndex || packed) {
    return Error(ErrorCode::kUnsupported, "the values of this kind of tensor can't be shown");
  }
  CKPT_ASSIGN_OR_RETURN(const auto extent, storage_extent(checkpoint, tensor.storage));
  const auto& source = *checkpoint.parts.front().source;
  const auto shape = checkpoint.shape(tensor);
  const auto strides = checkpoint.strides(tensor);
  std::vector<std::int64_t> index(tensor.rank);
  std::vector<std::string> out;
  const bool swapped = has_turned_bytes(checkpoint, tensor);
  std::byte item[16];
  count = std::min(count, checkpoint.numel(tensor));
  for (std::uint64_t i = 0; i < count; ++i) {
    std::uint64_t element = tensor.offset;
    for (std::size_t d = 0; d < tensor.rank; ++d)
      element += static_cast<std::uint64_t>(index[d] * strides[d]);
    CKPT_RETURN_IF_ERROR(
        source.read_at(extent.offset + element * info.item_size, std::span(item, info.item_size)));
    if (swapped) swap_byte_order(tensor.dtype, std::span(item, info.item_size));
    if (info.dtype_class == DtypeClass::kInteger)
      resolve_lazy_bits(tensor.dtype, lazy_bits_of(tensor), std::span(item, info.item_size));
    out.push_back(value_text(tensor.dtype, tensor.flags, item));
    for (std::size_t d = tensor.rank; d-- > 0;) {
      if (++index[d] < shape[d]) break;
      index[d] = 0;
    }
  }
  return out;
}

}  // namespace ckpt
