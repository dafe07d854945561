// SPDX-License-Identifier: BSD-3-Clause
// Numbers about a checkpoint: how much of what, each storage counted once.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "ckpt/base/export.h"
#include "ckpt/model/checkpoint.h"

namespace ckpt {

struct Amount {
  std::uint64_t tensors = 0;
  std::uint64_t numel = 0;
  std::uint64_t bytes = 0;  ///< of storages, each once, where it is first used
};

struct Totals {
  std::uint64_t tensors = 0;
  std::uint64_t parameters = 0;
  std::uint64_t buffers = 0;
  std::uint64_t numel = 0;
  std::uint64_t bytes = 0;       ///< of storages, each once
  std::uint64_t view_bytes = 0;  ///< numel × item size of all tensors
  std::map<std::string_view, Amount> by_dtype;
  std::map<std::string_view, Amount> by_section;
};

CKPT_EXPORT Totals summarize(const Checkpoint& checkpoint);

/// Tensors by storage: those of storage s are order[first[s]] to order[first[s + 1] - 1].
struct TensorsByStorage {
  std::vector<std::uint32_t> first;
  std::vector<TensorId> order;
};

CKPT_EXPORT TensorsByStorage tensors_by_storage(const Checkpoint& checkpoint);

}  // namespace ckpt
