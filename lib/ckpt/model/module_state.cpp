// SPDX-License-Identifier: BSD-3-Clause
#include "ckpt/model/module_state.h"

#include <algorithm>
#include <array>
#include <set>

#include <fmt/format.h>

#include "ckpt/base/text.h"
#include "ckpt/model/key_path.h"
#include "ckpt/model/module_names.h"
#include "ckpt/model/packed_modules.h"

namespace ckpt {
namespace {

constexpr std::size_t kMostNamed = 5;  // of classes, in a note

bool contains(std::string_view text, std::string_view part) {
  return text.find(part) != text.npos;
}

/// What a hook of a table is called: the function's or the class's name, or the method's.
std::string hook_name(const ValueGraph& graph, Use use) {
  const auto node = graph.resolve(use);
  if (const auto name = graph.global(node)) return fmt::format("{}.{}", name->module, name->name);
  Anatomy hook;
  dissect(graph, node, hook);
  if (hook.arguments.empty()) return "?";
  const auto called = graph.global(hook.arguments.front());
  if (!called) return "?";
  if (called->name == "getattr" && hook.arguments.size() == 3)
    return graph.string(hook.arguments[2]).value_or("?");
  return fmt::format("{}.{}", called->module, called->name);
}

class Reader {
 public:
  explicit Reader(const Checkpoint& checkpoint) : checkpoint_(checkpoint), graph_(checkpoint.graph()) {}

  Result<ModuleState> run(std::uint32_t state_dict) {
    const auto& modules = checkpoint_.modules;
    count_children();
    for (std::uint32_t i = 0; i < modules.size(); ++i) {
      if (modules[i].state_dict == state_dict) CKPT_RETURN_IF_ERROR(read(i));
    }
    add_notes();
    return std::move(state_);
  }

 private:
  void count_children() {
    children_.assign(checkpoint_.modules.size(), 0);
    for (const auto& module : checkpoint_.modules) {
      if (module.parent != kNoIndex) ++children_[module.parent];
    }
    paths_.resize(checkpoint_.modules.size());
  }

  Status read(std::uint32_t index) {
    const auto& row = checkpoint_.modules[index];
    if (row.parent != kNoIndex) {
      const auto& above = paths_[row.parent];
      paths_[index] = above.empty() ? std::string(row.name) : above + '.' + std::string(row.name);
    }
    dissect(graph_, graph_.resolve(row.use), anatomy_);
    const auto module = read_module(graph_, anatomy_);
    if (!module) return Error(ErrorCode::kInternal, "a module is none");
    if (!packed_keys(graph_, *module).known) {
      return Error(
          ErrorCode::kUnsupported,
          fmt::format("{} is a {}: its weights are packed for a backend, and only its code tells what "
                      "it gives to a state dict",
                      describe(index), module->type));
    }
    CKPT_RETURN_IF_ERROR(check_children(index, *module));
    ModuleMetadata metadata{paths_[index], module_version(graph_, *module), {}};
    CKPT_RETURN_IF_ERROR(read_hooks(index, *module, metadata));
    if (module->form == ModuleForm::kObject && !module->is_torchs()) foreign_.insert(module->type);
    state_.metadata.push_back(std::move(metadata));
    return {};
  }

  std::string describe(std::uint32_t index) const {
    return paths_[index].empty() ? "the module" : "module " + quoted(paths_[index]);
  }

  /// All that stands among its modules must be one, or None.
  Status check_children(std::uint32_t index, const ModuleObject& module) {
    std::size_t expected = module.form == ModuleForm::kCompiled ? 1 : 0;
    if (module.form == ModuleForm::kObject || module.form == ModuleForm::kGraph) {
      Anatomy table;
      dissect(graph_, graph_.resolve(module.find(graph_, "_modules")), table);
      expected = static_cast<std::size_t>(
          std::count_if(table.items.begin(), table.items.end(),
                        [&](const MappingItem& item) { return !graph_.is_none(item.value); }));
    }
    if (children_[index] == expected) return {};
    return Error(
        ErrorCode::kUnsupported,
        fmt::format("{} (a {}) holds modules that the file doesn't show as such, so it can't tell their "
                    "keys",
                    describe(index), module.type));
  }

