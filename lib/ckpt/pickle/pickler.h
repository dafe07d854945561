// SPDX-License-Identifier: BSD-3-Clause
// New pickles in protocol 2, instruction by instruction as CPython's pickler writes them: what could be used
// again is put into the memo, slot after slot; names and constants come from there the second time.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <unordered_map>

#include "ckpt/base/bytes.h"
#include "ckpt/base/export.h"

namespace ckpt {

class CKPT_EXPORT Pickler {
 public:
  /// PyTorch's own choice, and all that its restricted loader reads in every release.
  static constexpr int kProtocol = 2;
  /// Items of a list or a mapping that one group holds at most.
  static constexpr std::size_t kGroup = 1000;

  Pickler();

  void integer(std::int64_t value);
  void boolean(bool value);
  void none();
  /// A string object of its own. Returns its slot.
  std::uint32_t string(std::string_view text);
  /// The same string object each time.
  void constant(std::string_view text);
  /// A class or function, by its name.
  void global(std::string_view module, std::string_view name);
  void get(std::uint32_t slot);

  void begin_tuple(std::size_t size);
  void end_tuple(std::size_t size);  ///< `size` items stand between
  void empty_list();
  void empty_dict();
  /// Calls the value below the tuple on the stack.
  void reduce();
  void persistent_id();

  /// Around each of `count` items of a list, or keys with their values.
  void begin_item(std::size_t index, std::size_t count);
  void end_item(std::size_t index, std::size_t count, bool of_mapping);

  Bytes finish() &&;

 private:
  void opcode(std::uint8_t code) { text_.push_back(static_cast<std::byte>(code)); }

  std::uint32_t memoize();

  Bytes text_;
  std::uint32_t slots_ = 0;
  std::unordered_map<std::string, std::uint32_t> known_;  ///< constants and globals: their slots
};

}  // namespace ckpt
