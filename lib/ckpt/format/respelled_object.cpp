// SPDX-License-Identifier: BSD-3-Clause
// A document for the other torch container. Only persistent ids differ between the two: the zip's has five
// items, the stream's a sixth, which makes a part of a storage of it; and a stream may hold the source of a
// module's class beside its name. All else is copied.
#include <algorithm>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <unordered_set>

#include <fmt/format.h>

#include "ckpt/base/text.h"
#include "ckpt/format/tensor_rebuild.h"
#include "ckpt/format/torch_document.h"
#include "ckpt/format/torch_object.h"
#include "ckpt/pickle/decoder.h"

namespace ckpt {
namespace {

/// An edited document as a source that lives as long as it is needed.
class SpelledSource final : public ByteSource {
 public:
  explicit SpelledSource(std::unique_ptr<SpelledDocument> document) : document_(std::move(document)) {}

  const std::string& name() const override { return document_->source->name(); }

  std::uint64_t size() const override { return document_->source->size(); }

  Status read_at(std::uint64_t offset, std::span<std::byte> out) const override {
    return document_->source->read_at(offset, out);
  }

 private:
  std::unique_ptr<SpelledDocument> document_;
};

/// Finds rows of the storage table by the keys that stand in the document.
class StorageKeys {
 public:
  StorageKeys(const Checkpoint& checkpoint, const std::vector<std::string>& added) {
    for (StorageId id = 0; id < checkpoint.storages.size(); ++id) {
      const auto& storage = checkpoint.storages[id];
      const auto key = storage.is_added ? std::string_view(added[storage.record]) : storage.key;
      exact_.emplace(key, id);
      if (checkpoint.format == FormatId::kTorchZip) folded_.emplace(fold(key), id);
    }
  }

  std::optional<StorageId> find(const std::string& key) const {
    if (const auto found = exact_.find(key); found != exact_.end()) return found->second;
    if (const auto found = folded_.find(fold(key)); found != folded_.end()) return found->second;
    return std::nullopt;
  }

 private:
  /// Records of a zip are found in either case.
  static std::string fold(std::string_view key) {
    std::string folded(key);
    for (auto& letter : folded) {
      if (letter >= 'A' && letter <= 'Z') letter = static_cast<char>(letter - 'A' + 'a');
    }
    return folded;
  }

  std::unordered_map<std::string, StorageId> exact_;
  std::unordered_map<std::string, StorageId> folded_;
};

class Respeller {
 public:
  Respeller(const ValueGraph& graph, const StorageKeys& keys, std::uint8_t id_items)
      : graph_(graph), keys_(keys), id_items_(id_items), reader_(graph, PickleDialect::kPython) {}

  Status run() {
    if (graph_.count(Opcode::kPersid) > 0) return unknown_id();
    for (Use node = 0; node < graph_.size(); ++node) {
      if (graph_.opcode(node) == Opcode::kBinpersid) CKPT_RETURN_IF_ERROR(respell(node));
    }
    if (!parts_.empty()) CKPT_RETURN_IF_ERROR(move_offsets());
    return {};
  }

  const GraphEdits& edits() const { return edits_; }

  std::vector<StorageId> take_storages() { return std::move(storages_); }

  std::size_t classes() const { return classes_.size(); }

 private:
  static Error unknown_id() {
    return Error(ErrorCode::kUnsupported, "the pickle has a persistent id that names no storage");
  }

  Status respell(Use node) {
    graph_.children(node, items_);
    const auto id = graph_.resolve(items_.front());
    graph_.children(id, items_);
    if (graph_.opcode(id) != Opcode::kTuple || items_.empty()) return unknown_id();
    const auto kind = graph_.string(items_.front());
    if (kind == "module" && items_.size() == 4) {
      edits_.replace(node, NewValue::move_of(items_[1]));
      classes_.insert(node);
      return {};
    }
    auto use = reader_.read_storage(node);
    if (kind != "storage" || !use.ok()) return unknown_id();
    CKPT_ASSIGN_OR_RETURN(const auto number, number_of(*use));
    if (use->view_offset > 0) parts_.emplace(node, use->view_offset);
    if (!respelled_.insert(id).second) return {};
    graph_.children(id, items_);
    auto key = std::to_string(number);
    if (graph_.string_view(use->key) != key) edits_.replace(use->key, NewValue::text(std::move(key)));
    if (items_.size() < id_items_) {
      edits_.insert_after(items_.back(), {NewValue{}});
    } else if (items_.size() > id_items_) {
      edits_.drop(items_.back());
    } else if (use->view) {
      edits_.replace(items_.back(), NewValue{});
    }
    return {};
  }

