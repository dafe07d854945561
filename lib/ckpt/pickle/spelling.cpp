// SPDX-License-Identifier: BSD-3-Clause
#include "ckpt/pickle/spelling.h"

#include <bit>
#include <limits>
#include <optional>

#include <fmt/format.h>

#include "ckpt/pickle/text_forms.h"

namespace ckpt {
namespace {

void append_opcode(Bytes& out, Opcode opcode) {
  out.push_back(static_cast<std::byte>(opcode));
}

template <std::integral T>
void append(Bytes& out, Opcode opcode, T operand) {
  append_opcode(out, opcode);
  append_le(out, operand);
}

template <std::integral T>
bool fits(std::int64_t value) {
  return value >= std::numeric_limits<T>::min() && value <= std::numeric_limits<T>::max();
}

void append_long1(Bytes& out, std::int64_t value, LongSize long_size) {
  std::uint8_t size = 8;
  while (long_size == LongSize::kShortest && size > 1 && (value >> (8 * (size - 1) - 1)) == (value >> 63))
    --size;  // the rest repeats the sign
  append(out, Opcode::kLong1, size);
  for (int i = 0; i < size; ++i) out.push_back(static_cast<std::byte>((value >> (8 * i)) & 0xFF));
}

/// The opcode that makes a tuple of so many items without a MARK.
std::optional<Opcode> tuple_opcode(std::size_t size, int protocol) {
  if (size == 0 && protocol >= 1) return Opcode::kEmptyTuple;
  if (protocol < 2) return std::nullopt;
  switch (size) {
    case 1: return Opcode::kTuple1;
    case 2: return Opcode::kTuple2;
    case 3: return Opcode::kTuple3;
    default: return std::nullopt;
  }
}

}  // namespace

int spoken_protocol(const ValueGraph& graph) {
  if (graph.protocol() > 0) return graph.protocol();
  for (std::size_t code = 0; code < kOpcodes.size(); ++code) {
    if (kOpcodes[code].protocol > 0 && graph.count(static_cast<Opcode>(code)) > 0) return 1;
  }
  return 0;
}

void append_string(Bytes& out, std::string_view text, int protocol) {
  if (protocol == 0) {
    append_text(out, fmt::format("V{}\n", to_raw_unicode_escape(text)));
    return;
  }
  if (protocol >= 4 && text.size() < 256) {
    append(out, Opcode::kShortBinunicode, static_cast<std::uint8_t>(text.size()));
  } else {
    append(out, Opcode::kBinunicode, static_cast<std::uint32_t>(text.size()));
  }
  append_text(out, text);
}

void append_integer(Bytes& out, std::int64_t value, int protocol, LongSize size) {
  if (protocol == 0 && fits<std::int32_t>(value)) {
    append_text(out, fmt::format("I{}\n", value));
  } else if (protocol < 2 && !fits<std::int32_t>(value)) {
    append_text(out, fmt::format("L{}L\n", value));
  } else if (fits<std::uint8_t>(value)) {
    append(out, Opcode::kBinint1, static_cast<std::uint8_t>(value));
  } else if (fits<std::uint16_t>(value)) {
    append(out, Opcode::kBinint2, static_cast<std::uint16_t>(value));
  } else if (fits<std::int32_t>(value)) {
    append(out, Opcode::kBinint, static_cast<std::int32_t>(value));
  } else {
    append_long1(out, value, size);
  }
}

void append_boolean(Bytes& out, bool value, int protocol) {
  if (protocol < 2) {
    append_text(out, value ? "I01\n" : "I00\n");
  } else {
    append_opcode(out, value ? Opcode::kNewtrue : Opcode::kNewfalse);
  }
}

void append_floating(Bytes& out, double value, int protocol) {
  if (protocol == 0) {
    append_text(out, fmt::format("F{}\n", value));
    return;
  }
  append_opcode(out, Opcode::kBinfloat);
  const auto bits = std::bit_cast<std::uint64_t>(value);
  for (int shift = 56; shift >= 0; shift -= 8) out.push_back(static_cast<std::byte>((bits >> shift) & 0xFFU));
}

void append_empty_dict(Bytes& out, int protocol) {
  if (protocol >= 1) return append_opcode(out, Opcode::kEmptyDict);
  append_opcode(out, Opcode::kMark);
  append_opcode(out, Opcode::kDict);
}

void append_get(Bytes& out, std::uint64_t slot, int protocol) {
  if (protocol == 0 || slot > std::numeric_limits<std::uint32_t>::max()) {
    append_text(out, fmt::format("g{}\n", slot));
  } else if (slot < 256) {
    append(out, Opcode::kBinget, static_cast<std::uint8_t>(slot));
  } else {
    append(out, Opcode::kLongBinget, static_cast<std::uint32_t>(slot));
  }
}

void append_tuple_start(Bytes& out, std::size_t size, int protocol) {
  if (!tuple_opcode(size, protocol)) append_opcode(out, Opcode::kMark);
}

void append_tuple_end(Bytes& out, std::size_t size, int protocol) {
  append_opcode(out, tuple_opcode(size, protocol).value_or(Opcode::kTuple));
}

}  // namespace ckpt
