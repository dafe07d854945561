// SPDX-License-Identifier: BSD-3-Clause
// Spelling a checkpoint's edits into its pickle: keys, dropped values and the `_metadata` that belongs to
// the state dicts. Shared by the containers whose objects are one pickle.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "ckpt/base/result.h"
#include "ckpt/format/layout.h"
#include "ckpt/io/byte_source.h"
#include "ckpt/model/checkpoint.h"
#include "ckpt/pickle/encoder.h"

namespace ckpt {

/// The edited document, and what of the file's storages it still refers to.
struct SpelledDocument {
  EncodedPickle pickle;
  /// The pickle as a source, bodies included; must not outlive this and the checkpoint.
  std::shared_ptr<const ByteSource> source;
  /// Keys of storages, sorted, that the edited document refers to. Empty when nothing was dropped: then all
  /// remain.
  std::vector<std::string> live_keys;
  bool dropped = false;
};

/// Errors: kUnsupported (a pickle too irregular to edit; keys of a whole module), kInternal.
Result<std::unique_ptr<SpelledDocument>> spell_document(const Checkpoint& checkpoint);

/// `pickle`'s text and bodies, the bodies read from `bodies`, as one source. Must not outlive `pickle`.
std::shared_ptr<const ByteSource> make_pickle_source(const EncodedPickle& pickle,
                                                     std::shared_ptr<const ByteSource> bodies);

/// Appends the pickle to `layout`: its text as literals, its bodies as copies of the checkpoint's one part.
void append_pickle(Layout& layout, const EncodedPickle& pickle);

/// Keys of all storages that `graph` refers to, sorted, each once.
Result<std::vector<std::string>> referenced_storages(const ValueGraph& graph);

}  // namespace ckpt