  Result<std::size_t> number_of(const StorageUse& use) {
    auto key = graph_.string(use.key);
    if (!key) {
      const auto number = graph_.integer(use.key);
      if (number) key = std::to_string(*number);
    }
    const auto storage = key ? keys_.find(*key) : std::nullopt;
    if (!storage) {
      return Error(
          ErrorCode::kUnsupported,
          fmt::format("the pickle names a storage {} that no value of it has", quoted(key.value_or("?"))));
    }
    const auto [known, is_new] = numbers_.try_emplace(*storage, storages_.size());
    if (is_new) storages_.push_back(*storage);
    return known->second;
  }

  /// A tensor on a part of a storage begins so much farther behind in the whole. In every call and every
  /// state that makes a tensor, the storage comes first and the offset after it.
  Status move_offsets() {
    std::unordered_set<Use> moved;
    for (Use node = 0; node < graph_.size(); ++node) {
      if (graph_.opcode(node) != Opcode::kTuple) continue;
      graph_.children(node, items_);
      if (items_.size() < 4) continue;
      const auto part = parts_.find(graph_.resolve(items_[0]));
      const auto offset = graph_.integer(items_[1]);
      if (part == parts_.end() || !offset) continue;
      edits_.replace(items_[1], NewValue::number(*offset + static_cast<std::int64_t>(part->second)));
      moved.insert(items_[0]);
    }
    for (Use node = 0; node < graph_.size(); ++node) {
      const bool names_part = parts_.contains(graph_.repeats(node) ? graph_.repeated(node) : node);
      if (names_part && !moved.contains(node))
        return Error(ErrorCode::kUnsupported, "a part of a storage stands in the file without a tensor");
    }
    return {};
  }

  const ValueGraph& graph_;
  const StorageKeys& keys_;
  std::uint8_t id_items_;
  TensorReader reader_;
  GraphEdits edits_;
  std::vector<StorageId> storages_;
  std::unordered_map<StorageId, std::size_t> numbers_;
  std::unordered_map<Use, std::uint64_t> parts_;  ///< persistent ids of parts: where those begin, elements
  std::unordered_set<Use> respelled_;             ///< tuples
  std::unordered_set<Use> classes_;
  std::vector<Use> items_;
};

struct Edited {
  std::shared_ptr<const ByteSource> source;
  ValueGraph graph;
};

/// The document with its edits, in its own container's spelling.
Result<Edited> decode_edited(const Checkpoint& checkpoint, const StorageSpelling& storages) {
  CKPT_ASSIGN_OR_RETURN(auto spelled, spell_document(checkpoint, storages));
  const Extent whole{0, spelled->source->size()};
  auto source = std::make_shared<SpelledSource>(std::move(spelled));
  CKPT_ASSIGN_OR_RETURN(auto graph, decode_pickle(*source, whole));
  return Edited{std::move(source), std::move(graph)};
}

}  // namespace

Result<TorchObject> respell_object(const Checkpoint& checkpoint, std::uint8_t id_items,
                                   std::vector<std::string>& notes) {
  StorageSpelling spelling;
  spelling.has_view_item = checkpoint.format == FormatId::kTorchLegacy;
  std::unordered_set<std::string_view> taken;
  for (const auto& storage : checkpoint.storages) taken.insert(storage.key);
  spelling.added_keys =
      keys_for_added(checkpoint, [&](const std::string& key) { return taken.contains(key); });
  std::optional<Edited> edited;
  if (checkpoint.edited()) {
    CKPT_ASSIGN_OR_RETURN(edited, decode_edited(checkpoint, spelling));
  }
  const auto& graph = edited ? edited->graph : checkpoint.graph();
  const StorageKeys keys(checkpoint, spelling.added_keys);
  Respeller respeller(graph, keys, id_items);
  CKPT_RETURN_IF_ERROR(respeller.run());
  TorchObject object;
  auto encoded = encode_pickle(graph, respeller.edits());
  if (!encoded.ok()) return std::move(encoded).error().in_record(checkpoint.document().name);
  object.pickle = std::move(encoded).value();
  object.bodies = edited ? edited->source : checkpoint.document().source;
  object.storages = respeller.take_storages();
  if (respeller.classes() > 0)
    notes.push_back(
        fmt::format("the source text of {} is not in the output", counted(respeller.classes(), "class")));
  return object;
}

}  // namespace ckpt
