// SPDX-License-Identifier: BSD-3-Clause
#include "ckpt/compute/device_backend.h"

#include <algorithm>
#include <cstring>
#include <utility>

namespace ckpt {
namespace {

constexpr std::uint64_t kPinnedBytes = std::uint64_t{8} << 20U;
constexpr std::uint64_t kLargestItem = 8;
constexpr std::uint64_t kPiece = kPinnedBytes / kLargestItem;  // values

std::uint64_t item_size(std::int32_t dtype) {
  switch (dtype) {
    case CKPT_FLOAT64: return 8;
    case CKPT_FLOAT32: return 4;
    default: return 2;
  }
}

}  // namespace

/// Streams and memory of one thread at a time.
class DeviceBackend::Lane {
 public:
  Lane(std::unique_ptr<DeviceEngine> engine, int ordinal) : engine_(std::move(engine)), ordinal_(ordinal) {}

  /// A piece of the inputs goes to the GPU.
  Status upload(const CkptKernelCall& call, std::uint64_t first, std::uint64_t count) {
    CKPT_RETURN_IF_ERROR(make_rooms(call.input_count + 1));  // and one for the result
    values_.clear();
    for (std::size_t i = 0; i < call.input_count; ++i) {
      const auto& input = call.inputs[i];
      const auto item = item_size(input.dtype);
      CKPT_ASSIGN_OR_RETURN(const auto pinned, engine_->next_pinned(CKPT_TO_DEVICE));
      std::memcpy(pinned.bytes.data(),
                  static_cast<const std::byte*>(input.buffer) + (input.offset + first) * item, count * item);
      CKPT_RETURN_IF_ERROR(engine_->upload(pinned, count * item, rooms_[i].view()));
      values_.push_back(values_in(i, count, input.dtype));
    }
    return {};
  }

  /// A pass over what was uploaded.
  Status combine(const TensorBackend& kernels, const CkptKernelCall& call, std::uint64_t first,
                 std::uint64_t count) {
    const auto target = values_in(call.input_count, count, call.target_dtype);
    return compute(call, first, call.input_count + 1,
                   [&](const CkptKernelCall& there) { return kernels.combine(there, target); });
  }

  /// Sums over what was uploaded, which are here when it returns.
  Status reduce(const TensorBackend& kernels, const CkptKernelCall& call, std::uint64_t first,
                std::span<double> results) {
    return compute(call, first, call.input_count,
                   [&](const CkptKernelCall& there) { return kernels.reduce(there, results); });
  }

  /// Its result comes back.
  Status download(const CkptKernelCall& call, const CkptValues& target, std::uint64_t first,
                  std::uint64_t count) {
    const auto item = item_size(target.dtype);
    CKPT_ASSIGN_OR_RETURN(const auto pinned, engine_->next_pinned(CKPT_TO_HOST));
    CKPT_RETURN_IF_ERROR(engine_->download(rooms_[call.input_count].view(), count * item, pinned));
    CKPT_RETURN_IF_ERROR(engine_->wait(pinned));
    std::memcpy(static_cast<std::byte*>(target.buffer) + (target.offset + first) * item, pinned.bytes.data(),
                count * item);
    return {};
  }

 private:
  Status make_rooms(std::size_t count) {
    while (rooms_.size() < count) {
      CKPT_ASSIGN_OR_RETURN(auto room, engine_->allocate(kPinnedBytes));
      rooms_.push_back(std::move(room));
    }
    return {};
  }

  /// `launch(call)` on the stream of the GPU, with what was uploaded, where the first `rooms` are used.
  template <typename Launch>
  Status compute(CkptKernelCall call, std::uint64_t first, std::size_t rooms, const Launch& launch) {
    call.inputs = values_.data();
    call.first_element += first;
    std::vector<CkptView> views;
    for (std::size_t i = 0; i < rooms; ++i) views.push_back(rooms_[i].view());
    return engine_->compute(views, [&](void* stream) {
      call.stream = stream;
      return launch(call);
    });
  }

  CkptValues values_in(std::size_t room, std::uint64_t count, std::int32_t dtype) const {
    return {engine_->address(rooms_[room].view()), 0, count, dtype, ordinal_};
  }

  std::unique_ptr<DeviceEngine> engine_;
  int ordinal_;
  std::vector<DeviceBuffer> rooms_;  ///< by input, then the result's
  std::vector<CkptValues> values_;
};

DeviceBackend::DeviceBackend(std::shared_ptr<const TensorBackend> kernels,
                             std::shared_ptr<const Device> device, DeviceSums sums)
    : kernels_(std::move(kernels)), device_(std::move(device)), sums_(sums) {}

DeviceBackend::~DeviceBackend() = default;

Result<std::unique_ptr<DeviceBackend::Lane>> DeviceBackend::take_lane() const {
  {
    const std::lock_guard lock(mutex_);
    if (!free_.empty()) {
      auto lane = std::move(free_.back());
      free_.pop_back();
      return lane;
    }
  }
  CKPT_ASSIGN_OR_RETURN(auto engine, device_->open_engine(kPinnedBytes));
  return std::make_unique<Lane>(std::move(engine), device_->ordinal());
}

/// Not after an error: then its engine may be of no more use.
void DeviceBackend::give_back(std::unique_ptr<Lane> lane, std::uint64_t computed) const {
  const std::lock_guard lock(mutex_);
  device_->note_work(computed, true);
  free_.push_back(std::move(lane));
}

bool DeviceBackend::supports(const CkptKernelCall& call) const {
  return (call.kernel < CKPT_GRAM || makes_sums()) && kernels_->supports(call);
}

Status DeviceBackend::combine(const CkptKernelCall& call, const CkptValues& target) const {
  CKPT_ASSIGN_OR_RETURN(auto lane, take_lane());
  for (std::uint64_t first = 0; first < target.count; first += kPiece) {
    const auto count = std::min(kPiece, target.count - first);
    CKPT_RETURN_IF_ERROR(lane->upload(call, first, count));
    CKPT_RETURN_IF_ERROR(lane->combine(*kernels_, call, first, count));
    CKPT_RETURN_IF_ERROR(lane->download(call, target, first, count));
  }
  give_back(std::move(lane), target.count * item_size(target.dtype));
  return {};
}

Status DeviceBackend::reduce(const CkptKernelCall& call, std::span<double> results) const {
  if (!makes_sums()) return Error(ErrorCode::kBackend, "nobody asked for sums of a GPU");
  CKPT_ASSIGN_OR_RETURN(auto lane, take_lane());
  std::fill(results.begin(), results.end(), 0.0);
  std::vector<double> piece(results.size());
  const auto values = call.inputs[0].count;
  for (std::uint64_t first = 0; first < values; first += kPiece) {
    CKPT_RETURN_IF_ERROR(lane->upload(call, first, std::min(kPiece, values - first)));
    CKPT_RETURN_IF_ERROR(lane->reduce(*kernels_, call, first, piece));
    for (std::size_t i = 0; i < piece.size(); ++i) results[i] += piece[i];
  }
  give_back(std::move(lane), 0);
  return {};
}

}  // namespace ckpt
