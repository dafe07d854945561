// SPDX-License-Identifier: BSD-3-Clause
// The archives of torch.jit.save of PyTorch 1.0 to 1.3: a protocol buffer, torch.ModelDef, in JSON. Sources:
// caffe2/proto/torch.proto and torch/csrc/jit/serialization/import_legacy.cpp. They are read, not written:
// PyTorch 1.13 and later don't load them.
//
//   root/model.json      protoVersion, mainModule {name, submodules, parameters {name, tensorId, isBuffer},
//   …},
//                        tensors {dims, strides, offset, dataType, requiresGrad, device, data {key}}
//   root/tensors/0       bytes of a storage; `data.key` is the record's name
//   root/attributes.pkl  values of other attributes
//   root/code/… or libs/…, version
//
// 64-bit integers are strings, and fields that have their default may be absent.
#pragma once

#include <memory>

#include "ckpt/format/format.h"
#include "ckpt/zip/directory.h"

namespace ckpt {

struct OldTorchScriptData final : ContainerData {
  explicit OldTorchScriptData(ZipDirectory opened) : directory(std::move(opened)) {}

  ZipDirectory directory;
};

/// Reads an archive whose directory has `model.json`. Errors: those of `Format::read`.
Result<Checkpoint> read_old_torchscript(std::shared_ptr<const ByteSource> source, ZipDirectory directory,
                                        Diagnostics& diagnostics);

class OldTorchScriptFormat final : public Format {
 public:
  FormatId id() const override { return FormatId::kOldTorchScript; }

  std::string_view name() const override { return "old TorchScript"; }

  /// TorchZipFormat, which reads directories of archives, hands them over.
  bool probe(const Probe&) const override { return false; }

  Result<Checkpoint> read(std::shared_ptr<const ByteSource> source, Diagnostics& diagnostics,
                          Intent intent) const override;
  Result<Layout> lay_out(const Checkpoint& checkpoint) const override;
};

}  // namespace ckpt
