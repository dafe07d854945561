// SPDX-License-Identifier: BSD-3-Clause
// An nn.Module as a pickle has it: an object whose state holds the tables `_parameters`, `_buffers` and
// `_modules`, or one of the forms in which PyTorch keeps modules without such a state.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "ckpt/base/export.h"
#include "ckpt/model/anatomy.h"
#include "ckpt/pickle/value_graph.h"

namespace ckpt {

enum class ModuleForm : std::uint8_t {
  kObject,             ///< its state is its `__dict__`
  kGraph,              ///< a torch.fx GraphModule: the first argument is its `__dict__`
  kCompiled,           ///< torch.compile's OptimizedModule: the first argument is the module in it
  kPackedConvolution,  ///< a quantised convolution: its state is a tuple
};

struct ModuleObject {
  ModuleForm form = ModuleForm::kObject;
  std::string type;                ///< "torch.nn.modules.linear.Linear"; "?" where the file doesn't say
  std::vector<MappingItem> state;  ///< of its `__dict__`; none in the last two forms
  Use argument = kNoUse;           ///< the first one of a call; the state of a convolution

  /// The value of an attribute, or kNoUse.
  Use find(const ValueGraph& graph, std::string_view name) const;

  bool is_torchs() const { return type.starts_with("torch."); }
};

/// The name of the class that the child of an OptimizedModule has in it.
inline constexpr std::string_view kCompiledChild = "_orig_mod";

/// What the finished value that was taken apart is as a module; nothing if it is none.
CKPT_EXPORT std::optional<ModuleObject> read_module(const ValueGraph& graph, const Anatomy& anatomy);

/// Names in the set used at `use`, which Python 2 and old protocols spell as a call.
std::vector<std::string> names_of_set(const ValueGraph& graph, Use use);

/// Does a wrapper for activation checkpointing leave its own name out of the keys?
bool hides_its_name(const ValueGraph& graph, const ModuleObject& module);

}  // namespace ckpt
