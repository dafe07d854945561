// SPDX-License-Identifier: BSD-3-Clause
#include "ckpt/inspect/freeze.h"

#include <algorithm>
#include <unordered_map>
#include <unordered_set>

#include <fmt/format.h>

#include "ckpt/base/text.h"
#include "ckpt/model/key_path.h"
#include "ckpt/model/parameter_roles.h"
#include "ckpt/model/role_evidence.h"
#include "ckpt/model/state_dicts.h"
#include "ckpt/model/ties.h"
#include "ckpt/model/wrappers.h"

namespace ckpt {
namespace {

constexpr std::size_t kNamed = 5;        // examples in a message
constexpr std::uint64_t kStepBytes = 4;  // Adam keeps a float32 a parameter, on every torch since 1.12

constexpr std::uint32_t kNoRule = kNoIndex;

std::string_view module_of(std::string_view key) {
  const auto dot = key.rfind('.');
  return dot == key.npos ? std::string_view() : key.substr(0, dot);
}

std::string_view leaf_of(std::string_view key) {
  const auto dot = key.rfind('.');
  return dot == key.npos ? key : key.substr(dot + 1);
}

bool is_statistic(std::string_view leaf) {
  return leaf == "running_mean" || leaf == "running_var" || leaf == "num_batches_tracked";
}

bool is_parameter(const FreezeEntry& entry) {
  return entry.role.kind == RoleKind::kParameter;
}

std::string examples(const std::vector<std::string_view>& names) {
  std::string out;
  for (std::size_t i = 0; i < std::min(kNamed, names.size()); ++i)
    out += (i > 0 ? ", " : "") + quoted(names[i]);
  if (names.size() > kNamed) out += fmt::format(" and {} more", with_separators(names.size() - kNamed));
  return out;
}

void add(FreezeAmount& amount, std::uint64_t numel, std::uint64_t bytes) {
  ++amount.tensors;
  amount.numel += numel;
  amount.bytes += bytes;
}

/// One state dict on its way to its report.
class DictFreeze {
 public:
  DictFreeze(const Checkpoint& checkpoint, const FreezeQuestion& question, std::uint32_t state_dict)
      : checkpoint_(checkpoint), question_(question), dict_(checkpoint.state_dicts[state_dict]) {
    report_.state_dict = state_dict;
    report_.root = checkpoint.path(dict_.place);
  }

  /// Which keys the user's words about kinds match is noted in `used`, a flag a pattern.
  Status collect(std::vector<bool>& buffers_used, std::vector<bool>& parameters_used);
  /// The rules that match a parameter, too, are noted in `used`.
  void match(std::vector<bool>& used);
  Status decide();
  void count();
  void find_overlaps();
  void find_moving_statistics();

  std::string_view name(const FreezeEntry& entry) const { return checkpoint_.tensors[entry.tensor].name; }

  FreezeReport& report() { return report_; }

 private:
  Result<TensorRole> role(const TensorInfo& tensor, std::vector<bool>& buffers_used,
                          std::vector<bool>& parameters_used) const;
  void tie();
  bool starts_training(const FreezeEntry& entry) const;
  Status keep_last();
  bool order_is_known() const;
  std::size_t wrapper_size() const;
  std::uint32_t group_of(std::string_view key);
  std::string_view module_group(std::string_view key) const;

