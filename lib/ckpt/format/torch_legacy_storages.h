// SPDX-License-Identifier: BSD-3-Clause
// The storages of a legacy stream: listed by key behind the object, sized by their first use in it, placed
// by the sizes of those before them.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>

#include "ckpt/base/diagnostics.h"
#include "ckpt/base/result.h"
#include "ckpt/format/torch_legacy.h"
#include "ckpt/format/torch_objects.h"

namespace ckpt {

class LegacyStorages final : public StorageResolver {
 public:
  /// `checkpoint` has its source and its object document already.
  LegacyStorages(Checkpoint& checkpoint, Diagnostics& diagnostics)
      : checkpoint_(checkpoint),
        object_(checkpoint.graph()),
        reader_(object_, PickleDialect::kPython),
        diagnostics_(diagnostics) {}

  /// What the object says about its storages; the first use of a key decides, as in every PyTorch.
  /// Errors: kCorrupt for views that leave their storage or contradict each other.
  Status collect_uses();

  /// Fills the checkpoint's storages and `data.listed` from the list, and checks each storage's count. `at`:
  /// behind the list. Returns where the last storage ends.
  /// Errors: kCorrupt for a file that is cut off, a key nothing uses, a count that contradicts the object.
  Result<std::uint64_t> place(const ValueGraph& list, TorchLegacyData& data, std::uint64_t at);

  Result<StorageId> resolve(const StorageUse& use, Checkpoint& checkpoint) override;

 private:
  /// A persistent id that stands for a part of its storage.
  struct View {
    std::string storage;
    std::uint64_t offset = 0;  ///< elements
    std::uint64_t size = 0;
    friend bool operator==(const View&, const View&) = default;
  };

  Status check_view(const StorageUse& use, std::string_view key);
  Status read_list(const ValueGraph& list, TorchLegacyData& data);
  Result<StorageId> add_storage(std::string key);
  Error cut_off(const TorchLegacyData& data, std::size_t index, std::uint64_t left) const;
  void check_again(const StorageUse& use, const Storage& storage);
  void report(const char* id, Severity severity, std::string_view place, std::string message);

  Checkpoint& checkpoint_;
  const ValueGraph& object_;
  TensorReader reader_;
  Diagnostics& diagnostics_;
  std::unordered_map<std::string, StorageUse> first_uses_;
  std::unordered_map<std::string_view, StorageId> rows_;  ///< keys owned by the checkpoint
  std::unordered_map<std::string, View> views_;
};

}  // namespace ckpt
