// SPDX-License-Identifier: BSD-3-Clause
// An object as PyTorch pickles it, with the storages that it names, before it lies in a container: what a
// conversion makes of a document or of a table, and what both torch containers are made of.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "ckpt/base/result.h"
#include "ckpt/format/layout.h"
#include "ckpt/io/byte_source.h"
#include "ckpt/model/checkpoint.h"
#include "ckpt/pickle/encoder.h"

namespace ckpt {

struct TorchObject {
  EncodedPickle pickle;
  std::shared_ptr<const ByteSource> bodies;  ///< what the pickle's bodies are read from, if it has any
  std::vector<StorageId>
      storages;  ///< in the order in which the pickle names them first; keys are "0", "1", …
};

/// Items of the persistent id of a storage.
inline constexpr std::uint8_t kZipIdItems = 5;
inline constexpr std::uint8_t kLegacyIdItems = 6;  ///< the last one says whether it is a part of a storage

/// A dict of the rows of the state dict that the file is made of, and of what `__metadata__` says is tied to
/// them, spelled as torch.save does. Errors: kUnsupported for what is no state dict or has a dtype that
/// PyTorch does not know.
Result<TorchObject> make_state_dict_object(const Checkpoint& checkpoint, std::uint8_t id_items,
                                           std::vector<std::string>& notes);

/// The document with its edits, its storages named anew as the other container does. Errors: kUnsupported for
/// a pickle too irregular to edit, and for persistent ids that the other container can't have.
Result<TorchObject> respell_object(const Checkpoint& checkpoint, std::uint8_t id_items,
                                   std::vector<std::string>& notes);

/// The zip archive that torch.save of PyTorch 2.7 and later writes, but for `.data/serialization_id`, and
/// with the root "archive", so that the output's name does not matter. Storages must have been located.
Result<Layout> lay_out_torch_zip(Checkpoint& checkpoint, const TorchObject& object);

/// The stream that torch.save wrote before 1.6. Errors: kUnsupported for dtypes that no PyTorch reads from
/// it.
Result<Layout> lay_out_torch_legacy(Checkpoint& checkpoint, const TorchObject& object);

}  // namespace ckpt
