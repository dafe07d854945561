// SPDX-License-Identifier: BSD-3-Clause
// Spellings of values inside pickle operands: Python 2 strings, the escapes of protocol 0, numbers.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "ckpt/base/bytes.h"
#include "ckpt/pickle/instruction.h"

namespace ckpt {

/// `line` without the newline that ends a text operand.
inline std::string_view chop_newline(std::string_view line) {
  if (line.ends_with('\n')) line.remove_suffix(1);
  return line;
}

/// Bytes as characters U+0000 to U+00FF.
std::string latin1_to_utf8(std::string_view bytes);

/// UNICODE's operand: Latin-1 with \uXXXX and \UXXXXXXXX. Lone surrogates come out as three bytes each
/// (Python's surrogatepass). Nothing for an escape cut short.
std::optional<std::string> from_raw_unicode_escape(std::string_view text);

/// The inverse, as CPython spells it: backslash, NUL, newline, carriage return, U+001A and all beyond Latin-1
/// escaped. `text` is UTF-8 with surrogatepass; a byte that is neither counts as Latin-1.
std::string to_raw_unicode_escape(std::string_view text);

/// The code point at the front of `text`, surrogates included, and removes it; a byte that begins none counts
/// as Latin-1. Precondition: not empty.
std::uint32_t take_utf8(std::string_view& text);

/// STRING's operand: a Python 2 literal with quotes, octal and hexadecimal escapes.
/// The bytes are taken as UTF-8, or else as Latin-1. Nothing without matching quotes.
std::optional<std::string> from_python_literal(std::string_view text);

/// The memo slot that a PUT or GET names; `text` begins with the instruction. Nothing where it is no number.
std::optional<std::uint64_t> memo_slot(const Instruction& instruction, ByteView text);

/// Two's complement, little-endian, any length; nothing beyond 64 bits.
std::optional<std::int64_t> from_long_bytes(ByteView bytes);

/// Decimal with an optional sign; nothing for anything else or beyond 64 bits.
std::optional<std::int64_t> from_decimal(std::string_view digits);

/// Appends code point `point` as UTF-8; surrogates as three bytes.
void append_utf8(std::string& out, std::uint32_t point);

}  // namespace ckpt
