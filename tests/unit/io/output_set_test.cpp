// SPDX-License-Identifier: BSD-3-Clause
// How files appear. Where paths lead is in output_target_test.cpp, signals in temporary_files_test.cpp.
#include "ckpt/io/output_set.h"

#include <fcntl.h>
#include <signal.h>  // NOLINT: SIGXFSZ is not in <csignal>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

#include "support/catch.h"
#include "support/temp_dir.h"

using namespace ckpt;
using ckpt::test::TempDir;
using Names = std::vector<std::string>;

namespace {

constexpr OutputOptions kReplace{.overwrite = Overwrite::kYes};

Status write_file(const std::string& path, std::string_view contents, const OutputOptions& options = {}) {
  OutputSet outputs;
  CKPT_ASSIGN_OR_RETURN(auto* file, outputs.add(path, options, contents.size()));
  CKPT_RETURN_IF_ERROR(file->write(as_bytes(contents)));
  return outputs.commit();
}

mode_t mode_of(const std::string& path) {
  struct stat status {};

  REQUIRE(::stat(path.c_str(), &status) == 0);
  return status.st_mode & 07777;
}

auto open_descriptors() {
  return std::distance(std::filesystem::directory_iterator("/proc/self/fd"), {});
}

class Umask {
 public:
  explicit Umask(mode_t mask) : before_(::umask(mask)) {}

  Umask(const Umask&) = delete;
  Umask& operator=(const Umask&) = delete;

  ~Umask() { ::umask(before_); }

 private:
  mode_t before_;
};

// A disk that is full after `bytes` of any file, as far as a process without rights can make one.
class FileSizeLimit {
 public:
  explicit FileSizeLimit(std::uint64_t bytes) : handler_(::signal(SIGXFSZ, SIG_IGN)) {
    ::getrlimit(RLIMIT_FSIZE, &before_);
    const rlimit limit{bytes, before_.rlim_max};
    ::setrlimit(RLIMIT_FSIZE, &limit);
  }

  FileSizeLimit(const FileSizeLimit&) = delete;
  FileSizeLimit& operator=(const FileSizeLimit&) = delete;

  ~FileSizeLimit() {
    ::setrlimit(RLIMIT_FSIZE, &before_);
    ::signal(SIGXFSZ, handler_);
  }

 private:
  rlimit before_{};
  void (*handler_)(int);
};

}  // namespace

TEST_CASE("an output appears when it is committed, not before", "[io]") {
  const TempDir directory;
  OutputSet outputs;
  auto file = outputs.add(directory.path("out.pt"), {}, 5);
  REQUIRE(file.ok());
  REQUIRE((*file)->write(as_bytes("bytes")).ok());
  CHECK((*file)->position() == 5);
  CHECK_FALSE(std::filesystem::exists(directory.path("out.pt")));
  REQUIRE(outputs.commit().ok());
  CHECK(directory.names() == Names{"out.pt"});
  CHECK(directory.read("out.pt") == "bytes");
}

TEST_CASE("an output that is not committed leaves nothing, or the old file", "[io]") {
  const TempDir directory;
  const auto path = directory.write("out.pt", "old");
  {
    OutputSet outputs;
    REQUIRE((*outputs.add(path, kReplace, 3))->write(as_bytes("new")).ok());
    REQUIRE(outputs.add(directory.path("second.pt"), {}, 0).ok());
    CHECK(directory.names().size() == 3);
  }
  CHECK(directory.names() == Names{"out.pt"});
  CHECK(directory.read("out.pt") == "old");
}

TEST_CASE("an existing file is replaced only on demand", "[io]") {
  const TempDir directory;
  const auto path = directory.write("out.pt", "old");
  const auto status = write_file(path, "new");
  REQUIRE_FALSE(status.ok());
  CHECK(status.error().code() == ErrorCode::kExists);
  CHECK(status.error().text() == path + ": file already exists");
  CHECK(status.error().hint() == "use --force to replace it");
  CHECK(directory.read("out.pt") == "old");

  REQUIRE(write_file(path, "new", kReplace).ok());
  CHECK(directory.read("out.pt") == "new");
  CHECK(directory.names() == Names{"out.pt"});
}

