// SPDX-License-Identifier: BSD-3-Clause
#include "ckpt/format/torch_document.h"

#include <algorithm>
#include <charconv>
#include <complex>
#include <optional>
#include <set>
#include <unordered_map>
#include <unordered_set>

#include <fmt/format.h>

#include "ckpt/base/text.h"
#include "ckpt/format/module_spelling.h"
#include "ckpt/format/tensor_rebuild.h"
#include "ckpt/model/anatomy.h"
#include "ckpt/model/key_path.h"
#include "ckpt/model/module_names.h"
#include "ckpt/pickle/decoder.h"
#include "ckpt/pickle/restricted_spelling.h"

namespace ckpt {
namespace {

/// Text and bodies of an encoded pickle, read as one.
class PickleSource final : public ByteSource {
 public:
  PickleSource(const EncodedPickle& pickle, std::shared_ptr<const ByteSource> bodies)
      : text_(pickle.text), bodies_(pickle.bodies), body_source_(std::move(bodies)), size_(pickle.size()) {}

  const std::string& name() const override { return body_source_->name(); }

  std::uint64_t size() const override { return size_; }

  Status read_at(std::uint64_t offset, std::span<std::byte> out) const override {
    CKPT_RETURN_IF_ERROR(require({offset, out.size()}));
    std::uint64_t at = 0;       // position in the whole
    std::uint64_t text_at = 0;  // position in the text
    auto take_text = [&](std::uint64_t until) {
      const auto length = until - text_at;
      copy_overlap(ByteView(text_).subspan(text_at, length), at, offset, out);
      at += length;
      text_at = until;
    };
    for (const auto& body : bodies_) {
      if (at >= offset + out.size()) return {};
      take_text(body.at);
      CKPT_RETURN_IF_ERROR(read_overlap(body.extent, at, offset, out));
      at += body.extent.size;
    }
    take_text(text_.size());
    return {};
  }

 private:
  /// The part of [at, at + size) that lies in [offset, offset + out.size()), as offsets into both.
  struct Overlap {
    std::uint64_t from;
    std::uint64_t to;
    std::uint64_t size;
  };

  static Overlap overlap(std::uint64_t at, std::uint64_t size, std::uint64_t offset, std::uint64_t out_size) {
    const auto first = std::max(at, offset);
    const auto last = std::min(at + size, offset + out_size);
    if (first >= last) return {0, 0, 0};
    return {first - at, first - offset, last - first};
  }

  static void copy_overlap(ByteView bytes, std::uint64_t at, std::uint64_t offset, std::span<std::byte> out) {
    const auto part = overlap(at, bytes.size(), offset, out.size());
    if (part.size > 0)
      std::copy_n(bytes.begin() + static_cast<std::ptrdiff_t>(part.from), part.size,
                  out.begin() + static_cast<std::ptrdiff_t>(part.to));
  }

  Status read_overlap(Extent body, std::uint64_t at, std::uint64_t offset, std::span<std::byte> out) const {
    const auto part = overlap(at, body.size, offset, out.size());
    if (part.size == 0) return {};
    return body_source_->read_at(body.offset + part.from, out.subspan(part.to, part.size));
  }

  const Bytes& text_;
  const std::vector<EncodedPickle::Body>& bodies_;
  std::shared_ptr<const ByteSource> body_source_;
  std::uint64_t size_;
};

/// A key as the number that it is, where it is one.
NewValue spelled_number(std::string_view key) {
  std::int64_t number = 0;
  const auto* end = key.data() + key.size();
  const auto parsed = std::from_chars(key.data(), end, number);
  return parsed.ec == std::errc() && parsed.ptr == end ? NewValue::number(number)
                                                       : NewValue::text(std::string(key));
}

/// Turns the checkpoint's changes into edits of its graph.
class Speller {
 public:
  Speller(const Checkpoint& checkpoint, const StorageSpelling& storages)
      : checkpoint_(checkpoint), graph_(checkpoint.graph()), storages_(storages) {}

