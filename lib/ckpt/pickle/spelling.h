// SPDX-License-Identifier: BSD-3-Clause
// How new values are written into a stream: in the manner of its protocol, so that whoever could read the
// stream can read it afterwards. The restricted loader of PyTorch knows BINUNICODE but none of its
// relatives, so protocols 1 to 3 use that one alone.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

#include "ckpt/base/bytes.h"
#include "ckpt/pickle/value_graph.h"

namespace ckpt {

/// The protocol of a stream, 0 to 5. Protocols 0 and 1 don't say which they are: 1 is told by its binary
/// opcodes.
int spoken_protocol(const ValueGraph& graph);

/// `text` is UTF-8 with surrogatepass. Precondition: below 4 GiB.
void append_string(Bytes& out, std::string_view text, int protocol);
/// Bytes of an integer that 32 bits can't hold: TorchScript reads those of 8 alone.
enum class LongSize : std::uint8_t { kShortest, kWhole };
void append_integer(Bytes& out, std::int64_t value, int protocol, LongSize size);
void append_boolean(Bytes& out, bool value, int protocol);
void append_floating(Bytes& out, double value, int protocol);
void append_empty_dict(Bytes& out, int protocol);
void append_get(Bytes& out, std::uint64_t slot, int protocol);
/// What opens and closes a tuple of `size` items.
void append_tuple_start(Bytes& out, std::size_t size, int protocol);
void append_tuple_end(Bytes& out, std::size_t size, int protocol);

}  // namespace ckpt
