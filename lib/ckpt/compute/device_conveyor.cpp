// SPDX-License-Identifier: BSD-3-Clause
#include "ckpt/compute/device_conveyor.h"

#include <algorithm>
#include <utility>

#include "ckpt/compute/workers.h"

namespace ckpt {
namespace {

constexpr std::uint64_t kSlice = std::uint64_t{1} << 20U;  // bytes that one thread reads or writes at once
constexpr std::size_t kUnderWay = 2;  // pinned buffers that come down; the ring has one more

}  // namespace

Result<bool> DeviceConveyor::make_room(DeviceRoom& room, std::uint64_t size) {
  if (room.size >= size) return true;
  room = {};
  if (engine_.budget_left() < size) return false;
  CKPT_ASSIGN_OR_RETURN(room.buffer, engine_.allocate(size));
  room.size = size;
  return true;
}

Status DeviceConveyor::upload(const ByteSource& from, std::uint64_t offset, std::uint64_t bytes,
                              const DeviceRoom& to) {
  return send(bytes, to,
              [&](std::uint64_t at, std::span<std::byte> out) { return from.read_at(offset + at, out); });
}

Status DeviceConveyor::upload(ByteView bytes, const DeviceRoom& to) {
  return send(bytes.size(), to, [&](std::uint64_t at, std::span<std::byte> out) -> Status {
    const auto part = bytes.subspan(at, out.size());
    std::copy(part.begin(), part.end(), out.begin());
    return {};
  });
}

/// `fill(offset, out)` for slices, by any thread.
template <typename Fill>
Status DeviceConveyor::send(std::uint64_t bytes, const DeviceRoom& to, const Fill& fill) {
  for (std::uint64_t done = 0; done < bytes;) {
    CKPT_ASSIGN_OR_RETURN(const auto pinned, engine_.next_pinned(CKPT_TO_DEVICE));
    const auto part = pinned.bytes.first(std::min<std::uint64_t>(pinned.bytes.size(), bytes - done));
    CKPT_RETURN_IF_ERROR(in_slices(part.size(), [&](std::uint64_t at, std::uint64_t size) {
      return fill(done + at, part.subspan(at, size));
    }));
    CKPT_RETURN_IF_ERROR(engine_.upload(pinned, part.size(), to.buffer.view(done)));
    done += part.size();
  }
  return {};
}

Status DeviceConveyor::download(const DeviceRoom& from, std::uint64_t bytes, const Arrive& arrive) {
  for (std::uint64_t done = 0; done < bytes;) {
    if (under_way_.size() == kUnderWay) CKPT_RETURN_IF_ERROR(collect());
    CKPT_ASSIGN_OR_RETURN(const auto pinned, engine_.next_pinned(CKPT_TO_HOST));
    const auto size = std::min<std::uint64_t>(pinned.bytes.size(), bytes - done);
    CKPT_RETURN_IF_ERROR(engine_.download(from.buffer.view(done), size, pinned));
    under_way_.push_back({pinned, size, done, arrive});
    done += size;
  }
  return {};
}

Status DeviceConveyor::finish() {
  while (!under_way_.empty()) CKPT_RETURN_IF_ERROR(collect());
  return {};
}

/// Waits for what was asked for first, and hands it over.
Status DeviceConveyor::collect() {
  const auto coming = std::move(under_way_.front());
  under_way_.pop_front();
  CKPT_RETURN_IF_ERROR(engine_.wait(coming.buffer));
  CKPT_RETURN_IF_ERROR(in_slices(coming.size, [&](std::uint64_t at, std::uint64_t size) {
    return coming.arrive(coming.offset + at, coming.buffer.bytes.subspan(at, size));
  }));
  report_();
  return {};
}

template <typename Work>
Status DeviceConveyor::in_slices(std::uint64_t bytes, const Work& work) const {
  const auto slice = [&](std::size_t job, std::span<std::byte>) {
    return work(job * kSlice, std::min(kSlice, bytes - job * kSlice));
  };
  return Workers(threads_, (bytes + kSlice - 1) / kSlice).run(slice, [] {});
}

}  // namespace ckpt
