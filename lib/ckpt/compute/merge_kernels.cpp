// SPDX-License-Identifier: BSD-3-Clause
// Each loop is written once and compiled for each vector unit.
#include "ckpt/compute/merge_kernels.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstring>
#include <limits>
#include <type_traits>

#include "ckpt/compute/merge_values.h"

#pragma GCC diagnostic ignored "-Wpsabi"  // vectors are passed between inlined functions alone

// In each of the functions that are made for a vector unit.
#define CKPT_INLINED inline __attribute__((always_inline))

namespace ckpt {
namespace {

using Wide = double __attribute__((vector_size(64)));

CKPT_INLINED Wide load_wide(const double* values) {
  Wide out;
  std::memcpy(&out, values, sizeof out);
  return out;
}

CKPT_INLINED Wide load_wide(const float* values) {
  using Narrow = float __attribute__((vector_size(32)));
  Narrow narrow;
  std::memcpy(&narrow, values, sizeof narrow);
  return __builtin_convertvector(narrow, Wide);
}

CKPT_INLINED double sum_of_lanes(const Wide& lanes) {
  double sum = 0;
  for (std::size_t lane = 0; lane < kMergeLanes; ++lane) sum += lanes[lane];
  return sum;
}

CKPT_INLINED std::uint64_t random_pair(std::uint64_t key, std::uint64_t place) {
  auto z = key + (place + 1) * 0x9e3779b97f4a7c15U;
  z = (z ^ (z >> 30U)) * 0xbf58476d1ce4e5b9U;
  z = (z ^ (z >> 27U)) * 0x94d049bb133111ebU;
  return z ^ (z >> 31U);
}

template <typename Real>
struct Loops {
  static constexpr std::size_t kMostInConsensus = 128;

  using Key = MagnitudeKey<Real>;
  using Signed = std::make_signed_t<Key>;  // keys are positive, and vector units compare these
  using Keys __attribute__((vector_size(kMergeLanes * sizeof(Real)))) = Signed;
  using Bits __attribute__((vector_size(kMergeLanes * sizeof(Real)))) = Key;

  static CKPT_INLINED Keys load_bits(const Real* values) {
    Keys out;
    std::memcpy(&out, values, sizeof out);
    return out;
  }

  static CKPT_INLINED Keys load_keys(const Real* values) {
    return load_bits(values) & std::numeric_limits<Signed>::max();
  }

  static CKPT_INLINED Signed sum_of_keys(const Keys& keys) {
    Signed sum = 0;
    for (std::size_t lane = 0; lane < kMergeLanes; ++lane) sum += keys[lane];
    return sum;
  }

  static CKPT_INLINED void decode(Dtype dtype, const std::byte* values, Real* out, std::size_t count) {
    decode_values(dtype, values, out, count);
    for (auto i = count; i < padded(count); ++i) out[i] = 0;
  }

  static CKPT_INLINED void encode(Dtype dtype, const Real* values, std::byte* out, std::size_t count) {
    encode_values(dtype, values, out, count);
  }

  static CKPT_INLINED void negate(Real* values, std::size_t count, std::size_t first, std::size_t step) {
    for (auto i = first; i < count; i += step) values[i] = -values[i];
  }

  template <std::size_t kInputs>
  static CKPT_INLINED void linear_of(const Real* const* x, const Real* weights, Real divisor,
                                     Real* __restrict out, std::size_t count) {
    std::array<const Real*, kInputs> inputs;
    std::array<Real, kInputs> factors;
    for (std::size_t k = 0; k < kInputs; ++k) {
      inputs[k] = x[k];
      factors[k] = weights[k];
    }
    const auto size = padded(count);
    if (divisor == 1) {
      for (std::size_t i = 0; i < size; ++i) {
        Real sum = 0 + factors[0] * inputs[0][i];
        for (std::size_t k = 1; k < kInputs; ++k) sum += factors[k] * inputs[k][i];
        out[i] = sum;
      }
    } else {
      for (std::size_t i = 0; i < size; ++i) {
        Real sum = 0 + factors[0] * inputs[0][i];
        for (std::size_t k = 1; k < kInputs; ++k) sum += factors[k] * inputs[k][i];
        out[i] = sum / divisor;
      }
    }
  }

