// SPDX-License-Identifier: BSD-3-Clause
#include "ckpt/model/parameter_roles.h"

#include <algorithm>
#include <array>
#include <cctype>
#include <string>

#include "ckpt/model/module_names.h"

namespace ckpt {
namespace {

/// The last segment of `key`, which loses it and the dot in front.
std::string_view take_leaf(std::string_view& key) {
  const auto leaf = leaf_of(key);
  key.remove_suffix(std::min(key.size(), leaf.size() + 1));
  return leaf;
}

/// Learned by the transformers of torchvision and of others; nobody computes these.
constexpr std::array<std::string_view, 3> kLearned = {"class_token", "cls_token",
                                                      "relative_position_bias_table"};

bool is_parameter_name(std::string_view leaf) {
  if (std::find(kLearned.begin(), kLearned.end(), leaf) != kLearned.end()) return true;
  return leaf == "weight" || leaf == "bias" || leaf.starts_with("weight_") || leaf.starts_with("bias_") ||
         leaf.ends_with("_weight") || leaf.ends_with("_bias");
}

/// Keys below torch.nn.utils.parametrize: `M.parametrizations.weight.original`, with a number where there are
/// several, and what the parametrizations of PyTorch keep, `M.parametrizations.weight.0._u`.
RoleKind parametrized_kind(std::string_view key) {
  if (key.find("parametrizations.") == key.npos) return RoleKind::kUnknown;
  const auto leaf = take_leaf(key);
  const bool is_original = leaf.starts_with("original");
  if (!is_original) take_leaf(key);  // the number of the parametrization
  const auto name = take_leaf(key);
  if (take_leaf(key) != "parametrizations") return RoleKind::kUnknown;
  if (is_original) return is_parameter_name(name) ? RoleKind::kParameter : RoleKind::kUnknown;
  return leaf == "_u" || leaf == "_v" || leaf == "base" ? RoleKind::kBuffer : RoleKind::kUnknown;
}

/// "ema" as a word of its own: "ema", "model_ema", "ema_state_dict", not "schema".
bool names_average(std::string_view key) {
  std::string lower(key);
  std::transform(lower.begin(), lower.end(), lower.begin(),
                 [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  for (auto at = lower.find("ema"); at != lower.npos; at = lower.find("ema", at + 1)) {
    const bool starts = at == 0 || !std::isalpha(static_cast<unsigned char>(lower[at - 1]));
    const bool ends = at + 3 == lower.size() || !std::isalpha(static_cast<unsigned char>(lower[at + 3]));
    if (starts && ends) return true;
  }
  return false;
}

}  // namespace

std::string_view role_name(RoleKind kind) {
  switch (kind) {
    case RoleKind::kParameter: return "parameter";
    case RoleKind::kBuffer: return "buffer";
    case RoleKind::kUnknown: return "unknown";
    case RoleKind::kOptimizer: return "optimizer";
    case RoleKind::kOther: return "other";
  }
  return "unknown";
}

std::string_view evidence_name(RoleEvidence evidence) {
  switch (evidence) {
    case RoleEvidence::kModule: return "module";
    case RoleEvidence::kObject: return "object";
    case RoleEvidence::kOption: return "option";
    case RoleEvidence::kOptimizer: return "optimizer";
    case RoleEvidence::kMetadata: return "metadata";
    case RoleEvidence::kDtype: return "dtype";
    case RoleEvidence::kName: return "name";
    case RoleEvidence::kPlace: return "place";
    case RoleEvidence::kNothing: return "nothing";
  }
  return "nothing";
}

bool is_running_statistic(std::string_view leaf) {
  return leaf == "running_mean" || leaf == "running_var" || leaf == "num_batches_tracked";
}

TensorRole role_of(const Checkpoint& checkpoint, const TensorInfo& tensor) {
  if (tensor.state_dict == kNoIndex) {
    const bool optimizer = section_of(checkpoint, tensor) == Section::kOptimizer;
    return {optimizer ? RoleKind::kOptimizer : RoleKind::kOther, RoleEvidence::kPlace};
  }
  if (tensor.has(kBufferByModule)) return {RoleKind::kBuffer, RoleEvidence::kModule};
  if (checkpoint.state_dicts[tensor.state_dict].of_module && tensor.has(kIsParameter))
    return {RoleKind::kParameter, RoleEvidence::kModule};
  if (tensor.has(kIsParameter) || tensor.has(kRequiresGrad))
    return {RoleKind::kParameter, RoleEvidence::kObject};
  if (tensor.noted.evidence != RoleEvidence::kNothing) return tensor.noted;
  const auto leaf = leaf_of(tensor.name);
  if (is_running_statistic(leaf) || leaf == "weight_u") return {RoleKind::kBuffer, RoleEvidence::kName};
  const auto dtype_class = dtype_info(tensor.dtype).dtype_class;
  if (dtype_class == DtypeClass::kInteger || dtype_class == DtypeClass::kBool)
    return {RoleKind::kBuffer, RoleEvidence::kDtype};
  if (is_parameter_name(leaf)) return {RoleKind::kParameter, RoleEvidence::kName};
  if (const auto kind = parametrized_kind(tensor.name); kind != RoleKind::kUnknown)
    return {kind, RoleEvidence::kName};
  return {};
}

std::string_view section_name(Section section) {
  switch (section) {
    case Section::kModel: return "model";
    case Section::kOptimizer: return "optimizer";
    case Section::kEma: return "ema";
    case Section::kOther: return "other";
  }
  return "other";
}

Section section_of(const Checkpoint& checkpoint, const TensorInfo& tensor) {
  const auto format = checkpoint.format;
  if (format == FormatId::kTorchScript || format == FormatId::kOldTorchScript)
    return Section::kModel;  // they hold nothing else
  auto place = tensor.place;
  if (tensor.state_dict != kNoIndex) place = checkpoint.state_dicts[tensor.state_dict].place;
  for (; place != kNoIndex; place = checkpoint.places[place].parent) {
    const auto& step = checkpoint.places[place];
    if (checkpoint.is_optimizer_place(place)) return Section::kOptimizer;
    if (step.kind != StepKind::kItem || !checkpoint.has_document()) continue;
    const auto key = checkpoint.graph().string_view(step.step);
    if (key && names_average(*key)) return Section::kEma;
  }
  return tensor.state_dict == kNoIndex ? Section::kOther : Section::kModel;
}

}  // namespace ckpt
