// SPDX-License-Identifier: BSD-3-Clause
// Checkpoints from descriptions as files of commands under test, and what commands left read again.
#pragma once

#include <string>
#include <string_view>
#include <utility>

#include "support/checkpoint_builder.h"
#include "support/run_cli.h"

namespace ckpt::test {

inline bool holds(std::string_view text, std::string_view part) {
  return text.find(part) != std::string_view::npos;
}

inline std::string zip_of(std::string_view description) {
  return std::string(as_text(build_torch_zip(description)));
}

inline std::string legacy_of(std::string_view description) {
  return std::string(as_text(build_torch_legacy(description)));
}

inline std::string safetensors_of(std::string_view description) {
  return std::string(as_text(build_safetensors(description)));
}

inline Checkpoint read_file(const Cli& cli, const std::string& name) {
  const auto text = cli.read(name);
  const auto view = as_bytes(text);
  auto read = read_bytes(Bytes(view.begin(), view.end()));
  REQUIRE(read.ok());
  return std::move(read).value();
}

}  // namespace ckpt::test
