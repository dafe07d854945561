// SPDX-License-Identifier: BSD-3-Clause
#include "ckpt/compute/overlaid_source.h"

#include <algorithm>
#include <cstring>
#include <utility>
#include <vector>

#include "ckpt/compute/device_gather.h"
#include "ckpt/compute/device_rows.h"
#include "ckpt/model/dense_order.h"

namespace ckpt {
namespace {

// Bytes that are handed over at once: many where rows are taken in any order from a tensor that lies
// otherwise, since each block then looks through all of it.
constexpr std::uint64_t kBlock = std::uint64_t{1} << 20U;
constexpr std::uint64_t kWideBlock = std::uint64_t{32} << 20U;
constexpr std::uint64_t kSparsest = 4;  // of so many rows at least one must be wanted where all are sent

}  // namespace

OverlaidSource::OverlaidSource(std::shared_ptr<const ByteSource> base, Gather other, Rows rows)
    : base_(std::move(base)),
      view_(std::move(other)),
      other_("rows of another tensor"),
      rows_(std::move(rows)) {
  row_size_ = other_.add(view_).size / static_cast<std::uint64_t>(view_.shape[0]);
  first_row_ = last_row_ = rows_.begin()->second;
  for (const auto& [to, from] : rows_) {
    first_row_ = std::min(first_row_, from);
    last_row_ = std::max(last_row_, from);
  }
}

template <typename Use>
Status OverlaidSource::for_rows(Extent extent, const Use& use) const {
  for (auto row = rows_.lower_bound(extent.offset / row_size_); row != rows_.end(); ++row) {
    const auto [to, from] = *row;
    const auto first = std::max(extent.offset, to * row_size_);
    const auto last = std::min(extent.end(), (to + 1) * row_size_);
    if (first >= last) break;
    CKPT_RETURN_IF_ERROR(use(to, from, Extent{first, last - first}));
  }
  return {};
}

Status OverlaidSource::read_at(std::uint64_t offset, std::span<std::byte> out) const {
  struct Part {
    std::uint64_t from;  ///< byte of the other tensor
    std::span<std::byte> bytes;
  };

  CKPT_RETURN_IF_ERROR(base_->read_at(offset, out));
  std::vector<Part> parts;
  CKPT_RETURN_IF_ERROR(
      for_rows({offset, out.size()}, [&](std::uint64_t to, std::uint64_t from, Extent part) -> Status {
        parts.push_back({from * row_size_ + (part.offset - to * row_size_),
                         out.subspan(part.offset - offset, part.size)});
        return {};
      }));
  // In the order of the other tensor, which is gathered in boxes.
  std::sort(parts.begin(), parts.end(), [](const Part& a, const Part& b) { return a.from < b.from; });
  for (const auto& part : parts) CKPT_RETURN_IF_ERROR(other_.read_at(part.from, part.bytes));
  return {};
}

void OverlaidSource::add_inputs(Extent /*wanted*/, std::vector<SourceStretch>& out) const {
  out.push_back({base_.get(), {0, base_->size()}});
  other_.add_inputs({0, other_.size()}, out);
}

Status OverlaidSource::produce(std::span<const Extent> pieces, const ComputeOptions& options,
                               const Deliver& deliver, const std::function<void()>& report) const {
  const auto view = view_for_device();
  Bytes block;
  for (std::size_t piece = 0; piece < pieces.size(); ++piece) {
    const auto wanted = pieces[piece];
    CKPT_RETURN_IF_ERROR(require(wanted));
    std::unique_ptr<DeviceRows> rows;
    if (wanted.size == size()) {
      CKPT_ASSIGN_OR_RETURN(rows, send(view, options, report));
    }
    // What a GPU helps with is whole rows.
    const auto most =
        rows ? std::max<std::uint64_t>(1, rows->preferred_bytes() / row_size_) * row_size_ : block_size();
    for (std::uint64_t done = 0; done < wanted.size; done += block.size()) {
      block.resize(std::min(most, wanted.size - done));
      const auto offset = wanted.offset + done;
      CKPT_RETURN_IF_ERROR(rows ? read_with(*rows, *options.device, offset, block) : read_at(offset, block));
      CKPT_RETURN_IF_ERROR(deliver(piece, done, block));
      report();
    }
  }
  return {};
}

std::uint64_t OverlaidSource::block_size() const {
  const auto descends = [](const auto& row, const auto& next) { return next.second < row.second; };
  const bool is_ordered = std::adjacent_find(rows_.begin(), rows_.end(), descends) == rows_.end();
  return is_ordered || is_c_order(view_.shape, view_.strides) ? kBlock : kWideBlock;
}

/// The other tensor from the first row that is wanted to the last.
Gather OverlaidSource::view_for_device() const {
  auto view = view_;
  view.offset += first_row_ * static_cast<std::uint64_t>(view.strides[0]);
  view.shape[0] = static_cast<std::int64_t>(last_row_ - first_row_ + 1);
  return view;
}

/// Null: the processor does it.
Result<std::unique_ptr<DeviceRows>> OverlaidSource::send(const Gather& view, const ComputeOptions& options,
                                                         const std::function<void()>& report) const {
  const bool is_worth_it = options.device != nullptr &&
                           (last_row_ - first_row_) / kSparsest <= rows_.size() &&
                           suits_device(*options.device, view);
  if (!is_worth_it) return std::unique_ptr<DeviceRows>();
  return DeviceRows::send(*options.device, view, options.threads, report);
}

/// Precondition: whole rows.
Status OverlaidSource::read_with(DeviceRows& rows, const Device& device, std::uint64_t offset,
                                 std::span<std::byte> out) const {
  std::vector<std::uint64_t> asked;
  std::vector<std::uint64_t> places;  // in `out`
  CKPT_RETURN_IF_ERROR(
      for_rows({offset, out.size()}, [&](std::uint64_t, std::uint64_t from, Extent part) -> Status {
        asked.push_back(from - first_row_);
        places.push_back(part.offset - offset);
        return {};
      }));
  if (asked.empty()) return base_->read_at(offset, out);
  CKPT_ASSIGN_OR_RETURN(const bool fits, rows.ask(asked));
  if (!fits) return read_at(offset, out);
  CKPT_RETURN_IF_ERROR(base_->read_at(offset, out));  // while the GPU is at work
  const auto put = [&](std::uint64_t at, std::span<std::byte> bytes) -> Status {
    while (!bytes.empty()) {
      const auto in_row = at % row_size_;
      const auto size = std::min<std::uint64_t>(row_size_ - in_row, bytes.size());
      std::memcpy(out.data() + places[at / row_size_] + in_row, bytes.data(), size);
      bytes = bytes.subspan(size);
      at += size;
    }
    return {};
  };
  CKPT_RETURN_IF_ERROR(rows.take(put));
  device.note_work(asked.size() * row_size_, false);
  return {};
}

}  // namespace ckpt
