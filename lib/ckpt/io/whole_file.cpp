// SPDX-License-Identifier: BSD-3-Clause
#include "ckpt/io/whole_file.h"

#include <fcntl.h>
#include <unistd.h>

#include <span>

#include <fmt/format.h>

#include "ckpt/io/file.h"

namespace ckpt {

Result<std::string> read_whole_file(const std::string& path, std::uint64_t limit) {
  constexpr std::size_t kChunk = 1U << 20U;  // bytes
  CKPT_ASSIGN_OR_RETURN(const auto file, path == "-"
                                             ? File::duplicate(STDIN_FILENO, "standard input", "cannot read")
                                             : File::open(path, O_RDONLY, "cannot open for reading"));
  CKPT_ASSIGN_OR_RETURN(const auto status, file.status());
  if (S_ISDIR(status.st_mode)) return Error(ErrorCode::kUnsupported, "is a directory").in_file(file.name());
  if (::isatty(file.descriptor()) == 1)
    return Error(ErrorCode::kRefused, "is a terminal, not a file").in_file(file.name());
  std::string text;
  while (text.size() <= limit) {
    const auto size = text.size();
    text.resize(size + kChunk);
    CKPT_ASSIGN_OR_RETURN(const auto got,
                          file.read_some(std::as_writable_bytes(std::span(text).subspan(size))));
    text.resize(size + got);
    if (got == 0) return text;
  }
  return Error(ErrorCode::kUnsupported, fmt::format("more than {} bytes, the most that are read", limit))
      .in_file(file.name());
}

}  // namespace ckpt