TEST_CASE("a file that appears meanwhile is not replaced", "[io]") {
  const TempDir directory;
  OutputSet outputs;
  REQUIRE((*outputs.add(directory.path("out.pt"), {}, 4))->write(as_bytes("ours")).ok());
  directory.write("out.pt", "theirs");
  const auto status = outputs.commit();
  REQUIRE_FALSE(status.ok());
  CHECK(status.error().code() == ErrorCode::kExists);
  CHECK(status.error().text() == directory.path("out.pt") + ": file already exists");
  CHECK(directory.read("out.pt") == "theirs");
  CHECK(directory.names() == Names{"out.pt"});
}

TEST_CASE("two writers of one path leave one complete file", "[io]") {
  const TempDir directory;
  const auto path = directory.path("out.pt");
  OutputSet first;
  OutputSet second;
  REQUIRE((*first.add(path, kReplace, 0))->write(as_bytes("first")).ok());
  REQUIRE((*second.add(path, kReplace, 0))->write(as_bytes("second")).ok());
  REQUIRE(second.commit().ok());
  CHECK(directory.read("out.pt") == "second");
  REQUIRE(first.commit().ok());
  CHECK(directory.read("out.pt") == "first");
  CHECK(directory.names() == Names{"out.pt"});
}

TEST_CASE("several outputs appear together, in their order", "[io]") {
  const TempDir directory;
  OutputSet outputs;
  for (const auto* name : {"shard-1", "shard-2", "index"}) {
    REQUIRE((*outputs.add(directory.path(name), {}, 0))->write(as_bytes(name)).ok());
  }
  directory.write("shard-2", "theirs");
  CHECK(outputs.commit().error().code() == ErrorCode::kExists);
  CHECK(directory.names() == Names{"shard-1", "shard-2"});  // the index is last, and it did not come
  CHECK(directory.read("shard-2") == "theirs");
}

TEST_CASE("one path is not two outputs", "[io]") {
  const TempDir directory;
  OutputSet outputs;
  REQUIRE(outputs.add(directory.path("a"), kReplace, 0).ok());
  const auto second = outputs.add(directory.path("a"), kReplace, 0);
  REQUIRE_FALSE(second.ok());
  CHECK(second.error().code() == ErrorCode::kUsage);
}

TEST_CASE("an output has the mode of its source, and no more than rwx", "[io]") {
  const TempDir directory;
  const Umask umask(077);  // does not matter where a source decides
  const auto source_path = directory.write("in.pt", "x");
  REQUIRE(::chmod(source_path.c_str(), 06751) == 0);
  const auto source = open_file_source(source_path).value();
  REQUIRE(write_file(directory.path("out.pt"), "y", {.mode_of = source.get()}).ok());
  CHECK(mode_of(directory.path("out.pt")) == 0751);
}

TEST_CASE("without a source the umask decides", "[io]") {
  const TempDir directory;
  const MemorySource no_descriptor("memory", {});
  const Umask umask(027);
  REQUIRE(write_file(directory.path("plain"), "").ok());
  REQUIRE(write_file(directory.path("memory"), "", {.mode_of = &no_descriptor}).ok());
  CHECK(mode_of(directory.path("plain")) == 0640);
  CHECK(mode_of(directory.path("memory")) == 0640);
  CHECK(::umask(027) == 027);
}

TEST_CASE("while it is written an output is its owner's alone", "[io]") {
  const TempDir directory;
  const Umask umask(0);
  OutputSet outputs;
  REQUIRE(outputs.add(directory.path("out.pt"), {}, 0).ok());
  const auto names = directory.names();
  REQUIRE(names.size() == 1);
  CHECK(mode_of(directory.path(names[0])) == 0600);
  CHECK(names[0].size() < 32);
}

