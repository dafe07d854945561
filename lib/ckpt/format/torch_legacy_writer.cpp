// SPDX-License-Identifier: BSD-3-Clause
// Laying out an edited stream. Nothing in it says where anything lies, so only the object and, if storages
// go or come, the list of keys change; new storages follow the others, and each run of storages that stay
// neighbours is one copy with its counts. The stream has no padding, so nothing can be aligned for a file
// system that shares pages.
#include <string_view>
#include <unordered_set>

#include <fmt/format.h>

#include "ckpt/format/torch_document.h"
#include "ckpt/format/torch_legacy.h"
#include "ckpt/pickle/decoder.h"

namespace ckpt {
namespace {

class LegacyWriter {
 public:
  LegacyWriter(const Checkpoint& checkpoint, const TorchLegacyData& data, const SpelledDocument& document,
               const StorageSpelling& storages)
      : checkpoint_(checkpoint), data_(data), document_(document), storages_(storages) {}

  Result<Layout> run() {
    const auto& documents = checkpoint_.parts.front().documents;
    const auto& keys = documents[1]->graph;
    CKPT_RETURN_IF_ERROR(append_head(documents[0]->graph.extent().offset));
    append_pickle(layout_, document_.pickle);
    const auto edits = change_keys();
    if (edits.empty() && !checkpoint_.requires_weights_only()) {
      layout_.append_copy(0, keys.extent());
    } else {
      auto encoded = encode_pickle(keys, edits);
      if (!encoded.ok()) return std::move(encoded).error().in_record(documents[1]->name);
      CKPT_RETURN_IF_ERROR(append_restricted(std::move(encoded).value()));
    }
    for (const auto& listed : data_.listed) {
      if (is_live(listed)) layout_.append_copy(0, listed.extent);
    }
    CKPT_RETURN_IF_ERROR(append_added());
    layout_.append_copy(0, data_.trailing);
    return std::move(layout_);
  }

 private:
  /// The small pickles in front of the object: magic number, version, the writer's machine.
  Status append_head(std::uint64_t end) {
    const auto& source = *checkpoint_.parts.front().source;
    if (!checkpoint_.requires_weights_only()) {
      layout_.append_copy(0, {0, end});
      return {};
    }
    for (std::uint64_t at = 0; at < end;) {
      CKPT_ASSIGN_OR_RETURN(const auto graph, decode_pickle(source, {at, end - at}));
      CKPT_ASSIGN_OR_RETURN(auto pickle, encode_pickle(graph, {}));
      CKPT_RETURN_IF_ERROR(append_restricted(std::move(pickle)));
      at = graph.extent().end();
    }
    return {};
  }

  /// The pickle as it is or, where the restricted loader has to read it, in its opcodes.
  Status append_restricted(EncodedPickle pickle) {
    if (checkpoint_.requires_weights_only()) {
      const auto source = make_pickle_source(pickle, checkpoint_.parts.front().source);
      CKPT_ASSIGN_OR_RETURN(const auto graph, decode_pickle(*source, {0, source->size()}));
      CKPT_RETURN_IF_ERROR(restrict_opcodes(pickle, graph));
    }
    append_pickle(layout_, pickle);
    return {};
  }

  bool is_live(const TorchLegacyData::Listed& listed) const {
    return document_.refers_to(checkpoint_.storages[listed.storage].key);
  }

  bool is_added(const Storage& storage) const {
    return storage.is_added && document_.refers_to(storages_.added_keys[storage.record]);
  }

  GraphEdits change_keys() const {
    GraphEdits edits;
    for (const auto& listed : data_.listed) {
      if (!is_live(listed)) edits.drop(listed.use);
    }
    std::vector<NewValue> keys;
    for (const auto& storage : checkpoint_.storages) {
      if (is_added(storage)) keys.push_back(NewValue::text(storages_.added_keys[storage.record]));
    }
    const auto& list = checkpoint_.parts.front().documents[1]->graph;
    if (!keys.empty()) edits.append_to(list.root(), std::move(keys));
    return edits;
  }

  Status append_added() {
    for (const auto& storage : checkpoint_.storages) {
      if (!is_added(storage)) continue;
      const auto& dtype = dtype_info(storage.dtype);
      if (storage.untyped) {
        return Error(ErrorCode::kUnsupported,
                     fmt::format("PyTorch can't load {} tensors from its legacy stream", dtype.name));
      }
      Bytes count;
      append_le<std::uint64_t>(count, storage.bytes / dtype.item_size);
      layout_.append_literal(count);
      layout_.append_data(checkpoint_.added_data[storage.record]);
    }
    return {};
  }

  const Checkpoint& checkpoint_;
  const TorchLegacyData& data_;
  const SpelledDocument& document_;
  const StorageSpelling& storages_;
  Layout layout_;
};

}  // namespace

Result<Layout> TorchLegacyFormat::lay_out(const Checkpoint& checkpoint) const {
  const auto& part = checkpoint.parts.front();
  if (!checkpoint.edited()) return Layout::of_whole_file(part.source->size());
  StorageSpelling storages;
  storages.has_view_item = true;
  std::unordered_set<std::string_view> taken;
  for (const auto& storage : checkpoint.storages) taken.insert(storage.key);
  storages.added_keys =
      keys_for_added(checkpoint, [&](const std::string& key) { return taken.contains(key); });
  CKPT_ASSIGN_OR_RETURN(const auto document, spell_document(checkpoint, storages));
  const auto& data = static_cast<const TorchLegacyData&>(*part.container);
  return LegacyWriter(checkpoint, data, *document, storages).run();
}

}  // namespace ckpt
