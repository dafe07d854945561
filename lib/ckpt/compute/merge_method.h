// SPDX-License-Identifier: BSD-3-Clause
// The methods that make one tensor of several, and what can be set about them. Names of parameters are
// mergekit's. A method is defined here once; command line, reports and documents read these tables.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

#include "ckpt/base/export.h"

namespace ckpt {

enum class MergeMethod : std::uint8_t {
  kMean,
  kLinear,
  kSlerp,
  kNuslerp,
  kMultislerp,
  kKarcher,
  kTaskArithmetic,
  kTies,
  kDareLinear,
  kDareTies,
  kDella,
  kDellaLinear,
  kBreadcrumbs,
  kBreadcrumbsTies,
  kModelStock,
  kSce,
  kNearswap,
  kArceeFusion,
  kRam,
  kRamPlus,
  kLora,
  kAddDifference,
  kWeightedSubtraction,
  kSumTwice,
  kTripleSum,
};

enum class MergeParameter : std::uint8_t {
  kWeight,   ///< one per input that counts
  kDensity,  ///< one per input that counts
  kT,
  kLambda,
  kEpsilon,  ///< one per input that counts, where the method thins by it
  kGamma,    ///< likewise
  kNormalize,
  kNormalizeWeights,
  kRescale,    ///< 0: not; else by what `kRescaleBy` says
  kRescaleBy,  ///< a `RescaleBy`
  kConsensus,  ///< a `Consensus`
  kRowWise,    ///< "nuslerp_row_wise"
  kFlatten,    ///< "nuslerp_flatten"
  kFilterWise,
  kSelectTopk,
  kR,
  kAlpha,
  kBeta,
  kMaxIter,
  kTol,
  kEps,
  kRankStabilized,
};

inline constexpr std::size_t kMergeParameters = static_cast<std::size_t>(MergeParameter::kRankStabilized) + 1;

/// Those that inputs may have each their own of.
inline constexpr std::array kInputParameters = {MergeParameter::kWeight, MergeParameter::kDensity,
                                                MergeParameter::kEpsilon, MergeParameter::kGamma};

/// What makes up for the values that a mask took away.
enum class RescaleBy : std::uint8_t {
  kL1,       ///< the sum of magnitudes is what it was, as mergekit does it
  kDensity,  ///< divided by the share that is kept, as in the paper of DARE and in PEFT
};

/// How the sign of an element is elected.
enum class Consensus : std::uint8_t { kSum, kCount };

/// The sum that arithmetic is carried out in. One rounding at the end, to the output's dtype.
enum class Accumulate : std::uint8_t { kFloat64, kFloat32 };

/// What becomes of tensors that hold no floats.
enum class IntegerRule : std::uint8_t {
  kEqual,  ///< they have to be equal
  kFirst,  ///< the base's, or the first input's
  kMax,
  kSum,
};

/// What a parameter's value is: on the command line, and in `MergeParameters`, which holds doubles.
enum class MergeParameterKind : std::uint8_t {
  kNumber,
  kCount,   ///< a whole number
  kFlag,    ///< 0 or 1; "true", "false"
  kChoice,  ///< the place of its name in `choices`
};

struct MergeParameterInfo {
  MergeParameter parameter;
  std::string_view name;  ///< mergekit's
  MergeParameterKind kind;
  double least;  ///< of the values that mean something
  double most;
  std::span<const std::string_view> choices;
};

/// A parameter of a method.
struct MergeSetting {
  MergeParameter parameter;
  std::optional<double> preset;  ///< nothing: has to be given
};

enum class MergeBase : std::uint8_t {
  kNone,      ///< every input counts alike
  kOptional,  ///< every input counts, unless one is made the origin
  kRequired,  ///< the first input is what the others are changes of
};

struct MergeMethodInfo {
  MergeMethod method;
  std::string_view name;      ///< on the command line
  std::string_view mergekit;  ///< its name there; empty where it has none
  MergeBase base;
  std::size_t least;  ///< inputs, the base too
  std::size_t most;   ///< 0: any number
  std::span<const MergeSetting> settings;
  /// Is each element of the result made of the elements at its place alone, in a fixed order of operations?
  bool elementwise;

  /// Nothing where the method has no such parameter.
  CKPT_EXPORT const MergeSetting* setting(MergeParameter parameter) const;

  bool has(MergeParameter parameter) const { return setting(parameter) != nullptr; }

  /// May inputs have each their own of it?
  CKPT_EXPORT bool is_per_input(MergeParameter parameter) const;

  /// Inputs that weights and densities belong to: all, or all but the base.
  std::size_t counting(std::size_t inputs, bool with_base) const {
    return base == MergeBase::kNone || !with_base ? inputs : inputs - 1;
  }
};

CKPT_EXPORT std::span<const MergeMethodInfo> all_merge_methods();
CKPT_EXPORT const MergeMethodInfo& merge_method_info(MergeMethod method);
/// "task-arithmetic" → kTaskArithmetic; also mergekit's spelling, with underscores.
CKPT_EXPORT std::optional<MergeMethod> merge_method_by_name(std::string_view name);

CKPT_EXPORT std::span<const MergeParameterInfo> all_merge_parameters();
CKPT_EXPORT const MergeParameterInfo& merge_parameter_info(MergeParameter parameter);
CKPT_EXPORT std::optional<MergeParameter> merge_parameter_by_name(std::string_view name);

CKPT_EXPORT std::optional<IntegerRule> integer_rule_by_name(std::string_view name);
CKPT_EXPORT std::optional<Accumulate> accumulate_by_name(std::string_view name);

/// What a method is told about one tensor.
struct MergeParameters {
  std::vector<double> weights;    ///< one per input that counts, in their order
  std::vector<double> densities;  ///< likewise; empty: all 1
  std::vector<double> epsilons;   ///< likewise; empty: the one of `values` for all
  std::vector<double> gammas;     ///< likewise
  std::array<double, kMergeParameters> values{};
  std::uint64_t seed = 0;  ///< of random masks

  double operator[](MergeParameter parameter) const { return values[static_cast<std::size_t>(parameter)]; }

  double& operator[](MergeParameter parameter) { return values[static_cast<std::size_t>(parameter)]; }

  bool flag(MergeParameter parameter) const { return (*this)[parameter] != 0; }

  double density(std::size_t input) const { return densities.empty() ? 1 : densities[input]; }

  double epsilon(std::size_t input) const {
    return epsilons.empty() ? (*this)[MergeParameter::kEpsilon] : epsilons[input];
  }

  double gamma(std::size_t input) const {
    return gammas.empty() ? (*this)[MergeParameter::kGamma] : gammas[input];
  }

  /// Where the values of inputs are; null for what is one for all.
  CKPT_EXPORT std::vector<double>* list(MergeParameter parameter);
  CKPT_EXPORT const std::vector<double>* list(MergeParameter parameter) const;
};

/// Every setting at its preset, `counting` weights (1 where the method presets none) and densities. What has
/// no preset is NaN.
CKPT_EXPORT MergeParameters preset_parameters(MergeMethod method, std::size_t counting);

}  // namespace ckpt
