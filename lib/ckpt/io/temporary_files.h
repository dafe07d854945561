// SPDX-License-Identifier: BSD-3-Clause
// Files that must not outlive the process unless they are published. Each is listed in one registry from
// the moment it exists, and the signal handler of remove_temporaries_on_signals() walks that list.
#pragma once

#include <list>
#include <string>
#include <utility>

#include "ckpt/base/result.h"
#include "ckpt/io/file.h"
#include "ckpt/io/output_set.h"

namespace ckpt {

/// The name of a file that is removed with this object, or by a signal, whichever comes first.
class TemporaryFile {
 public:
  TemporaryFile() = default;
  TemporaryFile(TemporaryFile&& other) noexcept;
  TemporaryFile& operator=(TemporaryFile&& other) noexcept;
  ~TemporaryFile();

  /// A new empty file in `directory`, open for reading and writing by its owner alone (mode 0600). Its
  /// name is short and random, so any target's name will do. `name` is what errors call it, the target.
  static Result<TemporaryFile> create(const std::string& directory, const std::string& name);

  /// The open file, once; whoever takes it closes it.
  File take_file() { return std::move(file_); }

  /// Gives the file the name `target`; with Overwrite::kNo only if nothing has that name at that moment.
  /// Errors: kExists, kIo; the file is then still temporary.
  Status publish(const std::string& target, Overwrite overwrite);
  /// Unlinks the file; the open descriptor stays usable. The destructor tries again if that fails.
  void remove() noexcept;

 private:
  using Entry = std::list<std::string>::iterator;

  TemporaryFile(File file, Entry entry)
      : name_(file.name()), file_(std::move(file)), entry_(entry), listed_(true) {}

  void forget() noexcept;

  std::string name_;
  File file_;
  Entry entry_;  // in the registry, while listed_
  bool listed_ = false;
};

}  // namespace ckpt
