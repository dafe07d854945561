// SPDX-License-Identifier: BSD-3-Clause
// Files and directories that must not outlive the process unless they are published. Each is listed in one
// registry from the moment it exists, and the signal handler of remove_temporaries_on_signals() walks that
// list.
#pragma once

#include <list>
#include <string>
#include <utility>
#include <vector>

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

/// Is nothing called `path`, not even a link that leads nowhere?
bool is_missing(const std::string& path);

/// Directories made for an output. Those that are still empty go with this object, or by a signal.
class TemporaryDirectories {
 public:
  TemporaryDirectories() = default;
  TemporaryDirectories(const TemporaryDirectories&) = delete;
  TemporaryDirectories& operator=(const TemporaryDirectories&) = delete;
  ~TemporaryDirectories();

  /// Makes `path` and what is missing above it, with mode 0777 less the umask. `name` is what errors call
  /// it. What is there already stays when this object goes. Errors: kIo.
  Status create(const std::string& path, const std::string& name);

  /// They stay from now on.
  void keep() noexcept;

  /// The directories that got a new entry: those above the ones made.
  std::vector<std::string> parents() const;

 private:
  std::vector<std::list<std::string>::iterator> entries_;  // in the registry, outermost first
};

}  // namespace ckpt
