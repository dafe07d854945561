// SPDX-License-Identifier: BSD-3-Clause
// The buffer of a safetensors file that is laid out, and where it begins.
//
// Spaces behind the header choose that. A file system shares only whole pages, so there are up to a page of
// them, for the share of the bytes that can then keep their place within a page.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "ckpt/base/result.h"
#include "ckpt/format/layout.h"

namespace ckpt {

class SafetensorsBuffer {
 public:
  /// Returns where the bytes lie in the buffer.
  std::uint64_t append(const DataRef& data);

  std::uint64_t size() const { return size_; }

  /// The file: `header` without padding, and the buffer. Errors: kUnsupported for a header too long for the
  /// format.
  Result<Layout> lay_out(std::string header) const;

 private:
  /// Bytes of a file that stay one behind the other.
  struct Run {
    DataRef data;
    std::uint64_t at = 0;  ///< in the buffer
  };

  void pad(std::string& header) const;
  std::optional<std::uint64_t> best_start_in_page() const;

  std::vector<Run> runs_;
  std::uint64_t size_ = 0;
};

}  // namespace ckpt