  static CKPT_INLINED void linear(std::size_t inputs, const Real* const* x, const Real* weights, Real divisor,
                                  Real* __restrict out, std::size_t count) {
    if (inputs == 1) return linear_of<1>(x, weights, divisor, out, count);
    if (inputs == 2) return linear_of<2>(x, weights, divisor, out, count);
    if (inputs == 3) return linear_of<3>(x, weights, divisor, out, count);
    if (inputs == 4) return linear_of<4>(x, weights, divisor, out, count);
    linear_of<4>(x, weights, 1, out, count);
    const auto size = padded(count);
    for (std::size_t k = 4; k < inputs; ++k) {
      const auto* input = x[k];
      const auto factor = weights[k];
      for (std::size_t i = 0; i < size; ++i) out[i] += factor * input[i];
    }
    if (divisor == 1) return;
    for (std::size_t i = 0; i < size; ++i) out[i] /= divisor;
  }

  static CKPT_INLINED void subtract(const Real* a, const Real* b, Real* out, std::size_t count) {
    if (out == a) return subtract_from(out, b, padded(count));
    const Real* __restrict left = a;
    const Real* __restrict right = b;
    Real* __restrict difference = out;
    for (std::size_t i = 0; i < padded(count); ++i) difference[i] = left[i] - right[i];
  }

  static CKPT_INLINED void subtract_from(Real* __restrict x, const Real* __restrict y, std::size_t size) {
    for (std::size_t i = 0; i < size; ++i) x[i] -= y[i];
  }

  static CKPT_INLINED void scale(Real* x, Real factor, std::size_t count) {
    const auto size = padded(count);
    for (std::size_t i = 0; i < size; ++i) x[i] *= factor;
  }

  static CKPT_INLINED void finish(const TaskSum<Real>& task, Real* __restrict out, std::size_t size) {
    const auto* base = task.base;
    const auto lambda = task.lambda;
    if (lambda == 1) {
      for (std::size_t i = 0; i < size; ++i) out[i] = base[i] + out[i];
    } else {
      for (std::size_t i = 0; i < size; ++i) out[i] = base[i] + out[i] * lambda;
    }
  }

  static CKPT_INLINED void task_sum(const TaskSum<Real>& task, Real* __restrict out, std::size_t count) {
    linear(task.inputs, task.changes, task.weights, task.divisor, out, count);
    finish(task, out, padded(count));
  }

  /// `size` numbers from `first` on, few enough that all stays in the nearest cache.
  static CKPT_INLINED void consensus_of(const TaskSum<Real>& task, bool by_count, std::size_t first,
                                        std::size_t size, Real* __restrict out) {
    alignas(64) std::array<Real, kMostInConsensus> all;
    alignas(64) std::array<Real, kMostInConsensus> votes;
    alignas(64) std::array<Real, kMostInConsensus> divisors;
    for (std::size_t i = 0; i < size; ++i) all[i] = votes[i] = divisors[i] = out[i] = 0;
    for (std::size_t k = 0; k < task.inputs; ++k) {
      const auto* change = task.changes[k] + first;
      const auto weight = task.weights[k];
      for (std::size_t i = 0; i < size; ++i) all[i] += weight * change[i];
      if (!by_count) continue;
      for (std::size_t i = 0; i < size; ++i) {
        const auto part = weight * change[i];
        votes[i] += (part > 0 ? Real{1} : Real{0}) - (part < 0 ? Real{1} : Real{0});
      }
    }
    const auto* elected = by_count ? votes.data() : all.data();
    for (std::size_t k = 0; k < task.inputs; ++k) {
      const auto* change = task.changes[k] + first;
      const auto weight = task.weights[k];
      for (std::size_t i = 0; i < size; ++i) {
        const auto part = weight * change[i];
        const auto towards = elected[i] >= 0 ? part : -part;
        out[i] += towards > 0 ? part : Real{0};
        divisors[i] += towards > 0 ? weight : Real{0};
      }
    }
    if (task.divisor != 1) {
      for (std::size_t i = 0; i < size; ++i) out[i] /= divisors[i] == 0 ? Real{1} : divisors[i];
    }
    for (std::size_t i = 0; i < size; ++i) out[i] = all[i] == all[i] ? out[i] : all[i];
  }

  static CKPT_INLINED void task_consensus(const TaskSum<Real>& task, bool by_count, Real* __restrict out,
                                          std::size_t count) {
    const auto size = padded(count);
    for (std::size_t first = 0; first < size; first += kMostInConsensus)
      consensus_of(task, by_count, first, std::min(kMostInConsensus, size - first), out + first);
    finish(task, out, size);
  }

