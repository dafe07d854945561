// SPDX-License-Identifier: BSD-3-Clause
// Checkpoints whose object is given as pickle assembly, for values that no description in
// checkpoint_builder.h reaches: lists, keys that are no strings, objects.
#pragma once

#include <string>
#include <string_view>

#include <fmt/format.h>

#include "ckpt/base/bytes.h"
#include "support/catch.h"
#include "support/checkpoint_builder.h"
#include "support/pickle_assembler.h"
#include "support/zip_builder.h"

namespace ckpt::test {

/// A torch zip of `assembly` (without PROTO and STOP), in which each "$" is a tensor of two float32. `more`:
/// further records.
inline Bytes zip_of_pickle(std::string_view assembly, std::string_view more = {}) {
  TensorPickle pickle;
  pickle.view = "";
  const auto tensor = pickle.value();
  std::string text = "PROTO 2; ";
  for (const char c : assembly) text += c == '$' ? tensor : std::string(1, c);
  std::string body;
  for (const auto byte : testing::assemble(text + "; STOP"))
    body += fmt::format("\\x{:02x}", static_cast<unsigned>(byte));
  return build_zip("a/data.pkl body=" + body + "; a/data/0; a/version; " + std::string(more));
}

inline Checkpoint checkpoint_of(Bytes bytes) {
  auto checkpoint = read_bytes(std::move(bytes));
  if (!checkpoint.ok()) FAIL(checkpoint.error().text());
  return std::move(checkpoint).value();
}

/// A checkpoint from a description.
inline Checkpoint described(std::string_view description) {
  return checkpoint_of(build_torch_zip(description));
}

inline Checkpoint pickled(std::string_view assembly) {
  return checkpoint_of(zip_of_pickle(assembly));
}

/// "not-found: no such thing; hint: look elsewhere", or "done" for success.
template <typename T>
std::string outcome_of(const T& result) {
  if (result.ok()) return "done";
  const auto& error = result.error();
  auto text = fmt::format("{}: {}", error_code_name(error.code()), error.text());
  if (!error.hint().empty()) text += "; hint: " + error.hint();
  return text;
}

}  // namespace ckpt::test
