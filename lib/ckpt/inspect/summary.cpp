// SPDX-License-Identifier: BSD-3-Clause
#include "ckpt/inspect/summary.h"

#include "ckpt/model/parameter_roles.h"

namespace ckpt {

Totals summarize(const Checkpoint& checkpoint) {
  Totals totals;
  std::vector<bool> counted(checkpoint.storages.size());
  // Most tensors are of the kind of the one before: then the amounts they add to are known.
  auto last_dtype = Dtype::kUint8;
  auto last_section = Section::kOther;
  Amount* dtype = nullptr;
  Amount* section = nullptr;
  for (const auto& tensor : checkpoint.tensors) {
    if (!tensor.has(kIsPart)) {  // parts count where the composite before them does
      const auto this_section = section_of(checkpoint, tensor);
      if (dtype == nullptr || tensor.dtype != last_dtype)
        dtype = &totals.by_dtype[dtype_info(tensor.dtype).name];
      if (section == nullptr || this_section != last_section)
        section = &totals.by_section[section_name(this_section)];
      last_dtype = tensor.dtype;
      last_section = this_section;
    }
    std::uint64_t bytes = 0;
    if (tensor.storage != kNoIndex && !counted[tensor.storage]) {
      counted[tensor.storage] = true;
      bytes = checkpoint.storages[tensor.storage].bytes;
    }
    totals.bytes += bytes;
    dtype->bytes += bytes;
    section->bytes += bytes;
    if (tensor.has(kIsPart)) continue;
    const auto numel = checkpoint.numel(tensor);
    for (auto* amount : {dtype, section}) {
      ++amount->tensors;
      amount->numel += numel;
    }
    ++totals.tensors;
    totals.numel += numel;
    totals.view_bytes += checkpoint.bytes(tensor);
    const auto role = role_of(checkpoint, tensor).kind;
    if (role == RoleKind::kParameter) ++totals.parameters;
    if (role == RoleKind::kBuffer) ++totals.buffers;
  }
  return totals;
}

TensorsByStorage tensors_by_storage(const Checkpoint& checkpoint) {
  TensorsByStorage out;
  out.first.assign(checkpoint.storages.size() + 1, 0);
  for (const auto& tensor : checkpoint.tensors) {
    if (tensor.storage != kNoIndex) ++out.first[tensor.storage + 1];
  }
  for (std::size_t i = 1; i < out.first.size(); ++i) out.first[i] += out.first[i - 1];
  out.order.resize(out.first.back());
  auto next = out.first;
  for (TensorId id = 0; id < checkpoint.tensors.size(); ++id) {
    const auto storage = checkpoint.tensors[id].storage;
    if (storage != kNoIndex) out.order[next[storage]++] = id;
  }
  return out;
}

}  // namespace ckpt
