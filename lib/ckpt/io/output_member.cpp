// SPDX-License-Identifier: BSD-3-Clause
#include "ckpt/io/output_member.h"

#include <fcntl.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "ckpt/base/text.h"
#include "ckpt/io/file_source.h"

namespace ckpt {
namespace {

constexpr std::uint64_t kWriteBack = std::uint64_t{32} << 20;  // bytes between two requests to write back
constexpr std::string_view kCannotOpen = "cannot open for writing";

// Would this new, empty file share blocks with a source on the same file system? Cloning nothing onto
// itself succeeds, or fails for its arguments, where cloning exists at all.
bool can_share_blocks(const File& file) {
  const auto clone = [&] { return ::ioctl(file.descriptor(), FICLONE, file.descriptor()); };
  return retry_interrupted(clone) == 0 || errno == EINVAL;
}

bool means_no_room(int number) {
  return number == ENOSPC || number == EDQUOT || number == EFBIG;
}

}  // namespace

Result<std::unique_ptr<OutputMember>> OutputMember::create(OutputTarget target, const OutputOptions& options,
                                                           std::uint64_t size_hint) {
  std::unique_ptr<OutputMember> member(new OutputMember(std::move(target), options));
  CKPT_RETURN_IF_ERROR(member->open());
  if (member->is_file()) {
    CKPT_RETURN_IF_ERROR(member->decide_mode(options.mode_of));
    CKPT_RETURN_IF_ERROR(member->reserve(size_hint));
  }
  return member;
}

Status OutputMember::open() {
  switch (target_.kind) {
    case TargetKind::kFile: {
      if (missing_directory_ == MissingDirectory::kIsMade)
        CKPT_RETURN_IF_ERROR(made_.create(target_.directory(), target_.name));
      CKPT_ASSIGN_OR_RETURN(temporary_, TemporaryFile::create(target_.directory(), target_.name));
      file_ = temporary_.take_file();
      return {};
    }
    case TargetKind::kDevice: {
      CKPT_ASSIGN_OR_RETURN(file_, File::open(target_.path, O_WRONLY, kCannotOpen));
      return {};
    }
    case TargetKind::kStandardOutput: {
      CKPT_ASSIGN_OR_RETURN(file_, File::duplicate(STDOUT_FILENO, target_.name, kCannotOpen));
      return {};
    }
  }
  return {};
}

// Only read, write and execute: what ran with its owner's rights shall not do so with other contents.
Status OutputMember::decide_mode(const ByteSource* mode_of) {
  if (mode_of == nullptr || mode_of->descriptor() < 0) {
    mode_ = default_file_mode();
    return {};
  }
  FileStatus status{};
  if (retry_interrupted([&] { return ::fstat(mode_of->descriptor(), &status); }) != 0) {
    return system_error(errno, "cannot examine", mode_of->name());
  }
  mode_ = status.st_mode & 0777;
  return {};
}

// Where blocks are shared, reserving would ask for room that nobody needs. Everywhere else it is only a
// question asked early, so every answer but "no room" is ignored.
Status OutputMember::reserve(std::uint64_t size) {
  if (size == 0 || can_share_blocks(file_)) return {};
  const auto bytes = static_cast<off_t>(size);
  const auto allocate = [&] { return ::fallocate(file_.descriptor(), FALLOC_FL_KEEP_SIZE, 0, bytes); };
  if (retry_interrupted(allocate) == 0) {
    reserved_ = size;
  } else if (means_no_room(errno)) {
    return system_error(errno, "cannot reserve " + human_bytes(size), target_.name);
  }
  return {};
}

Status OutputMember::write(ByteView bytes) {
  CKPT_RETURN_IF_ERROR(sink_.write(bytes));
  if (starts_write_back()) start_write_back();
  return {};
}

Status OutputMember::write_ahead(std::uint64_t offset, ByteView bytes) {
  CKPT_RETURN_IF_ERROR(sink_.write_ahead(offset, bytes));
  const auto before = ahead_.fetch_add(bytes.size());
  if (starts_write_back() && before / kWriteBack != (before + bytes.size()) / kWriteBack)
    ::sync_file_range(file_.descriptor(), 0, 0, SYNC_FILE_RANGE_WRITE);  // up to the end of the file
  return {};
}

Status OutputMember::skip(std::uint64_t size) {
  CKPT_RETURN_IF_ERROR(sink_.skip(size));
  on_its_way_ = position();
  return {};
}

// In pieces, so that the disk is busy with one while the next is copied.
Status OutputMember::copy_from(const ByteSource& source, Extent extent) {
  while (starts_write_back() && extent.size > kWriteBack) {
    CKPT_RETURN_IF_ERROR(sink_.copy_from(source, {extent.offset, kWriteBack}));
    extent = {extent.offset + kWriteBack, extent.size - kWriteBack};
    start_write_back();
  }
  CKPT_RETURN_IF_ERROR(sink_.copy_from(source, extent));
  if (starts_write_back()) start_write_back();
  return {};
}

// The disk need not wait for the sync at the end. A wish: what becomes of it shows when the file is synced.
void OutputMember::start_write_back() {
  const auto size = position() - on_its_way_;
  if (size < kWriteBack) return;
  ::sync_file_range(file_.descriptor(), static_cast<off_t>(on_its_way_), static_cast<off_t>(size),
                    SYNC_FILE_RANGE_WRITE);
  on_its_way_ = position();
}

Result<std::shared_ptr<const ByteSource>> OutputMember::reopen() {
  if (!is_file())
    return Error(ErrorCode::kUnsupported, "cannot be read back: not a file").in_file(target_.name);
  CKPT_RETURN_IF_ERROR(sink_.flush());
  CKPT_ASSIGN_OR_RETURN(auto file, File::duplicate(file_.descriptor(), target_.name, "cannot read back"));
  return std::shared_ptr<const ByteSource>(
      std::make_shared<FileSource>(std::move(file), target_.name, position()));
}

Status OutputMember::finish() {
  CKPT_RETURN_IF_ERROR(sink_.flush());
  if (!is_file()) return file_.close();
  if (reserved_ > position()) {  // gives back what was reserved beyond the end
    const auto size = static_cast<off_t>(position());
    if (retry_interrupted([&] { return ::ftruncate(file_.descriptor(), size); }) != 0) {
      return system_error(errno, "cannot truncate", target_.name);
    }
  }
  CKPT_RETURN_IF_ERROR(file_.set_mode(mode_));
  if (fsync_ == Fsync::kYes) CKPT_RETURN_IF_ERROR(file_.sync());
  return file_.close();
}

Status OutputMember::publish() {
  if (!is_file()) return {};
  CKPT_RETURN_IF_ERROR(temporary_.publish(target_.path, overwrite_));
  made_.keep();
  return {};
}

std::vector<std::string> OutputMember::directories() const {
  auto paths = made_.parents();
  paths.push_back(target_.directory());
  return paths;
}

}  // namespace ckpt
