// SPDX-License-Identifier: BSD-3-Clause
#include "ckpt/model/numpy_values.h"

#include <algorithm>
#include <bit>
#include <charconv>
#include <cmath>
#include <cstring>
#include <limits>
#include <string_view>

#include "ckpt/base/text.h"
#include "ckpt/model/anatomy.h"

namespace ckpt {
namespace {

bool is_numpy(const ValueGraph& graph, Use use, std::string_view name) {
  const auto global = graph.global(use);
  return global && global->name == name &&
         (global->module == "numpy" || global->module.starts_with("numpy."));
}

std::vector<Use> elements_of(const ValueGraph& graph, Use use) {
  Anatomy tuple;
  dissect(graph, graph.resolve(use), tuple);
  return std::move(tuple.elements);
}

/// The bytes that a text of Latin-1 letters stands for.
std::optional<std::string> from_latin1(std::string_view text) {
  std::string bytes;
  bytes.reserve(text.size());
  for (std::size_t i = 0; i < text.size(); ++i) {
    auto byte = static_cast<unsigned char>(text[i]);
    if (byte >= 0x80) {
      if ((byte != 0xC2 && byte != 0xC3) || i + 1 == text.size()) return std::nullopt;
      byte =
          static_cast<unsigned char>(unsigned{byte} << 6U | (static_cast<unsigned char>(text[++i]) & 0x3FU));
    }
    bytes += static_cast<char>(byte);
  }
  return bytes;
}

std::optional<Extent> outside_body(const ValueGraph& graph, Use node) {
  const auto& bodies = graph.outside_bodies();
  const auto found =
      std::lower_bound(bodies.begin(), bodies.end(), graph.at(node),
                       [](const ValueGraph::OutsideBody& body, std::uint32_t at) { return body.at < at; });
  if (found == bodies.end() || found->at != graph.at(node)) return std::nullopt;
  return found->extent;
}

std::optional<NumpyDtype> read_dtype(const ValueGraph& graph, Use use) {
  Anatomy dtype;
  dissect(graph, graph.resolve(use), dtype);
  if (dtype.arguments.size() < 2 || !is_numpy(graph, dtype.arguments[0], "dtype")) return std::nullopt;
  const auto code = graph.string(dtype.arguments[1]);
  if (!code || code->size() < 2) return std::nullopt;
  NumpyDtype read;
  read.kind = code->front();
  const auto* end = code->data() + code->size();
  const auto parsed = std::from_chars(code->data() + 1, end, read.size);
  if (parsed.ec != std::errc() || parsed.ptr != end) return std::nullopt;
  if (read.kind == 'U') {
    if (read.size > 0x10000) return std::nullopt;
    read.size *= 4;  // counted in characters
  }
  if (dtype.states.size() > 1) return std::nullopt;
  if (!dtype.states.empty()) {
    const auto state = elements_of(graph, dtype.states.front());
    if (state.size() < 5 || !graph.is_none(state[2]) || !graph.is_none(state[3]) || !graph.is_none(state[4]))
      return std::nullopt;  // with subarrays or fields
    read.big_endian = graph.string(state[1]) == ">";
  }
  return read;
}

/// A number of `bytes`, whose order is turned where it is not the processor's.
template <typename T>
T number(std::string bytes, bool big_endian) {
  if (big_endian) std::reverse(bytes.begin(), bytes.end());
  T value;
  std::memcpy(&value, bytes.data(), sizeof value);
  return value;
}

double from_half(std::uint16_t bits) {
  const int exponent = (bits >> 10U) & 0x1FU;
  const int fraction = bits & 0x3FFU;
  double value = 0;
  if (exponent == 31) {
    value =
        fraction == 0 ? std::numeric_limits<double>::infinity() : std::numeric_limits<double>::quiet_NaN();
  } else {
    value = exponent == 0 ? std::ldexp(fraction, -24) : std::ldexp(fraction + 1024, exponent - 25);
  }
  return (bits & 0x8000U) != 0 ? -value : value;
}

/// UTF-32 without the zeros at its end, as UTF-8.
std::optional<std::string> text_of(const std::string& bytes, bool big_endian) {
  std::string text;
  std::size_t end = bytes.size() / 4;
  const auto letter = [&](std::size_t i) {
    return number<std::uint32_t>(bytes.substr(4 * i, 4), big_endian);
  };
  while (end > 0 && letter(end - 1) == 0) --end;
  for (std::size_t i = 0; i < end; ++i) {
    const auto code = letter(i);
    if (code > 0x10FFFF) return std::nullopt;
    const auto tail = [&](unsigned shift) { text += static_cast<char>(0x80U | ((code >> shift) & 0x3FU)); };
    if (code < 0x80) {
      text += static_cast<char>(code);
    } else if (code < 0x800) {
      text += static_cast<char>(0xC0U | code >> 6U);
      tail(0);
    } else if (code < 0x10000) {
      text += static_cast<char>(0xE0U | code >> 12U);
      tail(6);
      tail(0);
    } else {
      text += static_cast<char>(0xF0U | code >> 18U);
      tail(12);
      tail(6);
      tail(0);
    }
  }
  return text;
}

std::optional<NumpyScalar> decode_scalar(const NumpyDtype& dtype, const std::string& bytes) {
  const bool turned = dtype.big_endian;
  if (bytes.size() != dtype.size) return std::nullopt;
  switch (dtype.kind) {
    case 'b':
      if (dtype.size == 1) return NumpyScalar(bytes[0] != 0);
      return std::nullopt;
    case 'i':
      if (dtype.size == 1) return NumpyScalar(std::int64_t{number<std::int8_t>(bytes, turned)});
      if (dtype.size == 2) return NumpyScalar(std::int64_t{number<std::int16_t>(bytes, turned)});
      if (dtype.size == 4) return NumpyScalar(std::int64_t{number<std::int32_t>(bytes, turned)});
      if (dtype.size == 8) return NumpyScalar(number<std::int64_t>(bytes, turned));
      return std::nullopt;
    case 'u':
      if (dtype.size == 1) return NumpyScalar(std::int64_t{number<std::uint8_t>(bytes, turned)});
      if (dtype.size == 2) return NumpyScalar(std::int64_t{number<std::uint16_t>(bytes, turned)});
      if (dtype.size == 4) return NumpyScalar(std::int64_t{number<std::uint32_t>(bytes, turned)});
      if (dtype.size == 8 && number<std::int64_t>(bytes, turned) >= 0)
        return NumpyScalar(number<std::int64_t>(bytes, turned));
      return std::nullopt;
    case 'f':
      if (dtype.size == 2) return NumpyScalar(from_half(number<std::uint16_t>(bytes, turned)));
      if (dtype.size == 4) return NumpyScalar(double{number<float>(bytes, turned)});
      if (dtype.size == 8) return NumpyScalar(number<double>(bytes, turned));
      return std::nullopt;
    case 'c': {
      const auto half = bytes.size() / 2;
      const auto real = bytes.substr(0, half);
      const auto imaginary = bytes.substr(half);
      if (dtype.size == 8)
        return NumpyScalar(
            std::complex<double>(number<float>(real, turned), number<float>(imaginary, turned)));
      if (dtype.size == 16)
        return NumpyScalar(
            std::complex<double>(number<double>(real, turned), number<double>(imaginary, turned)));
      return std::nullopt;
    }
    case 'U':
      if (auto text = text_of(bytes, turned)) return NumpyScalar(std::move(*text));
      return std::nullopt;
    default: return std::nullopt;
  }
}

std::optional<std::vector<std::int64_t>> read_shape(const ValueGraph& graph, Use use) {
  constexpr std::size_t kMostDimensions = 64;  // NumPy's own limit
  std::vector<std::int64_t> shape;
  for (const auto size : elements_of(graph, use)) {
    const auto number = graph.integer(size);
    if (!number || *number < 0 || shape.size() == kMostDimensions) return std::nullopt;
    shape.push_back(*number);
  }
  return shape;
}

}  // namespace

std::optional<BytesValue> bytes_value(const ValueGraph& graph, Use use) {
  const auto node = graph.resolve(use);
  const auto opcode = graph.opcode(node);
  if (graph.is_bytes(node) || opcode == Opcode::kShortBinstring || opcode == Opcode::kBinstring) {
    if (auto outside = outside_body(graph, node)) return BytesValue{{}, outside, false};
    return BytesValue{std::string(graph.operand(node)), std::nullopt, false};
  }
  if (opcode != Opcode::kReduce) return std::nullopt;
  Anatomy call;
  dissect(graph, node, call);
  const auto name = graph.global(call.arguments[0]);
  if (!name) return std::nullopt;
  if (name->name == "bytes" && call.arguments.size() == 1) return BytesValue{};
  if (name->name == "bytearray" && call.arguments.size() == 2) return bytes_value(graph, call.arguments[1]);
  if (name->module != "_codecs" || name->name != "encode" || call.arguments.size() != 3) return std::nullopt;
  if (auto outside = outside_body(graph, graph.resolve(call.arguments[1])))
    return BytesValue{{}, outside, true};
  const auto text = graph.string(call.arguments[1]);
  auto bytes = text ? from_latin1(*text) : std::nullopt;
  if (!bytes) return std::nullopt;
  return BytesValue{std::move(*bytes), std::nullopt, false};
}

std::optional<Dtype> NumpyDtype::torch_dtype() const {
  const auto of = [&](std::uint32_t wanted, Dtype dtype) {
    return size == wanted ? std::optional(dtype) : std::nullopt;
  };
  const auto first = [](std::initializer_list<std::optional<Dtype>> choices) -> std::optional<Dtype> {
    for (const auto& choice : choices) {
      if (choice) return choice;
    }
    return std::nullopt;
  };
  switch (kind) {
    case 'b': return of(1, Dtype::kBool);
    case 'i':
      return first({of(1, Dtype::kInt8), of(2, Dtype::kInt16), of(4, Dtype::kInt32), of(8, Dtype::kInt64)});
    case 'u':
      return first(
          {of(1, Dtype::kUint8), of(2, Dtype::kUint16), of(4, Dtype::kUint32), of(8, Dtype::kUint64)});
    case 'f': return first({of(2, Dtype::kFloat16), of(4, Dtype::kFloat32), of(8, Dtype::kFloat64)});
    case 'c': return first({of(8, Dtype::kComplex64), of(16, Dtype::kComplex128)});
    default: return std::nullopt;
  }
}

std::optional<NumpyScalar> numpy_scalar(const ValueGraph& graph, Use node) {
  Anatomy call;
  dissect(graph, node, call);
  if (call.arguments.size() != 3 || !call.states.empty() || !is_numpy(graph, call.arguments[0], "scalar"))
    return std::nullopt;
  const auto dtype = read_dtype(graph, call.arguments[1]);
  const auto value = bytes_value(graph, call.arguments[2]);
  if (!dtype || !value || value->outside) return std::nullopt;
  return decode_scalar(*dtype, value->bytes);
}

std::optional<NumpyArray> numpy_array(const ValueGraph& graph, Use node) {
  Anatomy call;
  dissect(graph, node, call);
  if (call.arguments.empty() || !call.items.empty() || !call.elements.empty()) return std::nullopt;
  NumpyArray array;
  std::optional<NumpyDtype> dtype;
  std::optional<std::vector<std::int64_t>> shape;
  if (is_numpy(graph, call.arguments[0], "_reconstruct")) {
    if (call.arguments.size() != 4 || !is_numpy(graph, call.arguments[1], "ndarray") ||
        call.states.size() != 1)
      return std::nullopt;
    const auto state = elements_of(graph, call.states.front());
    if (state.size() != 5) return std::nullopt;
    shape = read_shape(graph, state[1]);
    dtype = read_dtype(graph, state[2]);
    array.fortran = graph.boolean(state[3]).value_or(graph.integer(state[3]).value_or(0) != 0);
    array.bytes = state[4];
  } else if (is_numpy(graph, call.arguments[0], "_frombuffer")) {
    if (call.arguments.size() != 5 || !call.states.empty()) return std::nullopt;
    array.bytes = call.arguments[1];
    dtype = read_dtype(graph, call.arguments[2]);
    shape = read_shape(graph, call.arguments[3]);
    array.fortran = graph.string(call.arguments[4]) == "F";
  }
  if (!dtype || !shape) return std::nullopt;
  array.dtype = *dtype;
  array.shape = std::move(*shape);
  return array;
}

}  // namespace ckpt
