// SPDX-License-Identifier: BSD-3-Clause
// Pickles as text, so that a test shows what it is about:
//
//   PROTO 2; EMPTY_DICT; BINPUT 0; MARK; BINUNICODE "w"; BININT1 5; SETITEMS; STOP
//
// Mnemonics are pickletools' own. Operands are numbers, words, or strings in double quotes with \n, \",
// \\ and \xNN; a string may be repeated: BINBYTES "x"*70000. Lengths are filled in, lines get their newline.
#pragma once

#include <string>
#include <string_view>

#include "ckpt/base/bytes.h"

namespace ckpt::testing {

/// Throws std::invalid_argument for what it doesn't understand.
Bytes assemble(std::string_view text);

/// The inverse, for bytes that are whole instructions; long strings shortened with *.
std::string disassemble(ByteView bytes);

}  // namespace ckpt::testing