  Result<GraphEdits> run() {
    edits_.reserve_replacements(checkpoint_.changes().size());
    for (std::uint32_t i = 0; i < checkpoint_.state_dicts.size(); ++i) {
      if (!checkpoint_.holds(i) || is_new_root_of_module(i)) continue;
      CKPT_RETURN_IF_ERROR(spell_state_dict(i));
      if (checkpoint_.has_new_rows()) CKPT_RETURN_IF_ERROR(spell_tensors(i));
    }
    if (checkpoint_.has_new_rows()) CKPT_RETURN_IF_ERROR(relocate_tensors());
    if (checkpoint_.storages_respelled()) respell_storages();
    for (const auto& [use, value] : checkpoint_.replaced_values()) edits_.replace(use, spelled(value));
    for (const auto maker : checkpoint_.dicts_made()) edits_.remake(maker, NewValue::empty_dict());
    for (const auto& [key, value] : checkpoint_.dropped_values()) {
      if (key != kNoUse) edits_.drop(key);
      edits_.drop(value);
    }
    if (checkpoint_.has_new_root()) {
      CKPT_RETURN_IF_ERROR(spell_root(checkpoint_.new_root()));
    } else if (!checkpoint_.unwrapped().empty()) {
      spell_unwrapped();
    }
    return std::move(edits_);
  }

 private:
  bool is_new_root_of_module(std::uint32_t index) const {
    return checkpoint_.new_root() == index && checkpoint_.state_dicts[index].of_module;
  }

  /// The state dict becomes the result of the pickle.
  Status spell_root(std::uint32_t index) {
    const auto& dict = checkpoint_.state_dicts[index];
    if (!dict.of_module) {
      edits_.replace(graph_.root(), NewValue::move_of(dict.mapping));
      return {};
    }
    if (!tensors_) tensors_.emplace(checkpoint_, storages_);
    ModuleSpeller modules(checkpoint_, *tensors_, edits_);
    CKPT_ASSIGN_OR_RETURN(auto value, modules.spell(index, moved_keys(index)));
    edits_.replace(graph_.root(), std::move(value));
    return {};
  }

  /// Wherever a wrapper is used, what was in it takes its place.
  void spell_unwrapped() {
    std::unordered_map<Use, Use> inner;  // by node
    for (const auto& [module, child] : checkpoint_.unwrapped()) {
      inner.emplace(graph_.resolve(checkpoint_.modules[module].use),
                    graph_.resolve(checkpoint_.modules[child].use));
    }
    const auto innermost = [&](Use node) {
      for (auto next = inner.find(node); next != inner.end(); next = inner.find(node)) node = next->second;
      return node;
    };
    for (const auto& [wrapper, child] : inner) edits_.replace(wrapper, NewValue::move_of(innermost(child)));
    for (Use node = 0; node < graph_.size(); ++node) {
      if (!graph_.repeats(node)) continue;
      if (const auto found = inner.find(graph_.resolve(node)); found != inner.end())
        edits_.replace(node, NewValue::move_of(innermost(found->second)));
    }
  }

  Status spell_state_dict(std::uint32_t index) {
    const auto& dict = checkpoint_.state_dicts[index];
    const auto& changes = checkpoint_.changes();
    auto change = changes.lower_bound({index, 0});
    if (change == changes.end() || change->first.first != index) return {};
    if (dict.of_module) {
      if (!checkpoint_.unwrapped().empty()) return {};  // the keys follow the objects
      return Error(ErrorCode::kUnsupported, "the keys of a whole module can't be edited");
    }
    Anatomy anatomy;
    dissect(graph_, dict.mapping, anatomy);
    std::unordered_map<Use, Use> pair_of_key;
    for (const auto& item : anatomy.items) {
      if (item.pair != kNoUse) pair_of_key.emplace(item.key, item.pair);
    }
    for (; change != changes.end() && change->first.first == index; ++change) {
      const auto& entry = dict.entries[change->first.second];
      if (entry.key == kNoUse) continue;  // an edit inserted it
      if (!change->second.dropped) {
        edits_.replace(entry.key, NewValue::text(std::string(change->second.name)));
      } else if (const auto pair = pair_of_key.find(entry.key); pair != pair_of_key.end()) {
        edits_.drop(pair->second);
      } else {
        edits_.drop(entry.key);
        edits_.drop(entry.value);
      }
    }
    spell_metadata(index, anatomy);
    return {};
  }

