// SPDX-License-Identifier: BSD-3-Clause
#include "ckpt/pickle/pickler.h"

#include <utility>

#include "ckpt/pickle/opcode.h"
#include "ckpt/pickle/spelling.h"

namespace ckpt {
namespace {

constexpr std::uint8_t code(Opcode opcode) {
  return static_cast<std::uint8_t>(opcode);
}

constexpr std::uint32_t kShortSlots = 256;

}  // namespace

Pickler::Pickler() {
  opcode(code(Opcode::kProto));
  opcode(kProtocol);
}

std::uint32_t Pickler::memoize() {
  if (slots_ < kShortSlots) {
    opcode(code(Opcode::kBinput));
    opcode(static_cast<std::uint8_t>(slots_));
  } else {
    opcode(code(Opcode::kLongBinput));
    append_le(text_, slots_);
  }
  return slots_++;
}

void Pickler::integer(std::int64_t value) {
  append_integer(text_, value, kProtocol, LongSize::kShortest);
}

void Pickler::boolean(bool value) {
  append_boolean(text_, value, kProtocol);
}

void Pickler::none() {
  opcode(code(Opcode::kNone));
}

std::uint32_t Pickler::string(std::string_view text) {
  append_string(text_, text, kProtocol);
  return memoize();
}

void Pickler::constant(std::string_view text) {
  const auto [known, is_new] = known_.try_emplace(std::string(text), 0);
  if (!is_new) return get(known->second);
  known->second = string(text);
}

void Pickler::global(std::string_view module, std::string_view name) {
  auto lines = std::string(module) + '\n' + std::string(name) + '\n';
  const auto known = known_.find(lines);
  if (known != known_.end()) return get(known->second);
  opcode(code(Opcode::kGlobal));
  append_text(text_, lines);
  known_.emplace(std::move(lines), memoize());
}

void Pickler::get(std::uint32_t slot) {
  append_get(text_, slot, kProtocol);
}

void Pickler::begin_tuple(std::size_t size) {
  append_tuple_start(text_, size, kProtocol);
}

void Pickler::end_tuple(std::size_t size) {
  append_tuple_end(text_, size, kProtocol);
  if (size > 0) memoize();
}

void Pickler::empty_list() {
  opcode(code(Opcode::kEmptyList));
  memoize();
}

void Pickler::empty_dict() {
  opcode(code(Opcode::kEmptyDict));
  memoize();
}

void Pickler::reduce() {
  opcode(code(Opcode::kReduce));
  memoize();
}

void Pickler::persistent_id() {
  opcode(code(Opcode::kBinpersid));
}

void Pickler::begin_item(std::size_t index, std::size_t count) {
  if (count > 1 && index % kGroup == 0) opcode(code(Opcode::kMark));
}

void Pickler::end_item(std::size_t index, std::size_t count, bool of_mapping) {
  if (count == 1) {
    opcode(code(of_mapping ? Opcode::kSetitem : Opcode::kAppend));
  } else if (index + 1 == count || (index + 1) % kGroup == 0) {
    opcode(code(of_mapping ? Opcode::kSetitems : Opcode::kAppends));
  }
  if (of_mapping && index + 1 == count && count % kGroup == 0) {  // CPython looks for more and finds none
    opcode(code(Opcode::kMark));
    opcode(code(Opcode::kSetitems));
  }
}

Bytes Pickler::finish() && {
  opcode(code(Opcode::kStop));
  return std::move(text_);
}

}  // namespace ckpt