  static CKPT_INLINED void blend(const Real* u, const Real* x, const Real* v, const Real* y,
                                 Real* __restrict out, std::size_t count) {
    for (std::size_t i = 0; i < count; ++i) out[i] = u[i] * x[i] + v[i] * y[i];
  }

  static CKPT_INLINED void add_products(const Real* a, const Real* b, double* __restrict sums,
                                        std::size_t count) {
    for (std::size_t i = 0; i < count; ++i) sums[i] += static_cast<double>(a[i]) * static_cast<double>(b[i]);
  }

  static CKPT_INLINED void nearswap(const Real* base, const Real* x, Real t, Real* __restrict out,
                                    std::size_t count) {
    const auto size = padded(count);
    for (std::size_t i = 0; i < size; ++i) {
      const auto distance = std::fabs(base[i] - x[i]);
      auto weight = t / (distance < Real(1e-6) ? Real(1e-6) : distance);
      weight = weight < 0 ? Real{0} : weight;
      weight = weight > 1 ? Real{1} : weight;
      out[i] = weight * x[i] + (1 - weight) * base[i];
    }
  }

  static CKPT_INLINED bool is_active(Real change, Real epsilon) { return !(std::fabs(change) <= epsilon); }

  static CKPT_INLINED void count_active(const TaskSum<Real>& task, Real epsilon, Real* __restrict active,
                                        std::size_t size) {
    for (std::size_t i = 0; i < size; ++i) active[i] = 0;
    for (std::size_t k = 0; k < task.inputs; ++k) {
      const auto* change = task.changes[k];
      for (std::size_t i = 0; i < size; ++i) active[i] += is_active(change[i], epsilon) ? Real{1} : Real{0};
    }
  }

  static CKPT_INLINED void ram(const TaskSum<Real>& task, const Real* factors, Real epsilon,
                               Real* __restrict out, std::size_t count) {
    const auto size = padded(count);
    alignas(64) std::array<Real, kMergeBlock> active;
    count_active(task, epsilon, active.data(), size);
    for (std::size_t i = 0; i < size; ++i) out[i] = 0;
    for (std::size_t k = 0; k < task.inputs; ++k) {
      const auto* change = task.changes[k];
      const auto factor = factors[k];
      for (std::size_t i = 0; i < size; ++i) {
        const auto alone = factor * change[i];
        const auto shared = change[i] / (active[i] < 1 ? Real{1} : active[i]);
        const auto part = active[i] == 1 ? alone : shared;
        out[i] += is_active(change[i], epsilon) ? part : Real{0};
      }
    }
    for (std::size_t i = 0; i < size; ++i) out[i] = task.base[i] + out[i];
  }

  static CKPT_INLINED void ram_counts(const TaskSum<Real>& task, Real epsilon, std::size_t input,
                                      std::uint64_t* alone, std::uint64_t* shared, std::size_t count) {
    alignas(64) std::array<Real, kMergeBlock> active;
    count_active(task, epsilon, active.data(), padded(count));
    const auto* change = task.changes[input];
    std::size_t ones = 0;
    std::size_t more = 0;
    for (std::size_t i = 0; i < count; ++i) {
      const bool is = is_active(change[i], epsilon);
      ones += is && active[i] == 1 ? 1U : 0U;
      more += is && active[i] > 1 ? 1U : 0U;
    }
    *alone += ones;
    *shared += more;
  }

  static CKPT_INLINED void variance(std::size_t inputs, const Real* const* changes, Real* __restrict out,
                                    std::size_t count) {
    const auto size = padded(count);
    const auto number = static_cast<Real>(inputs);
    alignas(64) std::array<Real, kMergeBlock> means;
    for (std::size_t i = 0; i < size; ++i) means[i] = out[i] = 0;
    for (std::size_t k = 0; k < inputs; ++k) {
      for (std::size_t i = 0; i < size; ++i) means[i] += changes[k][i];
    }
    for (std::size_t i = 0; i < size; ++i) means[i] /= number;
    for (std::size_t k = 0; k < inputs; ++k) {
      for (std::size_t i = 0; i < size; ++i) {
        const auto distance = changes[k][i] - means[i];
        out[i] += distance * distance;
      }
    }
    for (std::size_t i = 0; i < size; ++i) out[i] /= number;
  }

