// SPDX-License-Identifier: BSD-3-Clause
// A tensor in memory of a GPU, from which rows are taken in any order: neighbours as a box, others by a
// table.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>

#include "ckpt/base/result.h"
#include "ckpt/compute/device.h"
#include "ckpt/compute/device_conveyor.h"
#include "ckpt/compute/gathered_source.h"

namespace ckpt {

/// A row is what belongs to one index of the first dimension; its values are in C order when they come.
class DeviceRows {
 public:
  /// The view goes to the GPU. Null: that has no room for it. Preconditions: `suits_device`; the view only
  /// moves. `report` is called now and then. All must outlive the rows. Errors: kBackend; those of the view's
  /// source.
  static Result<std::unique_ptr<DeviceRows>> send(const Device& device, const Gather& view,
                                                  std::size_t threads, const std::function<void()>& report);

  /// Bytes that are best taken at once.
  std::uint64_t preferred_bytes() const { return engine_.pinned_bytes(); }

  /// Lets the GPU put rows one behind the other. False: it has no room for them. Precondition: the view has
  /// them.
  Result<bool> ask(std::span<const std::uint64_t> rows);

  /// Waits for the rows that were asked for last.
  Status take(const DeviceConveyor::Arrive& arrive);

 private:
  DeviceRows(DeviceEngine& engine, const Gather& view, std::size_t threads,
             const std::function<void()>& report);

  std::uint64_t row_bytes() const;
  CkptGather moving() const;
  Result<bool> make_dense();
  Status gather_box(std::uint64_t first, std::uint64_t count);
  Result<bool> gather_by_table(std::span<const std::uint64_t> rows);

  DeviceEngine& engine_;
  DeviceConveyor conveyor_;
  const Gather& view_;
  DeviceRoom source_;  ///< what the view reaches, as it lies in its storage
  DeviceRoom dense_;   ///< the view in C order, once it is needed
  DeviceRoom table_;
  DeviceRoom target_;
  std::uint64_t asked_ = 0;  ///< bytes
};

}  // namespace ckpt
