// SPDX-License-Identifier: BSD-3-Clause
// The loops that merge methods are made of, over blocks of values in the near cache. `Real` is what a method
// computes in: double, or float on request. Each product, sum, difference and quotient is rounded on its own,
// in the order written here; so results do not depend on the vector unit, and another back end that keeps to
// this list gets the same bits from every loop but those under "sums".
//
// Blocks have room for `kMergeBlock` values and lie on 64 bytes. Loops may compute `padded(count)` values;
// what lies behind `count` is 0 in every input.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <string_view>
#include <type_traits>

#include "ckpt/compute/vector_unit.h"
#include "ckpt/model/dtype.h"

namespace ckpt {

inline constexpr std::size_t kMergeBlock = 1024;  ///< values
inline constexpr std::size_t kMergeLanes = 8;     ///< sums that are kept side by side

/// Numbers of a block that loops compute.
constexpr std::size_t padded(std::size_t count) {
  return (count + 15) / 16 * 16;
}

/// The bits of a magnitude, as an integer in the same order. NaNs come behind infinity.
template <typename Real>
using MagnitudeKey = std::conditional_t<sizeof(Real) == 4, std::uint32_t, std::uint64_t>;

/// Inlined, as loops that are made for a vector unit use it.
template <typename Real>
__attribute__((always_inline)) inline MagnitudeKey<Real> magnitude_key(Real value) {
  return std::bit_cast<MagnitudeKey<Real>>(value) & (~MagnitudeKey<Real>{0} >> 1U);
}

/// How changes become a result: sum over i of weight_i * change_i in the order of inputs, beginning with
/// 0 + weight_0 * change_0; then / divisor; then * lambda; then base + it.
template <typename Real>
struct TaskSum {
  std::size_t inputs = 0;
  const Real* const* changes = nullptr;
  const Real* weights = nullptr;
  const Real* base = nullptr;
  Real divisor = 1;  ///< 1: no division. With consensus: any other, divide by the weights of who agrees
  Real lambda = 1;
};

/// Counts of keys around an interval.
struct KeyCounts {
  std::uint64_t above = 0;     ///< greater than the upper end
  std::uint64_t at_upper = 0;  ///< equal to it
  std::uint64_t at_lower = 0;
  std::uint64_t between = 0;  ///< strictly inside
};

template <typename Real>
struct MergeKernels {
  using Key = MagnitudeKey<Real>;

  // ---- values as they lie in memory

  /// Little-endian floats of `dtype` as numbers, exactly, or rounded to nearest where float64 becomes float.
  /// Pads with zeros. Complex dtypes: real and imaginary part are two numbers.
  void (*decode)(Dtype dtype, const std::byte* values, Real* out, std::size_t count);
  /// Rounded once, to nearest, ties to even; overflow is what a cast of PyTorch makes of it.
  void (*encode)(Dtype dtype, const Real* values, std::byte* out, std::size_t count);
  /// x = -x for every `step`-th number, from `first` on.
  void (*negate)(Real* values, std::size_t count, std::size_t first, std::size_t step);

  // ---- elementwise

  /// out = 0 + w_0 x_0; out = out + w_i x_i for i = 1, 2, …; then out / divisor unless it is 1.
  void (*linear)(std::size_t inputs, const Real* const* x, const Real* weights, Real divisor, Real* out,
                 std::size_t count);
  /// out = a - b
  void (*subtract)(const Real* a, const Real* b, Real* out, std::size_t count);
  /// x = x * factor
  void (*scale)(Real* x, Real factor, std::size_t count);
  void (*task_sum)(const TaskSum<Real>& task, Real* out, std::size_t count);
  /// D_i = w_i c_i; S = sum of D_i in order, or by count: of their signs (+1, 0, -1). The elected sign is +
  /// where S >= 0. D_i counts where D_i > 0, or with - where D_i < 0. Sum of those in order, from 0 on; if
  /// divided: by the sum of their w_i in order, from 0 on, or by 1 where that is 0. Then lambda and base as
  /// above. Where the sum of all D_i is NaN, that is what is added to base.
  void (*task_consensus)(const TaskSum<Real>& task, bool by_count, Real* out, std::size_t count);
  /// out = u x + v y, each with a factor of its own
  void (*blend)(const Real* u, const Real* x, const Real* v, const Real* y, Real* out, std::size_t count);
  /// sums = sums + a b
  void (*add_products)(const Real* a, const Real* b, double* sums, std::size_t count);
  /// |b - x| = a; weight = t / max(a, 1e-6), at most 1, at least 0; out = weight x + (1 - weight) b
  void (*nearswap)(const Real* base, const Real* x, Real t, Real* out, std::size_t count);
  /// c_i is active where |c_i| > epsilon. Where one input is active: f_i c_i; where n are: c_i / n each. Sum
  /// over i in order, from 0 on; out = base + sum. A NaN is active.
  void (*ram)(const TaskSum<Real>& changes, const Real* factors, Real epsilon, Real* out, std::size_t count);
  /// Population variance of the changes: m = (sum c_i) / n, v = (sum (c_i - m)^2) / n, in order from 0 on.
  void (*variance)(std::size_t inputs, const Real* const* changes, Real* out, std::size_t count);
  /// D_i = c_i; sign as task_consensus of c_i with weights 1; e_i = w_i where the sign agrees, else 0;
  /// out = base + (sum c_i e_i) / max(sum e_i, 1e-6)
  void (*sce)(const TaskSum<Real>& task, Real* out, std::size_t count);
  /// out = importance >= threshold ? b + (x - b) : b, where importance = |x - b| * divergence
  void (*fuse)(const Real* base, const Real* x, Real divergence, Real threshold, Real* out,
               std::size_t count);

