// SPDX-License-Identifier: BSD-3-Clause
// The registry is a plain list behind a spin lock. Whoever holds the lock has the fatal signals blocked,
// so the handler never interrupts a holder: it may wait for one on another thread, and then read the list
// without allocating anything.
#include "ckpt/io/temporary_files.h"

#include <fcntl.h>
#include <signal.h>  // NOLINT: sigaction is not in <csignal>
#include <stdio.h>   // NOLINT: renameat2 is not in <cstdio>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cstdint>

#include "ckpt/io/blocked_signals.h"

namespace ckpt {
namespace {

using SignalAction = struct sigaction;

constexpr std::array kFatalSignals = {SIGINT, SIGTERM, SIGHUP, SIGXFSZ, SIGPIPE};

sigset_t fatal_signals() {
  sigset_t set;
  sigemptyset(&set);
  for (const auto number : kFatalSignals) sigaddset(&set, number);
  return set;
}

std::atomic_flag registry_lock;

// Newest first, so that a file goes before its directory. Never destroyed: a signal may come while static
// objects are.
std::list<std::string>& registry() {
  static auto& paths = *new std::list<std::string>;
  return paths;
}

class RegistryGuard {
 public:
  RegistryGuard() {
    while (registry_lock.test_and_set(std::memory_order_acquire)) ::sched_yield();
  }

  RegistryGuard(const RegistryGuard&) = delete;
  RegistryGuard& operator=(const RegistryGuard&) = delete;

  ~RegistryGuard() { registry_lock.clear(std::memory_order_release); }

