// SPDX-License-Identifier: BSD-3-Clause
// Any bytes as a file of one format: the reader says what is wrong or gives a checkpoint about which every
// question can be asked; unedited it is laid out as its own bytes; an edit is refused or gives a file that
// reads again and has the planned keys.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <set>
#include <span>
#include <string>
#include <utility>

#include "ckpt/format/format.h"

namespace ckpt::fuzz {

inline void require(bool truth) {
  if (!truth) std::abort();
}

/// The layout's bytes; the layout accounts for every one of them.
inline Bytes written(const Layout& layout, const ByteSource& source) {
  Bytes out;
  for (const auto& segment : layout.parts.front().segments) {
    if (segment.kind == Segment::Kind::kLiteral) {
      append_bytes(out, ByteView(layout.pool).subspan(segment.offset, segment.size));
    } else {
      append_bytes(out, source.read({segment.offset, segment.size}).value());
    }
  }
  require(out.size() == layout.parts.front().size);
  return out;
}

inline void ask_everything(const Checkpoint& checkpoint) {
  for (const auto& tensor : checkpoint.tensors) {
    (void)checkpoint.path(tensor.place);
    (void)checkpoint.numel(tensor);
    (void)checkpoint.bytes(tensor);
    (void)checkpoint.strides(tensor);
    if (tensor.storage == kNoIndex) continue;
    require(checkpoint.view_extent(tensor).end() <= checkpoint.storages[tensor.storage].bytes);
  }
  const auto size = checkpoint.parts.front().source->size();
  for (const auto& storage : checkpoint.storages) require(storage.extent.end() <= size);
}

using Names = std::multiset<std::pair<std::string, std::string>>;  // path of the state dict, key

inline Names names(const Checkpoint& checkpoint) {
  Names out;
  for (std::uint32_t i = 0; i < checkpoint.state_dicts.size(); ++i) {
    const auto& dict = checkpoint.state_dicts[i];
    const auto path = checkpoint.has_new_root() ? "" : checkpoint.path(dict.place);
    for (std::uint32_t k = 0; k < dict.entries.size() && checkpoint.holds(i); ++k) {
      const bool is_object = dict.entries[k].tensor == kNoIndex && dict.entries[k].name != kNoIndex;
      if (!is_object && !checkpoint.is_dropped(i, k)) out.emplace(path, checkpoint.name(i, k));
    }
  }
  return out;
}

/// Drops and renames some keys of the first state dict, which may also become the root or be unwrapped; what
/// depends on the input. One key stays.
inline void edit(Checkpoint& checkpoint, std::size_t seed) {
  const auto count = static_cast<std::uint32_t>(checkpoint.state_dicts.front().entries.size());
  if (checkpoint.has_document() && seed % 2 == 0) checkpoint.set_root(0);
  if (count == 0) return;
  for (std::uint32_t k = 1; k < count; ++k) {
    seed = seed * 6364136223846793005U + 1442695040888963407U;
    if ((seed >> 33U) % 3 == 0) checkpoint.drop(0, k);
    if ((seed >> 33U) % 3 == 1) checkpoint.rename(0, k, "renamed." + std::to_string(k));
  }
  checkpoint.rename(0, 0, "renamed");
}

/// Gives the first key of a TorchScript module, whose keys are fixed, eight zeros.
inline void replace_first(Checkpoint& checkpoint) {
  const auto storage = checkpoint.add_storage(DataRef::of_bytes(Bytes(8)), Dtype::kUint8);
  checkpoint.replace(0, 0, {Dtype::kUint8, storage, 0, {8}, {}});
}

inline void check_format(FormatId id, std::span<const std::uint8_t> data) {
  const auto bytes = std::as_bytes(data);
  const auto source = std::make_shared<MemorySource>("fuzz", Bytes(bytes.begin(), bytes.end()));
  Diagnostics diagnostics;
  const auto& format = format_of(id);
  auto checkpoint = format.read(source, diagnostics, Intent::kRewrite);
  if (!checkpoint) return;
  ask_everything(*checkpoint);
  const auto same = format.lay_out(*checkpoint);
  require(same.ok());
  const auto copy = written(*same, *source);
  require(std::equal(copy.begin(), copy.end(), bytes.begin(), bytes.end()));
  if (checkpoint->state_dicts.empty() || diagnostics.first_error() != nullptr) return;

  if (id == FormatId::kTorchScript) {
    replace_first(*checkpoint);
  } else {
    edit(*checkpoint, data.size());
  }
  const auto layout = format.lay_out(*checkpoint);
  if (!layout) {
    require(layout.error().code() == ErrorCode::kUnsupported);
    return;
  }
  Diagnostics again_diagnostics;
  const auto output = std::make_shared<MemorySource>("output", written(*layout, *source));
  const auto again = format.read(output, again_diagnostics, Intent::kLook);
  require(again.ok());
  require(names(*again) == names(*checkpoint));
}

}  // namespace ckpt::fuzz
