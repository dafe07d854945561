// SPDX-License-Identifier: BSD-3-Clause
// What `inspect` found, for people.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "ckpt/base/diagnostics.h"
#include "ckpt/inspect/findings.h"
#include "ckpt/inspect/summary.h"
#include "ckpt/inspect/tensor_statistics.h"
#include "console.h"

namespace ckpt::cli {

/// A file as inspect sees it, ready to be rendered.
struct InspectedFile {
  std::string name;
  std::uint64_t bytes = 0;
  Checkpoint checkpoint;
  std::vector<TensorId> tensors;  ///< those to list, in order
  Totals totals;
  TensorsByStorage by_storage;
  std::vector<GlobalUse> globals;
  std::vector<Finding> findings;
  std::vector<TensorStatistics> statistics;  ///< by listed tensor, if they were asked for
};

constexpr std::size_t kWidestName = 60;  ///< a longer name pushes its line's other columns to the right

/// What a person would call the tensor: its key, or its path. Safe to print.
std::string label(const Checkpoint& checkpoint, const TensorInfo& tensor);

/// Fills totals, globals and findings.
void look_closer(InspectedFile& file, const Diagnostics& diagnostics);

/// `order`: "file" keeps it, "name" sorts naturally (layer2 before layer10), "bytes" puts large ones first.
void sort_tensors(const Checkpoint& checkpoint, const std::string& order, std::vector<TensorId>& tensors);

void print_inspection(const InspectedFile& file, bool summary_only, Console& console);
void print_keys(const InspectedFile& file, char end, Stream& out);
void print_tree(const InspectedFile& file, std::optional<std::uint64_t> depth, Stream& out);
void print_globals(const InspectedFile& file, Stream& out);
void print_tensor_line(const Checkpoint& checkpoint, const TensorInfo& tensor, Stream& out);

}  // namespace ckpt::cli
