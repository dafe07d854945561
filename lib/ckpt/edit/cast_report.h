// SPDX-License-Identifier: BSD-3-Clause
// What casts did. What they did to values is known when these have been produced.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "ckpt/compute/cast_watch.h"
#include "ckpt/compute/gathered_source.h"
#include "ckpt/model/dtype.h"
#include "ckpt/model/storage.h"

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

/// Can a cast lose anything that is worth a word? Not where each value stays exactly what it is, and not to
/// bool.
bool may_lose_values(Dtype from, Dtype to);

/// The casts of a merge, which PyTorch's rules decide.
class MergeCasts {
 public:
  /// `casts` learns of each that may lose something, and must outlive this.
  explicit MergeCasts(std::vector<CastValues>& casts) : casts_(casts) {}

  /// Lets `gather`, which is for `key`, be watched. Returns the index of the cast, if it may lose anything.
  std::optional<std::size_t> watch(Gather& gather, CastKey key);
  /// What a cast made is for `key`, too.
  void share(std::optional<std::size_t> cast, CastKey key);

 private:
  std::vector<CastValues>& casts_;
};

/// A storage that a merge made, and the cast that made it.
struct MergedStorage {
  StorageId storage = kNoIndex;
  std::optional<std::size_t> cast;
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
