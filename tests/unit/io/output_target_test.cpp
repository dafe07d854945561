// SPDX-License-Identifier: BSD-3-Clause
// Where an output path leads: links, devices, standard output, directories, and what `check` foresees.
#include "ckpt/io/output_target.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>
#include <thread>
#include <vector>

#include "support/catch.h"
#include "support/descriptors.h"
#include "support/temp_dir.h"

using namespace ckpt;
using ckpt::test::DrainedPipe;
using ckpt::test::PseudoTerminal;
using ckpt::test::Redirected;
using ckpt::test::TempDir;
using Names = std::vector<std::string>;
namespace fs = std::filesystem;

namespace {

Status write_file(const std::string& path, std::string_view contents, Overwrite overwrite = Overwrite::kNo) {
  OutputSet outputs;
  CKPT_ASSIGN_OR_RETURN(auto* file, outputs.add(path, {.overwrite = overwrite}, contents.size()));
  CKPT_RETURN_IF_ERROR(file->write(as_bytes(contents)));
  return outputs.commit();
}

// The error of both `check` and `add`, which must be the same.
std::string refusal(const std::string& path, Overwrite overwrite = Overwrite::kNo) {
  const OutputOptions options{.overwrite = overwrite};
  auto foreseen = OutputSet::check(path, options);
  OutputSet outputs;
  auto real = outputs.add(path, options, 0);
  REQUIRE(foreseen.ok() == real.ok());
  if (real.ok()) return "";
  CHECK(foreseen.error().text() == real.error().text());
  CHECK(foreseen.error().hint() == real.error().hint());
  return std::string(error_code_name(real.error().code())) + ": " + real.error().message();
}

// Root may do everything; these tests are about everybody else.
class Unprivileged {
 public:
  Unprivileged() : before_(::geteuid()) {
    if (before_ == 0 && ::seteuid(65534) != 0) std::abort();
  }

  Unprivileged(const Unprivileged&) = delete;
  Unprivileged& operator=(const Unprivileged&) = delete;

  ~Unprivileged() {
    if (::seteuid(before_) != 0) std::abort();
  }

 private:
  uid_t before_;
};

}  // namespace

TEST_CASE("a symbolic link stays and what it leads to is replaced", "[io]") {
  const TempDir directory;
  fs::create_directories(directory.path("data"));
  directory.write("data/real.pt", "old");
  fs::create_symlink("data/hop.pt", directory.path("link.pt"));
  fs::create_symlink("real.pt", directory.path("data/hop.pt"));
  CHECK(refusal(directory.path("link.pt")) == "exists: file already exists");
  REQUIRE(write_file(directory.path("link.pt"), "new", Overwrite::kYes).ok());
  CHECK(fs::read_symlink(directory.path("link.pt")) == "data/hop.pt");
  CHECK(fs::read_symlink(directory.path("data/hop.pt")) == "real.pt");
  CHECK(directory.read("data/real.pt") == "new");
  CHECK(directory.names() == Names{"data", "link.pt"});
}

TEST_CASE("a dangling link makes the file it promises", "[io]") {
  const TempDir directory;
  fs::create_directories(directory.path("data"));
  fs::create_symlink("data/new.pt", directory.path("relative"));
  fs::create_symlink(directory.path("data/absolute.pt"), directory.path("absolute"));
  REQUIRE(write_file(directory.path("relative"), "1").ok());
  REQUIRE(write_file(directory.path("absolute"), "2").ok());
  CHECK(directory.read("data/new.pt") == "1");
  CHECK(directory.read("data/absolute.pt") == "2");
  CHECK(fs::is_symlink(directory.path("relative")));

  fs::create_symlink("missing/new.pt", directory.path("nowhere"));
  CHECK(refusal(directory.path("nowhere")) == "not-found: cannot create: No such file or directory");
}

TEST_CASE("a link to itself leads nowhere", "[io]") {
  const TempDir directory;
  fs::create_symlink("loop", directory.path("loop"));
  CHECK_THAT(refusal(directory.path("loop")), Catch::Matchers::StartsWith("io: cannot create: "));
}

TEST_CASE("of a hard-linked file only the given name is replaced", "[io]") {
  const TempDir directory;
  directory.write("a.pt", "old");
  fs::create_hard_link(directory.path("a.pt"), directory.path("b.pt"));
  REQUIRE(write_file(directory.path("b.pt"), "new", Overwrite::kYes).ok());
  CHECK(directory.read("a.pt") == "old");
  CHECK(directory.read("b.pt") == "new");
}

TEST_CASE("a directory is no output", "[io]") {
  const TempDir directory;
  fs::create_directory_symlink(".", directory.path("link"));
  CHECK(refusal(directory.path(), Overwrite::kYes) == "usage: is a directory");
  CHECK(refusal(directory.path("."), Overwrite::kYes) == "usage: is a directory");
  CHECK(refusal(directory.path("link"), Overwrite::kYes) == "usage: is a directory");
  CHECK(refusal(directory.path("new/"), Overwrite::kYes) == "usage: is a directory");
}

