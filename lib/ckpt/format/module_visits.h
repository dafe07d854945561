// SPDX-License-Identifier: BSD-3-Clause
// Modules as they are met while a document is walked, and the state dicts that they give: keys in the order
// of `state_dict()`, which need not be that of the file.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <unordered_map>
#include <unordered_set>
#include <utility>
#include <vector>

#include "ckpt/model/checkpoint.h"
#include "ckpt/model/module_object.h"
#include "ckpt/model/packed_modules.h"

namespace ckpt {

class ModuleVisits {
 public:
  explicit ModuleVisits(Checkpoint& checkpoint) : checkpoint_(checkpoint) {}

  /// A module that stands in no other one. `counts`: its state dict is one of the file.
  std::uint32_t add_root(const ModuleObject& module, Use use, PlaceId place, bool counts, bool again);
  /// One among the children of `parent`, under `name`.
  std::uint32_t add_child(const ModuleObject& module, Use use, PlaceId place, std::uint32_t parent,
                          std::string_view name, bool again);

  /// A tensor, or another value (`tensor` is kNoIndex), among a module's parameters or buffers. Returns its
  /// key; nothing for a buffer that state dicts leave out.
  std::string_view add_value(std::uint32_t module, bool is_buffer, std::string_view name, Use key, Use value,
                             TensorId tensor);

  /// An object that is no module stands among a module's children.
  void add_unknown_child(std::uint32_t module) { visits_[module].is_opaque = true; }

  /// Would a child of that name have keys longer than any program's?
  bool is_too_deep(std::uint32_t parent, std::string_view name) const;

  /// May a module that was walked be walked again, as another child, or as a state dict of its own? Files in
  /// which modules are shared over and over, or hold themselves, come to an end.
  bool may_open_again_in(std::uint32_t parent, Use node);

  bool may_open_again_as_root(Use node) { return !root_nodes_.contains(node) && spend_on(node); }

  /// Was the module walked before? Then its tables alone are of interest.
  bool is_again(std::uint32_t module) const { return visits_[module].again; }

  /// The state dicts that count; others become `checkpoint.inner_modules`. Once, when all is walked.
  std::vector<StateDict> take_state_dicts();
  /// Fills `checkpoint.modules`, when its state dicts are settled.
  void list_modules();

 private:
  struct Visit {
    Module row;
    Use node;
    std::uint32_t state_dict;  ///< provisional, by index
    bool again;
    bool is_opaque;  ///< it has keys that no file shows
    std::vector<PackedKey> packed;
    bool hides_name;                  ///< what is in it has no name of its own
    std::vector<std::string> hidden;  ///< non-persistent buffers
    std::vector<StateDictEntry> parameters;
    std::vector<StateDictEntry> buffers;
    std::vector<std::uint32_t> children;
  };

  bool spend_on(Use node);
  std::uint32_t add(const ModuleObject& module, Visit visit);

  /// The keys that packed layers give, with the rows of those whose values are tensors.
  std::vector<StateDictEntry> packed_entries(const Visit& visit);

  /// Visits of the module `root` and those in it, parents first.
  std::vector<std::uint32_t> below(std::uint32_t root) const;

  std::string_view keep(std::string text) { return checkpoint_.strings.emplace_back(std::move(text)); }

  Checkpoint& checkpoint_;
  std::vector<Visit> visits_;
  std::vector<std::uint32_t> roots_;
  std::vector<bool> counts_;  ///< by root
  std::unordered_set<Use> root_nodes_;
  std::uint64_t nodes_again_ = 0;                        ///< in modules that were opened again
  std::unordered_map<Use, std::vector<TensorId>> rows_;  ///< by use, once a packed layer asks for them
};

}  // namespace ckpt
