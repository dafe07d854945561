// SPDX-License-Identifier: BSD-3-Clause
#include <algorithm>

#include "ckpt/edit/edits.h"
#include "ckpt/model/wrappers.h"

namespace ckpt {

Status apply_strip(const StripWrappers& edit, EditContext& context) {
  auto& removed_everywhere = context.report.removed_wrappers;
  for (auto& dict : context.dicts) {
    if (context.checkpoint.state_dicts[dict.index].of_module && !context.makes_root) {
      unwrap_modules(edit, context, dict);
      continue;
    }
    std::vector<std::string> names;
    std::vector<EditedKey*> owners;
    for (auto& key : dict.keys) {
      if (key.dropped) continue;
      names.push_back(std::move(key.name));  // they come back below
      owners.push_back(&key);
    }
    for (auto& removed : strip_wrappers(names, edit.wrappers)) {
      const bool known = std::find(removed_everywhere.begin(), removed_everywhere.end(), removed) !=
                         removed_everywhere.end();
      if (!known) removed_everywhere.push_back(std::move(removed));
    }
    for (std::size_t i = 0; i < owners.size(); ++i) owners[i]->name = std::move(names[i]);
  }
  if (removed_everywhere.empty()) context.report.notes.emplace_back("no wrapper's name to strip");
  return {};
}

}  // namespace ckpt
