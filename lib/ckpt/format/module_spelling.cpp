// SPDX-License-Identifier: BSD-3-Clause
#include "ckpt/format/module_spelling.h"

#include <string_view>
#include <unordered_map>
#include <utility>

#include "ckpt/model/anatomy.h"

namespace ckpt {
namespace {

constexpr int kNesting = 8;  // as deep as tensor_rebuild looks

NewValue empty_ordered_dict() {
  return NewValue::call(NewValue::global("collections", "OrderedDict"), {});
}

/// The entries after the keys have moved.
std::vector<ModuleMetadata> follow(const std::vector<ModuleMetadata>& entries,
                                   const std::vector<KeyMove>& keys) {
  std::vector<std::string> modules;
  for (const auto& entry : entries) modules.push_back(entry.path);
  const auto moves = move_modules(modules, keys);
  std::vector<ModuleMetadata> left;
  for (std::size_t i = 0; i < entries.size(); ++i) {
    if (moves[i].kind == ModuleMove::Kind::kGoes) continue;
    left.push_back(entries[moves[i].value]);
    left.back().path = moves[i].kind == ModuleMove::Kind::kMoves ? moves[i].name : entries[i].path;
  }
  return left;
}

NewValue spell_metadata(const ModuleMetadata& metadata) {
  std::vector<NewValue> items = {NewValue::text("version"), NewValue::number(metadata.version)};
  if (!metadata.spectral_norms.empty()) {
    std::vector<NewValue> versions;
    for (const auto& [name, version] : metadata.spectral_norms) {
      versions.push_back(NewValue::text(name));
      versions.push_back(NewValue::number(version));
    }
    items.push_back(NewValue::text("spectral_norm"));
    items.push_back(NewValue::dict(std::move(versions)));
  }
  return NewValue::dict(std::move(items));
}

}  // namespace

Result<NewValue> ModuleSpeller::spell(std::uint32_t state_dict, const std::vector<KeyMove>& keys) {
  CKPT_ASSIGN_OR_RETURN(auto state, read_module_state(checkpoint_, state_dict));
  const auto& entries = checkpoint_.state_dicts[state_dict].entries;
  std::vector<NewValue> items;
  items.reserve(2 * entries.size() + 1);
  for (std::uint32_t i = 0; i < entries.size(); ++i) {
    if (checkpoint_.is_dropped(state_dict, i)) continue;
    items.push_back(NewValue::text(checkpoint_.name(state_dict, i)));
    items.push_back(spell_value(entries[i]));
  }
  if (checkpoint_.without_metadata()) return NewValue::filled(empty_ordered_dict(), std::move(items));
  std::vector<NewValue> metadata;
  for (const auto& entry : follow(std::move(state.metadata), keys)) {
    metadata.push_back(NewValue::text(entry.path));
    metadata.push_back(spell_metadata(entry));
  }
  std::vector<NewValue> attributes = {NewValue::text("_metadata")};
  attributes.push_back(NewValue::filled(empty_ordered_dict(), std::move(metadata)));
  return NewValue::built(NewValue::filled(empty_ordered_dict(), std::move(items)),
                         NewValue::dict(std::move(attributes)));
}

NewValue ModuleSpeller::spell_value(const StateDictEntry& entry) {
  if (entry.tensor == kNoIndex) return NewValue::move_of(graph_.resolve(entry.value));
  auto row = checkpoint_.tensors[entry.tensor];
  row.flags = static_cast<std::uint16_t>(row.flags & ~unsigned{kRequiresGrad});
  if (row.has(kReplaced) || row.has(kInserted)) return tensors_.spell(row);
  if (entry.key == kNoUse) return NewValue::move_of(graph_.resolve(entry.value));  // of a packed layer
  return spell_detached(row, entry.value);
}

/// Each key has a tensor of its own, as from `detach()`, also where several share a Parameter.
NewValue ModuleSpeller::spell_detached(const TensorInfo& row, Use value) {
  const auto tensor = graph_.resolve(inner(value));
  const bool is_dense = row.layout == TensorLayout::kStrided && row.storage != kNoIndex && !row.is_lazy();
  const bool is_first = moved_.insert(tensor).second;
  const auto made = graph_.opcode(tensor) == Opcode::kReduce ? operands(tensor) : std::vector<Use>();
  if (made.size() == 2 && reader_.kind(made[0]) == Rebuild::kFromType) {
    const auto arguments = operands(graph_.resolve(made[1]));
    if (is_dense && arguments.size() == 4 && is_plain_type(arguments[1])) return tensors_.spell(row);
    return NewValue::move_of(tensor);
  }
  if (is_dense && !is_first) return tensors_.spell(row);
  detach(tensor);
  return NewValue::move_of(tensor);
}

Use ModuleSpeller::inner(Use value) {
  for (int depth = 0; depth < kNesting; ++depth) {
    const auto node = graph_.resolve(value);
    const auto opcode = graph_.opcode(node);
    if (opcode != Opcode::kBuild && opcode != Opcode::kReduce) break;
    auto made = operands(node);
    if (opcode == Opcode::kBuild) {
      const auto maker = graph_.resolve(made[0]);
      if (graph_.opcode(maker) != Opcode::kReduce && graph_.opcode(maker) != Opcode::kNewobj) break;
      made = operands(maker);
    }
    if (made.size() != 2) break;
    const auto kind = reader_.kind(made[0]);
    if (kind != Rebuild::kParameter && kind != Rebuild::kParameterWithState &&
        kind != Rebuild::kParameterClass)
      break;
    const auto arguments = operands(graph_.resolve(made[1]));
    if (arguments.empty()) break;
    value = arguments[0];
  }
  return value;
}

/// Is the class that of plain tensors, as `detach()` returns them?
bool ModuleSpeller::is_plain_type(Use type) const {
  const auto name = graph_.global(type);
  if (!name) return false;
  return (name->module.starts_with("torch") && name->name == "Tensor") || name->name == "Parameter" ||
         name->name == "Buffer";
}

/// Its gradient and its hooks go.
void ModuleSpeller::detach(Use tensor) {
  if (graph_.opcode(tensor) != Opcode::kReduce) return;
  const auto made = operands(tensor);
  if (made.size() != 2) return;
  const auto arguments = operands(graph_.resolve(made[1]));
  const auto kind = reader_.kind(made[0]);
  std::size_t at = 4;
  if (kind == Rebuild::kQuantized) at = 5;
  if (kind == Rebuild::kMeta) at = 3;
  const bool says = kind == Rebuild::kTensorV2 || kind == Rebuild::kTensorV3 || kind == Rebuild::kQuantized ||
                    kind == Rebuild::kMeta;
  if (!says || arguments.size() <= at) return;
  if (graph_.boolean(arguments[at]).value_or(true)) edits_.replace(arguments[at], NewValue::boolean(false));
  if (kind == Rebuild::kMeta || arguments.size() <= at + 1) return;
  Anatomy hooks;
  dissect(graph_, graph_.resolve(arguments[at + 1]), hooks);
  if (!hooks.items.empty()) edits_.replace(arguments[at + 1], empty_ordered_dict());
}

}  // namespace ckpt
