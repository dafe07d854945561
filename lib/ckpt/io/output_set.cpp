// SPDX-License-Identifier: BSD-3-Clause
#include "ckpt/io/output_set.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <iterator>

#include "ckpt/io/file.h"
#include "ckpt/io/output_member.h"
#include "ckpt/io/output_target.h"

namespace ckpt {
namespace {

using Members = std::vector<std::unique_ptr<OutputMember>>;

// The directories whose entries are about to change, open. One that may be written but not read (mode
// 0300) can't be opened, so it can't be synced either.
Result<std::vector<File>> open_directories(const Members& members) {
  std::vector<std::string> paths;
  for (const auto& member : members) {
    if (member->syncs()) std::ranges::move(member->directories(), std::back_inserter(paths));
  }
  std::ranges::sort(paths);
  paths.erase(std::unique(paths.begin(), paths.end()), paths.end());

  std::vector<File> directories;
  for (const auto& path : paths) {
    if (::faccessat(AT_FDCWD, path.c_str(), R_OK, AT_EACCESS) != 0) continue;
    CKPT_ASSIGN_OR_RETURN(auto directory, File::open(path, O_RDONLY | O_DIRECTORY, "cannot open to sync"));
    directories.push_back(std::move(directory));
  }
  return directories;
}

Status sync_directory(const File& directory) {
  if (retry_interrupted([&] { return ::fsync(directory.descriptor()); }) == 0) return {};
  if (errno == EINVAL) return {};  // a file system whose directories need no sync
  return system_error(errno, "cannot sync", directory.name());
}

}  // namespace

class OutputSet::Impl {
 public:
  Result<OutputFile*> add(OutputTarget target, const OutputOptions& options, std::uint64_t size_hint) {
    if (std::ranges::any_of(members_, [&](const auto& other) { return is_same(other->target(), target); })) {
      return Error(ErrorCode::kUsage, "is an output already").in_file(target.name);
    }
    CKPT_ASSIGN_OR_RETURN(auto member, OutputMember::create(std::move(target), options, size_hint));
    members_.push_back(std::move(member));
    return members_.back().get();
  }

  Status commit() {
    const auto members = std::exchange(members_, {});  // removed on the way out, unless renamed by then
    for (const auto& member : members) CKPT_RETURN_IF_ERROR(member->finish());
    CKPT_ASSIGN_OR_RETURN(const auto directories, open_directories(members));
    for (const auto& member : members) CKPT_RETURN_IF_ERROR(member->publish());
    for (const auto& directory : directories) CKPT_RETURN_IF_ERROR(sync_directory(directory));
    return {};
  }

 private:
  static bool is_same(const OutputTarget& a, const OutputTarget& b) {
    return a.kind == b.kind && a.path == b.path;
  }

  Members members_;
};

OutputSet::OutputSet() : impl_(std::make_unique<Impl>()) {}

OutputSet::OutputSet(OutputSet&&) noexcept = default;
OutputSet& OutputSet::operator=(OutputSet&&) noexcept = default;
OutputSet::~OutputSet() = default;

Status OutputSet::check(const std::string& path, const OutputOptions& options) {
  CKPT_ASSIGN_OR_RETURN(const auto target, resolve_output(path, options.overwrite));
  return check_access(target, options.missing_directory);
}

Result<OutputFile*> OutputSet::add(const std::string& path, const OutputOptions& options,
                                   std::uint64_t size_hint) {
  CKPT_ASSIGN_OR_RETURN(auto target, resolve_output(path, options.overwrite));
  return impl_->add(std::move(target), options, size_hint);
}

Status OutputSet::commit() {
  return impl_->commit();
}

std::string directory_of(const std::string& path) {
  const auto slash = path.rfind('/');
  if (slash == std::string::npos) return ".";
  return slash == 0 ? "/" : path.substr(0, slash);
}

bool same_file(const std::string& a, const std::string& b) {
  FileStatus first{};
  FileStatus second{};
  if (::stat(a.c_str(), &first) != 0 || ::stat(b.c_str(), &second) != 0) return false;
  return first.st_dev == second.st_dev && first.st_ino == second.st_ino;
}

}  // namespace ckpt
