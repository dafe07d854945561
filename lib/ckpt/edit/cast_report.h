// SPDX-License-Identifier: BSD-3-Clause
// What `convert --dtype` did. What it did to values is known when they have been produced.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "ckpt/compute/cast_watch.h"
#include "ckpt/model/dtype.h"

namespace ckpt {

/// A key of a state dict.
struct CastKey {
  std::string root;  ///< path of the state dict
  std::string name;
};

/// Values that were cast together: a tensor, or a storage that several tensors share.
struct CastValues {
  std::vector<CastKey> keys;  ///< that view them; at least one
  Dtype from = Dtype::kFloat32;
  Dtype to = Dtype::kFloat32;
  std::uint64_t values = 0;
  std::shared_ptr<const CastWatch> watch;  ///< null where each value stays exactly what it is, and to bool
};

/// A tensor that a rule means and that stays what it is.
struct NotCast {
  CastKey key;
  std::string what;  ///< "layout sparse_coo", "dtype float4_e2m1fn_x2"
};

struct CastReport {
  OnOverflow on_overflow = OnOverflow::kError;
  std::vector<CastValues> casts;
  std::vector<NotCast> left;
  std::vector<std::string> separated;  ///< keys that shared a storage with tensors that are not cast alike
  std::uint64_t bytes_before = 0;      ///< of what was cast
  std::uint64_t bytes_after = 0;
};

}  // namespace ckpt