  /// Rows that were replaced, and new ones behind the last key.
  Status spell_tensors(std::uint32_t index) {
    const auto& dict = checkpoint_.state_dicts[index];
    const auto changing = dict.of_module ? objects_with_one_view(dict) : std::unordered_set<Use>();
    std::vector<NewValue> items;
    for (std::uint32_t i = 0; i < dict.entries.size(); ++i) {
      const auto& entry = dict.entries[i];
      if (entry.tensor == kNoIndex || checkpoint_.is_dropped(index, i)) continue;
      const auto& row = checkpoint_.tensors[entry.tensor];
      if (!row.has(kReplaced) && !row.has(kInserted)) continue;
      if (row.has(kReplaced)) {
        const auto object = graph_.resolve(entry.value);
        if (!changing.contains(object)) {
          CKPT_RETURN_IF_ERROR(tensors().respell(row, entry.value, edits_));
        } else if (objects_done_.insert(object).second) {
          CKPT_RETURN_IF_ERROR(tensors().respell(row, object, edits_, TensorSpeller::OtherUses::kFollow));
        }
      } else {
        items.push_back(NewValue::text(checkpoint_.name(index, i)));
        items.push_back(tensors().spell(row));
      }
    }
    if (items.empty()) return {};
    if (dict.of_module) return Error(ErrorCode::kUnsupported, "a whole module can't be given new keys");
    edits_.append_to(dict.mapping, std::move(items));
    return {};
  }

  /// Objects of a module whose keys all get the same view. Such an object changes itself, as when PyTorch
  /// copies values into it, and whatever else the module has it for (a tie, an LSTM's _flat_weights) follows.
  std::unordered_set<Use> objects_with_one_view(const StateDict& dict) const {
    std::unordered_map<Use, const TensorInfo*> views;  // null where they differ
    for (const auto& entry : dict.entries) {
      if (entry.tensor == kNoIndex) continue;
      const auto& row = checkpoint_.tensors[entry.tensor];
      const auto [view, is_new] = views.emplace(graph_.resolve(entry.value), &row);
      if (!row.has(kReplaced) || (!is_new && (view->second == nullptr || !is_same_view(*view->second, row))))
        view->second = nullptr;
    }
    std::unordered_set<Use> objects;
    for (const auto& [object, view] : views) {
      if (view != nullptr) objects.insert(object);
    }
    return objects;
  }

  bool is_same_view(const TensorInfo& a, const TensorInfo& b) const {
    return a.storage == b.storage && a.offset == b.offset && a.dtype == b.dtype &&
           std::ranges::equal(checkpoint_.shape(a), checkpoint_.shape(b)) &&
           checkpoint_.strides(a) == checkpoint_.strides(b);
  }

  /// Rows whose bytes lie elsewhere now, wherever they stand.
  Status relocate_tensors() {
    std::unordered_set<Use> done;
    for (const auto& row : checkpoint_.tensors) {
      if (!row.has(kRelocated) || row.has(kReplaced) || !done.insert(graph_.resolve(row.use)).second)
        continue;
      auto status = tensors().relocate(row, edits_);
      if (!status.ok()) {
        return Error(
            status.error().code(),
            fmt::format("tensor {}: {}", quoted_path(checkpoint_.path(row.place)), status.error().message()));
      }
    }
    return {};
  }

  /// Persistent ids of storages that are said to be other ones, or to lie on another device.
  void respell_storages() {
    std::unordered_map<std::string_view, const Storage*> by_key;
    for (const auto& storage : checkpoint_.storages) {
      if (!storage.is_added) by_key.emplace(storage.key, &storage);
    }
    TensorReader reader(graph_, dialect_of(checkpoint_));
    for (Use node = 0; node < graph_.size(); ++node) {
      if (graph_.opcode(node) != Opcode::kBinpersid) continue;
      const auto use = reader.read_storage(node);
      if (!use.ok()) continue;  // an id of another kind: the reader let it pass, too
      const auto number = graph_.integer(use->key);
      const auto key = number ? std::to_string(*number) : graph_.string(use->key).value_or("");
      const auto found = by_key.find(key);
      if (found == by_key.end()) continue;
      const auto* storage = found->second;
      if (storage->same_as != kNoIndex) {
        storage = &checkpoint_.storages[storage->same_as];
        edits_.replace(use->key,
                       number ? spelled_number(storage->key) : NewValue::text(std::string(storage->key)));
      }
      const auto& device = checkpoint_.devices[storage->device];
      if (graph_.string(use->location) != device) edits_.replace(use->location, NewValue::text(device));
    }
  }

