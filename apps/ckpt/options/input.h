// SPDX-License-Identifier: BSD-3-Clause
// FILE… and the state dicts in them.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "ckpt/base/result.h"
#include "ckpt/io/byte_source.h"

namespace CLI {
class App;
}

namespace ckpt::cli {

struct InputOptions {
  std::vector<std::string> files;
  std::vector<std::string> roots;

  void attach(CLI::App& app);
};

/// Opens `path`, or standard input for "-", spooled beside `output_directory` if it cannot seek.
Result<std::shared_ptr<const ByteSource>> open_input(const std::string& path,
                                                     const std::string& output_directory);

/// A check for options that take a number from 0 on; the library's own lets too large ones pass.
std::string check_number(const std::string& text);

/// A seed as torch.manual_seed takes it: below zero, it is counted from 2^64 down. `check_seed` is for
/// options.
std::optional<std::uint64_t> parse_seed(std::string_view word);
std::string check_seed(const std::string& text);

/// A check for options that take a path into a file.
std::string check_path(const std::string& text);

/// A check for options that take one of a few words, in words of our own.
std::function<std::string(const std::string&)> one_of(std::vector<std::string> words);

/// Lines of a file ("-": standard input), or pieces between NULs with `null`. For @FILE.
Result<std::vector<std::string>> read_lines(const std::string& path, bool null);

}  // namespace ckpt::cli
