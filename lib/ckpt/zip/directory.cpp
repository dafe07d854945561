// SPDX-License-Identifier: BSD-3-Clause
#include "ckpt/zip/directory.h"

#include <algorithm>
#include <utility>

#include "ckpt/zip/central_reader.h"
#include "ckpt/zip/coverage.h"
#include "ckpt/zip/end_records.h"
#include "ckpt/zip/header_check.h"
#include "ckpt/zip/name_checks.h"
#include "ckpt/zip/name_lookup.h"

namespace ckpt {

ZipDirectory::ZipDirectory(ZipDirectory&&) noexcept = default;
ZipDirectory& ZipDirectory::operator=(ZipDirectory&&) noexcept = default;
ZipDirectory::~ZipDirectory() = default;

Result<ZipDirectory> ZipDirectory::read(std::shared_ptr<const ByteSource> source, Diagnostics& diagnostics,
                                        Intent intent) {
  ZipDirectory directory;
  directory.source_ = std::move(source);
  const auto status = directory.fill(diagnostics, intent);
  if (!status.ok()) return Error(status.error()).in_file(directory.source_->name());
  return directory;
}

Status ZipDirectory::fill(Diagnostics& diagnostics, Intent intent) {
  CKPT_ASSIGN_OR_RETURN(const auto end, find_end_records(*source_, diagnostics));
  CKPT_ASSIGN_OR_RETURN(const auto start, source_->read({0, std::min<std::uint64_t>(source_->size(), 4)}));
  if (!looks_like_zip(start))
    return Error(ErrorCode::kUnsupported, "the archive does not begin at byte 0, where torch looks for it");
  central_ = end.central;
  comment_ = end.comment;
  has_zip64_end_ = end.zip64;
  CKPT_ASSIGN_OR_RETURN(auto table, read_central_directory(*source_, end, diagnostics));
  table_ = std::make_unique<const EntryTable>(std::move(table));
  const bool few = table_->entries.size() <= kFewEntries;
  if (!few && intent == Intent::kRewrite)
    header_check_ = std::make_unique<HeaderCheck>(*source_, *table_, central_);
  const bool has_rivals = check_names(*table_, diagnostics);
  lookup_ = std::make_unique<const NameLookup>(*table_, has_rivals);
  const auto how = few ? LocalHeaders::kRead : LocalHeaders::kAssume;
  return check_coverage(*source_, *table_, central_, how, diagnostics);
}

std::optional<RecordId> ZipDirectory::find(std::string_view name) const {
  return lookup_->find(name);
}

Result<RecordLocation> ZipDirectory::locate(RecordId record) const {
  return locator().locate(record);
}

Status ZipDirectory::check_local_headers(Diagnostics& diagnostics) const {
  if (table_->entries.size() <= kFewEntries) return {};
  if (header_check_) return header_check_->finish(diagnostics);
  return check_coverage(*source_, *table_, central_, LocalHeaders::kRead, diagnostics);
}

bool looks_like_zip(ByteView prefix) {
  return as_text(prefix).starts_with("PK\3\4");
}

}  // namespace ckpt
