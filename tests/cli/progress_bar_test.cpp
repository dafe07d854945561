// SPDX-License-Identifier: BSD-3-Clause
// Progress is one line, whatever the terminal: one that is wider would leave a line behind at every update.
#include "progress_bar.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <array>
#include <cstdlib>
#include <string>
#include <string_view>

#include "support/catch.h"

namespace ckpt::test {
namespace {

const cli::ProgressTexts kTexts = {" 42%", "1.23 GB of 4.56 GB", "870 MB/s", "12 s left"};
const std::string kAll = " 42%  1.23 GB of 4.56 GB  870 MB/s  12 s left";
const std::string kPath = "/a/long/way/to/" + std::string(80, 'x') + "/merged-model-final.pt";

constexpr std::string_view kClear = "\x1b[K";

/// What comes out of a terminal until its line was written and taken away: it comes in any pieces.
std::string text_until_cleared(int terminal) {
  std::string text;
  std::array<char, 4096> buffer{};
  const auto is_cleared = [&] {
    const auto line = text.find(kClear);
    return line != text.npos && text.find(kClear, line + 1) != text.npos;
  };
  while (!is_cleared()) {
    pollfd waiting{terminal, POLLIN, 0};
    REQUIRE(::poll(&waiting, 1, 10'000) == 1);
    const auto size = ::read(terminal, buffer.data(), buffer.size());
    REQUIRE(size > 0);
    text.append(buffer.data(), static_cast<std::size_t>(size));
  }
  return text;
}

TEST_CASE("a line of progress that fits is whole", "[cli]") {
  CHECK(cli::progress_line("out.pt", kTexts, 80) == "out.pt " + kAll);
  CHECK(cli::progress_line(kPath, kTexts, 0) == kPath + ' ' + kAll);
}

TEST_CASE("of a path that is too long for the terminal the end is shown", "[cli]") {
  CHECK(cli::progress_line(kPath, kTexts, 80) == "…xxxxxxxxxx/merged-model-final.pt " + kAll);
  CHECK(cli::progress_line("a/\xC3\xA9\xC3\xA9\xC3\xA9/model-final.pt", kTexts, 62) ==
        "…model-final.pt " + kAll);
  // characters of three bytes may be two columns wide
  CHECK(cli::progress_line("路路路路路路路路路路路路路路.pt", kTexts, 62) == "…路路路路路.pt " + kAll);
}

TEST_CASE("a narrow terminal shows no path, then fewer numbers", "[cli]") {
  CHECK(cli::progress_line(kPath, kTexts, 50) == kAll);
  CHECK(cli::progress_line(kPath, kTexts, 30) == " 42%  870 MB/s  12 s left");
  CHECK(cli::progress_line(kPath, kTexts, 20) == " 42%  12 s left");
  CHECK(cli::progress_line(kPath, kTexts, 10) == " 42%");
  CHECK(cli::progress_line(kPath, kTexts, 1).empty());
}

TEST_CASE("progress asks its terminal how wide it is, each time", "[cli]") {
  const int terminal = ::posix_openpt(O_RDWR | O_NOCTTY);
  REQUIRE(terminal >= 0);
  REQUIRE(::grantpt(terminal) == 0);
  REQUIRE(::unlockpt(terminal) == 0);
  const int end = ::open(::ptsname(terminal), O_RDWR | O_NOCTTY);
  REQUIRE(end >= 0);
  const auto resize = [&](unsigned short columns) {
    const winsize size{24, columns, 0, 0};
    REQUIRE(::ioctl(terminal, TIOCSWINSZ, &size) == 0);
  };
  cli::StringStream out;
  cli::DescriptorStream err(end);
  cli::Console console{out, err};
  console.progress = cli::When::kAlways;
  for (const auto columns : std::array<unsigned short, 2>{80, 30}) {
    resize(columns);
    CHECK(err.columns() == columns);
    {
      cli::ProgressBar bar(console, kPath);
      bar.report(5, 10);
    }
    const auto text = text_until_cleared(terminal);
    const auto line = text.substr(0, text.find(kClear));
    CHECK(line.find(" 50%") != std::string::npos);
    CHECK((line.find("final.pt") != std::string::npos) == (columns == 80));
    const std::string marks = "\r…";  // takes no column but one
    CHECK(line.size() < columns + marks.size());
  }
  ::close(end);
  ::close(terminal);
  const cli::StringStream memory;
  CHECK(memory.columns() == 0);
}

}  // namespace
}  // namespace ckpt::test
