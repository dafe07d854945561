// SPDX-License-Identifier: BSD-3-Clause
// Laying out an edited stream. Nothing in it says where anything lies, so only the object and, if storages
// go, the list of keys change; each run of storages that stay neighbours is one copy with its counts. The
// stream has no padding, so nothing can be aligned for a file system that shares pages.
#include <algorithm>

#include "ckpt/format/torch_document.h"
#include "ckpt/format/torch_legacy.h"

namespace ckpt {
namespace {

class LegacyWriter {
 public:
  LegacyWriter(const Checkpoint& checkpoint, const TorchLegacyData& data, const SpelledDocument& document)
      : checkpoint_(checkpoint), data_(data), document_(document) {}

  Result<Layout> run() {
    const auto& documents = checkpoint_.parts.front().documents;
    const auto& keys = documents[1]->graph;
    layout_.append_copy(0, {0, documents[0]->graph.extent().offset});
    append_pickle(layout_, document_.pickle);
    const auto edits = drop_dead_keys();
    if (edits.empty()) {
      layout_.append_copy(0, keys.extent());
    } else {
      auto encoded = encode_pickle(keys, edits);
      if (!encoded.ok()) return std::move(encoded).error().in_record(documents[1]->name);
      append_pickle(layout_, *encoded);
    }
    for (const auto& listed : data_.listed) {
      if (is_live(listed)) layout_.append_copy(0, listed.extent);
    }
    layout_.append_copy(0, data_.trailing);
    return std::move(layout_);
  }

 private:
  bool is_live(const TorchLegacyData::Listed& listed) const {
    const auto& live = document_.live_keys;
    return !document_.dropped ||
           std::binary_search(live.begin(), live.end(), checkpoint_.storages[listed.storage].key);
  }

  GraphEdits drop_dead_keys() const {
    GraphEdits edits;
    for (const auto& listed : data_.listed) {
      if (!is_live(listed)) edits.drop(listed.use);
    }
    return edits;
  }

  const Checkpoint& checkpoint_;
  const TorchLegacyData& data_;
  const SpelledDocument& document_;
  Layout layout_;
};

}  // namespace

Result<Layout> TorchLegacyFormat::lay_out(const Checkpoint& checkpoint) const {
  const auto& part = checkpoint.parts.front();
  if (!checkpoint.edited()) return Layout::of_whole_file(part.source->size());
  CKPT_ASSIGN_OR_RETURN(const auto document, spell_document(checkpoint));
  const auto& data = static_cast<const TorchLegacyData&>(*part.container);
  return LegacyWriter(checkpoint, data, *document).run();
}

}  // namespace ckpt
