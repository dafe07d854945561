// SPDX-License-Identifier: BSD-3-Clause
#include "ckpt/io/file.h"

#include <fcntl.h>
#include <poll.h>
#include <unistd.h>

#include <system_error>

namespace ckpt {

static_assert(sizeof(off_t) == 8, "files beyond 2 GiB");

Error system_error(int number, std::string_view what, std::string_view name) {
  auto code = number == ENOENT ? ErrorCode::kNotFound : ErrorCode::kIo;
  auto message = std::string(what) + ": " + std::generic_category().message(number);
  return Error(code, std::move(message)).in_file(name);
}

Error already_exists(std::string_view name) {
  return Error(ErrorCode::kExists, "file already exists")
      .in_file(name)
      .with_hint("use --force to replace it");
}

void wait_for(int descriptor, short events) {
  pollfd waiting{descriptor, events, 0};
  retry_interrupted([&] { return ::poll(&waiting, 1, -1); });
}

mode_t default_file_mode() {
  const auto mask = ::umask(077);  // it can only be read by setting it
  ::umask(mask);
  return 0666 & ~mask;
}

File::File(File&& other) noexcept
    : descriptor_(std::exchange(other.descriptor_, -1)), name_(std::move(other.name_)) {}

File& File::operator=(File&& other) noexcept {
  std::swap(descriptor_, other.descriptor_);
  std::swap(name_, other.name_);
  return *this;
}

File::~File() {
  if (descriptor_ >= 0) ::close(descriptor_);
}

Result<File> File::open(const std::string& path, int flags, std::string_view what) {
  const auto descriptor =
      retry_interrupted([&] { return ::open(path.c_str(), flags | O_CLOEXEC | O_NOCTTY); });
  if (descriptor < 0) return system_error(errno, what, path);
  return File(descriptor, path);
}

Result<File> File::duplicate(int descriptor, std::string name, std::string_view what) {
  const auto copy = retry_interrupted([&] { return ::fcntl(descriptor, F_DUPFD_CLOEXEC, 0); });
  if (copy < 0) return system_error(errno, what, name);
  return File(copy, std::move(name));
}

Result<FileStatus> File::status() const {
  FileStatus status{};
  if (retry_interrupted([&] { return ::fstat(descriptor_, &status); }) != 0) {
    return system_error(errno, "cannot examine", name_);
  }
  return status;
}

Result<std::uint64_t> File::read_at(std::uint64_t offset, std::span<std::byte> out) const {
  std::uint64_t done = 0;
  while (done < out.size()) {
    const auto rest = out.subspan(done);
    const auto at = static_cast<off_t>(offset + done);
    const auto got = retry_interrupted([&] { return ::pread(descriptor_, rest.data(), rest.size(), at); });
    if (got < 0) return system_error(errno, "cannot read", name_);
    if (got == 0) break;
    done += static_cast<std::uint64_t>(got);
  }
  return done;
}

Result<std::uint64_t> File::read_some(std::span<std::byte> out) const {
  while (true) {
    const auto got = retry_interrupted([&] { return ::read(descriptor_, out.data(), out.size()); });
    if (got >= 0) return static_cast<std::uint64_t>(got);
    if (errno != EAGAIN) return system_error(errno, "cannot read", name_);
    wait_for(descriptor_, POLLIN);
  }
}

Status File::write(ByteView bytes) const {
  while (!bytes.empty()) {
    const auto put = retry_interrupted([&] { return ::write(descriptor_, bytes.data(), bytes.size()); });
    if (put >= 0) {
      bytes = bytes.subspan(static_cast<std::size_t>(put));
    } else if (errno == EAGAIN) {
      wait_for(descriptor_, POLLOUT);
    } else {
      return system_error(errno, "cannot write", name_);
    }
  }
  return {};
}

Status File::write_at(std::uint64_t offset, ByteView bytes) const {
  while (!bytes.empty()) {
    const auto at = static_cast<off_t>(offset);
    const auto put = retry_interrupted([&] { return ::pwrite(descriptor_, bytes.data(), bytes.size(), at); });
    if (put < 0) return system_error(errno, "cannot write", name_);
    bytes = bytes.subspan(static_cast<std::size_t>(put));
    offset += static_cast<std::uint64_t>(put);
  }
  return {};
}

Status File::skip(std::uint64_t size) const {
  if (::lseek(descriptor_, static_cast<off_t>(size), SEEK_CUR) >= 0) return {};
  return system_error(errno, "cannot move forward", name_);
}

Status File::set_mode(mode_t mode) const {
  if (retry_interrupted([&] { return ::fchmod(descriptor_, mode); }) == 0) return {};
  if (errno == EPERM || errno == EOPNOTSUPP || errno == ENOSYS) return {};
  return system_error(errno, "cannot set the mode", name_);
}

Status File::sync() const {
  if (retry_interrupted([&] { return ::fsync(descriptor_); }) == 0) return {};
  return system_error(errno, "cannot sync", name_);
}

Status File::close() {
  const auto descriptor = std::exchange(descriptor_, -1);
  // Linux has let go of the descriptor even when a signal interrupted its closing.
  if (descriptor < 0 || ::close(descriptor) == 0 || errno == EINTR) return {};
  return system_error(errno, "cannot close", name_);
}

}  // namespace ckpt
