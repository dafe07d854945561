// SPDX-License-Identifier: BSD-3-Clause
#include "ckpt/format/torch_legacy_storages.h"

#include <algorithm>
#include <limits>
#include <utility>
#include <vector>

#include <fmt/format.h>

#include "ckpt/base/checked_math.h"
#include "ckpt/base/text.h"
#include "ckpt/model/anatomy.h"
#include "ckpt/zip/window_reader.h"

namespace ckpt {
namespace {

constexpr std::uint64_t kCountSize = 8;
constexpr std::size_t kWindow = 64 * 1024;
constexpr std::uint8_t kIdItems = 6;  // of a persistent id: the last one says whether it is a view

Result<std::string> spell_key(const ValueGraph& graph, Use use) {
  if (auto text = graph.string(use)) return *std::move(text);
  return corrupt_at(graph, use, "a storage's key is no string");
}

/// Is the persistent id a tuple that begins with 'storage'?
bool names_storage(const ValueGraph& graph, Use persistent_id) {
  std::vector<Use> items;
  graph.children(persistent_id, items);
  graph.children(graph.resolve(items.front()), items);
  return !items.empty() && graph.string_view(items.front()) == "storage";
}

Status check_count(const Storage& storage, std::int64_t count) {
  const auto expected = storage.bytes / dtype_info(storage.dtype).item_size;
  if (count >= 0 && static_cast<std::uint64_t>(count) == expected) return {};
  return Error(ErrorCode::kCorrupt,
               fmt::format("storage {} has {} elements, expected {}", quoted(storage.key), count, expected));
}

}  // namespace

Status LegacyStorages::collect_uses() {
  for (Use node = 0; node < object_.size(); ++node) {
    if (object_.opcode(node) != Opcode::kBinpersid) continue;
    if (!names_storage(object_, node)) continue;  // a module's class, or an id nobody knows: carried
    CKPT_ASSIGN_OR_RETURN(const auto use, reader_.read_storage(node));
    CKPT_RETURN_IF_ERROR(check_id_items(object_, use, kIdItems));
    CKPT_ASSIGN_OR_RETURN(auto key, spell_key(object_, use.key));
    CKPT_RETURN_IF_ERROR(check_view(use, key));
    first_uses_.try_emplace(std::move(key), use);
  }
  return {};
}

Status LegacyStorages::check_view(const StorageUse& use, std::string_view key) {
  if (!use.view) return {};
  const auto end = checked_add(use.view_offset, use.view->elements);
  const auto view_key = object_.string(use.view->key);
  if (!view_key) return corrupt_at(object_, use.view->key, "the key of a view is no string");
  if (!end || *end > use.elements) {
    return Error(ErrorCode::kCorrupt,
                 fmt::format("view {} needs {} elements from {} on but storage {} has {}", quoted(*view_key),
                             use.view->elements, use.view_offset, quoted(key), use.elements));
  }
  const View view{std::string(key), use.view_offset, use.view->elements};
  const auto [known, is_new] = views_.try_emplace(*view_key, view);
  if (is_new || known->second == view) return {};
  return Error(ErrorCode::kCorrupt, fmt::format("view {} is described in two ways", quoted(*view_key)));
}

Result<std::uint64_t> LegacyStorages::place(const ValueGraph& list, TorchLegacyData& data, std::uint64_t at) {
  CKPT_RETURN_IF_ERROR(read_list(list, data));
  const auto& source = *checkpoint_.parts.front().source;
  WindowReader reader(source, kWindow);
  for (std::size_t i = 0; i < data.listed.size(); ++i) {
    auto& listed = data.listed[i];
    auto& storage = checkpoint_.storages[listed.storage];
    const auto left = source.size() - at;
    if (left < kCountSize) return cut_off(data, i, left);
    CKPT_ASSIGN_OR_RETURN(const auto count, reader.view({at, kCountSize}));
    CKPT_RETURN_IF_ERROR(check_count(storage, load_le<std::int64_t>(count.data())));
    if (left - kCountSize < storage.bytes) return cut_off(data, i, left);
    storage.extent = {at + kCountSize, storage.bytes};  // of a key listed twice, the last one counts
    listed.extent = {at, kCountSize + storage.bytes};
    at = listed.extent.end();
  }
  return at;
}

Status LegacyStorages::read_list(const ValueGraph& list, TorchLegacyData& data) {
  Anatomy anatomy;
  dissect(list, list.resolve(list.root()), anatomy);
  if (anatomy.kind != ValueKind::kList) {
    return Error(ErrorCode::kCorrupt, "the list of storages is no list").in_record("keys");
  }
  data.listed.reserve(anatomy.elements.size());
  for (const auto element : anatomy.elements) {
    auto key = spell_key(list, element);
    if (!key.ok()) return std::move(key).error().in_record("keys");
    CKPT_ASSIGN_OR_RETURN(const auto storage, add_storage(std::move(key).value()));
    data.listed.push_back({element, storage, {}});
  }
  return {};
}

Result<StorageId> LegacyStorages::add_storage(std::string key) {
  if (const auto known = rows_.find(key); known != rows_.end()) {
    report("legacy-key-listed-twice", Severity::kWarning, key,
           fmt::format("storage {} is listed twice; the last copy of its bytes is loaded", quoted(key)));
    return known->second;
  }
  const auto found = first_uses_.find(key);
  if (found == first_uses_.end()) {
    return Error(ErrorCode::kCorrupt,
                 fmt::format("storage {} is listed but nothing uses it: its size is unknown, "
                             "and every PyTorch refuses the file",
                             quoted(key)));
  }
  const auto& use = found->second;
  const auto bytes = checked_multiply(use.elements, dtype_info(use.dtype).item_size);
  if (!bytes || *bytes > std::numeric_limits<std::uint64_t>::max() - kCountSize) {
    return Error(ErrorCode::kCorrupt,
                 fmt::format("storage {} has an impossible size: {} elements", quoted(key), use.elements));
  }
  if (use.untyped) {
    report("legacy-unloadable-dtype", Severity::kWarning, key,
           "a tensor has a dtype that PyTorch writes into legacy files but can't load from them");
  }
  Storage storage;
  storage.key = checkpoint_.strings.emplace_back(std::move(key));
  storage.bytes = *bytes;
  storage.dtype = use.dtype;
  storage.untyped = use.untyped;
  storage.device = checkpoint_.intern_device(object_.string(use.location).value_or("?"));
  checkpoint_.storages.push_back(storage);
  const auto row = static_cast<StorageId>(checkpoint_.storages.size() - 1);
  rows_.emplace(storage.key, row);
  return row;
}

/// Everything missing up to the end of the last storage, not just of this one.
Error LegacyStorages::cut_off(const TorchLegacyData& data, std::size_t index, std::uint64_t left) const {
  std::uint64_t needed = 0;
  for (auto i = index; i < data.listed.size(); ++i) {
    const auto sum = checked_add(needed, checkpoint_.storages[data.listed[i].storage].bytes + kCountSize);
    needed = sum.value_or(std::numeric_limits<std::uint64_t>::max());
  }
  const auto& storage = checkpoint_.storages[data.listed[index].storage];
  return Error(ErrorCode::kCorrupt,
               fmt::format("the file is cut off in storage {} ({} of {}): {} missing", quoted(storage.key),
                           index + 1, data.listed.size(), counted(needed - left, "byte")));
}

Result<StorageId> LegacyStorages::resolve(const StorageUse& use, Checkpoint& checkpoint) {
  CKPT_ASSIGN_OR_RETURN(const auto key, spell_key(object_, use.key));
  const auto found = rows_.find(key);
  if (found == rows_.end()) {
    return Error(ErrorCode::kCorrupt, fmt::format("storage {} is not in the list of storages", quoted(key)));
  }
  check_again(use, checkpoint.storages[found->second]);
  return found->second;
}

void LegacyStorages::check_again(const StorageUse& use, const Storage& storage) {
  const auto bytes = checked_multiply(use.elements, dtype_info(use.dtype).item_size);
  if (storage.untyped == use.untyped && storage.dtype == use.dtype && bytes == storage.bytes) return;
  report("storage-retyped", Severity::kError, storage.key,
         fmt::format("storage {} is used with two element types or sizes: PyTorch keeps the first",
                     quoted(storage.key)));
}

/// One finding of each kind is enough: hostile files have a million.
void LegacyStorages::report(const char* id, Severity severity, std::string_view place, std::string message) {
  const auto& findings = diagnostics_.findings();
  const bool known =
      std::any_of(findings.begin(), findings.end(), [&](const Finding& finding) { return finding.id == id; });
  if (!known) diagnostics_.add({id, severity, std::string(place), std::move(message), ""});
}

}  // namespace ckpt