  const Checkpoint& checkpoint_;
  const FreezeQuestion& question_;
  const StateDict& dict_;
  FreezeReport report_;
  std::vector<std::uint32_t> last_rule_;  ///< by entry: the last rule that matches its key, or kNoRule
  std::vector<bool> starts_;              ///< by entry: what it is before rules act
  std::unordered_map<std::string, std::uint32_t> group_indices_;
  std::size_t wrapper_ = 0;  ///< bytes of "module." that stand in front of every key
};

Result<TensorRole> DictFreeze::role(const TensorInfo& tensor, std::vector<bool>& buffers_used,
                                    std::vector<bool>& parameters_used) const {
  auto role = role_of(checkpoint_, tensor);
  const auto said = [&](const std::vector<NamePattern>& patterns, std::vector<bool>& used) {
    bool matches = false;
    for (std::size_t i = 0; i < patterns.size(); ++i) {
      if (!patterns[i].matches(tensor.name)) continue;
      used[i] = true;
      matches = true;
    }
    return matches;
  };
  const bool parameter = said(question_.parameters, parameters_used);
  if (said(question_.buffers, buffers_used) && role.kind != RoleKind::kBuffer) {
    if (role.kind == RoleKind::kParameter && role.evidence < RoleEvidence::kOption) {
      return Error(
          ErrorCode::kRefused,
          fmt::format("key {} is said to be a buffer, but it is a parameter: {}", quoted(tensor.name),
                      role.evidence == RoleEvidence::kModule
                          ? "its module says so"
                          : "it is an nn.Parameter or requires a gradient"));
    }
    return TensorRole{RoleKind::kBuffer, RoleEvidence::kOption};
  }
  if (parameter && role.kind == RoleKind::kUnknown) role = {RoleKind::kParameter, RoleEvidence::kOption};
  return role;
}

Status DictFreeze::collect(std::vector<bool>& buffers_used, std::vector<bool>& parameters_used) {
  std::vector<std::string_view> unknown;
  for (const auto& entry : dict_.entries) {
    if (entry.tensor == kNoIndex) {
      ++report_.extra_states;
      continue;
    }
    const auto& tensor = checkpoint_.tensors[entry.tensor];
    if (leaf_of(tensor.name) == "_extra_state") {
      ++report_.extra_states;
      continue;
    }
    auto kind = role(tensor, buffers_used, parameters_used);
    if (!kind.ok()) return std::move(kind).error();
    if (kind->kind == RoleKind::kUnknown) unknown.push_back(tensor.name);
    report_.entries.push_back({entry.tensor, *kind, 0, 0, false});
  }
  tie();
  if (unknown.empty()) return {};
  return Error(ErrorCode::kRefused,
               fmt::format("{} of {} may be {} or {}: {}", counted(unknown.size(), "key"),
                           report_.root.empty() ? "the state dict" : quoted(report_.root),
                           unknown.size() == 1 ? "a parameter" : "parameters",
                           unknown.size() == 1 ? "a buffer" : "buffers", examples(unknown)))
      .with_hint(
          fmt::format("say which are buffers with --buffers PATTERN and which are parameters with "
                      "--parameters PATTERN{}",
                      checkpoint_.state_dicts.size() > 1 ? "; or choose a state dict with --root PATH" : ""));
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

void DictFreeze::match(std::vector<bool>& used) {
  const auto& rules = question_.rules;
  last_rule_.assign(report_.entries.size(), kNoRule);
  for (std::size_t i = 0; i < report_.entries.size(); ++i) {
    if (!is_parameter(report_.entries[i])) continue;
    for (std::uint32_t rule = 0; rule < rules.size(); ++rule) {
      if (!rules[rule].pattern.matches(name(report_.entries[i]))) continue;
      used[rule] = true;
      last_rule_[i] = rule;
    }
  }
}

/// The reference library of safetensors sorts tensors by dtype and name, whatever order the model has.
bool DictFreeze::order_is_known() const {
  if (checkpoint_.has_document()) return true;
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
                                              report_.root.empty() ? "the state dict" : quoted(report_.root),
                                              counted(there, "parameter")));
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

