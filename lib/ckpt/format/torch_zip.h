// SPDX-License-Identifier: BSD-3-Clause
// The zip container of torch.save since 1.6, as the reader hands it to the writer.
//
//   root/data.pkl            the object; storages are persistent ids
//   root/.format_version     since 2.7: a promise that offsets can be computed (see the writer)
//   root/.storage_alignment  since 2.7
//   root/byteorder           since 2.1: little or big
//   root/data/<key>          bytes of a storage, one record each
//   root/version             3
//   root/.data/serialization_id
#pragma once

#include <memory>
#include <optional>

#include "ckpt/format/format.h"
#include "ckpt/format/tensor_spelling.h"
#include "ckpt/zip/directory.h"

namespace ckpt {

struct TorchZipData : ContainerData {
  explicit TorchZipData(ZipDirectory opened) : directory(std::move(opened)) {}

  ZipDirectory directory;
  RecordId pickle = 0;
  std::optional<RecordId> format_version;
  std::optional<RecordId> storage_alignment_record;
  std::optional<RecordId> serialization_id;
  std::uint64_t storage_alignment = 64;  ///< bytes, as the file promises
};

/// Lays out an edited archive. `data` is its container's. Errors: those of `Format::lay_out`.
Result<Layout> lay_out_archive(const Checkpoint& checkpoint, const TorchZipData& data,
                               StorageSpelling storages);

/// `Format::locate_storages` for records.
Status locate_records(Checkpoint& checkpoint, const ZipDirectory& directory);

class TorchZipFormat final : public Format {
 public:
  FormatId id() const override { return FormatId::kTorchZip; }

  std::string_view name() const override { return "torch zip"; }

  bool probe(const Probe& probe) const override;
  Result<Checkpoint> read(std::shared_ptr<const ByteSource> source, Diagnostics& diagnostics,
                          Intent intent) const override;
  Status locate_storages(Checkpoint& checkpoint) const override;
  Result<Layout> lay_out(const Checkpoint& checkpoint) const override;
};

}  // namespace ckpt
