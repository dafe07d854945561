// SPDX-License-Identifier: BSD-3-Clause
// How the weight of a new layer is initialised: what `--init` names.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "ckpt/base/export.h"
#include "ckpt/base/result.h"

namespace ckpt {

/// One of torch.nn.init's functions, or what the layer's constructor does.
struct InitMethod {
  enum class Kind : std::uint8_t {
    kDefault,
    kZeros,
    kNormal,
    kTruncNormal,
    kXavierUniform,
    kXavierNormal,
    kKaimingUniform,
    kKaimingNormal,
  };

  /// Which size of the layer kaiming's variance is kept for.
  enum class Fan : std::uint8_t { kIn, kOut };

  Kind kind = Kind::kDefault;
  std::optional<double> parameter;  ///< STD of normal and trunc-normal, GAIN of xavier; torch's own 1 without
  Fan fan = Fan::kIn;               ///< of kaiming

  friend bool operator==(const InitMethod&, const InitMethod&) = default;
};

/// `default`, `zeros`, `normal[:STD]`, `trunc-normal[:STD]`, `xavier-uniform[:GAIN]`, `xavier-normal[:GAIN]`,
/// `kaiming-uniform[:fan-in|fan-out]` or `kaiming-normal[:fan-in|fan-out]`.
///
/// kUsage: another name, an argument to a method that takes none, or one it can't take: STD and GAIN are
/// finite and not negative, STD of trunc-normal not zero.
CKPT_EXPORT Result<InitMethod> parse_init_method(std::string_view text);

/// The same method in words that `parse_init_method` takes.
CKPT_EXPORT std::string init_method_text(const InitMethod& method);

}  // namespace ckpt
