// SPDX-License-Identifier: BSD-3-Clause
// Laying out an edited archive: as one of torch.save, with every storage class that TorchScript has.
#include "ckpt/format/torchscript.h"

namespace ckpt {

Status TorchScriptFormat::locate_storages(Checkpoint& checkpoint) const {
  const auto& data = static_cast<const TorchScriptData&>(*checkpoint.parts.front().container);
  return locate_records(checkpoint, data.directory);
}

Result<Layout> TorchScriptFormat::lay_out(const Checkpoint& checkpoint) const {
  const auto& part = checkpoint.parts.front();
  if (!checkpoint.edited()) return Layout::of_whole_file(part.source->size());
  StorageSpelling storages;
  storages.dialect = PickleDialect::kTorchScript;
  return lay_out_archive(checkpoint, static_cast<const TorchScriptData&>(*part.container),
                         std::move(storages));
}

}  // namespace ckpt
