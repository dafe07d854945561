// SPDX-License-Identifier: BSD-3-Clause
#include "ckpt/base/text.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cstddef>
#include <cstring>
#include <vector>

#include <fmt/format.h>

namespace ckpt {
namespace {

unsigned char byte_at(std::string_view text, std::size_t index) {
  return static_cast<unsigned char>(text[index]);
}

bool is_continuation(std::string_view text, std::size_t index) {
  return index < text.size() && (byte_at(text, index) & 0xC0U) == 0x80U;
}

/// C1 controls (U+0080 to U+009F) steer terminals as C0 ones do.
bool is_c1_control(std::string_view sequence) {
  return sequence.size() == 2 && byte_at(sequence, 0) == 0xC2 && byte_at(sequence, 1) < 0xA0;
}

constexpr std::uint64_t kOnes = 0x0101010101010101;
constexpr std::uint64_t kHigh = 0x80 * kOnes;

template <typename Word>
std::uint64_t load(const char* at) {
  Word word = 0;
  std::memcpy(&word, at, sizeof word);
  return word;
}

/// The first eight bytes of `text`; where it has fewer, zeros follow.
std::uint64_t first_eight(std::string_view text) {
  const auto size = text.size();
  const auto* const at = text.data();
  if (size >= 8) return load<std::uint64_t>(at);
  if (size >= 4) return load<std::uint32_t>(at) | load<std::uint32_t>(at + size - 4) << 8 * (size - 4);
  if (size == 0) return 0;
  return load<std::uint8_t>(at) | load<std::uint8_t>(at + size / 2) << 8 * (size / 2) |
         load<std::uint8_t>(at + size - 1) << 8 * (size - 1);
}

/// High bits of the bytes that are zero. Above the lowest of them there may be false ones: of a borrow.
std::uint64_t zero_bytes(std::uint64_t bytes) {
  return (bytes - kOnes) & ~bytes & kHigh;
}

/// How many of the eight come before one that has a meaning in a JSON string: a control, `"`, `\\`, or is no
/// ASCII. What carries and borrows make of the bytes above that one does not matter.
std::size_t plain_in_json(std::uint64_t bytes) {
  const auto odd = ((bytes - 0x20 * kOnes) | (bytes + kOnes) | bytes) & kHigh;
  const auto meant = zero_bytes(bytes ^ ('"' * kOnes)) | zero_bytes(bytes ^ ('\\' * kOnes));
  return static_cast<std::size_t>(std::countr_zero(odd | meant)) / 8;
}

/// The same for text that may also stand in single quotes.
std::size_t plain_anywhere(std::uint64_t bytes) {
  const auto quote = static_cast<std::size_t>(std::countr_zero(zero_bytes(bytes ^ ('\'' * kOnes)))) / 8;
  return std::min(plain_in_json(bytes), quote);
}

/// Bytes at the front that are ASCII and need no escape anywhere.
std::size_t plain_length(std::string_view text) {
  std::size_t length = 0;
  while (true) {
    const auto plain = plain_anywhere(first_eight(text.substr(length)));
    length += plain;
    if (plain < 8) return length;
  }
}

void append_printable(std::string& out, std::string_view text, char quote) {
  while (!text.empty()) {
    const auto plain = plain_length(text);
    out += text.substr(0, plain);
    text.remove_prefix(plain);
    if (text.empty()) break;
    const auto length = utf8_sequence(text);
    const auto first = byte_at(text, 0);
    if (length == 0) {
      out += fmt::format("\\x{:02x}", first);
      text.remove_prefix(1);
      continue;
    }
    const auto sequence = text.substr(0, length);
    text.remove_prefix(length);
    if (first == '\n') {
      out += "\\n";
    } else if (first == '\t') {
      out += "\\t";
    } else if (first == '\r') {
      out += "\\r";
    } else if (first < 0x20 || first == 0x7F) {
      out += fmt::format("\\x{:02x}", first);
    } else if (is_c1_control(sequence)) {
      out += fmt::format("\\u{:04x}", 0x80U | (byte_at(sequence, 1) & 0x3FU));
    } else if (quote != '\0' && (sequence[0] == quote || sequence[0] == '\\')) {
      out += '\\';
      out += sequence[0];
    } else {
      out += sequence;
    }
  }
}

/// Writes the sequence at the front of `text`, one that does not stand as it is, and takes it away.
char* escape_one(char* out, std::string_view& text) {
  constexpr std::string_view kReplacement = "\xEF\xBF\xBD";
  constexpr std::string_view kDigits = "0123456789abcdef";
  const auto put = [&](std::string_view piece) { out = std::copy(piece.begin(), piece.end(), out); };
  const auto first = byte_at(text, 0);
  const auto length = utf8_sequence(text);
  switch (first) {
    case '"': put("\\\""); break;
    case '\\': put("\\\\"); break;
    case '\n': put("\\n"); break;
    case '\r': put("\\r"); break;
    case '\t': put("\\t"); break;
    default:
      if (first < 0x20 || first == 0x7F) {
        put("\\u00");
        *out++ = kDigits[first >> 4U];
        *out++ = kDigits[first & 0xFU];
      } else {
        put(length == 0 ? kReplacement : text.substr(0, length));
      }
  }
  text.remove_prefix(std::max<std::size_t>(length, 1));
  return out;
}

/// At most `most` bytes at the front of `text`, so that no UTF-8 sequence is cut.
std::size_t whole_sequences(std::string_view text, std::size_t most) {
  constexpr std::size_t kLongestSequence = 4;
  if (text.size() <= most) return text.size();
  auto size = most;
  while (most - size < kLongestSequence && is_continuation(text, size)) --size;
  return is_continuation(text, size) ? most : size;
}

std::size_t edit_distance(std::string_view a, std::string_view b) {
  std::vector<std::size_t> row(b.size() + 1);
  for (std::size_t j = 0; j <= b.size(); ++j) row[j] = j;
  for (std::size_t i = 1; i <= a.size(); ++i) {
    std::size_t diagonal = row[0];
    row[0] = i;
    for (std::size_t j = 1; j <= b.size(); ++j) {
      const auto replaced = diagonal + (a[i - 1] == b[j - 1] ? 0U : 1U);
      diagonal = row[j];
      row[j] = std::min({replaced, row[j] + 1, row[j - 1] + 1});
    }
  }
  return row[b.size()];
}

}  // namespace

std::size_t utf8_sequence(std::string_view text) {
  if (text.empty()) return 0;
  const auto first = byte_at(text, 0);
  if (first < 0x80) return 1;
  if (first < 0xC2 || first > 0xF4) return 0;
  const std::size_t length = first < 0xE0 ? 2 : first < 0xF0 ? 3 : 4;
  for (std::size_t i = 1; i < length; ++i) {
    if (!is_continuation(text, i)) return 0;
  }
  const auto second = byte_at(text, 1);
  const bool overlong = (first == 0xE0 && second < 0xA0) || (first == 0xF0 && second < 0x90);
  const bool surrogate = first == 0xED && second >= 0xA0;
  const bool too_big = first == 0xF4 && second >= 0x90;
  return overlong || surrogate || too_big ? 0 : length;
}

bool is_utf8(std::string_view text) {
  while (!text.empty()) {
    if (const auto plain = plain_length(text)) {
      text.remove_prefix(plain);
      continue;
    }
    const auto length = utf8_sequence(text);
    if (length == 0) return false;
    text.remove_prefix(length);
  }
  return true;
}

bool needs_no_escape(std::string_view text) {
  return plain_length(text) == text.size();
}

void append_printable(std::string& out, std::string_view text) {
  append_printable(out, text, '\0');
}

std::string printable(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  append_printable(out, text);
  return out;
}

std::string quoted(std::string_view text) {
  std::string out = "'";
  append_printable(out, text, '\'');
  return out + '\'';
}

char* escape_json(char* out, std::string_view text) {
  while (!text.empty()) {
    const auto bytes = first_eight(text);
    const auto plain = plain_in_json(bytes);
    std::memcpy(out, &bytes, sizeof bytes);
    out += plain;
    text.remove_prefix(plain);
    if (plain < 8 && !text.empty()) out = escape_one(out, text);
  }
  return out;
}

void append_json_string(std::string& out, std::string_view text) {
  constexpr std::size_t kPiece = 256;
  std::array<char, escaped_size(kPiece)> piece;
  out += '"';
  while (!text.empty()) {
    const auto size = whole_sequences(text, kPiece);
    out.append(piece.data(), escape_json(piece.data(), text.substr(0, size)));
    text.remove_prefix(size);
  }
  out += '"';
}

std::string json_string(std::string_view text) {
  std::string out;
  out.reserve(text.size() + 2);
  append_json_string(out, text);
  return out;
}

std::string with_separators(std::uint64_t number) {
  auto digits = std::to_string(number);
  for (auto at = static_cast<std::ptrdiff_t>(digits.size()) - 3; at > 0; at -= 3) {
    digits.insert(static_cast<std::size_t>(at), 1, ',');
  }
  return digits;
}

std::string human_bytes(std::uint64_t bytes) {
  if (bytes < 1000) return fmt::format("{} B", bytes);
  static constexpr std::array<const char*, 6> kUnits = {"kB", "MB", "GB", "TB", "PB", "EB"};
  auto value = static_cast<double>(bytes);
  std::size_t unit = 0;
  for (value /= 1000; value >= 999.5 && unit + 1 < kUnits.size(); value /= 1000) ++unit;
  return value < 9.995   ? fmt::format("{:.2f} {}", value, kUnits[unit])
         : value < 99.95 ? fmt::format("{:.1f} {}", value, kUnits[unit])
                         : fmt::format("{:.0f} {}", value, kUnits[unit]);
}

std::string counted(std::uint64_t count, std::string_view noun) {
  if (count == 1) return fmt::format("1 {}", noun);
  const bool sibilant = noun.ends_with("s") || noun.ends_with("sh") || noun.ends_with("ch");
  const bool consonant_y = noun.size() > 1 && noun.back() == 'y' &&
                           std::string_view("aeiou").find(noun[noun.size() - 2]) == noun.npos;
  if (consonant_y) return fmt::format("{} {}ies", with_separators(count), noun.substr(0, noun.size() - 1));
  return fmt::format("{} {}{}", with_separators(count), noun, sibilant ? "es" : "s");
}

std::string torch_size(std::span<const std::int64_t> shape) {
  return fmt::format("torch.Size([{}])", fmt::join(shape, ", "));
}

std::string nearest(std::string_view name, std::span<const std::string> candidates) {
  constexpr std::size_t kLongest = 256;  // the distance is quadratic; longer names get no suggestion
  if (name.size() > kLongest) return {};
  std::string best;
  // half of a short name must stay: anything is near to nothing
  auto best_distance = std::min(std::max<std::size_t>(2, name.size() / 3), name.size() / 2) + 1;
  for (const auto& candidate : candidates) {
    if (candidate.size() > kLongest) continue;
    const auto distance = edit_distance(name, candidate);
    if (distance < best_distance) {
      best_distance = distance;
      best = candidate;
    }
  }
  return best;
}

}  // namespace ckpt
