// SPDX-License-Identifier: BSD-3-Clause
#include "ckpt/pickle/value_graph.h"

#include <algorithm>
#include <bit>
#include <charconv>
#include <cstdlib>

#include "ckpt/base/text.h"
#include "ckpt/pickle/text_forms.h"

namespace ckpt {
namespace {

/// Can later instructions change a value that `opcode` made? Spares leaves a look into the list of changes.
bool can_change(Opcode opcode) {
  switch (opcode) {
    case Opcode::kBinunicode:
    case Opcode::kShortBinunicode:
    case Opcode::kGlobal:
    case Opcode::kTuple:
    case Opcode::kTuple1:
    case Opcode::kTuple2:
    case Opcode::kTuple3: return false;
    default: return true;
  }
}

}  // namespace

void NodeTape::add_block() {
  if (block_end_ == slab_end_) {
    const auto size = (blocks_.size() < kSlab ? 1 : kSlab) * kBlock;
    slabs_.push_back(std::make_unique_for_overwrite<Node[]>(size));
    block_end_ = slabs_.back().get();
    slab_end_ = block_end_ + size;
  }
  next_ = block_end_;
  block_end_ += kBlock;
  blocks_.push_back(next_);
}

Instruction ValueGraph::instruction(Use node) const {
  Instruction instruction;
  cut_instruction(ByteView(text_).subspan(at(node)), instruction);
  return instruction;
}

bool ValueGraph::is_void(Use node) const {
  const auto code = opcode(node);
  return code == Opcode::kPop || code == Opcode::kPopMark;
}

Use ValueGraph::finished(Use definition) const {
  const auto found = std::lower_bound(changes_.begin(), changes_.end(), std::pair<Use, Use>{definition, 0});
  return found == changes_.end() || found->first != definition ? definition : found->second;
}

Use ValueGraph::resolve_repeated(Use node) const {
  while (repeats(node)) node = repeated(node);  // a GET's definition lies before it, so this ends
  return can_change(opcode(node)) ? finished(node) : node;
}

void ValueGraph::children(Use node, std::vector<Use>& out) const {
  out.clear();
  const auto first = start(node);
  if (first == node) return;
  auto last = node;  // one behind the operand looked at
  while (last > first) {
    const auto child = last - 1;
    if (opcode(child) == Opcode::kMark) {
      last = child;
      continue;
    }
    if (!is_void(child)) out.push_back(child);
    last = start(child);
  }
  std::reverse(out.begin(), out.end());
}

std::string_view ValueGraph::operand(Use node) const {
  const auto cut = instruction(node);
  if (cut.outside) return {};
  return as_text(ByteView(text_).subspan(at(node) + cut.head_size, cut.body_size));
}

bool ValueGraph::is_string(Use node) const {
  switch (opcode(resolve(node))) {
    case Opcode::kString:
    case Opcode::kBinstring:
    case Opcode::kShortBinstring:
    case Opcode::kUnicode:
    case Opcode::kBinunicode:
    case Opcode::kShortBinunicode:
    case Opcode::kBinunicode8: return true;
    default: return false;
  }
}

bool ValueGraph::is_bytes(Use node) const {
  switch (opcode(resolve(node))) {
    case Opcode::kBinbytes:
    case Opcode::kShortBinbytes:
    case Opcode::kBinbytes8:
    case Opcode::kBytearray8: return true;
    default: return false;
  }
}

std::optional<std::string_view> ValueGraph::string_view(Use node) const {
  node = resolve(node);
  const auto code = opcode(node);
  if (code == Opcode::kBinunicode) {  // nearly all: cut here, in a few instructions
    const auto* const head = text_.data() + at(node);
    const auto size = load_le<std::uint32_t>(head + 1);
    if (size >= kOutsideBody) return std::nullopt;
    return std::string_view(reinterpret_cast<const char*>(head + 5), size);
  }
  const bool bytes = code == Opcode::kBinstring || code == Opcode::kShortBinstring;
  if (!bytes && code != Opcode::kShortBinunicode && code != Opcode::kBinunicode8) return std::nullopt;
  const auto cut = instruction(node);
  if (cut.outside) return std::nullopt;
  const auto text = as_text(ByteView(text_).subspan(at(node) + cut.head_size, cut.body_size));
  if (bytes && !is_utf8(text)) return std::nullopt;
  return text;
}

std::optional<std::string> ValueGraph::string(Use node) const {
  if (const auto view = string_view(node)) return std::string(*view);
  node = resolve(node);
  switch (opcode(node)) {
    case Opcode::kBinstring:
    case Opcode::kShortBinstring:
      if (instruction(node).outside) return std::nullopt;
      return latin1_to_utf8(operand(node));
    case Opcode::kUnicode: return from_raw_unicode_escape(chop_newline(operand(node)));
    case Opcode::kString: return from_python_literal(chop_newline(operand(node)));
    default: return std::nullopt;
  }
}

std::optional<std::int64_t> ValueGraph::integer(Use node) const {
  node = resolve(node);
  const auto* const fixed_operand = text_.data() + at(node) + 1;
  switch (opcode(node)) {
    case Opcode::kBinint: return load_le<std::int32_t>(fixed_operand);
    case Opcode::kBinint1: return load_le<std::uint8_t>(fixed_operand);
    case Opcode::kBinint2: return load_le<std::uint16_t>(fixed_operand);
    default: break;
  }
  if (instruction(node).outside) return std::nullopt;  // a LONG4 beyond all measure
  const auto text = operand(node);
  switch (opcode(node)) {
    case Opcode::kLong1:
    case Opcode::kLong4: return from_long_bytes(as_bytes(text));
    case Opcode::kInt: {
      const auto line = chop_newline(text);
      if (line == "00" || line == "01") return std::nullopt;  // spellings of False and True
      return from_decimal(line);
    }
    case Opcode::kLong: {
      auto line = chop_newline(text);
      if (line.ends_with('L')) line.remove_suffix(1);
      return from_decimal(line);
    }
    default: return std::nullopt;
  }
}

std::optional<double> ValueGraph::floating(Use node) const {
  node = resolve(node);
  const auto text = operand(node);
  if (opcode(node) == Opcode::kBinfloat) {
    return std::bit_cast<double>(__builtin_bswap64(load_le<std::uint64_t>(as_bytes(text).data())));
  }
  if (opcode(node) != Opcode::kFloat) return std::nullopt;
  const std::string line(chop_newline(text));
  char* end = nullptr;
  const auto value = std::strtod(line.c_str(), &end);
  if (line.empty() || *end != '\0') return std::nullopt;
  return value;
}

std::optional<bool> ValueGraph::boolean(Use node) const {
  node = resolve(node);
  switch (opcode(node)) {
    case Opcode::kNewtrue: return true;
    case Opcode::kNewfalse: return false;
    case Opcode::kInt: {
      const auto line = chop_newline(operand(node));
      if (line == "01") return true;
      if (line == "00") return false;
      return std::nullopt;
    }
    default: return std::nullopt;
  }
}

std::optional<GlobalName> ValueGraph::global(Use node) const {
  node = resolve(node);
  const auto code = opcode(node);
  if (code == Opcode::kGlobal || code == Opcode::kInst) {
    const auto lines = operand(node);
    const auto middle = lines.find('\n');
    return GlobalName{lines.substr(0, middle), chop_newline(lines.substr(middle + 1))};
  }
  if (code != Opcode::kStackGlobal) return std::nullopt;
  std::vector<Use> names;
  children(node, names);
  if (names.size() != 2) return std::nullopt;
  const auto module = string_view(names[0]);
  const auto name = string_view(names[1]);
  if (!module || !name) return std::nullopt;
  return GlobalName{*module, *name};
}

std::uint64_t ValueGraph::source_position(std::uint32_t text_position) const {
  std::uint64_t skipped = 0;
  for (const auto& body : outside_) {
    if (body.at >= text_position) break;
    skipped += body.extent.size;
  }
  return extent_.offset + text_position + skipped;
}

}  // namespace ckpt
