// SPDX-License-Identifier: BSD-3-Clause
// What the archives of torch.save and of TorchScript have in common: small records, pickles, and storages
// that are records in a folder beside their pickle.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "ckpt/base/diagnostics.h"
#include "ckpt/base/result.h"
#include "ckpt/format/torch_objects.h"
#include "ckpt/model/checkpoint.h"
#include "ckpt/zip/directory.h"

namespace ckpt {

/// A record of a few bytes: version, byteorder and the like. Errors: those of `read_record`.
Result<std::string> read_small_record(const ZipDirectory& directory, RecordId record,
                                      Diagnostics& diagnostics);

/// The file format's number. PyTorch accepts 1 to 10 and wants one of the two records that may hold it.
/// Errors: kCorrupt for none, kUnsupported for another number.
Status check_archive_version(const ZipDirectory& directory, Diagnostics& diagnostics);

/// The pickle in `record`. One that lies stored in the file is read where it lies.
/// Errors: those of `read_record` and `decode_pickle`, with the record's name.
Result<std::unique_ptr<Document>> read_document(const std::shared_ptr<const ByteSource>& source,
                                                const ZipDirectory& directory, RecordId record,
                                                Diagnostics& diagnostics);

/// Records `FOLDER/<key>`, each a storage from its first use on.
class ArchiveStorages final : public StorageResolver {
 public:
  /// `document`: of the checkpoint's part, whose persistent ids are resolved. All but `folder` must outlive
  /// this.
  ArchiveStorages(const ZipDirectory& directory, std::string_view folder, const Checkpoint& checkpoint,
                  std::uint8_t document, Diagnostics& diagnostics);

  Result<StorageId> resolve(const StorageUse& use, Checkpoint& checkpoint) override;

  /// Records of storages that nothing used.
  void list_unreferenced(Checkpoint& checkpoint) const;

 private:
  Status spell_name(const StorageUse& use);
  Result<StorageId> add(const StorageUse& use, RecordId record, Checkpoint& checkpoint);
  void check_again(const StorageUse& use, const Storage& storage);
  void report(const char* id, Severity severity, std::string message);
  std::uint16_t device(Use location, Checkpoint& checkpoint);

  const ZipDirectory& directory_;
  std::string folder_;  ///< with its slash
  const ValueGraph& graph_;
  std::uint8_t document_;
  Diagnostics& diagnostics_;
  std::vector<StorageId> storage_of_record_;
  std::string name_;
  Use last_location_ = kNoUse;
  std::uint16_t last_device_ = 0;
};

}  // namespace ckpt
