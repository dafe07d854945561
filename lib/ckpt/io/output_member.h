// SPDX-License-Identifier: BSD-3-Clause
// One output while it is written, and the steps by which it appears. The order among several is the
// business of OutputSet.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "ckpt/io/file_sink.h"
#include "ckpt/io/output_set.h"
#include "ckpt/io/output_target.h"
#include "ckpt/io/temporary_files.h"

namespace ckpt {

class OutputMember final : public OutputFile {
 public:
  /// Creates the temporary file, or opens the device.
  static Result<std::unique_ptr<OutputMember>> create(OutputTarget target, const OutputOptions& options,
                                                      std::uint64_t size_hint);

  Status write(ByteView bytes) override;
  Status copy_from(const ByteSource& source, Extent extent) override;

  std::uint64_t position() const override { return sink_.position(); }

  bool writes_ahead() const override { return is_file(); }

  Status write_ahead(std::uint64_t offset, ByteView bytes) override;
  Status skip(std::uint64_t size) override;

  Result<std::shared_ptr<const ByteSource>> reopen() override;

  /// Everything but the name: contents, mode, on disk if asked for, closed without complaint.
  Status finish();
  /// Takes the target's name. Nothing to do for what is no file. Precondition: finished.
  Status publish();

  const OutputTarget& target() const { return target_; }

  bool syncs() const { return is_file() && fsync_ == Fsync::kYes; }

  /// Those that get a new entry: the target's, and those in which directories were made.
  std::vector<std::string> directories() const;

 private:
  OutputMember(OutputTarget target, const OutputOptions& options)
      : target_(std::move(target)),
        overwrite_(options.overwrite),
        fsync_(options.fsync),
        missing_directory_(options.missing_directory) {}

  bool is_file() const { return target_.kind == TargetKind::kFile; }

  Status open();
  Status decide_mode(const ByteSource* mode_of);
  Status reserve(std::uint64_t size);

  bool starts_write_back() const { return syncs() && reserved_ > 0; }

  void start_write_back();

  OutputTarget target_;
  Overwrite overwrite_;
  Fsync fsync_;
  MissingDirectory missing_directory_;
  mode_t mode_ = 0;
  std::uint64_t reserved_ = 0;
  std::uint64_t on_its_way_ = 0;          // bytes that the kernel was told to write back
  std::atomic<std::uint64_t> ahead_ = 0;  // bytes written ahead, of all of which it is told now and then
  TemporaryDirectories made_;             // before the file in them, to go after it
  TemporaryFile temporary_;               // of a file; its descriptor is in file_
  File file_;
  FileSink sink_{file_};
};

}  // namespace ckpt
