// SPDX-License-Identifier: BSD-3-Clause
// An owned descriptor, and how errno becomes an Error. Nothing here knows of temporaries or formats.
#pragma once

#include <sys/stat.h>

#include <cerrno>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>

#include "ckpt/base/bytes.h"
#include "ckpt/base/result.h"

namespace ckpt {

using FileStatus = struct stat;

/// "cannot write: No space left on device", in the file `name`. kNotFound for ENOENT, else kIo.
Error system_error(int number, std::string_view what, std::string_view name);

/// The answer to an output that would replace something; kExists.
Error already_exists(std::string_view name);

/// Repeats `call` for as long as a signal interrupts it.
template <typename Call>
auto retry_interrupted(Call call) {
  auto result = call();
  while (result == -1 && errno == EINTR) result = call();
  return result;
}

/// Waits until a descriptor somebody set to non-blocking takes or has bytes (`events` of poll).
void wait_for(int descriptor, short events);

/// 0666 less the umask: what a new file gets when nothing else decides.
mode_t default_file_mode();

/// A descriptor with the name that errors call it by. Closed by the destructor, or by `close` where the
/// outcome matters. Descriptors are not inherited by programs we start.
class File {
 public:
  File() = default;

  File(int descriptor, std::string name) : descriptor_(descriptor), name_(std::move(name)) {}

  File(File&& other) noexcept;
  File& operator=(File&& other) noexcept;
  ~File();

  /// open(2) with O_CLOEXEC and O_NOCTTY; `what` begins the message: "cannot open for reading".
  static Result<File> open(const std::string& path, int flags, std::string_view what);
  /// A second descriptor of the same open file. Errors: kIo, as `what`.
  static Result<File> duplicate(int descriptor, std::string name, std::string_view what);

  int descriptor() const { return descriptor_; }

  const std::string& name() const { return name_; }

  Result<FileStatus> status() const;
  /// Bytes read at `offset`: fewer than asked for only at the end of the file.
  Result<std::uint64_t> read_at(std::uint64_t offset, std::span<std::byte> out) const;
  /// Bytes read at the file position, 0 at the end.
  Result<std::uint64_t> read_some(std::span<std::byte> out) const;
  /// All of `bytes`, at the file position.
  Status write(ByteView bytes) const;
  /// All of `bytes` at `offset`, whatever the file position. By any number of threads.
  Status write_at(std::uint64_t offset, ByteView bytes) const;
  /// Moves the file position forward by `size` bytes.
  Status skip(std::uint64_t size) const;
  /// File systems without modes (FAT, some network mounts) may decline; that is no error.
  Status set_mode(mode_t mode) const;
  Status sync() const;
  Status close();

 private:
  int descriptor_ = -1;
  std::string name_;
};

}  // namespace ckpt
