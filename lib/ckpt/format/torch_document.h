// SPDX-License-Identifier: BSD-3-Clause
// Spelling a checkpoint's edits into its pickle: keys, tensors, dropped and replaced values and the
// `_metadata` that belongs to the state dicts. Shared by the containers whose objects are one pickle.
#pragma once

#include <algorithm>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "ckpt/base/result.h"
#include "ckpt/format/layout.h"
#include "ckpt/format/tensor_spelling.h"
#include "ckpt/io/byte_source.h"
#include "ckpt/model/checkpoint.h"
#include "ckpt/pickle/encoder.h"

namespace ckpt {

/// The edited document, and what of the file's storages it still refers to.
struct SpelledDocument {
  EncodedPickle pickle;
  /// The pickle as a source, bodies included; must not outlive this and the checkpoint.
  std::shared_ptr<const ByteSource> source;
  /// Keys of storages, sorted, that the edited document refers to. Empty unless `tensors_change`.
  std::vector<std::string> live_keys;
  bool tensors_change = false;  ///< storages may have gone or come; else all remain

  bool refers_to(std::string_view key) const {
    return !tensors_change || std::binary_search(live_keys.begin(), live_keys.end(), key);
  }
};

/// Errors: kUnsupported (a pickle too irregular to edit; keys of a whole module), kInternal.
Result<std::unique_ptr<SpelledDocument>> spell_document(const Checkpoint& checkpoint,
                                                        const StorageSpelling& storages);

/// Keys for the added storages: for each the next number that `is_taken` denies.
std::vector<std::string> keys_for_added(const Checkpoint& checkpoint,
                                        const std::function<bool(const std::string&)>& is_taken);

/// `pickle`'s text and bodies, the bodies read from `bodies`, as one source. Must not outlive `pickle`.
std::shared_ptr<const ByteSource> make_pickle_source(const EncodedPickle& pickle,
                                                     std::shared_ptr<const ByteSource> bodies);

/// `pickle` in opcodes that the restricted loader of PyTorch knows, where it isn't.
/// Errors: kUnsupported for what they can't say, kInternal.
Status restrict_opcodes(EncodedPickle& pickle, const ValueGraph& graph);

/// Appends the pickle to `layout`: its text as literals, its bodies as copies of a part of the checkpoint.
void append_pickle(Layout& layout, const EncodedPickle& pickle, std::uint32_t part = 0);

/// Keys of all storages that `graph` refers to, sorted, each once.
Result<std::vector<std::string>> referenced_storages(const ValueGraph& graph, PickleDialect dialect);

}  // namespace ckpt
