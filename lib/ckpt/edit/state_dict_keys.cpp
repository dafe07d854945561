// SPDX-License-Identifier: BSD-3-Clause
#include "ckpt/edit/state_dict_keys.h"

#include <fmt/format.h>

#include <string_view>
#include <unordered_map>

#include "ckpt/base/text.h"

namespace ckpt {

EditedStateDict load_keys(const Checkpoint& checkpoint, std::uint32_t state_dict) {
  const auto& dict = checkpoint.state_dicts[state_dict];
  EditedStateDict out{state_dict, checkpoint.path(dict.place), {}};
  out.keys.reserve(dict.entries.size());
  for (std::uint32_t i = 0; i < dict.entries.size(); ++i) {
    const auto name = checkpoint.original_name(state_dict, i);
    out.keys.push_back({name, name, dict.entries[i].tensor, i, false});
  }
  return out;
}

namespace {

Status check_collisions(const EditedStateDict& dict) {
  std::unordered_map<std::string_view, const EditedKey*> owners;
  owners.reserve(dict.keys.size());
  std::size_t left = 0;
  for (const auto& key : dict.keys) {
    if (key.dropped) continue;
    ++left;
    const auto [place, is_free] = owners.emplace(key.name, &key);
    if (is_free) continue;
    return Error(ErrorCode::kRefused, fmt::format("keys {} and {} would both be called {}", quoted(place->second->original),
                                                  quoted(key.original), quoted(key.name)));
  }
  if (left > 0 || dict.keys.empty()) return {};
  return Error(ErrorCode::kRefused, fmt::format("no key of the state dict at {} would be left", quoted(dict.root)))
      .with_hint("to drop the whole entry, use --drop-entry PATH");
}

}  // namespace

Status store_keys(const EditedStateDict& dict, Checkpoint& checkpoint) {
  CKPT_RETURN_IF_ERROR(check_collisions(dict));
  for (const auto& key : dict.keys) {
    if (key.dropped) {
      checkpoint.drop(dict.index, key.entry);
    } else if (key.name != key.original) {
      checkpoint.rename(dict.index, key.entry, key.name);
    }
  }
  return {};
}

}  // namespace ckpt