TEST_CASE("a target may have the longest name there is", "[io]") {
  const TempDir directory;
  const std::string longest(255, 'n');
  REQUIRE(write_file(directory.path(longest), "x").ok());
  CHECK(directory.names() == Names{longest});
  CHECK(write_file(directory.path(longest + "n"), "x").error().code() == ErrorCode::kIo);
}

TEST_CASE("any bytes but NUL and slash make a name", "[io]") {
  const TempDir directory;
  const Names odd = {"-dash", "line\nbreak", "\xff\xfe"};
  for (const auto& name : odd) REQUIRE(write_file(directory.path(name), name).ok());
  CHECK(directory.names() == odd);
}

TEST_CASE("an output can be read back before and after it appears", "[io]") {
  const TempDir directory;
  OutputSet outputs;
  auto* file = outputs.add(directory.path("out.pt"), {}, 0).value();
  REQUIRE(file->write(as_bytes("to be verified")).ok());
  const auto written = file->reopen();
  REQUIRE(written.ok());
  CHECK((*written)->name() == directory.path("out.pt"));
  CHECK(as_text((*written)->read({0, 14}).value()) == "to be verified");
  CHECK((*written)->size() == 14);
  REQUIRE(outputs.commit().ok());
  CHECK(as_text((*written)->read({6, 2}).value()) == "ve");
}

TEST_CASE("what is reserved and not used is given back", "[io]") {
  const TempDir directory;
  OutputSet outputs;
  REQUIRE((*outputs.add(directory.path("out.pt"), {}, 1 << 20))->write(as_bytes("short")).ok());
  REQUIRE(outputs.commit().ok());

  struct stat status {};

  REQUIRE(::stat(directory.path("out.pt").c_str(), &status) == 0);
  CHECK(status.st_size == 5);
  CHECK(status.st_blocks <= 128);
}

TEST_CASE("room that nobody has is missed before the work", "[io]") {
  const TempDir directory;
  OutputSet outputs;
  const auto file = outputs.add(directory.path("out.pt"), {}, std::uint64_t{1} << 62);
  if (file.ok()) return;  // a file system that shares blocks, or reserves none
  CHECK(file.error().code() == ErrorCode::kIo);
  CHECK(file.error().file() == directory.path("out.pt"));
  CHECK(directory.names().empty());
}

