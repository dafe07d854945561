// SPDX-License-Identifier: BSD-3-Clause
// The same value in the opcodes that PyTorch's restricted loader knows, which are most of protocol 2: what
// torch.load(weights_only=True) reads.
//
//   MEMOIZE, PUT            BINPUT, for values that are used again
//   STACK_GLOBAL, FRAME     GLOBAL, nothing
//   BINBYTES, BYTEARRAY8    _codecs.encode(text, 'latin1'), bytearray of it
//   LIST, DICT, ADDITEMS    APPENDS, SETITEMS, set(list)
//   text forms              their binary ones
#pragma once

#include <string>
#include <vector>

#include "ckpt/base/export.h"
#include "ckpt/base/result.h"
#include "ckpt/pickle/encoder.h"
#include "ckpt/pickle/value_graph.h"

namespace ckpt {

/// Names of opcodes in the pickle that the restricted loader does not know, each once.
CKPT_EXPORT std::vector<std::string> refused_opcodes(const ValueGraph& graph);

/// The pickle without them. Bodies of the result are the graph's, in its order. Errors: kUnsupported for an
/// irregular pickle and for what those opcodes can't say.
CKPT_EXPORT Result<EncodedPickle> spell_restricted(const ValueGraph& graph);

}  // namespace ckpt