  static CKPT_INLINED void sce(const TaskSum<Real>& task, Real* __restrict out, std::size_t count) {
    const auto size = padded(count);
    alignas(64) std::array<Real, kMergeBlock> all;
    alignas(64) std::array<Real, kMergeBlock> divisors;
    for (std::size_t i = 0; i < size; ++i) all[i] = divisors[i] = out[i] = 0;
    for (std::size_t k = 0; k < task.inputs; ++k) {
      for (std::size_t i = 0; i < size; ++i) all[i] += task.changes[k][i];
    }
    for (std::size_t k = 0; k < task.inputs; ++k) {
      const auto* change = task.changes[k];
      const auto weight = task.weights[k];
      for (std::size_t i = 0; i < size; ++i) {
        const auto towards = all[i] >= 0 ? change[i] : -change[i];
        const auto counted = towards > 0 ? weight : Real{0};
        out[i] += towards > 0 ? change[i] * weight : Real{0};
        divisors[i] += counted;
      }
    }
    for (std::size_t i = 0; i < size; ++i) {
      const auto merged = out[i] / (divisors[i] < Real(1e-6) ? Real(1e-6) : divisors[i]);
      out[i] = task.base[i] + (all[i] == all[i] ? merged : all[i]);
    }
  }

  static CKPT_INLINED void fuse(const Real* base, const Real* x, Real divergence, Real threshold,
                                Real* __restrict out, std::size_t count) {
    const auto size = padded(count);
    for (std::size_t i = 0; i < size; ++i) {
      const auto change = x[i] - base[i];
      const auto importance = std::fabs(change) * divergence;
      const auto changed = base[i] + change;
      const auto kept = change == change ? base[i] : change;  // what is no number stays none
      out[i] = importance >= threshold ? changed : kept;
    }
  }

  static CKPT_INLINED void keep_keys(Real* x, Key least, Key upper, std::size_t count) {
    for (std::size_t i = 0; i < count; ++i) {
      const auto key = magnitude_key(x[i]);
      x[i] = (key >= least) & (key < upper) ? x[i] : Real{0};
    }
  }

  static CKPT_INLINED void keep_where(Real* __restrict x, const Real* __restrict mask, std::size_t count) {
    for (std::size_t i = 0; i < padded(count); ++i) x[i] = mask[i] != 0 ? x[i] : Real{0};
  }

  static CKPT_INLINED void keep_bits(Real* x, const std::uint64_t* bits, std::size_t first_bit,
                                     std::size_t count) {
    constexpr Keys kLanes = {0, 1, 2, 3, 4, 5, 6, 7};
    const auto shift = first_bit % 64;
    const auto* words = bits + first_bit / 64;
    std::size_t i = 0;
    for (; count - i >= 64; i += 64, ++words) {
      auto word = words[0] >> shift;
      if (shift != 0) word |= words[1] << (64 - shift);
      for (std::size_t lanes = i; lanes < i + 64; lanes += kMergeLanes, word >>= kMergeLanes) {
        const auto is_kept = (static_cast<Signed>(word & 0xffU) >> kLanes & 1) != 0;
        const auto values = load_bits(x + lanes) & is_kept;
        std::memcpy(x + lanes, &values, sizeof values);
      }
    }
    for (auto bit = shift; i < count; ++i, ++bit)
      x[i] = (words[bit / 64] >> (bit % 64) & 1U) != 0 ? x[i] : Real{0};
  }

  static CKPT_INLINED void keep_random(Real* x, std::uint64_t key, std::uint64_t first,
                                       std::uint64_t threshold, std::size_t count) {
    alignas(64) std::array<std::uint64_t, kMergeBlock / 2> pairs;
    const auto place = first / 2;  // chunks and blocks begin at even values
    const auto half = (count + 1) / 2;
    for (std::size_t i = 0; i < half; ++i) pairs[i] = random_pair(key, place + i);
    for (std::size_t i = 0; i < half; ++i) {
      const auto low = pairs[i] & 0xffffffffU;
      const auto high = pairs[i] >> 32U;
      x[2 * i] = low < threshold ? x[2 * i] : Real{0};
      x[2 * i + 1] = high < threshold ? x[2 * i + 1] : Real{0};
    }
  }

  static CKPT_INLINED void keep_random_steps(Real* x, std::uint64_t key, std::uint64_t first,
                                             std::uint64_t step, std::uint64_t threshold, std::size_t count) {
    for (std::size_t i = 0; i < count; ++i) {
      const auto place = first + i * step;
      const auto random = random_pair(key, place / 2) >> (place % 2 * 32) & 0xffffffffU;
      x[i] = random < threshold ? x[i] : Real{0};
    }
  }