TEST_CASE("a disk that fills up at any byte leaves no output", "[io]") {
  const TempDir inputs;
  const TempDir directory;
  const auto source = open_file_source(inputs.write("in.pt", std::string(200'000, 's'))).value();
  const auto run = [&]() -> Status {
    OutputSet outputs;
    CKPT_ASSIGN_OR_RETURN(auto* file, outputs.add(directory.path("out.pt"), {}, 0));
    CKPT_RETURN_IF_ERROR(file->write(as_bytes("header")));
    CKPT_RETURN_IF_ERROR(file->copy_from(*source, {0, 200'000}));
    CKPT_RETURN_IF_ERROR(file->copy_from(*source, {7, 20}));
    return outputs.commit();
  };
  constexpr std::uint64_t kComplete = 6 + 200'000 + 20;
  for (const std::uint64_t room :
       {0U, 1U, 5U, 6U, 7U, 4096U, 65'536U, 65'543U, 199'999U, 200'006U, 200'025U}) {
    const auto status = [&] {
      const FileSizeLimit limit(room);
      return run();
    }();
    INFO("room for " << room);
    REQUIRE_FALSE(status.ok());
    CHECK(status.error().code() == ErrorCode::kIo);
    CHECK(status.error().file() == directory.path("out.pt"));
    CHECK_THAT(status.error().message(), Catch::Matchers::EndsWith("File too large"));
    CHECK(directory.names().empty());
  }
  const FileSizeLimit limit(kComplete);
  CHECK(run().ok());
}

TEST_CASE("an output that goes to disk in pieces is whole", "[io]") {
  const TempDir inputs;
  const TempDir directory;
  const auto path = inputs.write("in.pt", "first");
  constexpr std::uint64_t kSize = 100'000'000;  // several pieces; a hole but for its ends
  std::filesystem::resize_file(path, kSize);
  std::ofstream(path, std::ios::binary | std::ios::app) << "last";
  const auto source = open_file_source(path).value();
  OutputSet outputs;
  auto* file = outputs.add(directory.path("out.pt"), {}, 2 * kSize).value();
  REQUIRE(file->write(as_bytes("header")).ok());
  REQUIRE(file->copy_from(*source, {0, kSize + 4}).ok());
  REQUIRE(file->copy_from(*source, {1, 4}).ok());
  CHECK(file->position() == 6 + kSize + 4 + 4);
  REQUIRE(outputs.commit().ok());
  const auto written = open_file_source(directory.path("out.pt")).value();
  REQUIRE(written->size() == 6 + kSize + 4 + 4);
  CHECK(as_text(written->read({0, 12}).value()) == std::string("headerfirst\0", 12));
  CHECK(as_text(written->read({6 + kSize - 1, 9}).value()) == std::string("\0lastirst", 9));
}

TEST_CASE("a failed write cannot be committed", "[io]") {
  const TempDir directory;
  const MemorySource source("memory", {});
  OutputSet outputs;
  auto* file = outputs.add(directory.path("out.pt"), {}, 0).value();
  CHECK_FALSE(file->copy_from(source, {0, 1}).ok());
  CHECK_FALSE(outputs.commit().ok());
  CHECK(directory.names().empty());
}

TEST_CASE("an input may be the output it becomes", "[io]") {
  const TempDir directory;
  const auto path = directory.write("model.pt", "old contents");
  const auto source = open_file_source(path).value();
  OutputSet outputs;
  auto* file = outputs.add(path, {.overwrite = Overwrite::kYes, .mode_of = source.get()}, 0).value();
  REQUIRE(file->copy_from(*source, {4, 8}).ok());
  REQUIRE(outputs.commit().ok());
  CHECK(directory.read("model.pt") == "contents");
  CHECK(as_text(source->read({0, 3}).value()) == "old");
}

TEST_CASE("a set can be moved", "[io]") {
  const TempDir directory;
  OutputSet outputs;
  {
    OutputSet inner;
    REQUIRE(inner.add(directory.path("out"), {.fsync = Fsync::kNo}, 0).ok());
    outputs = std::move(inner);
  }
  CHECK(directory.names().size() == 1);
  REQUIRE(outputs.commit().ok());
  CHECK(directory.names() == Names{"out"});
}

TEST_CASE("outputs keep no descriptor open", "[io]") {
  const TempDir directory;
  const auto before = open_descriptors();
  REQUIRE(write_file(directory.path("a"), "x").ok());
  CHECK_FALSE(write_file(directory.path("a"), "x").ok());
  REQUIRE(write_file("/dev/null", "x").ok());
  CHECK(open_descriptors() == before);
}

TEST_CASE("files are the same however they are spelled", "[io]") {
  const TempDir directory;
  const auto path = directory.write("model.pt", "x");
  directory.write("copy.pt", "x");
  std::filesystem::create_hard_link(path, directory.path("hard.pt"));
  std::filesystem::create_symlink("model.pt", directory.path("soft.pt"));
  CHECK(same_file(path, directory.path("./model.pt")));
  CHECK(same_file(path, directory.path("hard.pt")));
  CHECK(same_file(path, directory.path("soft.pt")));
  CHECK_FALSE(same_file(path, directory.path("copy.pt")));
  CHECK_FALSE(same_file(path, directory.path("none.pt")));
  CHECK_FALSE(same_file(directory.path("none.pt"), directory.path("none.pt")));
}
