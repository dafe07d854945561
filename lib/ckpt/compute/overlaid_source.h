// SPDX-License-Identifier: BSD-3-Clause
// Large tensors that are partly those of others, as sources. Some megabytes exist at a time.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>

#include "ckpt/base/export.h"
#include "ckpt/compute/computed_source.h"
#include "ckpt/compute/gathered_source.h"

namespace ckpt {

class DeviceRows;

/// A tensor of which some rows are those of another one.
class CKPT_EXPORT OverlaidSource final : public ComputedSource {
 public:
  /// Which row of the result is which row of the other tensor.
  using Rows = std::map<std::uint64_t, std::uint64_t>;

  /// Row `to` is row `from` of `other` for each (to, from) of `rows`, else of `base`. Preconditions: both
  /// have the rows that are named, some are, and they have as many bytes, not 0; nothing in `other` is
  /// converted.
  OverlaidSource(std::shared_ptr<const ByteSource> base, Gather other, Rows rows);

  const std::string& name() const override { return base_->name(); }

  std::uint64_t size() const override { return base_->size(); }

  Status read_at(std::uint64_t offset, std::span<std::byte> out) const override;

  void add_inputs(Extent wanted, std::vector<SourceStretch>& out) const override;

  /// One thread reads `base` from its beginning to its end. A GPU takes the other rows.
  Status produce(std::span<const Extent> pieces, const ComputeOptions& options, const Deliver& deliver,
                 const std::function<void()>& report) const override;

 private:
  /// `use(to, from, part)` for each other row of which a part lies in `extent`; until one fails.
  template <typename Use>
  Status for_rows(Extent extent, const Use& use) const;

  std::uint64_t block_size() const;
  Gather view_for_device() const;
  Result<std::unique_ptr<DeviceRows>> send(const Gather& view, const ComputeOptions& options,
                                           const std::function<void()>& report) const;
  Status read_with(DeviceRows& rows, const Device& device, std::uint64_t offset,
                   std::span<std::byte> out) const;

  const std::shared_ptr<const ByteSource> base_;
  const Gather view_;
  GatheredSource other_;
  const Rows rows_;
  std::uint64_t row_size_;   ///< bytes
  std::uint64_t first_row_;  ///< of the other tensor's that are wanted
  std::uint64_t last_row_;
};

}  // namespace ckpt