TEST_CASE("a directory that is missing, or none, is said so", "[io]") {
  const TempDir directory;
  directory.write("file", "");
  CHECK(refusal(directory.path("no/out.pt")) == "not-found: cannot create: No such file or directory");
  CHECK(refusal(directory.path("file/out.pt")) == "io: cannot create: Not a directory");
  CHECK(refusal("") == "not-found: cannot create: No such file or directory");
}

TEST_CASE("a directory without the right to write or search is said so", "[io]") {
  const TempDir directory;
  fs::create_directory(directory.path("readonly"));
  fs::create_directory(directory.path("closed"));
  fs::permissions(directory.path(), fs::perms{0755});
  fs::permissions(directory.path("readonly"), fs::perms{0555});
  fs::permissions(directory.path("closed"), fs::perms{0600});
  const Unprivileged unprivileged;
  CHECK(refusal(directory.path("readonly/out.pt")) == "io: cannot create: Permission denied");
  CHECK(refusal(directory.path("closed/out.pt")) == "io: cannot create: Permission denied");
}

TEST_CASE("a directory that can be written but not read takes outputs", "[io]") {
  const TempDir directory;
  fs::create_directory(directory.path("drop"));
  fs::permissions(directory.path(), fs::perms{0755});
  fs::permissions(directory.path("drop"), fs::perms{0333});
  {
    const Unprivileged unprivileged;
    CHECK(write_file(directory.path("drop/out.pt"), "x").ok());
  }
  fs::permissions(directory.path("drop"), fs::perms{0700});
  CHECK(directory.read("drop/out.pt") == "x");
}

TEST_CASE("a file without write permission is replaced like any other", "[io]") {
  const TempDir directory;
  const auto path = directory.write("out.pt", "old");
  fs::permissions(path, fs::perms{0400});
  REQUIRE(write_file(path, "new", Overwrite::kYes).ok());
  CHECK(directory.read("out.pt") == "new");
}

TEST_CASE("an output in the working directory needs no slash", "[io]") {
  const TempDir directory;
  const auto before = fs::current_path();
  fs::current_path(directory.path());
  const auto status = write_file("out.pt", "x");
  fs::current_path(before);
  REQUIRE(status.ok());
  CHECK(directory.names() == Names{"out.pt"});
}

TEST_CASE("a FIFO gets the bytes as they come", "[io]") {
  const TempDir directory;
  const auto path = directory.path("fifo");
  REQUIRE(::mkfifo(path.c_str(), 0600) == 0);
  CHECK(OutputSet::check(path, {}).ok());
  std::string received;
  std::thread reader([&] { received = directory.read("fifo"); });
  const std::string sent(200'000, 'f');
  const auto status = write_file(path, sent);
  reader.join();
  CHECK(status.ok());
  CHECK(received == sent);
  CHECK(directory.names() == Names{"fifo"});
}

TEST_CASE("a device is written without a temporary file beside it", "[io]") {
  CHECK(write_file("/dev/null", "x").ok());
  const auto status = write_file("/dev/full", "x");
  REQUIRE_FALSE(status.ok());
  CHECK(status.error().code() == ErrorCode::kIo);
  CHECK(status.error().text() == "/dev/full: cannot write: No space left on device");

  OutputSet outputs;
  CHECK((*outputs.add("/dev/null", {}, 0))->reopen().error().code() == ErrorCode::kUnsupported);
}

TEST_CASE("a dash is standard output, and so is its device", "[io]") {
  for (const auto* path : {"-", "/dev/stdout", "/proc/self/fd/1"}) {
    DrainedPipe pipe;
    auto status = Status();
    {
      const Redirected redirected(STDOUT_FILENO, pipe.input());
      status = write_file(path, "piped");
    }
    INFO(path);
    CHECK(status.ok());
    CHECK(pipe.finish() == "piped");
  }
}

TEST_CASE("standard output into a file continues where it stands", "[io]") {
  const TempDir directory;
  directory.write("out", "");
  const auto flags = GENERATE(0, O_APPEND);
  const auto file = ::open(directory.path("out").c_str(), O_WRONLY | O_CLOEXEC | flags);
  auto status = Status();
  {
    const Redirected redirected(STDOUT_FILENO, file);
    REQUIRE(::write(file, "before ", 7) == 7);
    status = write_file("/dev/stdout", "and after");
  }
  ::close(file);
  CHECK(status.ok());
  CHECK(directory.read("out") == "before and after");
}

TEST_CASE("binary data does not go to a terminal", "[io]") {
  const PseudoTerminal terminal;
  if (terminal.path().empty()) return;
  CHECK(refusal(terminal.path()) == "refused: does not write binary data to a terminal");
  const auto descriptor = ::open(terminal.path().c_str(), O_RDWR | O_NOCTTY | O_CLOEXEC);
  std::string refused;
  {
    const Redirected redirected(STDOUT_FILENO, descriptor);
    refused = refusal("-");
  }
  ::close(descriptor);
  CHECK(refused == "refused: does not write binary data to a terminal");
}

TEST_CASE("checking creates nothing", "[io]") {
  const TempDir directory;
  CHECK(OutputSet::check(directory.path("out.pt"), {}).ok());
  CHECK(directory.names().empty());
}