  static CKPT_INLINED void randoms(std::uint64_t key, std::uint64_t first, std::uint32_t* __restrict out,
                                   std::size_t count) {
    const auto random = [&](std::size_t i) {
      return static_cast<std::uint32_t>(random_pair(key, (first + i) / 2) >> ((first + i) % 2 * 32));
    };
    const auto start = static_cast<std::size_t>(first % 2);
    if (start != 0 && count > 0) out[0] = random(0);
    const auto place = (first + start) / 2;
    const auto pairs = count < start ? 0 : (count - start) / 2;
    for (std::size_t i = 0; i < pairs; ++i) {
      const auto both = random_pair(key, place + i);
      out[start + 2 * i] = static_cast<std::uint32_t>(both);
      out[start + 2 * i + 1] = static_cast<std::uint32_t>(both >> 32U);
    }
    if (start + 2 * pairs < count) out[count - 1] = random(count - 1);
  }

  /// Every pair of `kInputs` inputs in one loop.
  template <std::size_t kInputs>
  static CKPT_INLINED void gram_of(const Real* const* x, double* sums, std::size_t count) {
    constexpr auto kPairs = kInputs * (kInputs + 1) / 2;
    std::array<Wide, kPairs> lanes;
    for (auto& lane : lanes) lane = Wide{};
    for (std::size_t i = 0; i < padded(count); i += kMergeLanes) {
      std::array<Wide, kInputs> values;
      for (std::size_t k = 0; k < kInputs; ++k) values[k] = load_wide(x[k] + i);
      std::size_t pair = 0;
      for (std::size_t k = 0; k < kInputs; ++k) {
        for (std::size_t l = 0; l <= k; ++l, ++pair) lanes[pair] += values[k] * values[l];
      }
    }
    for (std::size_t pair = 0; pair < kPairs; ++pair) sums[pair] += sum_of_lanes(lanes[pair]);
  }

  static CKPT_INLINED double dot(const Real* a, const Real* b, std::size_t count) {
    auto lanes = Wide{};
    for (std::size_t i = 0; i < padded(count); i += kMergeLanes) lanes += load_wide(a + i) * load_wide(b + i);
    return sum_of_lanes(lanes);
  }

  static CKPT_INLINED void gram(std::size_t inputs, const Real* const* x, double* sums, std::size_t count) {
    if (inputs == 1) return gram_of<1>(x, sums, count);
    if (inputs == 2) return gram_of<2>(x, sums, count);
    if (inputs == 3) return gram_of<3>(x, sums, count);
    if (inputs == 4) return gram_of<4>(x, sums, count);
    std::size_t pair = 0;
    for (std::size_t k = 0; k < inputs; ++k) {
      for (std::size_t l = 0; l <= k; ++l, ++pair) sums[pair] += dot(x[k], x[l], count);
    }
  }

  static CKPT_INLINED double magnitude_sum(const Real* x, std::size_t count) {
    auto lanes = Wide{};
    for (std::size_t i = 0; i < padded(count); i += kMergeLanes) {
      const auto values = load_wide(x + i);
      lanes += values < 0 ? -values : values;
    }
    return sum_of_lanes(lanes);
  }

  static CKPT_INLINED std::size_t nonzeros(const Real* x, std::size_t count) {
    std::size_t found = 0;
    for (std::size_t i = 0; i < count; ++i) found += x[i] != 0 ? 1 : 0;
    return found;
  }

  /// Items whose bits under `mask` are all of `wanted`.
  template <typename Item>
  static CKPT_INLINED std::uint64_t count_items(const std::byte* values, std::size_t count, Item mask,
                                                Item wanted) {
    constexpr std::size_t kGroup = 128;  // as many as an item can count
    std::uint64_t found = 0;
    for (std::size_t first = 0; first < count; first += kGroup) {
      Item in_group = 0;
      for (auto i = first; i < std::min(count, first + kGroup); ++i) {
        Item item;
        std::memcpy(&item, values + i * sizeof item, sizeof item);
        in_group = static_cast<Item>(in_group + ((item & mask) == wanted ? 1 : 0));
      }
      found += in_group;
    }
    return found;
  }

