// SPDX-License-Identifier: BSD-3-Clause
#include "ckpt/inspect/freeze.h"

#include <algorithm>

#include <fmt/format.h>

#include "ckpt/base/text.h"
#include "ckpt/inspect/freeze_effects.h"
#include "ckpt/model/module_names.h"
#include "ckpt/model/parameter_roles.h"
#include "ckpt/model/role_evidence.h"
#include "ckpt/model/state_dicts.h"
#include "ckpt/model/ties.h"

namespace ckpt {
namespace {

constexpr std::size_t kNamed = 5;  // examples in a message

constexpr std::uint32_t kNoRule = kNoIndex;

std::string examples(const std::vector<std::string_view>& names) {
  std::string out;
  for (std::size_t i = 0; i < std::min(kNamed, names.size()); ++i)
    out += (i > 0 ? ", " : "") + quoted(names[i]);
  if (names.size() > kNamed) out += fmt::format(" and {} more", with_separators(names.size() - kNamed));
  return out;
}

/// Which patterns matched.
struct Uses {
  explicit Uses(const FreezeQuestion& question)
      : rules(question.rules.size()),
        buffers(question.buffers.size()),
        parameters(question.parameters.size()) {}

  std::vector<bool> rules;
  std::vector<bool> buffers;
  std::vector<bool> parameters;
};

/// One state dict on its way to its report.
class DictFreeze {
 public:
  DictFreeze(const Checkpoint& checkpoint, const FreezeQuestion& question, std::uint32_t state_dict)
      : checkpoint_(checkpoint), question_(question), dict_(checkpoint.state_dicts[state_dict]) {
    report_.state_dict = state_dict;
    report_.root = checkpoint.path(dict_.place);
  }

  /// Fills the entries. Which of the user's words about kinds match a key is noted in `uses`.
  void collect(Uses& uses);
  /// kRefused for keys whose kind nobody tells, or about which the user is wrong.
  Status check_kinds() const;
  /// The same of the rules, which match parameters alone.
  void match(Uses& uses);
  /// Which parameters train. Errors: those of --train-last.
  Status decide();

  /// What messages call it.
  std::string called() const { return report_.root.empty() ? "the state dict" : quoted(report_.root); }

  std::string_view name(const FreezeEntry& entry) const { return checkpoint_.tensors[entry.tensor].name; }

  FreezeReport& report() { return report_; }

 private:
  TensorRole role(const TensorInfo& tensor, Uses& uses);
  void tie();
  bool starts_training(const FreezeEntry& entry) const;
  Status keep_last();
  bool order_is_known() const;
  void apply_rules();

