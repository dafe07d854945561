// SPDX-License-Identifier: BSD-3-Clause
// Where results go. Output appears whole or not at all: a file is written as a temporary sibling, synced
// and renamed when `commit()` is called; without it the destructor removes what was written. A pipe or
// standard output gets bytes as they come. Several files have one commit: the members in the order in
// which they were added, the index last.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "ckpt/base/export.h"
#include "ckpt/base/result.h"
#include "ckpt/io/byte_sink.h"
#include "ckpt/io/byte_source.h"

namespace ckpt {

enum class Overwrite : std::uint8_t { kNo, kYes };
enum class Fsync : std::uint8_t { kNo, kYes };
enum class MissingDirectory : std::uint8_t { kIsAnError, kIsMade };

struct OutputOptions {
  Overwrite overwrite = Overwrite::kNo;
  Fsync fsync = Fsync::kYes;
  /// What is made goes again if the output does not appear.
  MissingDirectory missing_directory = MissingDirectory::kIsAnError;
  /// Mode bits of the new file: those of this source where it has a descriptor, else 0666 less the umask.
  const ByteSource* mode_of = nullptr;
};

/// One member while it is being written. Owned by its OutputSet.
class CKPT_EXPORT OutputFile : public ByteSink {
 public:
  /// What is written so far, readable again (for `--verify`); flushes first. The source stays usable
  /// after the commit. Errors: kUnsupported for standard output, FIFOs and devices.
  virtual Result<std::shared_ptr<const ByteSource>> reopen() = 0;
};

class CKPT_EXPORT OutputSet {
 public:
  OutputSet();
  OutputSet(OutputSet&&) noexcept;
  OutputSet& operator=(OutputSet&&) noexcept;
  ~OutputSet();  ///< removes everything that was not committed

  /// Would `add` refuse? Checks without creating anything, so that a dry run fails where the real one would.
  static Status check(const std::string& path, const OutputOptions& options);

  /// Starts a member at `path` ("-" and /dev/stdout are standard output, never a terminal). `size_hint`
  /// bytes are reserved ahead where the file system can, so that a full disk shows before the work.
  /// A symbolic link at `path` is followed: what it points at is replaced, the link stays. FIFOs and
  /// devices are written directly. Errors: kExists (without kYes), kIo, kNotFound for a missing
  /// directory, kRefused for a terminal, kUsage for a directory or a path added twice.
  Result<OutputFile*> add(const std::string& path, const OutputOptions& options, std::uint64_t size_hint);

  /// Syncs every member, renames them in order, then syncs the directories. After an error nothing that
  /// had not been renamed yet appears; without kYes, nothing that appeared meanwhile is replaced (kExists).
  /// The set is empty afterwards, either way, and the members are gone.
  Status commit();

 private:
  class Impl;
  std::unique_ptr<Impl> impl_;
};

/// The directory part of a path, "." where it has none.
CKPT_EXPORT std::string directory_of(const std::string& path);

/// Are both the same file (device and inode), however they are spelled?
CKPT_EXPORT bool same_file(const std::string& a, const std::string& b);

/// Installs handlers for SIGINT, SIGTERM, SIGHUP (and SIGXFSZ, SIGPIPE) that remove temporary files
/// of every live OutputSet and then die by that very signal. Called once by the program.
CKPT_EXPORT void remove_temporaries_on_signals();

}  // namespace ckpt