  static CKPT_INLINED std::uint64_t not_finite(Dtype dtype, const std::byte* values, std::size_t count) {
    switch (dtype) {
      case Dtype::kFloat64:
        return count_items<std::uint64_t>(values, count, 0x7ff0000000000000U, 0x7ff0000000000000U);
      case Dtype::kFloat32: return count_items<std::uint32_t>(values, count, 0x7f800000U, 0x7f800000U);
      case Dtype::kFloat16: return count_items<std::uint16_t>(values, count, 0x7c00U, 0x7c00U);
      case Dtype::kBfloat16: return count_items<std::uint16_t>(values, count, 0x7f80U, 0x7f80U);
      case Dtype::kFloat8E5m2: return count_items<std::uint8_t>(values, count, 0x7c, 0x7c);
      case Dtype::kFloat8E4m3fn: return count_items<std::uint8_t>(values, count, 0x7f, 0x7f);
      case Dtype::kFloat8E8m0fnu: return count_items<std::uint8_t>(values, count, 0xff, 0xff);
      default: return count_items<std::uint8_t>(values, count, 0xff, 0x80);
    }
  }

  static CKPT_INLINED KeyCounts collect(const Real* x, Key lower, Key upper, Key* inside, std::size_t count) {
    constexpr auto kMostSteps = static_cast<std::size_t>(std::numeric_limits<Key>::digits);
    const auto low = static_cast<Signed>(lower);
    const auto high = static_cast<Signed>(upper);
    auto above_low = Keys{};  // as negative numbers, as comparisons are
    auto below_low = Keys{};
    auto above_high = Keys{};
    auto below_high = Keys{};
    std::size_t found = 0;
    std::size_t i = 0;
    while (count - i >= kMergeLanes) {
      const auto steps = std::min(kMostSteps, (count - i) / kMergeLanes);
      auto between = Bits{};  // one for each step, the last one lowest
      for (std::size_t step = 0; step < steps; ++step) {
        const auto keys = load_keys(x + i + step * kMergeLanes);
        const auto is_above_low = keys > low;
        const auto is_below_high = keys < high;
        above_low += is_above_low;
        below_low += keys < low;
        above_high += keys > high;
        below_high += is_below_high;
        between += between;
        between -= std::bit_cast<Bits>(is_above_low & is_below_high);
      }
      for (std::size_t lane = 0; lane < kMergeLanes; ++lane) {
        for (auto bits = between[lane]; bits != 0; bits &= bits - 1) {
          const auto step = steps - 1 - static_cast<std::size_t>(std::countr_zero(bits));
          inside[found++] = magnitude_key(x[i + step * kMergeLanes + lane]);
        }
      }
      i += steps * kMergeLanes;
    }
    KeyCounts out;
    const auto seen = static_cast<Signed>(i);
    out.above = static_cast<std::uint64_t>(-sum_of_keys(above_high));
    out.at_upper = static_cast<std::uint64_t>(seen + sum_of_keys(above_high + below_high));
    out.at_lower = static_cast<std::uint64_t>(seen + sum_of_keys(above_low + below_low));
    for (; i < count; ++i) {
      const auto key = magnitude_key(x[i]);
      out.above += key > upper ? 1 : 0;
      out.at_upper += key == upper ? 1 : 0;
      out.at_lower += key == lower ? 1 : 0;
      if (key > lower && key < upper) inside[found++] = key;
    }
    if (lower == upper) out.at_lower = 0;
    out.between = found;
    return out;
  }

  static CKPT_INLINED std::size_t count_key(const Real* x, Key key, std::size_t count) {
    Key found = 0;
    for (std::size_t i = 0; i < count; ++i) found += magnitude_key(x[i]) == key ? Key{1} : Key{0};
    return static_cast<std::size_t>(found);
  }

  static CKPT_INLINED Key magnitudes(const Real* __restrict x, Key greatest, Key* __restrict keys,
                                     std::size_t count) {
    auto most = static_cast<Signed>(greatest);
    for (std::size_t i = 0; i < count; ++i) {
      const auto key = magnitude_key(x[i]);
      keys[i] = key;
      most = static_cast<Signed>(key) > most ? static_cast<Signed>(key) : most;
    }
    return static_cast<Key>(most);
  }

