// SPDX-License-Identifier: BSD-3-Clause
// Whole commands in this process: a directory of the test's own is the working directory, streams are memory,
// and a command line is one string, split as a shell does with single quotes.
//
//   Cli cli;
//   cli.take("torch-2.15-flat.pt", "model.pt");
//   const auto done = cli.run("filter model.pt --drop 'fc' -o out.pt");
//   CHECK(done.status == 0);
#pragma once

#include <filesystem>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

#include "command.h"
#include "console.h"
#include "support/catch.h"
#include "support/descriptors.h"
#include "support/temp_dir.h"

namespace ckpt::test {

struct Outcome {
  int status = 0;
  std::string out;
  std::string err;
};

inline std::vector<std::string> shell_words(std::string_view line) {
  std::vector<std::string> words;
  bool in_word = false;
  bool quoted = false;
  for (const char c : line) {
    if (!quoted && (c == ' ' || c == '\n')) {
      in_word = false;
      continue;
    }
    if (!in_word) words.emplace_back();
    in_word = true;
    if (c == '\'') {
      quoted = !quoted;
    } else {
      words.back() += c;
    }
  }
  return words;
}

inline std::vector<std::string> split_lines(std::string_view text, char end = '\n') {
  std::vector<std::string> lines;
  while (!text.empty()) {
    const auto at = text.find(end);
    lines.emplace_back(text.substr(0, at));
    text.remove_prefix(at == std::string_view::npos ? text.size() : at + 1);
  }
  return lines;
}

class Cli {
 public:
  Cli() : before_(std::filesystem::current_path()) { std::filesystem::current_path(dir_.path()); }

  Cli(const Cli&) = delete;
  Cli& operator=(const Cli&) = delete;

  ~Cli() {
    std::error_code ignored;
    std::filesystem::current_path(before_, ignored);
  }

  const TempDir& dir() const { return dir_; }

  /// Copies a golden file here, under another name if given.
  void take(const std::string& golden, const std::string& as = "") const {
    std::filesystem::copy_file(std::string(CKPT_TEST_DATA) + "/" + golden, as.empty() ? golden : as);
  }

  void write(std::string_view name, std::string_view contents) const { dir_.write(name, contents); }

  std::string read(std::string_view name) const { return dir_.read(name); }

  bool exists(const std::string& name) const { return std::filesystem::exists(name); }

  Outcome run_words(const std::vector<std::string>& words) const {
    cli::StringStream out;
    cli::StringStream err;
    cli::Console console{out, err};
    const int status = cli::run_program(words, console);
    return {status, out.text(), err.text()};
  }

  Outcome run(std::string_view line) const { return run_words(shell_words(line)); }

  /// With `input` on standard input, through a pipe.
  Outcome run_with_input(std::string_view line, std::string_view input) const {
    const FilledPipe pipe(input);
    const Redirected standard_input(0, pipe.output());
    return run(line);
  }

  /// The standard output of a run that has to succeed in silence.
  std::string good(std::string_view line) const {
    const auto done = run(line);
    INFO(line);
    CHECK(done.err == "");
    REQUIRE(done.status == 0);
    return done.out;
  }

  /// Standard error of a run that has to fail with 2 and to print nothing else.
  std::string bad(std::string_view line) const {
    const auto done = run(line);
    INFO(line);
    CHECK(done.out == "");
    CHECK(done.status == 2);
    return done.err;
  }

  std::vector<std::string> keys(const std::string& file) const {
    return split_lines(good("inspect --keys " + file));
  }

 private:
  TempDir dir_;
  std::filesystem::path before_;
};

}  // namespace ckpt::test
