// SPDX-License-Identifier: BSD-3-Clause
#include "support/pickle_assembler.h"

#include <bit>
#include <stdexcept>

#include <fmt/format.h>

#include "ckpt/pickle/instruction.h"
#include "ckpt/pickle/text_forms.h"

namespace ckpt::testing {
namespace {

[[noreturn]] void fail(std::string_view what, std::string_view word) {
  throw std::invalid_argument(fmt::format("pickle assembly: {} '{}'", what, word));
}

/// Words and strings of one instruction, then nothing up to the next `;`.
class Tokens {
 public:
  explicit Tokens(std::string_view text) : text_(text) {}

  bool at_end() {
    skip_blanks();
    return text_.empty();
  }

  /// The next word or string; empty at the end of the instruction.
  std::string next() {
    skip_blanks();
    if (text_.empty() || text_[0] == ';') return {};
    if (text_[0] == '"') return quoted_string();
    const auto size = std::min(text_.find_first_of(" \n;"), text_.size());
    std::string word(text_.substr(0, size));
    text_.remove_prefix(size);
    return word;
  }

  void end_instruction() {
    skip_blanks();
    if (text_.empty()) return;
    if (text_[0] != ';') fail("too many operands at", text_);
    text_.remove_prefix(1);
  }

 private:
  void skip_blanks() {
    while (!text_.empty() && (text_[0] == ' ' || text_[0] == '\n')) text_.remove_prefix(1);
  }

  std::string quoted_string() {
    std::string out;
    std::size_t i = 1;
    for (; i < text_.size() && text_[i] != '"'; ++i) {
      if (text_[i] != '\\') {
        out += text_[i];
        continue;
      }
      ++i;
      if (text_[i] == 'x') {
        out += static_cast<char>(std::stoi(std::string(text_.substr(i + 1, 2)), nullptr, 16));
        i += 2;
      } else {
        out += text_[i] == 'n' ? '\n' : text_[i];
      }
    }
    text_.remove_prefix(std::min(i + 1, text_.size()));
    if (!text_.starts_with('*')) return out;
    const auto digits = std::min(text_.find_first_of(" \n;"), text_.size());
    const auto count = std::stoul(std::string(text_.substr(1, digits - 1)));
    text_.remove_prefix(digits);
    std::string repeated;
    for (std::size_t n = 0; n < count; ++n) repeated += out;
    return repeated;
  }

  std::string_view text_;
};

Opcode opcode_named(std::string_view name) {
  for (std::size_t code = 0; code < kOpcodes.size(); ++code) {
    if (!kOpcodes[code].name.empty() && kOpcodes[code].name == name) return static_cast<Opcode>(code);
  }
  fail("no opcode", name);
}

void append_number(Bytes& out, std::uint64_t number, std::size_t size) {
  for (std::size_t i = 0; i < size; ++i) out.push_back(static_cast<std::byte>(number >> (8 * i)));
}

std::uint64_t fixed_operand(Opcode opcode, const std::string& word) {
  if (opcode == Opcode::kBinfloat) return __builtin_bswap64(std::bit_cast<std::uint64_t>(std::stod(word)));
  if (word.starts_with('-')) return static_cast<std::uint64_t>(std::stoll(word));
  return std::stoull(word, nullptr, 0);
}

void append_instruction(Bytes& out, Opcode opcode, Tokens& tokens) {
  const auto& info = opcode_info(opcode);
  out.push_back(static_cast<std::byte>(opcode));
  switch (info.form) {
    case OperandForm::kInvalid:
    case OperandForm::kNone: return;
    case OperandForm::kFixed:
      append_number(out, fixed_operand(opcode, tokens.next()), info.operand_size);
      return;
    case OperandForm::kTwoLines: append_text(out, tokens.next() + "\n"); [[fallthrough]];
    case OperandForm::kLine: append_text(out, tokens.next() + "\n"); return;
    case OperandForm::kCounted1:
    case OperandForm::kCounted4:
    case OperandForm::kCounted4s:
    case OperandForm::kCounted8: break;
  }
  const auto body = tokens.next();
  append_number(out, body.size(), info.operand_size);
  append_text(out, body);
}

std::string string_token(std::string_view text) {
  if (text.size() > 100 && text.find_first_not_of(text[0]) == std::string_view::npos) {
    return fmt::format("{}*{}", string_token(text.substr(0, 1)), text.size());
  }
  std::string out = "\"";
  for (const char c : text) {
    if (c == '\n') {
      out += "\\n";
    } else if (c == '"' || c == '\\') {
      out += fmt::format("\\{}", c);
    } else if (c >= ' ' && c <= '~') {
      out += c;
    } else {
      out += fmt::format("\\x{:02x}", static_cast<unsigned char>(c));
    }
  }
  return out + '"';
}

/// A line as a bare word where that reads back as the same.
std::string word_token(std::string_view word) {
  return word.empty() || word.find_first_of(" \n;\"\\") != std::string_view::npos ? string_token(word)
                                                                                  : std::string(word);
}

std::string operand_token(const Instruction& instruction, ByteView body) {
  const auto text = as_text(body);
  switch (opcode_info(instruction.opcode).form) {
    case OperandForm::kInvalid:
    case OperandForm::kNone: return {};
    case OperandForm::kLine: return " " + word_token(chop_newline(text));
    case OperandForm::kTwoLines: {
      const auto middle = text.find('\n');
      return " " + word_token(text.substr(0, middle)) + " " +
             word_token(chop_newline(text.substr(middle + 1)));
    }
    case OperandForm::kFixed: break;
    default: return " " + string_token(text);
  }
  if (instruction.opcode == Opcode::kBinfloat) {
    return fmt::format(" {}", std::bit_cast<double>(__builtin_bswap64(load_le<std::uint64_t>(body.data()))));
  }
  switch (body.size()) {
    case 1: return fmt::format(" {}", load_le<std::uint8_t>(body.data()));
    case 2: return fmt::format(" {}", load_le<std::uint16_t>(body.data()));
    case 4:
      if (instruction.opcode == Opcode::kBinint)
        return fmt::format(" {}", load_le<std::int32_t>(body.data()));
      return fmt::format(" {}", load_le<std::uint32_t>(body.data()));
    default: return fmt::format(" {}", load_le<std::uint64_t>(body.data()));
  }
}

}  // namespace

Bytes assemble(std::string_view text) {
  Bytes out;
  for (Tokens tokens(text); !tokens.at_end(); tokens.end_instruction()) {
    const auto name = tokens.next();
    if (name == "RAW") {
      append_text(out, tokens.next());
    } else {
      append_instruction(out, opcode_named(name), tokens);
    }
  }
  return out;
}

std::string disassemble(ByteView bytes) {
  std::string out;
  while (!bytes.empty()) {
    Instruction instruction;
    const auto cut = cut_instruction(bytes, instruction);
    const auto size = instruction.head_size + instruction.body_size;
    if (cut != Cut::kDone || size > bytes.size()) fail("not a whole instruction", as_text(bytes));
    if (!out.empty()) out += "; ";
    out += opcode_info(instruction.opcode).name;
    out += operand_token(instruction, bytes.subspan(instruction.head_size, instruction.body_size));
    bytes = bytes.subspan(size);
  }
  return out;
}

}  // namespace ckpt::testing