  // ---- masks: x = kept ? x : 0

  /// Keeps what has a key of `least` or more; with `upper`: and less than `upper`. Exactly `count`.
  void (*keep_keys)(Real* x, Key least, Key upper, std::size_t count);
  /// Keeps what has a mask other than 0.
  void (*keep_where)(Real* x, const Real* mask, std::size_t count);
  /// Keeps what has a bit; bits of 64 numbers in each word, the lowest first.
  void (*keep_bits)(Real* x, const std::uint64_t* bits, std::size_t first_bit, std::size_t count);
  /// Keeps value i of the tensor where random(key, i) < threshold, of 2^32.
  void (*keep_random)(Real* x, std::uint64_t key, std::uint64_t first, std::uint64_t threshold,
                      std::size_t count);
  /// Of values `first`, `first` + `step`, … of the tensor; exactly `count`.
  void (*keep_random_steps)(Real* x, std::uint64_t key, std::uint64_t first, std::uint64_t step,
                            std::uint64_t threshold, std::size_t count);

  /// The random numbers of values from `first` on.
  void (*randoms)(std::uint64_t key, std::uint64_t first, std::uint32_t* out, std::size_t count);

  // ---- sums: in lanes (value i of a block in lane i % 8), lanes added in order; then block by block

  /// Adds the inner products of x_i and x_j, j <= i, to sums[i (i + 1) / 2 + j].
  void (*gram)(std::size_t inputs, const Real* const* x, double* sums, std::size_t count);
  /// Sum of a_i b_i
  double (*dot)(const Real* a, const Real* b, std::size_t count);
  /// Sum of |x|
  double (*magnitude_sum)(const Real* x, std::size_t count);
  /// Numbers that are not 0.
  std::size_t (*nonzeros)(const Real* x, std::size_t count);
  /// NaNs and infinities of a real `dtype`, as they lie in memory.
  std::uint64_t (*not_finite)(Dtype dtype, const std::byte* values, std::size_t count);
  /// Numbers i that ram calls active in input `input`, alone and beside others.
  void (*ram_counts)(const TaskSum<Real>& changes, Real epsilon, std::size_t input, std::uint64_t* alone,
                     std::uint64_t* shared, std::size_t count);

  // ---- order of magnitudes

  /// Counts keys around [lower, upper], and puts those strictly inside behind one another, in any order,
  /// where there is room for all of them.
  KeyCounts (*collect)(const Real* x, Key lower, Key upper, Key* inside, std::size_t count);
  /// Numbers of a key.
  std::size_t (*count_key)(const Real* x, Key key, std::size_t count);
  /// The magnitudes of x; the result is the greatest of them and `greatest`.
  Key (*magnitudes)(const Real* x, Key greatest, Key* keys, std::size_t count);
  /// How far keys are below `greatest`, in steps of which an octave has 2^bits; at most `last`. Precondition:
  /// none is greater.
  void (*depths)(const Key* keys, Key greatest, unsigned bits, std::uint16_t last, std::uint16_t* out,
                 std::size_t count);
  /// Keys that are greater than key `number`, or equal and in front of it.
  std::size_t (*keys_before)(const Key* keys, std::size_t number, std::size_t count);
};

/// The stream of the masks of a tensor, for one of the files that change it.
std::uint64_t merge_random_key(std::uint64_t seed, std::string_view tensor, std::size_t file);

/// Random 32 bits of value `i`: those of SplitMix64 (Steele, Lea and Flood, 2014) at the place i / 2 of the
/// stream that begins at `key`; the lower half for even i.
std::uint32_t merge_random(std::uint64_t key, std::uint64_t i);

template <typename Real>
const MergeKernels<Real>& merge_kernels(VectorUnit unit);

}  // namespace ckpt
