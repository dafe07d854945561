// SPDX-License-Identifier: BSD-3-Clause
#include "ckpt/pickle/text_forms.h"

#include <charconv>

#include <fmt/format.h>

#include "ckpt/base/text.h"

namespace ckpt {
namespace {

/// `digits` characters of base `base` at the front of `text`, all of them digits.
std::optional<std::uint32_t> digits_at_front(std::string_view text, std::size_t digits, int base) {
  if (text.size() < digits) return std::nullopt;
  std::uint32_t value = 0;
  const auto* end = text.data() + digits;
  const auto [stop, ec] = std::from_chars(text.data(), end, value, base);
  if (ec != std::errc() || stop != end) return std::nullopt;
  return value;
}

}  // namespace

void append_utf8(std::string& out, std::uint32_t point) {
  auto tail = [&](unsigned shift) { out += static_cast<char>(0x80U | ((point >> shift) & 0x3FU)); };
  if (point < 0x80) {
    out += static_cast<char>(point);
  } else if (point < 0x800) {
    out += static_cast<char>(0xC0U | (point >> 6U));
    tail(0);
  } else if (point < 0x10000) {
    out += static_cast<char>(0xE0U | (point >> 12U));
    tail(6);
    tail(0);
  } else {
    out += static_cast<char>(0xF0U | (point >> 18U));
    tail(12);
    tail(6);
    tail(0);
  }
}

std::string latin1_to_utf8(std::string_view bytes) {
  std::string out;
  out.reserve(bytes.size());
  for (const char byte : bytes) append_utf8(out, static_cast<unsigned char>(byte));
  return out;
}

std::optional<std::string> from_raw_unicode_escape(std::string_view text) {
  std::string out;
  std::uint32_t high = 0;  // a high surrogate waiting for its low one
  auto flush = [&] {
    if (high != 0) append_utf8(out, high);
    high = 0;
  };
  auto add = [&](std::uint32_t point) {
    if (high != 0 && point >= 0xDC00 && point < 0xE000) {
      append_utf8(out, 0x10000U + ((high - 0xD800U) << 10U) + (point - 0xDC00U));
      high = 0;
      return;
    }
    flush();
    if (point >= 0xD800 && point < 0xDC00) {
      high = point;
    } else {
      append_utf8(out, point);
    }
  };
  while (!text.empty()) {
    const bool short_form = text.starts_with("\\u");
    if (!short_form && !text.starts_with("\\U")) {
      flush();
      append_utf8(out, static_cast<unsigned char>(text[0]));
      text.remove_prefix(1);
      continue;
    }
    const std::size_t digits = short_form ? 4 : 8;
    const auto point = digits_at_front(text.substr(2), digits, 16);
    if (!point || *point > 0x10FFFF) return std::nullopt;
    add(*point);
    text.remove_prefix(2 + digits);
  }
  flush();
  return out;
}

std::uint32_t take_utf8(std::string_view& text) {
  const auto lead = static_cast<unsigned char>(text[0]);
  const std::size_t tails = lead < 0xC2 ? 0 : lead < 0xE0 ? 1 : lead < 0xF0 ? 2 : lead < 0xF5 ? 3 : 0;
  std::uint32_t point = lead & (0x3FU >> tails);
  bool good = tails > 0 && text.size() > tails;
  for (std::size_t i = 1; good && i <= tails; ++i) {
    const auto tail = static_cast<unsigned char>(text[i]);
    good = (tail & 0xC0U) == 0x80U;
    point = (point << 6U) | (tail & 0x3FU);
  }
  text.remove_prefix(good ? tails + 1 : 1);
  return good ? point : lead;
}

std::string to_raw_unicode_escape(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  while (!text.empty()) {
    const auto point = take_utf8(text);
    if (point > 0xFFFF) {
      out += fmt::format("\\U{:08x}", point);
    } else if (point > 0xFF || point == '\\' || point == 0 || point == '\n' || point == '\r' ||
               point == 0x1A) {
      out += fmt::format("\\u{:04x}", point);
    } else {
      out += static_cast<char>(point);
    }
  }
  return out;
}

std::optional<std::string> from_python_literal(std::string_view text) {
  if (text.size() < 2 || text.back() != text.front()) return std::nullopt;
  if (text.front() != '\'' && text.front() != '"') return std::nullopt;
  text = text.substr(1, text.size() - 2);
  std::string bytes;
  while (!text.empty()) {
    if (text[0] != '\\' || text.size() < 2) {
      bytes += text[0];
      text.remove_prefix(1);
      continue;
    }
    const char escape = text[1];
    text.remove_prefix(2);
    switch (escape) {
      case 'n': bytes += '\n'; break;
      case 't': bytes += '\t'; break;
      case 'r': bytes += '\r'; break;
      case 'a': bytes += '\a'; break;
      case 'b': bytes += '\b'; break;
      case 'f': bytes += '\f'; break;
      case 'v': bytes += '\v'; break;
      case '\\':
      case '\'':
      case '"': bytes += escape; break;
      case 'x': {
        const auto value = digits_at_front(text, 2, 16);
        if (!value) return std::nullopt;
        bytes += static_cast<char>(*value);
        text.remove_prefix(2);
        break;
      }
      default: {
        if (escape < '0' || escape > '7') {
          bytes += '\\';
          bytes += escape;
          break;
        }
        unsigned value = static_cast<unsigned>(escape - '0');
        for (int i = 0; i < 2 && !text.empty() && text[0] >= '0' && text[0] <= '7';
             ++i, text.remove_prefix(1)) {
          value = value * 8 + static_cast<unsigned>(text[0] - '0');
        }
        bytes += static_cast<char>(value & 0xFFU);
      }
    }
  }
  return is_utf8(bytes) ? bytes : latin1_to_utf8(bytes);
}

std::optional<std::uint64_t> memo_slot(const Instruction& instruction, ByteView text) {
  const auto operand = text.subspan(instruction.head_size, instruction.body_size);
  if (opcode_info(instruction.opcode).form == OperandForm::kFixed) {
    return operand.size() == 1 ? load_le<std::uint8_t>(operand.data())
                               : load_le<std::uint32_t>(operand.data());
  }
  const auto digits = chop_newline(as_text(operand));
  std::uint64_t slot = 0;
  const auto [end, ec] = std::from_chars(digits.data(), digits.data() + digits.size(), slot);
  if (ec != std::errc() || end != digits.data() + digits.size()) return std::nullopt;
  return slot;
}

std::optional<std::int64_t> from_long_bytes(ByteView bytes) {
  if (bytes.empty()) return 0;
  const auto fill = (bytes.back() & std::byte{0x80}) != std::byte{0} ? std::byte{0xFF} : std::byte{0};
  std::byte word[8];
  for (std::size_t i = 0; i < 8; ++i) word[i] = i < bytes.size() ? bytes[i] : fill;
  for (std::size_t i = 8; i < bytes.size(); ++i) {
    if (bytes[i] != fill) return std::nullopt;
  }
  const bool negative = (word[7] & std::byte{0x80}) != std::byte{0};
  if (bytes.size() > 8 && negative != (fill != std::byte{0})) return std::nullopt;
  return load_le<std::int64_t>(word);
}

std::optional<std::int64_t> from_decimal(std::string_view digits) {
  if (digits.starts_with('+')) digits.remove_prefix(1);
  std::int64_t value = 0;
  const auto* end = digits.data() + digits.size();
  const auto [stop, ec] = std::from_chars(digits.data(), end, value);
  if (ec != std::errc() || stop != end) return std::nullopt;
  return value;
}

}  // namespace ckpt
