// SPDX-License-Identifier: BSD-3-Clause
#include "ckpt/io/output_target.h"

#include <fcntl.h>
#include <limits.h>  // NOLINT: PATH_MAX is not in <climits>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <optional>

#include "ckpt/io/file.h"
#include "ckpt/io/temporary_files.h"

namespace ckpt {
namespace {

constexpr std::string_view kCannotCreate = "cannot create";
constexpr std::string_view kCannotOpen = "cannot open for writing";
constexpr int kMaxLinks = 40;  // the kernel's own limit (path_resolution(7))

bool means_standard_output(const std::string& path) {
  return path == "-" || path == "/dev/stdout" || path == "/dev/fd/1" || path == "/proc/self/fd/1";
}

// What the symbolic link `path` says, seen from where we are; nothing where `path` is not a link.
Result<std::optional<std::string>> link_target(const std::string& path) {
  std::array<char, PATH_MAX> text{};
  const auto size = retry_interrupted([&] { return ::readlink(path.c_str(), text.data(), text.size()); });
  if (size < 0) {
    if (errno == EINVAL || errno == ENOENT) return std::optional<std::string>();
    return system_error(errno, kCannotCreate, path);
  }
  const std::string target(text.data(), static_cast<std::size_t>(size));
  return std::optional(target.starts_with('/') ? target : directory_of(path) + "/" + target);
}

// The name that a rename must take so that links stay; also for a link that leads to nothing yet.
Result<std::string> follow_links(const std::string& path) {
  auto reached = path;
  for (int links = 0; links <= kMaxLinks; ++links) {
    CKPT_ASSIGN_OR_RETURN(auto next, link_target(reached));
    if (!next) return reached;
    reached = *std::move(next);
  }
  return system_error(ELOOP, kCannotCreate, path);
}

Error directory_error(const std::string& path) {
  return Error(ErrorCode::kUsage, "is a directory").in_file(path);
}

Error terminal_error(const std::string& name) {
  return Error(ErrorCode::kRefused, "does not write binary data to a terminal")
      .in_file(name)
      .with_hint("redirect it, or name a file");
}

Result<OutputTarget> standard_output() {
  OutputTarget target{TargetKind::kStandardOutput, "standard output", {}};
  if (::isatty(STDOUT_FILENO) == 1) return terminal_error(target.name);
  return target;
}

// Only an open descriptor can tell; O_NONBLOCK, so that asking never waits.
bool is_terminal(const std::string& path) {
  const auto device = File::open(path, O_WRONLY | O_NONBLOCK, {});
  return device.ok() && ::isatty(device->descriptor()) == 1;
}

}  // namespace

std::string OutputTarget::directory() const {
  return directory_of(path);
}

Result<OutputTarget> resolve_output(const std::string& path, Overwrite overwrite) {
  if (means_standard_output(path)) return standard_output();

  FileStatus status{};
  if (::stat(path.c_str(), &status) != 0) {
    if (errno != ENOENT || path.empty()) return system_error(errno, kCannotCreate, path);
    CKPT_ASSIGN_OR_RETURN(auto reached, follow_links(path));
    if (reached.ends_with('/')) return directory_error(path);
    return OutputTarget{TargetKind::kFile, path, std::move(reached)};
  }
  if (S_ISDIR(status.st_mode)) return directory_error(path);
  if (S_ISCHR(status.st_mode) && is_terminal(path)) return terminal_error(path);
  if (!S_ISREG(status.st_mode)) return OutputTarget{TargetKind::kDevice, path, path};
  if (overwrite == Overwrite::kNo) return already_exists(path);
  CKPT_ASSIGN_OR_RETURN(auto reached, follow_links(path));
  return OutputTarget{TargetKind::kFile, path, std::move(reached)};
}

Status check_access(const OutputTarget& target, MissingDirectory missing_directory) {
  if (target.kind == TargetKind::kStandardOutput) {
    if (::fcntl(STDOUT_FILENO, F_GETFD) >= 0) return {};
    return system_error(errno, kCannotOpen, target.name);
  }
  const bool is_file = target.kind == TargetKind::kFile;
  auto path = is_file ? target.directory() : target.path;
  while (is_file && missing_directory == MissingDirectory::kIsMade && is_missing(path)) {
    path = directory_of(path);
  }
  const int mode = is_file ? W_OK | X_OK : W_OK;
  if (::faccessat(AT_FDCWD, path.c_str(), mode, AT_EACCESS) == 0) return {};
  return system_error(errno, is_file ? kCannotCreate : kCannotOpen, target.name);
}

}  // namespace ckpt
