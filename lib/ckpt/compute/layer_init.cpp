// SPDX-License-Identifier: BSD-3-Clause
#include "ckpt/compute/layer_init.h"

#include <cmath>
#include <optional>

#include <fmt/format.h>

#include "ckpt/base/checked_math.h"
#include "ckpt/compute/drawn_source.h"
#include "ckpt/compute/trunc_normal.h"

namespace ckpt {
namespace {

using Kind = InitMethod::Kind;
using Shape = std::span<const std::int64_t>;

/// Elements of a weight, and how many of them meet in one output and one input.
struct Sizes {
  std::uint64_t elements = 0;
  double fan_in = 0;
  double fan_out = 0;
};

/// The product; nothing if it, times an item, can't be counted.
std::optional<std::uint64_t> element_count(Shape shape, std::uint64_t item_size) {
  std::optional<std::uint64_t> bytes = item_size;
  for (const auto size : shape) {
    if (size < 0) return std::nullopt;
    if (bytes) bytes = checked_multiply(*bytes, static_cast<std::uint64_t>(size));
  }
  if (!bytes || *bytes > static_cast<std::uint64_t>(PTRDIFF_MAX)) return std::nullopt;
  return *bytes / item_size;
}

Result<Sizes> sizes_of(Shape shape, Dtype dtype) {
  if (shape.size() < 2)
    return Error(
        ErrorCode::kUnsupported,
        fmt::format("a weight of shape [{}] is not one of a linear or convolutional layer, which has two or "
                    "more dimensions",
                    fmt::join(shape, ", ")));
  const auto elements = element_count(shape, dtype_info(dtype).item_size);
  const auto kernel = element_count(shape.subspan(2), 1);
  if (!elements || !kernel)
    return Error(
        ErrorCode::kUnsupported,
        fmt::format("a weight of shape [{}] has more bytes than can be counted", fmt::join(shape, ", ")));
  const auto field = static_cast<double>(*kernel);
  return Sizes{*elements, static_cast<double>(shape[1]) * field, static_cast<double>(shape[0]) * field};
}

double largest(Dtype dtype) {
  switch (dtype) {
    case Dtype::kFloat16: return 65504;
    case Dtype::kBfloat16: return 0x1.fep127;
    case Dtype::kFloat32: return 0x1.fffffep127;
    default: return 0x1.fffffffffffffp1023;
  }
}

/// The weight's standard deviation as the method has it; products and quotients in torch's order.
double deviation(const InitMethod& method, const Sizes& sizes) {
  const double parameter = method.parameter.value_or(1);
  const double fan = method.fan == InitMethod::Fan::kIn ? sizes.fan_in : sizes.fan_out;
  const double slope = std::sqrt(5.0);
  switch (method.kind) {
    case Kind::kDefault: return std::sqrt(2 / (1 + slope * slope)) / std::sqrt(sizes.fan_in);
    case Kind::kZeros: return 0;
    case Kind::kNormal:
    case Kind::kTruncNormal: return parameter;
    case Kind::kXavierUniform:
    case Kind::kXavierNormal: return parameter * std::sqrt(2 / (sizes.fan_in + sizes.fan_out));
    case Kind::kKaimingUniform:
    case Kind::kKaimingNormal: return std::sqrt(2.0) / std::sqrt(fan);
  }
  return 0;
}

bool is_uniform(Kind kind) {
  return kind == Kind::kDefault || kind == Kind::kXavierUniform || kind == Kind::kKaimingUniform;
}

/// How the elements of a weight are drawn.
Result<DrawnSource::Draw> drawing(const InitMethod& method, TorchVersion version, Dtype dtype,
                                  const Sizes& sizes) {
  if (sizes.elements == 0 || method.kind == Kind::kZeros) {
    return DrawnSource::Draw([item = dtype_info(dtype).item_size](TorchRandom&, std::uint64_t count) {
      return Bytes(count * item);
    });
  }
  const double std = deviation(method, sizes);
  const double bound = std::sqrt(3.0) * std;  // of a uniform distribution with this deviation
  if (!(2 * bound <= largest(dtype)))
    return Error(ErrorCode::kUsage, fmt::format("values with a standard deviation of {} are too large for {}",
                                                std, dtype_info(dtype).name));
  return DrawnSource::Draw(
      [kind = method.kind, version, dtype, std, bound](TorchRandom& random, std::uint64_t count) {
        if (is_uniform(kind)) return random.uniform(version, dtype, count, -bound, bound);
        if (kind == Kind::kTruncNormal) return trunc_normal(random, version, dtype, count, std);
        return random.normal(version, dtype, count, std);
      });
}

}  // namespace

Result<InitialValues> initial_layer(TorchRandom& random, const InitMethod& method, TorchVersion version,
                                    Dtype dtype, Shape weight_shape, bool has_bias, bool transposed,
                                    std::int64_t groups, std::uint64_t large_weight) {
  if (!can_be_drawn(dtype))
    return Error(
        ErrorCode::kUnsupported,
        fmt::format("initial values of dtype {} can't be computed: expected float16, bfloat16, float32 or "
                    "float64",
                    dtype_info(dtype).name));
  CKPT_ASSIGN_OR_RETURN(const auto sizes, sizes_of(weight_shape, dtype));
  InitialValues values;
  CKPT_ASSIGN_OR_RETURN(auto draw, drawing(method, version, dtype, sizes));
  const auto item_size = dtype_info(dtype).item_size;
  if (sizes.elements * item_size <= large_weight || method.kind == Kind::kTruncNormal) {
    values.weight = draw(random, sizes.elements);
  } else {
    auto source = std::make_shared<DrawnSource>(random, std::move(draw), sizes.elements, item_size);
    random = source->random_behind();
    values.large_weight = std::move(source);
  }
  if (!has_bias) return values;
  const std::int64_t outputs[] = {transposed ? weight_shape[1] : weight_shape[0], transposed ? groups : 1};
  const auto count = element_count(outputs, dtype_info(dtype).item_size);
  if (!count) return Error(ErrorCode::kUnsupported, "a bias has more bytes than can be counted");
  if (method.kind != Kind::kDefault) {
    values.bias.resize(*count * dtype_info(dtype).item_size);
    return values;
  }
  const double bound = sizes.fan_in > 0 ? 1 / std::sqrt(sizes.fan_in) : 0;
  values.bias = random.uniform(version, dtype, *count, -bound, bound);
  return values;
}

}  // namespace ckpt