  TensorSpeller& tensors() {
    if (!tensors_) tensors_.emplace(checkpoint_, storages_);
    return *tensors_;
  }

  NewValue spelled(const PlainValue& value) {
    struct Spell {
      Speller& speller;

      NewValue operator()(std::int64_t number) const { return NewValue::number(number); }

      NewValue operator()(const std::string& text) const { return NewValue::text(text); }

      NewValue operator()(double number) const { return NewValue::floating(number); }

      NewValue operator()(bool value) const { return NewValue::boolean(value); }

      NewValue operator()(const std::complex<double>& number) const {
        return NewValue::call(NewValue::global(speller.builtins(), "complex"),
                              {NewValue::floating(number.real()), NewValue::floating(number.imag())});
      }

      NewValue operator()(const KeptValue& value) const { return NewValue::move_of(value.use); }

      NewValue operator()(const MadeTensor& tensor) const {
        return speller.tensors().spell(speller.checkpoint_.tensors[tensor.row]);
      }
    };

    return std::visit(Spell{*this}, value);
  }

  std::string_view builtins() const { return graph_.protocol() < 3 ? "__builtin__" : "builtins"; }

  void spell_metadata(std::uint32_t index, const Anatomy& state_dict) {
    for (const auto& attribute : attributes(graph_, state_dict.states)) {
      if (graph_.string_view(attribute.key) != "_metadata") continue;
      const auto node = graph_.resolve(attribute.value);
      if (!metadata_done_.insert(node).second) continue;
      Anatomy metadata;
      dissect(graph_, node, metadata);
      if (metadata.is_mapping()) move_entries(metadata.items, moved_keys(index));
    }
  }

  /// Keys that an edit inserted were nowhere before, and say nothing of modules.
  std::vector<KeyMove> moved_keys(std::uint32_t index) const {
    const auto& entries = checkpoint_.state_dicts[index].entries;
    std::vector<KeyMove> keys;
    keys.reserve(entries.size());
    for (std::uint32_t i = 0; i < entries.size(); ++i) {
      if (entries[i].key == kNoUse) continue;
      const bool dropped = checkpoint_.is_dropped(index, i);
      keys.push_back({checkpoint_.original_name(index, i),
                      dropped ? std::string() : checkpoint_.name(index, i), dropped});
    }
    return keys;
  }

  /// `_metadata`: all that do not go keep their places.
  void move_entries(const std::vector<MappingItem>& items, const std::vector<KeyMove>& keys) {
    std::vector<std::string> modules;
    std::vector<const MappingItem*> owners;
    for (const auto& item : items) {
      auto name = graph_.string(item.key);
      if (!name || item.pair != kNoUse) continue;
      modules.push_back(std::move(*name));
      owners.push_back(&item);
    }
    const auto moves = move_modules(modules, keys);
    for (std::size_t i = 0; i < modules.size(); ++i) {
      const auto& move = moves[i];
      if (move.kind == ModuleMove::Kind::kGoes) {
        edits_.drop(owners[i]->key);
        edits_.drop(owners[i]->value);
        continue;
      }
      if (move.kind == ModuleMove::Kind::kMoves) edits_.replace(owners[i]->key, NewValue::text(move.name));
      if (move.value != i) edits_.replace(owners[i]->value, NewValue::move_of(owners[move.value]->value));
    }
  }

