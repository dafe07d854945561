// SPDX-License-Identifier: BSD-3-Clause
#include "ckpt/io/file_source.h"

#include <fcntl.h>
#include <unistd.h>

#include <cstdlib>
#include <vector>

#include <fmt/format.h>

#include "ckpt/io/temporary_files.h"

namespace ckpt {
namespace {

using Source = std::shared_ptr<const ByteSource>;

constexpr std::size_t kSpoolChunk = std::size_t{1} << 20;

std::vector<std::string> spool_directories(const std::string& first) {
  std::vector<std::string> directories;
  if (!first.empty()) directories.push_back(first);
  const char* temporary = std::getenv("TMPDIR");  // NOLINT(concurrency-mt-unsafe): nobody sets variables
  if (temporary != nullptr && *temporary != '\0') directories.emplace_back(temporary);
  directories.emplace_back("/tmp");
  return directories;
}

// A file without a name: gone with its last descriptor, however the process ends.
Result<File> create_spool_file(const std::string& first_directory) {
  const auto directories = spool_directories(first_directory);
  for (std::size_t i = 0;; ++i) {
    auto temporary = TemporaryFile::create(directories[i], directories[i]);
    if (temporary.ok()) {
      temporary->remove();
      return temporary->take_file();
    }
    if (i + 1 == directories.size()) return std::move(temporary).error();
  }
}

Result<Source> spool(const File& stream, const std::string& spool_directory) {
  CKPT_ASSIGN_OR_RETURN(auto spool, create_spool_file(spool_directory));
  Bytes chunk(kSpoolChunk);
  std::uint64_t size = 0;
  while (true) {
    CKPT_ASSIGN_OR_RETURN(const auto got, stream.read_some(chunk));
    if (got == 0) break;
    CKPT_RETURN_IF_ERROR(spool.write(ByteView(chunk).first(got)));
    size += got;
  }
  // An output takes its mode from its source. Nobody else can open this one, so the usual mode is safe.
  CKPT_RETURN_IF_ERROR(spool.set_mode(default_file_mode()));
  return Source(std::make_shared<FileSource>(std::move(spool), stream.name(), size));
}

// The size of a regular file or a block device; the latter has none in its status.
Result<std::uint64_t> size_of(const File& file, const FileStatus& status) {
  if (S_ISREG(status.st_mode)) return static_cast<std::uint64_t>(status.st_size);
  const auto end = ::lseek(file.descriptor(), 0, SEEK_END);
  if (end < 0) return system_error(errno, "cannot find the end", file.name());
  return static_cast<std::uint64_t>(end);
}

bool is_seekable(const FileStatus& status) {
  return S_ISREG(status.st_mode) || S_ISBLK(status.st_mode);
}

Result<Source> make_source(File file, const std::string& spool_directory) {
  CKPT_ASSIGN_OR_RETURN(const auto status, file.status());
  if (S_ISDIR(status.st_mode)) {
    return Error(ErrorCode::kUnsupported, "is a directory").in_file(file.name());
  }
  if (::isatty(file.descriptor()) == 1) {
    return Error(ErrorCode::kRefused, "is a terminal, not a file").in_file(file.name());
  }
  const bool untouched = is_seekable(status) && ::lseek(file.descriptor(), 0, SEEK_CUR) == 0;
  if (!untouched) return spool(file, spool_directory);
  CKPT_ASSIGN_OR_RETURN(const auto size, size_of(file, status));
  auto name = file.name();
  return Source(std::make_shared<FileSource>(std::move(file), std::move(name), size));
}

}  // namespace

Status FileSource::read_at(std::uint64_t offset, std::span<std::byte> out) const {
  CKPT_RETURN_IF_ERROR(require({offset, out.size()}));
  CKPT_ASSIGN_OR_RETURN(const auto got, file_.read_at(offset, out));
  if (got == out.size()) return {};
  return Error(ErrorCode::kCorrupt,
               fmt::format("file is shorter than when it was opened: byte {} of {} is gone", offset + got,
                           size_))
      .in_file(name_);
}

Result<Source> open_file_source(const std::string& path) {
  CKPT_ASSIGN_OR_RETURN(auto file, File::open(path, O_RDONLY, "cannot open for reading"));
  return make_source(std::move(file), {});
}

Result<Source> open_standard_input(const std::string& spool_directory) {
  CKPT_ASSIGN_OR_RETURN(auto file, File::duplicate(STDIN_FILENO, "standard input", "cannot read"));
  return make_source(std::move(file), spool_directory);
}

}  // namespace ckpt
