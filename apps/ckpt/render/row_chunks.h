// SPDX-License-Identifier: BSD-3-Clause
// Rows by the million, printed by two threads: each takes the next few hundred and prints them to a buffer of
// its own, which is written when all before it are.
#pragma once

#include <cstddef>
#include <functional>

#include "console.h"

namespace ckpt::cli {

inline constexpr std::size_t kRowsOfChunk = 512;
inline constexpr std::size_t kManyRows = 32 * kRowsOfChunk;  ///< fewer are not worth a second thread

/// Prints rows `begin` to `end` to a stream. Must not change anything that other chunks look at.
using ChunkPrinter = std::function<void(std::size_t begin, std::size_t end, Stream& out)>;

/// Prints `rows` rows, in order: chunk by chunk where there are many, else in one call. Where no second
/// thread can be had, this one prints them all. What `print` throws is thrown here.
void print_in_chunks(std::size_t rows, const ChunkPrinter& print, Stream& out);

}  // namespace ckpt::cli
