// SPDX-License-Identifier: BSD-3-Clause
#include "ckpt/compute/torch_version.h"

#include <charconv>
#include <optional>

#include <fmt/format.h>

#include "ckpt/base/text.h"

namespace ckpt {
namespace {

/// The number at the front of `text`, which loses it; nothing if there is none.
std::optional<int> take_number(std::string_view& text) {
  int number = 0;
  const auto [end, ec] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (ec != std::errc() || number < 0) return std::nullopt;
  text.remove_prefix(static_cast<std::size_t>(end - text.data()));
  return number;
}

std::optional<TorchVersion> version_in(std::string_view text) {
  const auto major = take_number(text);
  if (!major || !text.starts_with('.')) return std::nullopt;
  text.remove_prefix(1);
  const auto minor = take_number(text);
  if (!minor || !(text.empty() || text[0] == '.' || text[0] == '+' || text[0] == 'a')) return std::nullopt;
  return TorchVersion{*major, *minor};
}

/// 1.13 was the last of its series.
bool is_known(TorchVersion version) {
  return version == kOldestComputedTorch ||
         (version >= TorchVersion{2, 0} && version <= kNewestComputedTorch);
}

}  // namespace

Result<TorchVersion> parse_torch_version(std::string_view text) {
  const auto version = version_in(text);
  if (!version)
    return Error(ErrorCode::kUsage,
                 fmt::format("{} is not a version of PyTorch: expected two numbers, as in '{}'", quoted(text),
                             torch_version_text(kNewestComputedTorch)));
  if (!is_known(*version))
    return Error(ErrorCode::kUsage,
                 fmt::format("PyTorch {} is not known here: expected 1.13, or 2.0 to {}",
                             torch_version_text(*version), torch_version_text(kNewestComputedTorch)));
  return *version;
}

std::string torch_version_text(TorchVersion version) {
  return fmt::format("{}.{}", version.major, version.minor);
}

}  // namespace ckpt
