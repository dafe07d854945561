// SPDX-License-Identifier: BSD-3-Clause
// Where results go, and what is left when nothing may be written.
#include <fcntl.h>
#include <signal.h>  // NOLINT: SIGXFSZ is not in <csignal>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>

#include "support/checkpoint_builder.h"
#include "support/run_cli.h"

namespace ckpt::test {
namespace {

using Names = std::vector<std::string>;

struct stat status_of(const std::string& path) {
  struct stat status {};

  REQUIRE(::lstat(path.c_str(), &status) == 0);
  return status;
}

mode_t mode_of(const std::string& path) {
  return status_of(path).st_mode & 07777U;
}

bool same_times(const struct stat& a, const struct stat& b) {
  return a.st_mtim.tv_sec == b.st_mtim.tv_sec && a.st_mtim.tv_nsec == b.st_mtim.tv_nsec;
}

/// in.pt is wrapped, flat.pt is not.
class OutputCli : public Cli {
 public:
  OutputCli() {
    take("torch-2.15-dataparallel.pt", "in.pt");
    take("torch-2.15-flat.pt", "flat.pt");
  }
};

TEST_CASE("-o writes a file, and the input stays", "[cli][output]") {
  const OutputCli cli;
  const auto before = cli.read("in.pt");
  cli.good("strip -q in.pt --output=out.pt");
  CHECK(cli.keys("out.pt").front() == "conv.weight");
  CHECK(cli.read("in.pt") == before);
  CHECK(cli.dir().names() == Names{"flat.pt", "in.pt", "out.pt"});
}

TEST_CASE("an edit that changes nothing writes a byte-identical copy", "[cli][output]") {
  const Cli cli;
  for (const auto* file : {"torch-2.15-flat.pt", "torch-1.13-flat-legacy.pt",
                           "torch-2.15-rezipped-deflated.pt", "torch-2.15-infozip.pt",
                           "torch-2.15-odd.safetensors", "torch-2.15-align4096.pt", "torch-2.15-no-crc.pt"}) {
    CAPTURE(file);
    cli.take(file);
    cli.good("rename -q --map nothing=x --allow-unmatched " + std::string(file) + " -f -o out");
    CHECK(cli.read("out") == cli.read(file));
  }
}

TEST_CASE("progress is a line with rate and time left, taken away in the end", "[cli][output]") {
  const OutputCli cli;
  const auto done = cli.run("strip -q in.pt -o out.pt --verify --progress always");
  CHECK(done.status == 0);
  CHECK(done.err.starts_with("\rout.pt "));
  CHECK(done.err.find("\rverifying out.pt ") != std::string::npos);
  CHECK(done.err.find("%  ") != std::string::npos);
  CHECK(done.err.find("/s  0 s left") != std::string::npos);
  CHECK(done.err.ends_with("\r\x1b[K"));
  CHECK(cli.run("strip -q in.pt -f -o out.pt --verify").err.empty());
}

TEST_CASE("an existing output is kept unless forced", "[cli][output]") {
  const OutputCli cli;
  cli.write("out.pt", "old");
  CHECK(cli.bad("strip in.pt -o out.pt") ==
        "ckpt: out.pt: file already exists\n  hint: use --force to replace it\n");
  CHECK(cli.bad("strip in.pt -o out.pt -n").find("file already exists") != std::string::npos);
  CHECK(cli.read("out.pt") == "old");
  cli.good("strip -q in.pt -o out.pt -n --force");
  CHECK(cli.read("out.pt") == "old");
  cli.good("strip -q in.pt -o out.pt -f");
  CHECK(cli.keys("out.pt").size() == 9);
}

TEST_CASE("an output that is the input is refused, however it is spelled", "[cli][output]") {
  const OutputCli cli;
  const auto before = cli.read("in.pt");
  REQUIRE(::symlink("in.pt", "link.pt") == 0);
  REQUIRE(::link("in.pt", "hard.pt") == 0);
  for (const std::string output : {"in.pt", "./in.pt", "link.pt", "hard.pt"}) {
    for (const auto* more : {"", " -f", " -n"}) {
      CAPTURE(output, more);
      CHECK(cli.bad("strip in.pt -o " + output + more) ==
            "ckpt: " + output +
                ": input and output are the same file\n  hint: use "
                "--in-place to replace the input\n");
    }
  }
  CHECK(cli.bad("strip in.pt -f -o ./").find("same file") != std::string::npos);
  CHECK(cli.read("in.pt") == before);
}

TEST_CASE("-i replaces the file and keeps its mode", "[cli][output]") {
  const OutputCli cli;
  ::chmod("in.pt", 0640);
  cli.good("strip -q -i in.pt");
  CHECK(cli.keys("in.pt").front() == "conv.weight");
  CHECK(mode_of("in.pt") == 0640);
  CHECK(cli.dir().names() == Names{"flat.pt", "in.pt"});
}

TEST_CASE("-i with nothing to change leaves the file alone", "[cli][output]") {
  const OutputCli cli;
  const auto before = status_of("flat.pt");
  CHECK(cli.good("strip -i flat.pt").find("  left alone: nothing to change\n") != std::string::npos);
  const auto after = status_of("flat.pt");
  CHECK(before.st_ino == after.st_ino);
  CHECK(same_times(before, after));
}

TEST_CASE("-i through a symbolic link edits the file behind it", "[cli][output]") {
  const OutputCli cli;
  REQUIRE(::symlink("in.pt", "link.pt") == 0);
  cli.good("strip -q -i link.pt");
  CHECK(S_ISLNK(status_of("link.pt").st_mode));
  CHECK(cli.keys("in.pt").front() == "conv.weight");
}

TEST_CASE("an output that is a symbolic link is written through", "[cli][output]") {
  const OutputCli cli;
  cli.write("real.pt", "old");
  REQUIRE(::symlink("real.pt", "link.pt") == 0);
  CHECK(cli.bad("strip in.pt -o link.pt").find("file already exists") != std::string::npos);
  cli.good("strip -q in.pt -o link.pt -f");
  CHECK(S_ISLNK(status_of("link.pt").st_mode));
  CHECK(cli.keys("real.pt").front() == "conv.weight");
}

TEST_CASE("an output has its input's mode, whatever the umask", "[cli][output]") {
  const OutputCli cli;
  for (const mode_t mode : {0600U, 0640U, 0444U, 0755U}) {
    for (const mode_t mask : {0U, 022U, 077U}) {
      CAPTURE(mode, mask);
      ::chmod("in.pt", mode);
      const auto before = ::umask(mask);
      cli.good("strip -q in.pt -f -o out.pt");
      ::umask(before);
      CHECK(mode_of("out.pt") == mode);
      ::unlink("out.pt");
    }
  }
}

TEST_CASE("several inputs go into a directory, each under its name", "[cli][output]") {
  const OutputCli cli;
  const auto report = cli.good("strip in.pt flat.pt -o out/");
  CHECK(report.find("in.pt -> out/in.pt\n") != std::string::npos);
  CHECK(cli.keys("out/in.pt") == cli.keys("out/flat.pt"));
  ::mkdir("there", 0777);
  cli.good("strip -q in.pt flat.pt -o there");
  CHECK(cli.exists("there/flat.pt"));
  cli.good("strip -q in.pt -f -o there/");
}

TEST_CASE("a directory that is missing is made when there is something to put there", "[cli][output]") {
  const OutputCli cli;
  cli.good("strip -q in.pt flat.pt -o runs/today/ -n");
  CHECK_FALSE(cli.exists("runs"));
  CHECK(cli.run("strip -q flat.pt -o runs/today/ --must-change").status == 1);
  CHECK_FALSE(cli.exists("runs"));
  cli.good("strip -q in.pt flat.pt -o runs/today/");
  CHECK(cli.keys("runs/today/in.pt") == cli.keys("runs/today/flat.pt"));
  CHECK(cli.bad("strip in.pt -o new/out.pt") ==
        "ckpt: new/out.pt: cannot create: No such file or directory\n");
  CHECK(cli.bad("strip in.pt -o flat.pt/") == "ckpt: flat.pt/in.pt: cannot create: Not a directory\n");
}

TEST_CASE("a run that fails leaves no directory that it made", "[cli][output]") {
  const OutputCli cli;

  struct rlimit before {};

  ::getrlimit(RLIMIT_FSIZE, &before);

  const struct rlimit tiny { 100, before.rlim_max };

  ::setrlimit(RLIMIT_FSIZE, &tiny);
  const auto old = ::signal(SIGXFSZ, SIG_IGN);
  const auto error = cli.bad("strip in.pt -o runs/today/ --no-fsync");
  ::signal(SIGXFSZ, old);
  ::setrlimit(RLIMIT_FSIZE, &before);
  CHECK(error.find("File too large") != std::string::npos);
  CHECK(cli.dir().names() == Names{"flat.pt", "in.pt"});
}

TEST_CASE("the worst status wins, and the other inputs are still processed", "[cli][output]") {
  const OutputCli cli;
  cli.write("bad.pt", "no checkpoint");
  for (const auto* folder : {"out", "both", "worst"}) ::mkdir(folder, 0777);
  const auto done = cli.run("strip in.pt bad.pt missing.pt flat.pt -o out/");
  CHECK(done.status == 2);
  CHECK(done.err ==
        "ckpt: bad.pt: this is plain text\nckpt: missing.pt: cannot open for reading: No such file or "
        "directory\n");
  CHECK(cli.exists("out/in.pt"));
  CHECK(cli.exists("out/flat.pt"));
  CHECK_FALSE(cli.exists("out/bad.pt"));
  CHECK(cli.run("strip -q in.pt flat.pt -o both/ --must-change").status == 1);
  CHECK(cli.exists("both/in.pt"));
  CHECK_FALSE(cli.exists("both/flat.pt"));
  CHECK(cli.run("strip -q flat.pt bad.pt -o worst/ --must-change").status == 2);
  const auto inspected = cli.run("inspect -s bad.pt flat.pt");
  CHECK(inspected.status == 2);
  CHECK(inspected.out.starts_with("flat.pt: torch zip"));
}

TEST_CASE("- writes to standard output, and the report goes to standard error", "[cli][output]") {
  const OutputCli cli;
  cli.good("strip -q in.pt -o out.pt");
  DrainedPipe pipe;
  Outcome done;
  {
    const Redirected standard_output(1, pipe.input());
    done = cli.run("strip in.pt -o -");
  }
  CHECK(pipe.finish() == cli.read("out.pt"));
  CHECK(done.status == 0);
  CHECK(done.out == "");
  CHECK(done.err.starts_with("in.pt -> -\n  stripped: module.\n"));
}

TEST_CASE("- reads standard input, from a pipe and from a file", "[cli][output]") {
  const OutputCli cli;
  cli.good("strip -q in.pt -o out.pt");
  const auto contents = cli.read("in.pt");
  CHECK(cli.run_with_input("strip -q - -o piped.pt", contents).status == 0);
  CHECK(cli.read("piped.pt") == cli.read("out.pt"));
  const auto inspected = cli.run_with_input("inspect --keys -", contents);
  CHECK(split_lines(inspected.out).size() == 9);
  const int file = ::open("in.pt", O_RDONLY | O_CLOEXEC);
  {
    const Redirected standard_input(0, file);
    cli.good("strip -q - -o read.pt");
  }
  ::close(file);
  CHECK(cli.read("read.pt") == cli.read("out.pt"));
  CHECK(cli.dir().names() == Names{"flat.pt", "in.pt", "out.pt", "piped.pt", "read.pt"});
}

TEST_CASE("errors about standard input name it", "[cli][output]") {
  const Cli cli;
  const auto done = cli.run_with_input("inspect -", "hello");
  CHECK(done.status == 2);
  CHECK(done.err == "ckpt: standard input: this is plain text\n");
}

TEST_CASE("a terminal is neither read nor written", "[cli][output]") {
  const OutputCli cli;
  const PseudoTerminal terminal;
  if (terminal.path().empty()) return;
  const int side = ::open(terminal.path().c_str(), O_RDWR | O_NOCTTY | O_CLOEXEC);
  REQUIRE(side >= 0);
  std::string written;
  std::string read;
  {
    const Redirected standard_output(1, side);
    written = cli.run("strip in.pt -o -").err;
  }
  {
    const Redirected standard_input(0, side);
    read = cli.run("inspect -").err;
  }
  ::close(side);
  CHECK(written.find("terminal") != std::string::npos);
  CHECK(read.find("terminal") != std::string::npos);
}

TEST_CASE("a dry run reports what the real run does and writes nothing", "[cli][output]") {
  const OutputCli cli;
  const auto dry = cli.good("strip in.pt -o out.pt -n");
  CHECK(cli.dir().names() == Names{"flat.pt", "in.pt"});
  CHECK(dry == cli.good("strip in.pt -o out.pt") + "  dry run: nothing written\n");
  const auto before = cli.read("in.pt");
  cli.good("strip -n -i in.pt");
  CHECK(cli.read("in.pt") == before);
  CHECK(cli.good("strip in.pt --dry-run").starts_with("in.pt -> (no output)\n"));
}

TEST_CASE("a dry run fails wherever the real run would", "[cli][output]") {
  const OutputCli cli;
  ::mkdir("folder", 0777);
  for (const std::string line :
       {"strip missing.pt -o out.pt", "strip in.pt -o no/such/out.pt", "strip in.pt -o flat.pt",
        "strip in.pt -o in.pt", "filter in.pt --drop nope -o out.pt", "rename in.pt --map '**=x' -o out.pt",
        "strip folder -o out.pt"}) {
    CAPTURE(line);
    const auto real = cli.run(line);
    const auto dry = cli.run(line + " -n");
    CHECK(real.status == 2);
    CHECK(dry.status == 2);
    CHECK(dry.err == real.err);
    CHECK(dry.out == "");
  }
}

TEST_CASE("--must-change is status 1 and no output when nothing would change", "[cli][output]") {
  const OutputCli cli;
  for (const auto* line : {"strip flat.pt -o out.pt --must-change", "strip flat.pt -i --must-change",
                           "strip flat.pt -n --must-change"}) {
    const auto done = cli.run(line);
    CHECK(done.status == 1);
    CHECK(done.err == "");
    CHECK(done.out.find("  nothing written: nothing would change (--must-change)\n") != std::string::npos);
  }
  CHECK_FALSE(cli.exists("out.pt"));
  cli.good("strip in.pt -o out.pt --must-change");
}

TEST_CASE("--verify and --no-fsync write the same bytes", "[cli][output]") {
  const OutputCli cli;
  cli.good("strip -q in.pt -o out.pt");
  cli.good("strip -q in.pt -o verified.pt --verify");
  cli.good("strip -q in.pt -o fast.pt --no-fsync");
  CHECK(cli.read("verified.pt") == cli.read("out.pt"));
  CHECK(cli.read("fast.pt") == cli.read("out.pt"));
  cli.take("torch-2.15-training.pt", "training.pt");
  cli.good("filter -q training.pt --drop module.fc --optimizer drop --drop-entry epoch --verify -o a.pt");
  cli.good("rename -q training.pt --root ema --add-prefix x. --verify -o b.pt");
  cli.good("strip -q training.pt --verify -i");
  cli.good("strip -q in.pt --verify -i");
}

TEST_CASE("-q silences the report and the notes, never the errors", "[cli][output]") {
  const OutputCli cli;
  CHECK(cli.good("strip -q in.pt -o out.pt") == "");
  CHECK(cli.good("strip --quiet flat.pt -n") == "");
  CHECK(cli.bad("strip -q in.pt -o out.pt") ==
        "ckpt: out.pt: file already exists\n  hint: use --force to replace it\n");
}

TEST_CASE("outputs that can't be", "[cli][output]") {
  const OutputCli cli;
  ::mkdir("folder", 0777);
  ::mkdir("folder/in.pt", 0777);
  CHECK(cli.bad("strip in.pt -f -o folder/").find("folder/in.pt: ") != std::string::npos);
  CHECK(cli.bad("strip in.pt -o no/such/out.pt").starts_with("ckpt: no/such/out.pt: "));
  CHECK(cli.bad("strip in.pt -o in.pt/out.pt").starts_with("ckpt: in.pt/out.pt: "));
  const auto long_name = std::string(255, 'n');
  cli.good("strip -q in.pt -o " + long_name);  // the temporary file's name has to fit too
  CHECK(cli.exists(long_name));
  CHECK(cli.bad("strip in.pt -o " + long_name + "n").find("File name too long") != std::string::npos);
}

TEST_CASE("names with anything in them are shown safely", "[cli][output]") {
  const OutputCli cli;
  cli.take("torch-2.15-flat.pt", "a\n\x1b[31mb.pt");
  const auto done = cli.run_words({"strip", "a\n\x1b[31mb.pt", "-n"});
  CHECK(done.status == 0);
  CHECK(done.out.find('\x1b') == std::string::npos);
  CHECK(split_lines(done.out).front() == "a\\n\\x1b[31mb.pt -> (no output)");
}

TEST_CASE("the same input and options give the same bytes", "[cli][output]") {
  const OutputCli cli;
  cli.good("strip -q in.pt -o a.pt");
  cli.good("strip -q in.pt -o b.pt --no-fsync --verify");
  ::mkdir("deeper", 0777);
  cli.good("strip -q in.pt -o deeper/c.pt");
  CHECK(cli.read("a.pt") == cli.read("b.pt"));
  CHECK(cli.read("a.pt") == cli.read("deeper/c.pt"));
}

TEST_CASE("a second strip finds nothing, and renaming there and back gives the keys", "[cli][output]") {
  const OutputCli cli;
  cli.good("strip -q in.pt -o out.pt");
  cli.good("strip -q out.pt -o again.pt");
  CHECK(cli.read("again.pt") == cli.read("out.pt"));
  cli.good("rename -q flat.pt --add-prefix x. -o x.pt");
  cli.good("rename -q x.pt --strip-prefix x. -o back.pt");
  CHECK(cli.keys("back.pt") == cli.keys("flat.pt"));
}

}  // namespace
}  // namespace ckpt::test
