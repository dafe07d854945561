// SPDX-License-Identifier: BSD-3-Clause
// The archives of torch.jit.save since PyTorch 1.4, and those of the lite interpreter (`.ptl`).
//
//   root/data/<key>            bytes of a storage, one record each
//   root/data.pkl              the module: an object whose attributes are parameters, buffers, children,
//   values root/code/<module>.py      its classes, mostly deflated; beside each a `.debug_pkl`
//   root/constants/<key>, constants.pkl   a tuple of what the code calls CONSTANTS.c0, CONSTANTS.c1, …
//   root/bytecode.pkl          `.ptl`: the code once more, for an interpreter without a parser
//   root/version or .data/version, byteorder, .data/serialization_id
//
// Documents of the part: data.pkl, then constants.pkl. Edits change data.pkl and storages; all else is
// copied.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "ckpt/format/format.h"
#include "ckpt/format/torch_zip.h"
#include "ckpt/zip/directory.h"

namespace ckpt {

/// What the archive holds besides tensors and values.
struct ScriptCode {
  std::string root_class;                                    ///< "__torch__.Net"
  std::vector<std::string> methods;                          ///< of that class, as far as it is known
  std::vector<std::pair<std::string, std::uint64_t>> files;  ///< name and bytes of code
  std::uint64_t constants = 0;                               ///< elements of constants.pkl
  bool has_bytecode = false;
};

struct TorchScriptData final : TorchZipData {
  using TorchZipData::TorchZipData;
  ScriptCode code;
};

/// The code of a TorchScript archive; null for any other checkpoint.
CKPT_EXPORT const ScriptCode* script_code(const Checkpoint& checkpoint);

/// Reads an archive whose directory shows it to be of TorchScript. Errors: those of `Format::read`.
Result<Checkpoint> read_torchscript(std::shared_ptr<const ByteSource> source, ZipDirectory directory,
                                    Diagnostics& diagnostics);

class TorchScriptFormat final : public Format {
 public:
  FormatId id() const override { return FormatId::kTorchScript; }

  std::string_view name() const override { return "TorchScript"; }

  /// Only its directory tells the archive from one of torch.save: TorchZipFormat, which reads that, hands it
  /// over.
  bool probe(const Probe&) const override { return false; }

  Result<Checkpoint> read(std::shared_ptr<const ByteSource> source, Diagnostics& diagnostics,
                          Intent intent) const override;
  Status locate_storages(Checkpoint& checkpoint) const override;
  Result<Layout> lay_out(const Checkpoint& checkpoint) const override;
};

}  // namespace ckpt
