// SPDX-License-Identifier: BSD-3-Clause
#include "ckpt/edit/cast_report.h"

#include <utility>

#include "ckpt/base/text.h"

namespace ckpt {

bool may_lose_values(Dtype from, Dtype to) {
  return !is_exact_cast(from, to) && to != Dtype::kBool;
}

std::optional<std::size_t> MergeCasts::watch(Gather& gather, CastKey key) {
  if (!may_lose_values(gather.from, gather.to)) return std::nullopt;
  gather.watch = std::make_shared<CastWatch>(gather.from, gather.to, OnOverflow::kInf,
                                             "tensor " + quoted(key.name), gather.shape);
  casts_.push_back({{std::move(key)}, gather.from, gather.to, gather.numel(), gather.watch});
  return casts_.size() - 1;
}

void MergeCasts::share(std::optional<std::size_t> cast, CastKey key) {
  if (cast) casts_[*cast].keys.push_back(std::move(key));
}

}  // namespace ckpt