  const Checkpoint& checkpoint_;
  const FreezeQuestion& question_;
  const StateDict& dict_;
  FreezeReport report_;
  const PatternIndex parameters_{question_.parameters};
  const PatternIndex buffers_{question_.buffers};
  std::vector<std::uint32_t> last_rule_;   ///< by entry: the last rule that matches its key, or kNoRule
  std::vector<bool> starts_;               ///< by entry: what it is before rules act
  std::vector<std::string_view> unknown_;  ///< keys whose kind nobody tells
  const TensorInfo* no_buffer_ = nullptr;  ///< proven to be a parameter, and said to be a buffer
};

TensorRole DictFreeze::role(const TensorInfo& tensor, Uses& uses) {
  const auto role = role_of(checkpoint_, tensor);
  const auto said = [&](const PatternIndex& patterns, std::vector<bool>& used) {
    bool matches = false;
    patterns.for_matches(tensor.name, [&](std::size_t i) {
      used[i] = true;
      matches = true;
    });
    return matches;
  };
  const bool parameter = said(parameters_, uses.parameters);
  const bool buffer = said(buffers_, uses.buffers);
  if (buffer && role.kind != RoleKind::kBuffer) {
    if (role.kind == RoleKind::kParameter && role.evidence < RoleEvidence::kOption) no_buffer_ = &tensor;
    return {RoleKind::kBuffer, RoleEvidence::kOption};
  }
  if (parameter && role.kind == RoleKind::kUnknown) return {RoleKind::kParameter, RoleEvidence::kOption};
  return role;
}

void DictFreeze::collect(Uses& uses) {
  for (const auto& entry : dict_.entries) {
    if (entry.tensor == kNoIndex || leaf_of(checkpoint_.tensors[entry.tensor].name) == "_extra_state") {
      ++report_.extra_states;
      continue;
    }
    const auto& tensor = checkpoint_.tensors[entry.tensor];
    report_.entries.push_back({entry.tensor, role(tensor, uses), 0, 0, false});
    if (report_.entries.back().role.kind == RoleKind::kUnknown) unknown_.push_back(tensor.name);
  }
  tie();
}

Status DictFreeze::check_kinds() const {
  if (no_buffer_ != nullptr) {
    const bool by_module = role_of(checkpoint_, *no_buffer_).evidence == RoleEvidence::kModule;
    return Error(
        ErrorCode::kRefused,
        fmt::format("key {} is said to be a buffer, but it is a parameter: {}", quoted(no_buffer_->name),
                    by_module ? "its module says so" : "it is an nn.Parameter or requires a gradient"));
  }
  if (unknown_.empty()) return {};
  const bool one = unknown_.size() == 1;
  const bool several = checkpoint_.state_dicts.size() > 1;
  return Error(ErrorCode::kRefused,
               fmt::format("{} of {} may be {}: {}", counted(unknown_.size(), "key"), called(),
                           one ? "a parameter or a buffer" : "parameters or buffers", examples(unknown_)))
      .with_hint(fmt::format("say which are buffers with --buffers PATTERN and which are parameters with "
                             "--parameters PATTERN{}",
                             several ? "; or choose a state dict with --root PATH" : ""));
}

/// `first` of all entries. Where a parameter and a buffer are one tensor, each counts for itself.
void DictFreeze::tie() {
  const auto first = first_of_ties(checkpoint_, dict_);
  std::vector<std::uint32_t> row(first.size(), kNoIndex);  // of our entries, by entry of the dict
  std::uint32_t next = 0;
  for (std::uint32_t i = 0; i < first.size() && next < report_.entries.size(); ++i) {
    auto& entry = report_.entries[next];
    if (dict_.entries[i].tensor != entry.tensor) continue;
    row[i] = next;
    const auto before = row[first[i]];
    const bool tied = before != kNoIndex && report_.entries[before].role.kind == entry.role.kind;
    entry.first = tied ? before : next;
    ++next;
  }
}

void DictFreeze::match(Uses& uses) {
  PatternIndex rules;
  for (const auto& rule : question_.rules) rules.add(rule.pattern);
  last_rule_.assign(report_.entries.size(), kNoRule);
  for (std::size_t i = 0; i < report_.entries.size(); ++i) {
    if (!is_parameter(report_.entries[i])) continue;
    auto& last = last_rule_[i];
    rules.for_matches(name(report_.entries[i]), [&](std::size_t rule) {
      uses.rules[rule] = true;
      if (last == kNoRule || rule > last) last = static_cast<std::uint32_t>(rule);
    });
  }
}

/// The reference library of safetensors sorts tensors by dtype and name, whatever order the model has.
bool DictFreeze::order_is_known() const {
  if (checkpoint_.has_document() || checkpoint_.format == FormatId::kOldTorchScript) return true;
  for (std::size_t i = 1; i < report_.entries.size(); ++i) {
    const auto& before = checkpoint_.tensors[report_.entries[i - 1].tensor];
    const auto& tensor = checkpoint_.tensors[report_.entries[i].tensor];
    if (before.dtype == tensor.dtype && tensor.name < before.name) return true;
  }
  return report_.entries.size() < 2;
}

bool DictFreeze::starts_training(const FreezeEntry& entry) const {
  const auto& tensor = checkpoint_.tensors[entry.tensor];
  switch (report_.start) {
    case FreezeStart::kNone:
    case FreezeStart::kLast: return false;
    case FreezeStart::kRequiresGrad: return !tensor.has(kIsParameter) || tensor.has(kRequiresGrad);
    case FreezeStart::kAll: return true;
  }
  return true;
}

Status DictFreeze::keep_last() {
  if (!order_is_known()) {
    return Error(ErrorCode::kRefused,
                 "--train-last needs the order of the model's parameters, and safetensors sorts by name")
        .with_hint("name the keys with --train PATTERN");
  }
  auto left = *question_.train_last;
  for (std::size_t i = report_.entries.size(); i-- > 0 && left > 0;) {
    const auto& entry = report_.entries[i];
    if (!is_parameter(entry) || entry.first != i) continue;
    starts_[i] = true;
    --left;
  }
  if (left == 0) return {};
  const auto there = *question_.train_last - left;
  if (there == 0) return {};  // a dict without parameters: none to freeze
  return Error(ErrorCode::kUsage, fmt::format("--train-last {}, but {} has {}", *question_.train_last,
                                              called(), counted(there, "parameter")));
}

Status DictFreeze::decide() {
  auto& entries = report_.entries;
  const auto& rules = question_.rules;
  const bool has_parameters = std::any_of(entries.begin(), entries.end(), [&](const FreezeEntry& entry) {
    return checkpoint_.tensors[entry.tensor].has(kIsParameter);
  });
  report_.start = question_.train_last                    ? FreezeStart::kLast
                  : !rules.empty() && rules.front().train ? FreezeStart::kNone
                  : has_parameters || dict_.of_module     ? FreezeStart::kRequiresGrad
                                                          : FreezeStart::kAll;
  starts_.assign(entries.size(), false);
  for (std::size_t i = 0; i < entries.size(); ++i)
    starts_[i] = is_parameter(entries[i]) && starts_training(entries[i]);
  if (question_.train_last) CKPT_RETURN_IF_ERROR(keep_last());

  apply_rules();
  return {};
}

/// A tensor is one object whatever its keys: the last rule that matches any of them decides.
void DictFreeze::apply_rules() {
  auto& entries = report_.entries;
  const auto& rules = question_.rules;
  auto deciding = last_rule_;
  std::vector<std::uint32_t> decider(entries.size());
  for (std::uint32_t i = 0; i < entries.size(); ++i) {
    const auto first = entries[i].first;
    if (first == i) {
      decider[i] = i;
    } else if (last_rule_[i] != kNoRule && (deciding[first] == kNoRule || deciding[first] < last_rule_[i])) {
      deciding[first] = last_rule_[i];
      decider[first] = i;
    }
  }
  for (std::uint32_t i = 0; i < entries.size(); ++i) {
    auto& entry = entries[i];
    if (!is_parameter(entry)) continue;
    const auto rule = deciding[entry.first];
    const bool wanted = rule == kNoRule ? starts_[entry.first] : rules[rule].train;
    const bool alone = last_rule_[i] == kNoRule ? starts_[entry.first] : rules[last_rule_[i]].train;
    const bool differentiable = is_differentiable(checkpoint_.tensors[entry.tensor].dtype);
    entry.trains = wanted && differentiable;
    if (wanted && !differentiable && entry.first == i) report_.untrainable.push_back(name(entry));
    if (alone != wanted && differentiable)
      report_.conflicts.push_back({name(entry), name(entries[decider[entry.first]]), wanted, false});
  }
}

enum class Among : std::uint8_t { kAll, kParameters };

Error no_match(const NamePattern& pattern, std::vector<DictFreeze>& dicts, Among among) {
  std::vector<std::string> names;
  std::uint64_t buffers = 0;
  for (auto& dict : dicts) {
    for (const auto& entry : dict.report().entries) {
      if (among == Among::kAll || is_parameter(entry)) {
        names.emplace_back(dict.name(entry));
      } else if (pattern.matches(dict.name(entry))) {
        ++buffers;
      }
    }
  }
  if (buffers > 0) {
    return Error(ErrorCode::kNotFound, fmt::format("{} matches no parameter, only {}: buffers do not train",
                                                   quoted(pattern.text()), counted(buffers, "buffer")));
  }
  const auto error = unmatched(pattern, std::move(names));
  constexpr std::string_view kAccept = "use --allow-unmatched to accept a pattern without a match";
  const auto hint =
      error.hint().empty() ? std::string(kAccept) : fmt::format("{} U{}", error.hint(), kAccept.substr(1));
  return Error(error.code(), error.message()).with_hint(hint);
}

Status check_kind_patterns(const FreezeQuestion& question, const Uses& uses, std::vector<DictFreeze>& dicts) {
  if (question.allow_unmatched) return {};
  for (std::size_t i = 0; i < question.buffers.size(); ++i) {
    if (!uses.buffers[i]) return no_match(question.buffers[i], dicts, Among::kAll);
  }
  for (std::size_t i = 0; i < question.parameters.size(); ++i) {
    if (!uses.parameters[i]) return no_match(question.parameters[i], dicts, Among::kAll);
  }
  return {};
}

Status check_rules(const FreezeQuestion& question, const Uses& uses, std::vector<DictFreeze>& dicts) {
  if (question.allow_unmatched) return {};
  for (std::size_t i = 0; i < question.rules.size(); ++i) {
    if (!uses.rules[i]) return no_match(question.rules[i].pattern, dicts, Among::kParameters);
  }
  return {};
}

}  // namespace

Result<std::vector<FreezeReport>> freeze_report(Checkpoint& checkpoint, const FreezeQuestion& question) {
  CKPT_ASSIGN_OR_RETURN(const auto chosen, choose_state_dicts(checkpoint, question.roots));
  note_roles(checkpoint);
  Uses uses(question);
  std::vector<DictFreeze> dicts;
  for (const auto index : chosen) {
    dicts.emplace_back(checkpoint, question, index);
    dicts.back().collect(uses);
    dicts.back().match(uses);
  }
  CKPT_RETURN_IF_ERROR(check_kind_patterns(question, uses, dicts));
  for (const auto& dict : dicts) CKPT_RETURN_IF_ERROR(dict.check_kinds());
  CKPT_RETURN_IF_ERROR(check_rules(question, uses, dicts));
  std::vector<FreezeReport> reports;
  for (auto& dict : dicts) {
    CKPT_RETURN_IF_ERROR(dict.decide());
    auto& report = dict.report();
    count_groups(checkpoint, question.grouping, report);
    count_memory(question.optimizer, report);
    find_overlaps(checkpoint, report);
    find_moving_statistics(checkpoint, report);
    reports.push_back(std::move(report));
  }
  return reports;
}

}  // namespace ckpt