 private:
  const BlockedSignals blocked_{fatal_signals()};  // before the lock is taken, until it is free again
};

// Runs with every fatal signal blocked and SIG_DFL restored (SA_RESETHAND), so the raised signal kills
// when the handler returns. The lock stays taken: nothing new may be listed any more.
void remove_and_die(int number) {
  while (registry_lock.test_and_set(std::memory_order_acquire)) {
  }
  for (const auto& path : registry()) {
    if (::unlink(path.c_str()) != 0) ::rmdir(path.c_str());
  }
  ::raise(number);
}

// 60 random bits in base 32: ".ckpt-" and twelve characters.
std::string random_name() {
  std::uint64_t bits = 0;
  if (::getrandom(&bits, sizeof bits, 0) != sizeof bits) bits = static_cast<std::uint64_t>(::getpid());
  std::string name = ".ckpt-";
  for (int i = 0; i < 12; ++i, bits >>= 5) name += "abcdefghijklmnopqrstuvwxyz234567"[bits & 31];
  return name;
}

bool no_such_operation(int number) {
  return number == EINVAL || number == ENOSYS || number == EOPNOTSUPP || number == EPERM || number == EMLINK;
}

// The three ways to rename without replacing, best first; 0 or errno. The second leaves the old name to be
// removed; the last has a gap between looking and renaming, and serves file systems that have neither the
// flag nor hard links.
int rename_new(const char* from, const char* to) {
  const auto flagged = [&] { return ::renameat2(AT_FDCWD, from, AT_FDCWD, to, RENAME_NOREPLACE); };
  if (retry_interrupted(flagged) == 0) return 0;
  if (!no_such_operation(errno)) return errno;
  if (retry_interrupted([&] { return ::link(from, to); }) == 0) return 0;
  if (!no_such_operation(errno)) return errno;
  if (::faccessat(AT_FDCWD, to, F_OK, AT_SYMLINK_NOFOLLOW) == 0) return EEXIST;
  return retry_interrupted([&] { return ::rename(from, to); }) == 0 ? 0 : errno;
}

int rename_over(const char* from, const char* to) {
  return retry_interrupted([&] { return ::rename(from, to); }) == 0 ? 0 : errno;
}

}  // namespace

TemporaryFile::TemporaryFile(TemporaryFile&& other) noexcept
    : name_(std::move(other.name_)),
      file_(std::move(other.file_)),
      entry_(other.entry_),
      listed_(std::exchange(other.listed_, false)) {}

TemporaryFile& TemporaryFile::operator=(TemporaryFile&& other) noexcept {
  std::swap(name_, other.name_);
  std::swap(file_, other.file_);
  std::swap(listed_, other.listed_);
  std::swap(entry_, other.entry_);
  return *this;
}

TemporaryFile::~TemporaryFile() {
  remove();
  if (listed_) forget();
}

Result<TemporaryFile> TemporaryFile::create(const std::string& directory, const std::string& name) {
  constexpr int kAttempts = 100;
  constexpr int kFlags = O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC;
  for (int attempt = 1;; ++attempt) {
    const auto path = directory + "/" + random_name();
    const RegistryGuard guard;
    const auto entry = registry().insert(registry().begin(), path);
    const auto descriptor = retry_interrupted([&] { return ::open(path.c_str(), kFlags, 0600); });
    if (descriptor >= 0) return TemporaryFile(File(descriptor, name), entry);
    const auto number = errno;
    registry().erase(entry);
    if (number != EEXIST || attempt == kAttempts) return system_error(number, "cannot create", name);
  }
}

Status TemporaryFile::publish(const std::string& target, Overwrite overwrite) {
  const auto* path = entry_->c_str();
  const bool replace = overwrite == Overwrite::kYes;
  const auto number = replace ? rename_over(path, target.c_str()) : rename_new(path, target.c_str());
  if (number == EEXIST) return already_exists(name_);
  if (number != 0) return system_error(number, "cannot rename the finished file", name_);
  remove();  // a hard link has left it; after a rename there is nothing
  return {};
}

void TemporaryFile::remove() noexcept {
  if (!listed_) return;
  const auto gone = retry_interrupted([&] { return ::unlink(entry_->c_str()); });
  if (gone == 0 || errno == ENOENT) forget();
}

void TemporaryFile::forget() noexcept {
  const RegistryGuard guard;
  registry().erase(entry_);
  listed_ = false;
}

bool is_missing(const std::string& path) {
  return ::faccessat(AT_FDCWD, path.c_str(), F_OK, AT_SYMLINK_NOFOLLOW) != 0 && errno == ENOENT;
}

TemporaryDirectories::~TemporaryDirectories() {
  const RegistryGuard guard;
  for (; !entries_.empty(); entries_.pop_back()) {
    ::rmdir(entries_.back()->c_str());
    registry().erase(entries_.back());
  }
}

Status TemporaryDirectories::create(const std::string& path, const std::string& name) {
  std::vector<std::string> missing;
  for (auto next = path; is_missing(next); next = directory_of(next)) missing.push_back(next);
  for (; !missing.empty(); missing.pop_back()) {
    const RegistryGuard guard;
    const auto entry = registry().insert(registry().begin(), missing.back());
    if (::mkdir(entry->c_str(), 0777) == 0) {
      entries_.push_back(entry);
      continue;
    }
    const auto number = errno;
    registry().erase(entry);
    if (number != EEXIST) return system_error(number, "cannot create the directory", name);
  }
  return {};
}

void TemporaryDirectories::keep() noexcept {
  const RegistryGuard guard;
  for (const auto entry : entries_) registry().erase(entry);
  entries_.clear();
}

std::vector<std::string> TemporaryDirectories::parents() const {
  std::vector<std::string> paths;
  for (const auto entry : entries_) paths.push_back(directory_of(*entry));
  return paths;
}

void remove_temporaries_on_signals() {
  registry();  // made here, not in the handler
  for (const auto number : kFatalSignals) {
    SignalAction action{};
    // A signal that was ignored when we started (nohup) stays ignored.
    if (::sigaction(number, nullptr, &action) != 0 || action.sa_handler != SIG_DFL) continue;
    action.sa_handler = remove_and_die;
    action.sa_flags = static_cast<int>(SA_RESETHAND);
    action.sa_mask = fatal_signals();
    ::sigaction(number, &action, nullptr);
  }
}

}  // namespace ckpt
