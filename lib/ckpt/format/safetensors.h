// SPDX-License-Identifier: BSD-3-Clause
// safetensors: a JSON header and one buffer without holes. Source: huggingface/safetensors, README and
// safetensors/src/tensor.rs.
//
//   u64 LE N | N bytes JSON, padded with spaces | buffer
//   {"__metadata__": {…strings…}, "name": {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]}, …}
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "ckpt/format/format.h"
#include "ckpt/model/target.h"

namespace ckpt {

/// The header as it stands in the file, and where in it things stand that an edit spells anew. Names in the
/// checkpoint are views of it.
struct SafetensorsData final : ContainerData {
  /// A member of the top-level object; positions are bytes of `header`.
  struct Member {
    std::uint32_t begin = 0;          ///< its name's opening quote
    std::uint32_t name_end = 0;       ///< behind the closing quote
    std::uint32_t offsets_begin = 0;  ///< '[' of data_offsets; 0 for `__metadata__`
    std::uint32_t offsets_end = 0;    ///< behind ']'
    std::uint32_t end = 0;            ///< behind the value
    TensorId tensor = kNoIndex;       ///< kNoIndex for `__metadata__`
  };

  std::string header;                                         ///< N bytes, with padding
  std::vector<Member> members;                                ///< in the header's order
  std::vector<std::pair<std::string, std::string>> metadata;  ///< entries of `__metadata__` in the file
  std::uint64_t buffer = 0;                                   ///< where the buffer begins in the file, bytes
};

inline constexpr std::uint64_t kLargestSafetensorsHeader = 100'000'000;  ///< bytes; the reference's own limit

class SafetensorsFormat final : public Format {
 public:
  FormatId id() const override { return FormatId::kSafetensors; }

  std::string_view name() const override { return "safetensors"; }

  bool probe(const Probe& probe) const override;
  Result<Checkpoint> read(std::shared_ptr<const ByteSource> source, Diagnostics& diagnostics,
                          Intent intent) const override;
  Result<Layout> lay_out(const Checkpoint& checkpoint) const override;
};

/// An edited safetensors file, as safetensors. Tensors that an edit tied to each other are what `tied` says.
/// Errors: kUnsupported for what the format can't hold.
Result<Layout> lay_out_edited_safetensors(const Checkpoint& checkpoint, TiedTensors tied,
                                          std::vector<std::string>& notes);

}  // namespace ckpt
