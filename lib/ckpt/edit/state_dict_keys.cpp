// SPDX-License-Identifier: BSD-3-Clause
#include "ckpt/edit/state_dict_keys.h"

#include <string_view>
#include <unordered_map>
#include <unordered_set>
#include <utility>

#include <fmt/format.h>

#include "ckpt/base/text.h"
#include "ckpt/model/anatomy.h"
#include "ckpt/model/key_path.h"
#include "ckpt/model/state_dicts.h"

namespace ckpt {

void add_tied_keys(Checkpoint& checkpoint, std::uint32_t state_dict) {
  std::unordered_set<std::string> added;
  for (const auto& tied : tied_names(checkpoint)) {
    const auto row = checkpoint.tensors[tied.tensor];  // a copy: rows move
    if (row.state_dict != state_dict) continue;
    const auto shape = checkpoint.shape(row);
    const auto& name = *added.insert(checkpoint.metadata[tied.entry].first).first;
    checkpoint.insert(state_dict, name,
                      {row.dtype, row.storage, row.offset, {shape.begin(), shape.end()}, {}});
  }
  std::erase_if(checkpoint.metadata, [&](const auto& entry) { return added.contains(entry.first); });
}

EditedStateDict load_keys(Checkpoint& checkpoint, std::uint32_t state_dict) {
  const auto& dict = checkpoint.state_dicts[state_dict];
  EditedStateDict out{state_dict, checkpoint.path(dict.place), {}, dict.entries.size()};
  out.keys.reserve(dict.entries.size());
  for (std::uint32_t i = 0; i < dict.entries.size(); ++i) {
    const auto tensor = dict.entries[i].tensor;
    const std::string_view name =
        tensor != kNoIndex ? checkpoint.tensors[tensor].name
                           : checkpoint.strings.emplace_back(checkpoint.original_name(state_dict, i));
    if (tensor != kNoIndex) out.bytes_before += checkpoint.bytes(checkpoint.tensors[tensor]);
    out.keys.push_back({name, std::string(name), tensor, i, false});
  }
  return out;
}

std::vector<std::string> carried_keys(const EditedStateDict& dict, const Checkpoint& checkpoint) {
  const auto& edited = checkpoint.state_dicts[dict.index];
  if (!edited.mixed_root || !checkpoint.has_document()) return {};
  std::unordered_set<Use> known;
  for (const auto& entry : edited.entries) known.insert(entry.key);
  Anatomy anatomy;
  dissect(checkpoint.graph(), edited.mapping, anatomy);
  std::vector<std::string> keys;
  for (const auto& item : anatomy.items) {
    if (known.contains(item.key)) continue;
    if (auto key = checkpoint.graph().string(item.key)) keys.push_back(std::move(*key));
  }
  return keys;
}

namespace {

Status check_carried(const EditedStateDict& dict, const Checkpoint& checkpoint) {
  const auto carried = carried_keys(dict, checkpoint);
  if (carried.empty()) return {};
  const std::unordered_set<std::string_view> taken(carried.begin(), carried.end());
  for (const auto& key : dict.keys) {
    if (key.dropped || key.name == key.original || !taken.contains(key.name)) continue;
    return Error(ErrorCode::kRefused, fmt::format("key {} would be called {}, which is another entry's key",
                                                  quoted(key.original), quoted(key.name)));
  }
  return {};
}

Status check_collisions(const EditedStateDict& dict) {
  std::unordered_map<std::string_view, const EditedKey*> owners;
  owners.reserve(dict.keys.size());
  std::size_t left = 0;
  for (const auto& key : dict.keys) {
    if (key.dropped) continue;
    ++left;
    const auto [place, is_free] = owners.emplace(key.name, &key);
    if (is_free) continue;
    return Error(ErrorCode::kRefused,
                 fmt::format("keys {} and {} would both be called {}", quoted(place->second->original),
                             quoted(key.original), quoted(key.name)));
  }
  if (left > 0 || dict.keys.empty()) return {};
  return Error(ErrorCode::kRefused,
               fmt::format("no key of the state dict at {} would be left", quoted_path(dict.root)))
      .with_hint("to drop the whole entry, use --drop-entry PATH");
}

}  // namespace

Status check_keys(const EditedStateDict& dict, const Checkpoint& checkpoint) {
  CKPT_RETURN_IF_ERROR(check_collisions(dict));
  return check_carried(dict, checkpoint);
}

Status store_keys(EditedStateDict& dict, Checkpoint& checkpoint) {
  CKPT_RETURN_IF_ERROR(check_keys(dict, checkpoint));
  for (auto& key : dict.keys) {
    if (key.dropped) {
      checkpoint.drop(dict.index, key.entry);
    } else if (key.name != key.original) {
      checkpoint.rename(dict.index, key.entry, std::move(key.name));
    }
  }
  return {};
}

}  // namespace ckpt
