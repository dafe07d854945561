// SPDX-License-Identifier: BSD-3-Clause
// Bytes of a pickle → ValueGraph. Runs the stack discipline of the language and nothing else: no object is
// made, no name resolved, nothing recurses.
#pragma once

#include <cstdint>

#include "ckpt/base/export.h"
#include "ckpt/base/result.h"
#include "ckpt/io/byte_source.h"
#include "ckpt/pickle/value_graph.h"

namespace ckpt {

struct DecodeLimits {
  /// Bytes of text without outside bodies. Positions are 32 bits; a checkpoint of 10^7 tensors takes 1 GB.
  std::uint64_t text = 0xFFFFFFFFU;
  /// Nodes; 8 bytes of memory each. A tensor takes about 24.
  std::uint64_t nodes = 0xFFFFFFF0U;
  /// Bytes of a text-form operand (INT, UNICODE, GLOBAL of protocols 0 and 1). Real ones stay below a few
  /// kilobytes; protocol 0 spells bytes as text, so leave room.
  std::uint64_t line = 64U << 20U;
};

/// Decodes the pickle that begins at `range.offset` of `source`; it ends at its STOP, within `range`.
/// Errors: kCorrupt (unknown opcode, stack underflow, unset memo slot, no STOP, a length past the end), with
/// the byte offset from the start of the range; kUnsupported (protocol above 5, out-of-band buffers, a
/// limit).
CKPT_EXPORT Result<ValueGraph> decode_pickle(const ByteSource& source, Extent range,
                                             const DecodeLimits& limits = {});

}  // namespace ckpt
