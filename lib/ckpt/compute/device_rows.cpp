// SPDX-License-Identifier: BSD-3-Clause
#include "ckpt/compute/device_rows.h"

#include <vector>

#include "ckpt/compute/device_gather.h"
#include "ckpt/model/dense_order.h"

namespace ckpt {
namespace {

std::uint64_t item_size(const Gather& view) {
  return dtype_info(view.from).item_size;
}

bool are_neighbours(std::span<const std::uint64_t> rows) {
  for (std::size_t i = 1; i < rows.size(); ++i) {
    if (rows[i] != rows[0] + i) return false;
  }
  return true;
}

}  // namespace

Result<std::unique_ptr<DeviceRows>> DeviceRows::send(const Device& device, const Gather& view,
                                                     std::size_t threads,
                                                     const std::function<void()>& report) {
  CKPT_ASSIGN_OR_RETURN(auto* const engine, device.engine());
  std::unique_ptr<DeviceRows> rows(new DeviceRows(*engine, view, threads, report));
  const auto bytes = device_reach(view) * item_size(view);
  CKPT_ASSIGN_OR_RETURN(const bool fits, rows->conveyor_.make_room(rows->source_, bytes));
  if (!fits) return std::unique_ptr<DeviceRows>();
  CKPT_RETURN_IF_ERROR(rows->conveyor_.upload(*view.source, view.storage + view.offset * item_size(view),
                                              bytes, rows->source_));
  return rows;
}

DeviceRows::DeviceRows(DeviceEngine& engine, const Gather& view, std::size_t threads,
                       const std::function<void()>& report)
    : engine_(engine), conveyor_(engine, threads, report), view_(view) {}

std::uint64_t DeviceRows::row_bytes() const {
  return view_.numel() / static_cast<std::uint64_t>(view_.shape[0]) * item_size(view_);
}

Result<bool> DeviceRows::ask(std::span<const std::uint64_t> rows) {
  asked_ = rows.size() * row_bytes();
  CKPT_ASSIGN_OR_RETURN(const bool fits, conveyor_.make_room(target_, asked_));
  if (!fits) return false;
  if (!are_neighbours(rows)) return gather_by_table(rows);
  CKPT_RETURN_IF_ERROR(gather_box(rows.front(), rows.size()));
  return true;
}

Status DeviceRows::take(const DeviceConveyor::Arrive& arrive) {
  CKPT_RETURN_IF_ERROR(conveyor_.download(target_, asked_, arrive));
  return conveyor_.finish();
}

/// Values of the view, which only move.
CkptGather DeviceRows::moving() const {
  CkptGather launch{};
  launch.source_dtype = launch.target_dtype = device_dtype(view_.from, true);
  launch.source = source_.buffer.view();
  return launch;
}

Status DeviceRows::gather_box(std::uint64_t first, std::uint64_t count) {
  auto box = view_;
  box.shape[0] = static_cast<std::int64_t>(count);
  auto launch = moving();
  launch.source.offset = first * static_cast<std::uint64_t>(view_.strides[0]) * item_size(view_);
  launch.target = target_.buffer.view();
  set_dense_target(box, launch);
  return engine_.gather(launch);
}

/// False: the GPU has no room for it.
Result<bool> DeviceRows::make_dense() {
  if (dense_.size > 0) return true;
  CKPT_ASSIGN_OR_RETURN(const bool fits, conveyor_.make_room(dense_, view_.numel() * item_size(view_)));
  if (!fits) return false;
  auto launch = moving();
  launch.target = dense_.buffer.view();
  set_dense_target(view_, launch);
  CKPT_RETURN_IF_ERROR(engine_.gather(launch));
  return true;
}

Result<bool> DeviceRows::gather_by_table(std::span<const std::uint64_t> rows) {
  const std::vector<std::int64_t> table(rows.begin(), rows.end());
  const auto bytes = std::as_bytes(std::span(table));
  const bool is_dense = is_c_order(view_.shape, view_.strides);
  if (!is_dense) {
    CKPT_ASSIGN_OR_RETURN(const bool is_made, make_dense());
    if (!is_made) return false;
  }
  CKPT_ASSIGN_OR_RETURN(const bool fits, conveyor_.make_room(table_, bytes.size()));
  if (!fits) return false;
  CKPT_RETURN_IF_ERROR(conveyor_.upload(bytes, table_));
  CkptRows launch{};
  launch.source = is_dense ? source_.buffer.view() : dense_.buffer.view();
  launch.target = target_.buffer.view();
  launch.table = table_.buffer.view();
  launch.rows = rows.size();
  launch.row_bytes = launch.source_step = launch.target_step = row_bytes();
  CKPT_RETURN_IF_ERROR(engine_.gather_rows(launch));
  return true;
}

}  // namespace ckpt
