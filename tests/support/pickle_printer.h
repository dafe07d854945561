// SPDX-License-Identifier: BSD-3-Clause
// A value graph as text: one line per node, indented by MARKs, with its value, what it repeats and where its
// range begins.
//
//   0 EMPTY_DICT, finished 4
//   1 MARK
//   2   BINUNICODE "w"
//   3   BININT1 5
//   4 SETITEMS, from 0
#pragma once

#include <string>

#include "ckpt/pickle/value_graph.h"

namespace ckpt::testing {

std::string print(const ValueGraph& graph);

/// The value at `node` alone: "w", 5, 1.5, True, None, collections.OrderedDict, or its opcode.
std::string print_value(const ValueGraph& graph, Use node);

}  // namespace ckpt::testing