  static CKPT_INLINED void depths(const Key* __restrict keys, Key greatest, unsigned bits, std::uint16_t last,
                                  std::uint16_t* __restrict out, std::size_t count) {
    const auto shift = static_cast<unsigned>(std::numeric_limits<Real>::digits - 1) - bits;
    for (std::size_t i = 0; i < count; ++i) {
      const auto depth = static_cast<Signed>((greatest - keys[i]) >> shift);
      out[i] = static_cast<std::uint16_t>(depth < last ? depth : last);
    }
  }

  static CKPT_INLINED std::size_t keys_before(const Key* keys, std::size_t number, std::size_t count) {
    const auto key = static_cast<Signed>(keys[number]);
    Signed found = 0;
    for (std::size_t i = 0; i < number; ++i) found += static_cast<Signed>(keys[i]) >= key ? 1 : 0;
    for (auto i = number + 1; i < count; ++i) found += static_cast<Signed>(keys[i]) > key ? 1 : 0;
    return static_cast<std::size_t>(found);
  }
};

#define CKPT_LOOP(name) [](auto... arguments) CKPT_TARGET { return Loops<Real>::name(arguments...); }
#define CKPT_ALL_LOOPS                                                                                       \
  .decode = CKPT_LOOP(decode), .encode = CKPT_LOOP(encode), .negate = CKPT_LOOP(negate),                     \
  .linear = CKPT_LOOP(linear), .subtract = CKPT_LOOP(subtract), .scale = CKPT_LOOP(scale),                   \
  .task_sum = CKPT_LOOP(task_sum), .task_consensus = CKPT_LOOP(task_consensus), .blend = CKPT_LOOP(blend),   \
  .add_products = CKPT_LOOP(add_products), .nearswap = CKPT_LOOP(nearswap), .ram = CKPT_LOOP(ram),           \
  .variance = CKPT_LOOP(variance), .sce = CKPT_LOOP(sce), .fuse = CKPT_LOOP(fuse),                           \
  .keep_keys = CKPT_LOOP(keep_keys), .keep_where = CKPT_LOOP(keep_where), .keep_bits = CKPT_LOOP(keep_bits), \
  .keep_random = CKPT_LOOP(keep_random), .keep_random_steps = CKPT_LOOP(keep_random_steps),                  \
  .randoms = CKPT_LOOP(randoms), .gram = CKPT_LOOP(gram), .dot = CKPT_LOOP(dot),                             \
  .magnitude_sum = CKPT_LOOP(magnitude_sum), .nonzeros = CKPT_LOOP(nonzeros),                                \
  .not_finite = CKPT_LOOP(not_finite), .ram_counts = CKPT_LOOP(ram_counts), .collect = CKPT_LOOP(collect),   \
  .count_key = CKPT_LOOP(count_key), .magnitudes = CKPT_LOOP(magnitudes), .depths = CKPT_LOOP(depths),       \
  .keys_before = CKPT_LOOP(keys_before)

}  // namespace

/// FNV-1a of the name, and one step of SplitMix64 for each of the three.
std::uint64_t merge_random_key(std::uint64_t seed, std::string_view tensor, std::size_t file) {
  std::uint64_t name = 0xcbf29ce484222325U;
  for (const char letter : tensor) name = (name ^ static_cast<unsigned char>(letter)) * 0x100000001b3U;
  return random_pair(random_pair(random_pair(0, seed) ^ name, 0) ^ file, 0);
}

std::uint32_t merge_random(std::uint64_t key, std::uint64_t i) {
  return static_cast<std::uint32_t>(random_pair(key, i / 2) >> (i % 2 * 32));
}

template <typename Real>
const MergeKernels<Real>& merge_kernels(VectorUnit unit) {
#define CKPT_TARGET
  static const MergeKernels<Real> baseline = {CKPT_ALL_LOOPS};
#ifdef __x86_64__
#undef CKPT_TARGET
#define CKPT_TARGET __attribute__((target("avx2")))
  static const MergeKernels<Real> avx2 = {CKPT_ALL_LOOPS};
#undef CKPT_TARGET
#define CKPT_TARGET __attribute__((target("avx512f,avx512dq,avx512bw,avx512vl,prefer-vector-width=512")))
  static const MergeKernels<Real> avx512 = {CKPT_ALL_LOOPS};
  if (unit == VectorUnit::kAvx512) return avx512;
  if (unit == VectorUnit::kAvx2) return avx2;
#endif
  return baseline;
}

template const MergeKernels<float>& merge_kernels(VectorUnit unit);
template const MergeKernels<double>& merge_kernels(VectorUnit unit);

}  // namespace ckpt