  // A tensor is one object whatever its keys: the last rule that matches any of them decides.
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
  return {};
}

/// Wrappers in front of all keys are no level of the model.
std::size_t DictFreeze::wrapper_size() const {
  const auto& wrappers = known_wrappers();
  std::size_t size = 0;
  for (;;) {
    std::string_view wrapper;
    for (const auto& entry : report_.entries) {
      const auto rest = name(entry).substr(std::min(size, name(entry).size()));
      const auto segment = rest.substr(0, rest.find('.'));
      if (wrapper.empty()) {
        if (std::find(wrappers.begin(), wrappers.end(), segment) == wrappers.end()) return size;
        wrapper = segment;
      }
      if (segment != wrapper || segment.size() == rest.size()) return size;
    }
    if (wrapper.empty()) return size;
    size += wrapper.size() + 1;
  }
}

/// The first levels of the module that has the key; the key itself where it is the root's.
std::string_view DictFreeze::module_group(std::string_view key) const {
  if (question_.grouping.depth == 0) return {};
  const auto inner = key.substr(wrapper_);
  const auto module = module_of(inner);
  if (module.empty()) return key;
  auto end = module.find('.');
  for (std::uint64_t level = 1; level < question_.grouping.depth && end != module.npos; ++level)
    end = module.find('.', end + 1);
  return key.substr(0, wrapper_ + std::min(end, module.size()));
}

std::uint32_t DictFreeze::group_of(std::string_view key) {
  std::string name;
  if (const auto& expression = question_.grouping.expression) {
    name = expression->captured(key).value_or("(no match)");
  } else {
    name = module_group(key);
  }
  const auto [found, is_new] =
      group_indices_.emplace(std::move(name), static_cast<std::uint32_t>(report_.groups.size()));
  if (is_new) report_.groups.push_back({found->first, {}, {}, {}});
  return found->second;
}

void DictFreeze::count() {
  const bool momentum = question_.optimizer == OptimizerKind::kMomentum;
  const bool adam =
      question_.optimizer == OptimizerKind::kAdam || question_.optimizer == OptimizerKind::kAdamW;
  wrapper_ = wrapper_size();
  for (std::uint32_t i = 0; i < report_.entries.size(); ++i) {
    auto& entry = report_.entries[i];
    const auto& tensor = checkpoint_.tensors[entry.tensor];
    entry.group = group_of(tensor.name);
    if (entry.first != i) continue;
    const auto numel = checkpoint_.numel(tensor);
    const auto bytes = checkpoint_.bytes(tensor);
    for (auto* group : {&report_.groups[entry.group], &report_.total}) {
      add(is_parameter(entry) ? group->parameters : group->buffers, numel, bytes);
      if (entry.trains) add(group->trainable, numel, bytes);
    }
  }
  const auto& trainable = report_.total.trainable;
  auto& memory = report_.memory;
  memory.gradients = trainable.bytes;
  memory.steps = adam ? kStepBytes * trainable.tensors : 0;
  memory.state = (momentum ? 1 : adam ? 2 : 0) * trainable.bytes + memory.steps;
}

/// Parameters that are objects of their own and yet show some of the same bytes.
void DictFreeze::find_overlaps() {
  struct View {
    StorageId storage;
    Extent extent;
    std::uint32_t entry;
  };

  std::vector<View> views;
  for (std::uint32_t i = 0; i < report_.entries.size(); ++i) {
    const auto& entry = report_.entries[i];
    const auto& tensor = checkpoint_.tensors[entry.tensor];
    if (!is_parameter(entry) || entry.first != i || tensor.storage == kNoIndex) continue;
    const auto extent = checkpoint_.view_extent(tensor);
    // between the elements of a view with holes others may lie
    if (extent.size > 0 && extent.size == checkpoint_.bytes(tensor))
      views.push_back({tensor.storage, extent, i});
  }
  std::sort(views.begin(), views.end(), [](const View& a, const View& b) {
    if (a.storage != b.storage) return a.storage < b.storage;
    if (a.extent.offset != b.extent.offset) return a.extent.offset < b.extent.offset;
    return a.entry < b.entry;
  });
  const View* reach[2] = {nullptr, nullptr};  // the view that ends last, of the frozen and the training ones
  for (const auto& view : views) {
    const bool trains = report_.entries[view.entry].trains;
    const auto* other = reach[trains ? 0 : 1];
    if (other != nullptr && other->storage == view.storage && other->extent.end() > view.extent.offset) {
      const auto& frozen = trains ? *other : view;
      const auto& training = trains ? view : *other;
      report_.conflicts.push_back(
          {name(report_.entries[frozen.entry]), name(report_.entries[training.entry]), false, true});
    }
    auto*& own = reach[trains ? 1 : 0];
    if (own == nullptr || own->storage != view.storage || own->extent.end() < view.extent.end()) own = &view;
  }
}

void DictFreeze::find_moving_statistics() {
  if (report_.total.trainable.tensors == report_.total.parameters.tensors) return;
  std::unordered_map<std::string_view, std::size_t> modules;
  auto& moving = report_.moving;
  for (const auto& entry : report_.entries) {
    const auto key = name(entry);
    if (is_parameter(entry) || !is_statistic(leaf_of(key))) continue;
    const auto [found, is_new] = modules.emplace(module_of(key), moving.size());
    if (is_new) moving.push_back({module_of(key), {}});
    moving[found->second].buffers.push_back(key);
  }
  if (moving.empty()) return;
  std::unordered_set<std::string_view> training;
  for (const auto& entry : report_.entries) {
    if (entry.trains) training.insert(module_of(name(entry)));
  }
  std::erase_if(moving, [&](const MovingStatistics& module) { return training.contains(module.module); });
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

Status check_uses(const FreezeQuestion& question, const Uses& uses, std::vector<DictFreeze>& dicts) {
  if (question.allow_unmatched) return {};
  for (std::size_t i = 0; i < question.rules.size(); ++i) {
    if (!uses.rules[i]) return no_match(question.rules[i].pattern, dicts, Among::kParameters);
  }
  for (std::size_t i = 0; i < question.buffers.size(); ++i) {
    if (!uses.buffers[i]) return no_match(question.buffers[i], dicts, Among::kAll);
  }
  for (std::size_t i = 0; i < question.parameters.size(); ++i) {
    if (!uses.parameters[i]) return no_match(question.parameters[i], dicts, Among::kAll);
  }
  return {};
}

}  // namespace

Result<std::vector<FreezeReport>> freeze_report(Checkpoint& checkpoint, const FreezeQuestion& question) {
  CKPT_ASSIGN_OR_RETURN(const auto chosen, choose_state_dicts(checkpoint, question.roots));
  note_roles(checkpoint);
  Uses uses(question);
  std::vector<DictFreeze> dicts;
  Status unknown;
  for (const auto index : chosen) {
    dicts.emplace_back(checkpoint, question, index);
    auto known = dicts.back().collect(uses.buffers, uses.parameters);
    if (!known.ok() && unknown.ok()) unknown = std::move(known);
    dicts.back().match(uses.rules);
  }
  CKPT_RETURN_IF_ERROR(check_uses(question, uses, dicts));
  CKPT_RETURN_IF_ERROR(std::move(unknown));
  std::vector<FreezeReport> reports;
  for (auto& dict : dicts) {
    CKPT_RETURN_IF_ERROR(dict.decide());
    dict.count();
    dict.find_overlaps();
    dict.find_moving_statistics();
    reports.push_back(std::move(dict.report()));
  }
  return reports;
}

}  // namespace ckpt