  Status read_hooks(std::uint32_t index, const ModuleObject& module, ModuleMetadata& metadata) {
    const auto hooks = module.find(graph_, "_state_dict_hooks");
    if (hooks == kNoUse) return {};
    Anatomy table;
    dissect(graph_, graph_.resolve(hooks), table);
    for (const auto& item : table.items) {
      const auto name = hook_name(graph_, item.value);
      if (name == "torch.nn.utils.spectral_norm.SpectralNormStateDictHook") {
        metadata.spectral_norms.emplace_back(name_of_norm(item.value) + ".version", 1);
      } else if (leaf_of(name) == "_save_packed_weight") {
        return Error(
            ErrorCode::kUnsupported,
            fmt::format("{} holds weights that are packed for a backend, and only code tells what they "
                        "give to a state dict",
                        describe(index)));
      } else if (!hides_its_name(graph_, module)) {
        hooks_.insert(name);
      }
    }
    return {};
  }

  /// The parameter that the hook is about: `fn.name`.
  std::string name_of_norm(Use hook) {
    for (const auto* const step : {"fn", "name"}) {
      dissect(graph_, graph_.resolve(hook), anatomy_);
      for (const auto& item : attributes(graph_, anatomy_.states)) {
        if (graph_.string_view(item.key) == step) hook = item.value;
      }
    }
    return graph_.string(hook).value_or("weight");
  }

  void add_notes() {
    if (!foreign_.empty()) {
      state_.notes.push_back(fmt::format(
          "what code of classes outside PyTorch adds to a state dict (get_extra_state, a _version) is "
          "not in the file: {}",
          names(foreign_)));
    }
    if (!hooks_.empty())
      state_.notes.push_back(
          fmt::format("hooks that change what state_dict() gives are not run: {}", names(hooks_)));
  }

  static std::string names(const std::set<std::string>& all) {
    std::vector<std::string> shown;
    for (const auto& name : all) {
      if (shown.size() == kMostNamed) break;
      shown.push_back(quoted(name));
    }
    auto text = fmt::format("{}", fmt::join(shown, ", "));
    if (all.size() > shown.size()) text += fmt::format(" and {} more", all.size() - shown.size());
    return text;
  }

  const Checkpoint& checkpoint_;
  const ValueGraph& graph_;
  Anatomy anatomy_;
  ModuleState state_;
  std::vector<std::size_t> children_;  ///< by module
  std::vector<std::string> paths_;
  std::set<std::string> foreign_;  ///< classes that are not PyTorch's
  std::set<std::string> hooks_;
};

}  // namespace

Result<ModuleState> read_module_state(const Checkpoint& checkpoint, std::uint32_t state_dict) {
  return Reader(checkpoint).run(state_dict);
}

std::int64_t module_version(const ValueGraph& graph, const ModuleObject& module) {
  const std::string_view type = module.type;
  const auto name = leaf_of(type);
  if (!module
           .is_torchs()) {  // a subclass of a norm layer, told by what its constructor sets, has its version
    constexpr std::array<std::string_view, 5> kOfNorms = {"num_features", "eps", "momentum", "affine",
                                                          "track_running_stats"};
    const bool is_norm = std::all_of(kOfNorms.begin(), kOfNorms.end(),
                                     [&](auto attribute) { return module.find(graph, attribute) != kNoUse; });
    return is_norm ? 2 : 1;
  }
  if (contains(type, ".batchnorm.") || contains(type, ".instancenorm.") || contains(type, ".bn_relu."))
    return 2;
  if (contains(type, "quantized.") && name.starts_with("InstanceNorm")) return 2;
  if (contains(type, "quantized.dynamic.") && (name == "LSTM" || name == "GRU")) return 2;
  if (contains(type, ".intrinsic.qat.") && name.starts_with("ConvBn")) return 2;
  if (contains(type, "quantization.") && contains(type, ".observer.")) {
    constexpr std::array<std::string_view, 5> kSince3 = {
        "MinMaxObserver", "MovingAverageMinMaxObserver", "PerChannelMinMaxObserver",
        "MovingAveragePerChannelMinMaxObserver", "HistogramObserver"};
    if (std::find(kSince3.begin(), kSince3.end(), name) != kSince3.end()) return 3;
  }
  return packed_version(type);
}

}  // namespace ckpt
