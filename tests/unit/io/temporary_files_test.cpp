// SPDX-License-Identifier: BSD-3-Clause
// What becomes of temporary files when the process is told to die.
#include "ckpt/io/temporary_files.h"

#include <signal.h>  // NOLINT: kill is not in <csignal>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <filesystem>
#include <functional>
#include <string>
#include <thread>
#include <vector>

#include "support/catch.h"
#include "support/temp_dir.h"

using namespace ckpt;
using ckpt::test::TempDir;
using Names = std::vector<std::string>;

namespace {

// Runs `body` in a child with every signal as a shell would leave it; gives the status of wait(2).
int in_child(const std::function<void()>& body) {
  const auto child = ::fork();
  if (child == 0) {
    for (const auto number : {SIGINT, SIGTERM, SIGHUP, SIGXFSZ, SIGPIPE}) ::signal(number, SIG_DFL);
    body();
    ::_exit(0);
  }
  int status = 0;
  REQUIRE(::waitpid(child, &status, 0) == child);
  return status;
}

}  // namespace

TEST_CASE("a signal removes what is unfinished and kills as it should", "[io]") {
  const auto number = GENERATE(SIGINT, SIGTERM, SIGHUP, SIGPIPE);
  const TempDir directory;
  directory.write("old.pt", "old");
  const auto status = in_child([&] {
    remove_temporaries_on_signals();
    OutputSet outputs;
    auto* file = outputs.add(directory.path("old.pt"), {.overwrite = Overwrite::kYes}, 0).value();
    if (!outputs.add(directory.path("new.pt"), {}, 0).ok()) ::_exit(3);
    if (!file->write(Bytes(100'000)).ok()) ::_exit(4);
    ::raise(number);
  });
  CHECK(WIFSIGNALED(status));
  CHECK(WTERMSIG(status) == number);
  CHECK(directory.names() == Names{"old.pt"});
  CHECK(directory.read("old.pt") == "old");
}

TEST_CASE("a file beyond the size limit is removed by the signal that says so", "[io]") {
  const TempDir directory;
  const auto status = in_child([&] {
    remove_temporaries_on_signals();
    const rlimit limit{10'000, 10'000};
    ::setrlimit(RLIMIT_FSIZE, &limit);
    OutputSet outputs;
    auto* file = outputs.add(directory.path("out.pt"), {}, 0).value();
    (void)file->write(Bytes(100'000));
  });
  CHECK(WIFSIGNALED(status));
  CHECK(WTERMSIG(status) == SIGXFSZ);
  CHECK(directory.names().empty());
}

TEST_CASE("a signal that was ignored at the start stays ignored", "[io]") {
  const TempDir directory;
  const auto status = in_child([&] {
    ::signal(SIGHUP, SIG_IGN);  // nohup
    remove_temporaries_on_signals();
    OutputSet outputs;
    auto* file = outputs.add(directory.path("out.pt"), {}, 0).value();
    ::raise(SIGHUP);
    if (!file->write(as_bytes("done")).ok() || !outputs.commit().ok()) ::_exit(3);
  });
  CHECK(status == 0);
  CHECK(directory.read("out.pt") == "done");
}

TEST_CASE("a finished output survives a later signal", "[io]") {
  const TempDir directory;
  const auto status = in_child([&] {
    remove_temporaries_on_signals();
    OutputSet outputs;
    if (!outputs.add(directory.path("out.pt"), {}, 0).ok() || !outputs.commit().ok()) ::_exit(3);
    ::raise(SIGTERM);
  });
  CHECK(WTERMSIG(status) == SIGTERM);
  CHECK(directory.names() == Names{"out.pt"});
}

TEST_CASE("a signal may come while other threads make and remove files", "[io]") {
  for (int round = 0; round < 20; ++round) {
    const TempDir directory;
    const auto status = in_child([&] {
      remove_temporaries_on_signals();
      const auto work = [&] {
        while (true) {
          OutputSet outputs;
          for (const auto* name : {"a", "b", "c"}) (void)outputs.add(directory.path(name), {}, 0);
        }
      };
      const std::jthread first(work);
      const std::jthread second(work);
      ::usleep(static_cast<useconds_t>(500 * round));
      ::kill(::getpid(), SIGTERM);
      ::pause();
    });
    CHECK(WTERMSIG(status) == SIGTERM);
    CHECK(directory.names().empty());
  }
}

TEST_CASE("a temporary file is removed with its object", "[io]") {
  const TempDir directory;
  {
    auto first = TemporaryFile::create(directory.path(), "first").value();
    auto second = TemporaryFile::create(directory.path(), "second").value();
    CHECK(directory.names().size() == 2);
    first = std::move(second);
    first.remove();
    first.remove();
    CHECK(directory.names().size() == 1);
  }
  CHECK(directory.names().empty());
}

TEST_CASE("directories that were made go with their object unless kept or used", "[io]") {
  const TempDir directory;
  const auto inner = directory.path("a/b/c");
  {
    TemporaryDirectories made;
    REQUIRE(made.create(inner, "out.pt").ok());
    CHECK(made.parents() ==
          std::vector<std::string>{directory.path(), directory.path("a"), directory.path("a/b")});
    auto file = TemporaryFile::create(inner, "out.pt").value();
  }
  CHECK(directory.names().empty());
  {
    TemporaryDirectories made;
    REQUIRE(made.create(inner, "out.pt").ok());
    directory.write("a/b/theirs", "");
  }
  CHECK_FALSE(std::filesystem::exists(inner));
  CHECK(directory.read("a/b/theirs").empty());
  {
    TemporaryDirectories made;
    REQUIRE(made.create(inner, "out.pt").ok());
    made.keep();
  }
  CHECK(std::filesystem::exists(inner));
}

TEST_CASE("a signal takes a directory that was made for an output", "[io]") {
  const TempDir directory;
  const auto status = in_child([&] {
    remove_temporaries_on_signals();
    OutputSet outputs;
    (void)outputs.add(directory.path("a/b/out.pt"), {.missing_directory = MissingDirectory::kIsMade}, 0);
    ::kill(::getpid(), SIGTERM);
    ::pause();
  });
  CHECK(WTERMSIG(status) == SIGTERM);
  CHECK(directory.names().empty());
}

TEST_CASE("a temporary file that cannot be made is an error of its target", "[io]") {
  const TempDir directory;
  const auto file = TemporaryFile::create(directory.path("missing"), "out.pt");
  REQUIRE_FALSE(file.ok());
  CHECK(file.error().text() == "out.pt: cannot create: No such file or directory");
}

TEST_CASE("publishing over a directory fails and keeps the file temporary", "[io]") {
  const TempDir directory;
  const TempDir target;
  target.write("inside", "");
  {
    auto file = TemporaryFile::create(directory.path(), "out.pt").value();
    CHECK(file.publish(target.path(), Overwrite::kYes).error().code() == ErrorCode::kIo);
    CHECK(file.publish(target.path(), Overwrite::kNo).error().code() == ErrorCode::kExists);
    CHECK(directory.names().size() == 1);
  }
  CHECK(directory.names().empty());
}
