// SPDX-License-Identifier: BSD-3-Clause
// Compilers make vector code of these loops (lib/CMakeLists.txt lets them): `cast_element` has no branches.
#include "ckpt/compute/float_casts.h"

#include <cstring>

#include "ckpt/compute/element_casts.h"

namespace ckpt {
namespace {

template <typename To, typename From>
CKPT_HOST_DEVICE void cast_each(const std::byte* values, std::size_t count, std::byte* out) {
  for (std::size_t i = 0; i < count; ++i) {
    From from;
    std::memcpy(&from, values + i * sizeof(From), sizeof(From));
    const auto to = cast_element<To>(from);
    std::memcpy(out + i * sizeof(To), &to, sizeof(To));
  }
}

#ifdef __x86_64__
// The same code for twice as wide a vector unit.
template <typename To, typename From>
__attribute__((target("avx2"))) void cast_each_widely(const std::byte* values, std::size_t count,
                                                      std::byte* out) {
  cast_each<To, From>(values, count, out);
}
#endif

template <typename To, typename From>
void cast_all(ByteView values, std::byte* out) {
  const auto count = values.size() / sizeof(From);
#ifdef __x86_64__
  static const bool is_wide = __builtin_cpu_supports("avx2") != 0;
  if (is_wide) return cast_each_widely<To, From>(values.data(), count, out);
#endif
  cast_each<To, From>(values.data(), count, out);
}

template <typename From>
bool from_wide(ByteView values, Dtype to, std::byte* out) {
  switch (to) {
    case Dtype::kFloat16: return cast_all<Float16, From>(values, out), true;
    case Dtype::kBfloat16: return cast_all<Bfloat16, From>(values, out), true;
    case Dtype::kFloat32: return cast_all<float, From>(values, out), true;
    case Dtype::kFloat64: return cast_all<double, From>(values, out), true;
    case Dtype::kFloat8E4m3fn: return cast_all<Float8E4m3fn, From>(values, out), true;
    case Dtype::kFloat8E5m2: return cast_all<Float8E5m2, From>(values, out), true;
    case Dtype::kFloat8E4m3fnuz: return cast_all<Float8E4m3fnuz, From>(values, out), true;
    case Dtype::kFloat8E5m2fnuz: return cast_all<Float8E5m2fnuz, From>(values, out), true;
    default: return false;
  }
}

template <typename From>
bool from_float8(ByteView values, Dtype to, std::byte* out) {
  switch (to) {
    case Dtype::kFloat16: return cast_all<Float16, From>(values, out), true;
    case Dtype::kBfloat16: return cast_all<Bfloat16, From>(values, out), true;
    case Dtype::kFloat32: return cast_all<float, From>(values, out), true;
    default: return false;
  }
}

}  // namespace

bool cast_floats(Dtype from, ByteView values, Dtype to, std::byte* out) {
  switch (from) {
    case Dtype::kFloat16: return from_wide<Float16>(values, to, out);
    case Dtype::kBfloat16: return from_wide<Bfloat16>(values, to, out);
    case Dtype::kFloat32: return from_wide<float>(values, to, out);
    case Dtype::kFloat64: return from_wide<double>(values, to, out);
    case Dtype::kFloat8E4m3fn: return from_float8<Float8E4m3fn>(values, to, out);
    case Dtype::kFloat8E5m2: return from_float8<Float8E5m2>(values, to, out);
    case Dtype::kFloat8E4m3fnuz: return from_float8<Float8E4m3fnuz>(values, to, out);
    case Dtype::kFloat8E5m2fnuz: return from_float8<Float8E5m2fnuz>(values, to, out);
    default: return false;
  }
}

}  // namespace ckpt
