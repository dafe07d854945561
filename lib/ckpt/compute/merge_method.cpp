// SPDX-License-Identifier: BSD-3-Clause
#include "ckpt/compute/merge_method.h"

#include <algorithm>
#include <iterator>

namespace ckpt {
namespace {

using P = MergeParameter;
using Kind = MergeParameterKind;

constexpr double kAny = std::numeric_limits<double>::max();
constexpr double kFromFiles = std::numeric_limits<double>::quiet_NaN();

constexpr std::string_view kRescaleNames[] = {"l1", "density"};
constexpr std::string_view kConsensusNames[] = {"sum", "count"};

constexpr MergeParameterInfo kParameterTable[] = {
    {P::kWeight, "weight", Kind::kNumber, -kAny, kAny, {}},
    {P::kDensity, "density", Kind::kNumber, 0, 1, {}},
    {P::kT, "t", Kind::kNumber, 0, 1, {}},
    {P::kLambda, "lambda", Kind::kNumber, -kAny, kAny, {}},
    {P::kEpsilon, "epsilon", Kind::kNumber, 0, 1, {}},
    {P::kGamma, "gamma", Kind::kNumber, 0, 1, {}},
    {P::kNormalize, "normalize", Kind::kFlag, 0, 1, {}},
    {P::kNormalizeWeights, "normalize_weights", Kind::kFlag, 0, 1, {}},
    {P::kRescale, "rescale", Kind::kFlag, 0, 1, {}},
    {P::kRescaleBy, "rescale_by", Kind::kChoice, 0, 1, kRescaleNames},
    {P::kConsensus, "consensus", Kind::kChoice, 0, 1, kConsensusNames},
    {P::kRowWise, "nuslerp_row_wise", Kind::kFlag, 0, 1, {}},
    {P::kFlatten, "nuslerp_flatten", Kind::kFlag, 0, 1, {}},
    {P::kFilterWise, "filter_wise", Kind::kFlag, 0, 1, {}},
    {P::kSelectTopk, "select_topk", Kind::kNumber, 0, 1, {}},
    {P::kR, "r", Kind::kNumber, 0, kAny, {}},
    {P::kAlpha, "alpha", Kind::kNumber, -kAny, kAny, {}},
    {P::kBeta, "beta", Kind::kNumber, -kAny, kAny, {}},
    {P::kMaxIter, "max_iter", Kind::kCount, 0, 1e6, {}},
    {P::kTol, "tol", Kind::kNumber, 0, 1, {}},
    {P::kEps, "eps", Kind::kNumber, 0, 1, {}},
    {P::kRankStabilized, "rank_stabilized", Kind::kFlag, 0, 1, {}},
};

static_assert(std::size(kParameterTable) == kMergeParameters);

constexpr MergeSetting kLinearSettings[] = {{P::kWeight, 1}, {P::kNormalize, 1}};
constexpr MergeSetting kSlerpSettings[] = {{P::kT, {}}};
constexpr MergeSetting kNuslerpSettings[] = {{P::kWeight, 1}, {P::kRowWise, 0}, {P::kFlatten, 1}};
constexpr MergeSetting kMultislerpSettings[] = {{P::kWeight, 1}, {P::kNormalizeWeights, 1}, {P::kEps, 1e-8}};
constexpr MergeSetting kKarcherSettings[] = {{P::kMaxIter, 10}, {P::kTol, 1e-5}};
constexpr MergeSetting kTaskSettings[] = {{P::kWeight, 1}, {P::kNormalize, 0}, {P::kLambda, 1}};
constexpr MergeSetting kTiesSettings[] = {{P::kWeight, 1},   {P::kDensity, 1}, {P::kNormalize, 1},
                                          {P::kLambda, 1},   {P::kRescale, 0}, {P::kRescaleBy, 0},
                                          {P::kConsensus, 0}};
constexpr MergeSetting kDareSettings[] = {{P::kWeight, 1}, {P::kDensity, 1}, {P::kNormalize, 0},
                                          {P::kLambda, 1}, {P::kRescale, 1}, {P::kRescaleBy, 0}};
constexpr MergeSetting kDareTiesSettings[] = {{P::kWeight, 1},   {P::kDensity, 1}, {P::kNormalize, 0},
                                              {P::kLambda, 1},   {P::kRescale, 1}, {P::kRescaleBy, 0},
                                              {P::kConsensus, 0}};
constexpr MergeSetting kDellaSettings[] = {{P::kWeight, 1},    {P::kDensity, 1},  {P::kEpsilon, 0.15},
                                           {P::kNormalize, 1}, {P::kLambda, 1},   {P::kRescale, 1},
                                           {P::kRescaleBy, 0}, {P::kConsensus, 0}};
constexpr MergeSetting kDellaLinearSettings[] = {{P::kWeight, 1},    {P::kDensity, 1}, {P::kEpsilon, 0.15},
                                                 {P::kNormalize, 0}, {P::kLambda, 1},  {P::kRescale, 1},
                                                 {P::kRescaleBy, 0}};
constexpr MergeSetting kBreadcrumbsSettings[] = {{P::kWeight, 1},    {P::kDensity, 1}, {P::kGamma, 0.01},
                                                 {P::kNormalize, 0}, {P::kLambda, 1},  {P::kRescale, 0},
                                                 {P::kRescaleBy, 0}};
constexpr MergeSetting kBreadcrumbsTiesSettings[] = {{P::kWeight, 1},    {P::kDensity, 1},  {P::kGamma, 0.01},
                                                     {P::kNormalize, 0}, {P::kLambda, 1},   {P::kRescale, 0},
                                                     {P::kRescaleBy, 0}, {P::kConsensus, 0}};
constexpr MergeSetting kModelStockSettings[] = {{P::kFilterWise, 0}};
constexpr MergeSetting kSceSettings[] = {{P::kSelectTopk, 1}};
constexpr MergeSetting kRamSettings[] = {{P::kEpsilon, 1e-5}};
constexpr MergeSetting kRamPlusSettings[] = {{P::kR, 0.1}, {P::kAlpha, 0.2}, {P::kEpsilon, 1e-5}};
constexpr MergeSetting kLoraSettings[] = {
    {P::kWeight, 1}, {P::kR, kFromFiles}, {P::kAlpha, kFromFiles}, {P::kRankStabilized, kFromFiles}};
constexpr MergeSetting kAddDifferenceSettings[] = {{P::kAlpha, 1}};
constexpr MergeSetting kTwoFactorSettings[] = {{P::kAlpha, {}}, {P::kBeta, {}}};

using M = MergeMethod;

constexpr MergeMethodInfo kMethodTable[] = {
    {M::kMean, "mean", "", MergeBase::kNone, 1, 0, {}, true},
    {M::kLinear, "linear", "linear", MergeBase::kNone, 1, 0, kLinearSettings, true},
    {M::kSlerp, "slerp", "slerp", MergeBase::kNone, 2, 2, kSlerpSettings, false},
    {M::kNuslerp, "nuslerp", "nuslerp", MergeBase::kOptional, 2, 3, kNuslerpSettings, false},
    {M::kMultislerp, "multislerp", "multislerp", MergeBase::kOptional, 1, 0, kMultislerpSettings, false},
    {M::kKarcher, "karcher", "karcher", MergeBase::kNone, 1, 0, kKarcherSettings, false},
    {M::kTaskArithmetic, "task-arithmetic", "task_arithmetic", MergeBase::kRequired, 2, 0, kTaskSettings,
     true},
    {M::kTies, "ties", "ties", MergeBase::kRequired, 2, 0, kTiesSettings, false},
    {M::kDareLinear, "dare-linear", "dare_linear", MergeBase::kRequired, 2, 0, kDareSettings, false},
    {M::kDareTies, "dare-ties", "dare_ties", MergeBase::kRequired, 2, 0, kDareTiesSettings, false},
    {M::kDella, "della", "della", MergeBase::kRequired, 2, 0, kDellaSettings, false},
    {M::kDellaLinear, "della-linear", "della_linear", MergeBase::kRequired, 2, 0, kDellaLinearSettings,
     false},
    {M::kBreadcrumbs, "breadcrumbs", "breadcrumbs", MergeBase::kRequired, 2, 0, kBreadcrumbsSettings, false},
    {M::kBreadcrumbsTies, "breadcrumbs-ties", "breadcrumbs_ties", MergeBase::kRequired, 2, 0,
     kBreadcrumbsTiesSettings, false},
    {M::kModelStock, "model-stock", "model_stock", MergeBase::kRequired, 3, 0, kModelStockSettings, false},
    {M::kSce, "sce", "sce", MergeBase::kRequired, 2, 0, kSceSettings, false},
    {M::kNearswap, "nearswap", "nearswap", MergeBase::kRequired, 2, 2, kSlerpSettings, true},
    {M::kArceeFusion, "arcee-fusion", "arcee_fusion", MergeBase::kRequired, 2, 2, {}, false},
    {M::kRam, "ram", "ram", MergeBase::kRequired, 2, 0, kRamSettings, true},
    {M::kRamPlus, "ram-plus", "ramplus_tl", MergeBase::kRequired, 2, 0, kRamPlusSettings, false},
    {M::kLora, "lora", "", MergeBase::kRequired, 2, 0, kLoraSettings, false},
    {M::kAddDifference, "add-difference", "", MergeBase::kRequired, 3, 3, kAddDifferenceSettings, true},
    {M::kWeightedSubtraction, "weighted-subtraction", "", MergeBase::kRequired, 2, 2, kTwoFactorSettings,
     true},
    {M::kSumTwice, "sum-twice", "", MergeBase::kRequired, 3, 3, kTwoFactorSettings, true},
    {M::kTripleSum, "triple-sum", "", MergeBase::kRequired, 3, 3, kTwoFactorSettings, true},
};

template <typename Table, typename Matches>
auto find_row(const Table& table, Matches matches) {
  return std::find_if(std::begin(table), std::end(table), matches);
}

template <typename Parameters>
auto* list_of(Parameters& parameters, MergeParameter parameter) {
  switch (parameter) {
    case MergeParameter::kWeight: return &parameters.weights;
    case MergeParameter::kDensity: return &parameters.densities;
    case MergeParameter::kEpsilon: return &parameters.epsilons;
    case MergeParameter::kGamma: return &parameters.gammas;
    default: return decltype(&parameters.weights){};
  }
}

}  // namespace

const MergeSetting* MergeMethodInfo::setting(MergeParameter parameter) const {
  const auto row =
      find_row(settings, [&](const MergeSetting& setting) { return setting.parameter == parameter; });
  return row == settings.end() ? nullptr : &*row;
}

bool MergeMethodInfo::is_per_input(MergeParameter parameter) const {
  switch (parameter) {
    case MergeParameter::kWeight:
    case MergeParameter::kDensity: return true;
    case MergeParameter::kEpsilon:
    case MergeParameter::kGamma: return has(MergeParameter::kDensity);
    default: return false;
  }
}

std::vector<double>* MergeParameters::list(MergeParameter parameter) {
  return list_of(*this, parameter);
}

const std::vector<double>* MergeParameters::list(MergeParameter parameter) const {
  return list_of(*this, parameter);
}

std::span<const MergeMethodInfo> all_merge_methods() {
  return kMethodTable;
}

const MergeMethodInfo& merge_method_info(MergeMethod method) {
  return kMethodTable[static_cast<std::size_t>(method)];
}

std::optional<MergeMethod> merge_method_by_name(std::string_view name) {
  const auto row = find_row(kMethodTable, [&](const MergeMethodInfo& info) {
    return info.name == name || (!info.mergekit.empty() && info.mergekit == name);
  });
  if (row == std::end(kMethodTable)) return std::nullopt;
  return row->method;
}

std::span<const MergeParameterInfo> all_merge_parameters() {
  return kParameterTable;
}

const MergeParameterInfo& merge_parameter_info(MergeParameter parameter) {
  return kParameterTable[static_cast<std::size_t>(parameter)];
}

std::optional<MergeParameter> merge_parameter_by_name(std::string_view name) {
  const auto row =
      find_row(kParameterTable, [&](const MergeParameterInfo& info) { return info.name == name; });
  if (row == std::end(kParameterTable)) return std::nullopt;
  return row->parameter;
}

std::optional<IntegerRule> integer_rule_by_name(std::string_view name) {
  if (name == "equal") return IntegerRule::kEqual;
  if (name == "first") return IntegerRule::kFirst;
  if (name == "max") return IntegerRule::kMax;
  if (name == "sum") return IntegerRule::kSum;
  return std::nullopt;
}

std::optional<Accumulate> accumulate_by_name(std::string_view name) {
  if (name == "float64") return Accumulate::kFloat64;
  if (name == "float32") return Accumulate::kFloat32;
  return std::nullopt;
}

MergeParameters preset_parameters(MergeMethod method, std::size_t counting) {
  const auto& info = merge_method_info(method);
  MergeParameters out;
  out.weights.assign(counting, 1.0);
  out.values.fill(std::numeric_limits<double>::quiet_NaN());
  for (const auto& setting : info.settings) {
    const auto preset = setting.preset.value_or(std::numeric_limits<double>::quiet_NaN());
    if (setting.parameter == MergeParameter::kWeight) continue;
    if (setting.parameter == MergeParameter::kDensity) {
      out.densities.assign(counting, preset);
    } else {
      out[setting.parameter] = preset;
    }
  }
  return out;
}

}  // namespace ckpt
