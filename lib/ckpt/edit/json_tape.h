// SPDX-License-Identifier: BSD-3-Clause
// A JSON text as a flat list of values, for files that nobody vouches for: 16 bytes a value, and limits for
// size and nesting. What the values mean is not known here.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "ckpt/base/export.h"
#include "ckpt/base/result.h"

namespace ckpt {

struct JsonLimits {
  std::uint64_t text = 1ULL << 28U;    ///< bytes; below 2^32
  std::uint64_t values = 1ULL << 26U;  ///< 16 bytes of memory each
  std::uint32_t depth = 16;            ///< containers inside each other
};

/// Values stand in the order of the text, each in front of what it contains. In an object every value stands
/// behind its name, a string.
class CKPT_EXPORT JsonTape {
 public:
  using Index = std::uint32_t;

  enum class Kind : std::uint8_t {
    kNull,
    kBoolean,
    kNumber,       ///< from 0 to 2^64 - 1, whole
    kOtherNumber,  ///< negative, a fraction, or too large
    kString,
    kArray,
    kObject,
  };

  /// Errors: kCorrupt for what is no JSON or no UTF-8, with the byte; kUnsupported beyond a limit.
  static Result<JsonTape> parse(std::string_view text, const JsonLimits& limits = {});

  /// The outermost value.
  static constexpr Index kRoot = 0;

  Kind kind(Index at) const { return nodes_[at].kind; }

  /// Behind the value and all that it contains; what a container holds begins at `at` + 1.
  Index end(Index at) const { return nodes_[at].end; }

  bool boolean(Index at) const { return nodes_[at].value != 0; }

  std::uint64_t number(Index at) const { return nodes_[at].value; }

  /// Of a number of either kind.
  double real(Index at) const;

  std::string_view string(Index at) const;

  /// For messages: "null", "the number 3", "the string 'abc'", "an object".
  std::string describe(Index at) const;

 private:
  friend class JsonTapeBuilder;

  struct Node {
    /// Of a string: its place in pool_ in the upper half, its size in the lower; of kOtherNumber: a double.
    std::uint64_t value = 0;
    Index end = 0;
    Kind kind = Kind::kNull;
  };

  std::vector<Node> nodes_;
  std::string pool_;
};

}  // namespace ckpt
