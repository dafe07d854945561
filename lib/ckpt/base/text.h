// SPDX-License-Identifier: BSD-3-Clause
// Text for people: names made safe for a terminal, numbers with separators, sizes with units, and the
// nearest name for a suggestion. Also UTF-8 checks, which names from files do not always pass.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "ckpt/base/export.h"

namespace ckpt {

/// `text` with control characters and bytes that are no UTF-8 as \n, \t, \xNN: safe on a terminal.
CKPT_EXPORT std::string printable(std::string_view text);
CKPT_EXPORT void append_printable(std::string& out, std::string_view text);

/// `printable` in single quotes; a single quote inside is written \'.
CKPT_EXPORT std::string quoted(std::string_view text);

/// Is all of `text` ASCII that stands as it is in a JSON string, in quotes and on a terminal?
CKPT_EXPORT bool needs_no_escape(std::string_view text);

/// A JSON string literal with its quotes. A byte that is no UTF-8 becomes U+FFFD.
CKPT_EXPORT std::string json_string(std::string_view text);
CKPT_EXPORT void append_json_string(std::string& out, std::string_view text);

/// Room that `escape_json` needs.
constexpr std::size_t escaped_size(std::size_t size) {
  return 6 * size + 8;
}

/// The same without quotes, to memory that has room for `escaped_size` bytes. Returns the end of what was
/// written; behind it up to eight bytes of the room are overwritten.
CKPT_EXPORT char* escape_json(char* out, std::string_view text);

/// Length in bytes of the valid UTF-8 sequence at the front of `text`, 0 if there is none.
CKPT_EXPORT std::size_t utf8_sequence(std::string_view text);
CKPT_EXPORT bool is_utf8(std::string_view text);

/// 1234567 → "1,234,567".
CKPT_EXPORT std::string with_separators(std::uint64_t number);

/// 46900000 → "46.9 MB": decimal units, three digits; below 1000 plain bytes.
CKPT_EXPORT std::string human_bytes(std::uint64_t bytes);

/// "1 tensor", "2 tensors".
CKPT_EXPORT std::string counted(std::uint64_t count, std::string_view noun);

/// PyTorch's spelling of a shape: "torch.Size([2, 3])".
CKPT_EXPORT std::string torch_size(std::span<const std::int64_t> shape);

/// The candidate with the smallest edit distance to `name`, empty if none is near: within two letters or
/// a third of its length, and half of it stays.
CKPT_EXPORT std::string nearest(std::string_view name, std::span<const std::string> candidates);

}  // namespace ckpt
