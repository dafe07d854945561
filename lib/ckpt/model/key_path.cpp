// SPDX-License-Identifier: BSD-3-Clause
#include "ckpt/model/key_path.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstdlib>

#include <fmt/format.h>

#include "ckpt/base/text.h"
#include "ckpt/pickle/text_forms.h"

namespace ckpt {
namespace {

constexpr int kReprDepth = 16;             // tuples in tuples as keys; real ones have one level
constexpr std::uint64_t kReprBody = 4096;  // bytes of one string or bytes key shown

bool is_plain(std::string_view key) {
  return !key.empty() && std::all_of(key.begin(), key.end(), [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' || c == '-';
  });
}

std::string python_string(std::string_view text) {
  const bool has_single = text.find('\'') != text.npos;
  const char quote = has_single && text.find('"') == text.npos ? '"' : '\'';
  std::string out(1, quote);
  for (std::size_t i = 0; i < text.size();) {
    const auto length = std::max<std::size_t>(1, utf8_sequence(text.substr(i)));
    const auto sequence = text.substr(i, length);
    if (sequence[0] == quote || sequence[0] == '\\') {
      out += '\\';
      out += sequence;
    } else {
      out += printable(sequence);
    }
    i += length;
  }
  return out + quote;
}

std::string python_bytes(std::string_view bytes) {
  std::string out = "b'";
  for (const char c : bytes) {
    const auto byte = static_cast<unsigned char>(c);
    if (c == '\'' || c == '\\') {
      out += '\\';
      out += c;
    } else if (byte < 0x20 || byte >= 0x7F) {
      out += fmt::format("\\x{:02x}", byte);
    } else {
      out += c;
    }
  }
  return out + '\'';
}

/// Two's complement of any length in decimal; beyond kLongestNumber in hexadecimal, since this is quadratic.
std::string long_decimal(ByteView bytes) {
  constexpr std::size_t kLongestNumber = 512;
  const bool negative = !bytes.empty() && (bytes.back() & std::byte{0x80}) != std::byte{0};
  std::vector<std::uint8_t> magnitude;  // little-endian
  unsigned carry = negative ? 1 : 0;
  for (const auto byte : bytes) {
    const auto value = static_cast<unsigned>(byte) ^ (negative ? 0xFFU : 0U);
    magnitude.push_back(static_cast<std::uint8_t>(value + carry));
    carry = (value + carry) >> 8U;
  }
  std::string digits;
  if (bytes.size() > kLongestNumber) {
    for (auto at = magnitude.rbegin(); at != magnitude.rend(); ++at) digits += fmt::format("{:02x}", *at);
    return (negative ? "-0x" : "0x") + digits;
  }
  while (!magnitude.empty()) {
    unsigned rest = 0;
    for (auto at = magnitude.rbegin(); at != magnitude.rend(); ++at) {
      rest = rest * 256 + *at;
      *at = static_cast<std::uint8_t>(rest / 10);
      rest %= 10;
    }
    digits += static_cast<char>('0' + rest);
    while (!magnitude.empty() && magnitude.back() == 0) magnitude.pop_back();
  }
  if (negative) digits += '-';
  std::reverse(digits.begin(), digits.end());
  return digits.empty() ? "0" : digits;
}

std::string repr(const ValueGraph& graph, Use use, int depth);

std::string sequence_repr(const ValueGraph& graph, Use node, int depth) {
  std::vector<Use> items;
  graph.children(node, items);
  std::string out = "(";
  for (std::size_t i = 0; i < items.size(); ++i) {
    if (i > 0) out += ", ";
    out += repr(graph, items[i], depth - 1);
  }
  return out + (items.size() == 1 ? ",)" : ")");
}

std::string repr(const ValueGraph& graph, Use use, int depth) {
  if (depth == 0) return "…";
  const auto node = graph.resolve(use);
  if (const auto flag = graph.boolean(node)) return *flag ? "True" : "False";
  if (const auto number = graph.integer(node)) return std::to_string(*number);
  if (const auto number = graph.floating(node)) return python_float(*number);
  if (graph.is_none(node)) return "None";
  if (graph.is_string(node) || graph.is_bytes(node)) {
    if (graph.body_size(node) > kReprBody)
      return fmt::format("<{} bytes at {}>", graph.body_size(node), node);
    if (graph.is_bytes(node)) return python_bytes(graph.operand(node));
    if (const auto text = graph.string(node)) return python_string(*text);
  }
  switch (graph.opcode(node)) {
    case Opcode::kEmptyTuple: return "()";
    case Opcode::kTuple:
    case Opcode::kTuple1:
    case Opcode::kTuple2:
    case Opcode::kTuple3: return sequence_repr(graph, node, depth);
    case Opcode::kLong:
    case Opcode::kInt: {
      auto line = chop_newline(graph.operand(node));
      if (line.ends_with('L')) line.remove_suffix(1);
      return std::string(line);
    }
    case Opcode::kLong1:
    case Opcode::kLong4: return long_decimal(as_bytes(graph.operand(node)));
    default: break;
  }
  if (const auto name = graph.global(node))
    return fmt::format("<{}.{} at {}>", name->module, name->name, node);
  return fmt::format("<object at {}>", node);
}

}  // namespace

void append_key_step(std::string& path, std::string_view key) {
  if (!is_plain(key)) {
    path += '[';
    append_json_string(path, key);
    path += ']';
    return;
  }
  if (!path.empty()) path += '.';
  path += key;
}

std::string python_float(double value) {
  if (std::isnan(value)) return "nan";
  if (std::isinf(value)) return value < 0 ? "-inf" : "inf";
  auto text = fmt::format("{}", value);
  const auto exponent_at = text.find('e');
  const bool plain = exponent_at == text.npos;
  const auto magnitude = std::fabs(value);
  if (plain && magnitude != 0 && (magnitude < 1e-4 || magnitude >= 1e16)) text = fmt::format("{:e}", value);
  if (plain && text.find_first_of(".e") == text.npos) text += ".0";
  return text;
}

std::string python_repr(const ValueGraph& graph, Use use) {
  return repr(graph, use, kReprDepth);
}

namespace {

/// Reads a JSON string literal at the front of `text`; nothing if it is none. `text` moves behind it.
std::optional<std::string> take_json_string(std::string_view& text) {
  if (!text.starts_with('"')) return std::nullopt;
  std::string out;
  for (std::size_t i = 1; i < text.size(); ++i) {
    const char c = text[i];
    if (c == '"') {
      text.remove_prefix(i + 1);
      return out;
    }
    if (c != '\\') {
      out += c;
      continue;
    }
    if (++i >= text.size()) return std::nullopt;
    switch (text[i]) {
      case 'n': out += '\n'; break;
      case 't': out += '\t'; break;
      case 'r': out += '\r'; break;
      case 'b': out += '\b'; break;
      case 'f': out += '\f'; break;
      case 'u': {
        unsigned point = 0;
        const auto* digits = text.data() + i + 1;
        if (text.size() - i < 5 || std::from_chars(digits, digits + 4, point, 16).ptr != digits + 4)
          return std::nullopt;
        append_utf8(out, point);
        i += 4;
        break;
      }
      default: out += text[i];
    }
  }
  return std::nullopt;
}

/// The text up to the bracket that closes the one at the front, brackets inside counted.
std::optional<std::string> take_braces(std::string_view& text) {
  char quote = '\0';
  for (std::size_t i = 1; i < text.size(); ++i) {
    const char c = text[i];
    if (quote != '\0') {
      if (c == '\\') ++i;
      if (c == quote) quote = '\0';
    } else if (c == '\'' || c == '"') {
      quote = c;
    } else if (c == '}') {
      std::string inside(text.substr(1, i - 1));
      text.remove_prefix(i + 1);
      return inside;
    }
  }
  return std::nullopt;
}

std::string_view take_plain(std::string_view& text) {
  const auto end = text.find_first_of(".[{@<");
  const auto word = text.substr(0, end);
  text.remove_prefix(word.size());
  return word;
}

std::optional<PathStep> take_step(std::string_view& text, bool first) {
  const char c = text[0];
  if (c == '[') {
    text.remove_prefix(1);
    if (auto key = take_json_string(text)) {
      if (!text.starts_with(']')) return std::nullopt;
      text.remove_prefix(1);
      return PathStep{PathStep::Kind::kKey, std::move(*key)};
    }
    const auto end = text.find(']');
    const auto digits = text.substr(0, end);
    if (end == text.npos || digits.empty() || digits.find_first_not_of("0123456789") != digits.npos)
      return std::nullopt;
    text.remove_prefix(end + 1);
    return PathStep{PathStep::Kind::kIndex, std::string(digits)};
  }
  if (c == '{') {
    auto inside = take_braces(text);
    if (!inside) return std::nullopt;
    return PathStep{PathStep::Kind::kOther, std::move(*inside)};
  }
  if (c == '<') {
    const auto end = text.find('>');
    if (end == text.npos) return std::nullopt;
    const std::string name(text.substr(1, end - 1));
    text.remove_prefix(end + 1);
    return PathStep{PathStep::Kind::kPart, name};
  }
  if (c == '@') {
    text.remove_prefix(1);
    if (auto name = take_json_string(text)) return PathStep{PathStep::Kind::kAttribute, std::move(*name)};
    const auto word = take_plain(text);
    if (word.empty()) return std::nullopt;
    return PathStep{PathStep::Kind::kAttribute, std::string(word)};
  }
  if (c == '.') {
    if (first) return std::nullopt;
    text.remove_prefix(1);
  } else if (!first) {
    return std::nullopt;
  }
  const auto word = take_plain(text);
  if (word.empty()) return std::nullopt;
  return PathStep{PathStep::Kind::kKey, std::string(word)};
}

}  // namespace

std::string quoted_path(std::string_view path) {
  return path.empty() ? "the root" : quoted(path);
}

Result<std::vector<PathStep>> parse_path(std::string_view path) {
  std::vector<PathStep> steps;
  auto rest = path;
  while (!rest.empty()) {
    const auto column = path.size() - rest.size() + 1;
    auto step = take_step(rest, steps.empty());
    if (!step)
      return Error(ErrorCode::kUsage,
                   fmt::format("{} is no path: unexpected text at column {}", quoted(path), column));
    steps.push_back(std::move(*step));
  }
  return steps;
}

bool lies_below(std::string_view path, std::string_view above) {
  return path.starts_with(above) &&
         (path.size() == above.size() || above.empty() ||
          std::string_view(".[{@<").find(path[above.size()]) != std::string_view::npos);
}

}  // namespace ckpt