  const Checkpoint& checkpoint_;
  const ValueGraph& graph_;
  const StorageSpelling& storages_;
  std::optional<TensorSpeller> tensors_;  ///< once it is needed
  GraphEdits edits_;
  std::set<Use> objects_done_;  ///< of modules
  std::set<Use> metadata_done_;
};

}  // namespace

Status restrict_opcodes(EncodedPickle& pickle, const ValueGraph& graph) {
  if (refused_opcodes(graph).empty()) return {};
  CKPT_ASSIGN_OR_RETURN(auto restricted, spell_restricted(graph));
  if (restricted.bodies.size() > pickle.bodies.size())
    return Error(ErrorCode::kInternal, "a pickle that is spelled anew has bodies that it had not");
  // the graph was read from the pickle itself: the n-th body of it is the n-th that follows
  std::size_t next = 0;
  std::uint64_t at = 0;  // where the n-th body of the old one lies in it
  for (auto& body : restricted.bodies) {
    for (; next < pickle.bodies.size(); ++next) {
      const auto& old = pickle.bodies[next];
      if (old.at + at == body.extent.offset && old.extent.size == body.extent.size) break;
      at += old.extent.size;
    }
    if (next == pickle.bodies.size())
      return Error(ErrorCode::kInternal, "a body of a pickle that is spelled anew is not where it was");
    at += body.extent.size;
    body.extent = pickle.bodies[next++].extent;
  }
  pickle = std::move(restricted);
  return {};
}

std::shared_ptr<const ByteSource> make_pickle_source(const EncodedPickle& pickle,
                                                     std::shared_ptr<const ByteSource> bodies) {
  return std::make_shared<PickleSource>(pickle, std::move(bodies));
}

void append_pickle(Layout& layout, const EncodedPickle& pickle, std::uint32_t part) {
  std::uint64_t at = 0;
  for (const auto& body : pickle.bodies) {
    layout.append_literal(ByteView(pickle.text).subspan(at, body.at - at));
    layout.append_copy(part, body.extent);
    at = body.at;
  }
  layout.append_literal(ByteView(pickle.text).subspan(at));
}

Result<std::vector<std::string>> referenced_storages(const ValueGraph& graph, PickleDialect dialect) {
  TensorReader reader(graph, dialect);
  std::vector<std::string> keys;
  for (Use node = 0; node < graph.size(); ++node) {
    if (graph.opcode(node) != Opcode::kBinpersid) continue;
    auto use = reader.read_storage(node);
    if (!use.ok()) continue;  // an id of another kind: the reader let it pass, too
    if (auto text = graph.string(use->key)) {
      keys.push_back(std::move(*text));
    } else if (const auto number = graph.integer(use->key)) {
      keys.push_back(std::to_string(*number));
    }
  }
  std::sort(keys.begin(), keys.end());
  keys.erase(std::unique(keys.begin(), keys.end()), keys.end());
  return keys;
}

std::vector<std::string> keys_for_added(const Checkpoint& checkpoint,
                                        const std::function<bool(const std::string&)>& is_taken) {
  std::vector<std::string> keys;
  auto number = checkpoint.storages.size() - checkpoint.added_data.size();
  while (keys.size() < checkpoint.added_data.size()) {
    auto key = std::to_string(number++);
    if (!is_taken(key)) keys.push_back(std::move(key));
  }
  return keys;
}

Result<std::unique_ptr<SpelledDocument>> spell_document(const Checkpoint& checkpoint,
                                                        const StorageSpelling& storages) {
  const auto& document = checkpoint.document();
  CKPT_ASSIGN_OR_RETURN(const auto edits, Speller(checkpoint, storages).run());
  auto spelled = std::make_unique<SpelledDocument>();
  auto encoded = encode_pickle(document.graph, edits);
  if (!encoded.ok()) return std::move(encoded).error().in_record(document.name);
  spelled->pickle = std::move(encoded).value();
  spelled->source = make_pickle_source(spelled->pickle, document.source);
  spelled->tensors_change = checkpoint.tensors_change();
  if (spelled->tensors_change || checkpoint.requires_weights_only()) {
    auto graph = decode_pickle(*spelled->source, {0, spelled->source->size()});
    if (!graph.ok()) {
      return Error(ErrorCode::kInternal, "the edited pickle does not decode: " + graph.error().message());
    }
    if (checkpoint.requires_weights_only()) {
      auto restricted = restrict_opcodes(spelled->pickle, *graph);
      if (!restricted.ok()) return std::move(restricted).error().in_record(document.name);
      spelled->source = make_pickle_source(spelled->pickle, document.source);
    }
    if (spelled->tensors_change) {
      CKPT_ASSIGN_OR_RETURN(spelled->live_keys, referenced_storages(*graph, dialect_of(checkpoint)));
    }
  }
  return spelled;
}

}  // namespace ckpt
