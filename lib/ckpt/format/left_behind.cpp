// SPDX-License-Identifier: BSD-3-Clause
#include "ckpt/format/left_behind.h"

#include <algorithm>
#include <array>
#include <string_view>

#include <fmt/format.h>

#include "ckpt/base/text.h"
#include "ckpt/format/torch_legacy.h"
#include "ckpt/format/torch_zip.h"

namespace ckpt {
namespace {

constexpr std::array<std::string_view, 7> kOfEveryFile = {
    "data.pkl", ".format_version", ".storage_alignment",    "byteorder",
    "version",  ".data/version",   ".data/serialization_id"};

void note_records(const ZipDirectory& directory, std::vector<std::string>& notes) {
  std::size_t count = 0;
  std::string first;
  for (RecordId record = 0; record < directory.entries().size(); ++record) {
    const auto name = directory.name(record);
    const bool known = name.starts_with("data/") ||
                       std::find(kOfEveryFile.begin(), kOfEveryFile.end(), name) != kOfEveryFile.end();
    if (known || name.ends_with('/')) continue;
    if (count++ == 0) first = name;
  }
  if (count > 0)
    notes.push_back(fmt::format("{} of the archive {} not in the output: {}{}", counted(count, "record"),
                                count == 1 ? "is" : "are", quoted(first), count > 1 ? " and others" : ""));
}

}  // namespace

void note_left_behind(const Checkpoint& checkpoint, std::vector<std::string>& notes) {
  const auto& container = *checkpoint.parts.front().container;
  if (checkpoint.format == FormatId::kTorchZip)
    note_records(static_cast<const TorchZipData&>(container).directory, notes);
  if (!checkpoint.unreferenced_storages.empty())
    notes.push_back(fmt::format("{} that nothing uses {} not in the output",
                                counted(checkpoint.unreferenced_storages.size(), "storage"),
                                checkpoint.unreferenced_storages.size() == 1 ? "is" : "are"));
  if (checkpoint.format != FormatId::kTorchLegacy) return;
  const auto trailing = static_cast<const TorchLegacyData&>(container).trailing.size;
  if (trailing > 0)
    notes.push_back(fmt::format("{} behind the last storage {} not in the output", counted(trailing, "byte"),
                                trailing == 1 ? "is" : "are"));
}

}  // namespace ckpt
