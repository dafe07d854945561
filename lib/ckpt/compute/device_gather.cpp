// SPDX-License-Identifier: BSD-3-Clause
#include "ckpt/compute/device_gather.h"

#include <algorithm>
#include <array>
#include <utility>

#include "ckpt/compute/convert.h"
#include "ckpt/compute/device_conveyor.h"
#include "ckpt/model/dense_order.h"

namespace ckpt {
namespace {

constexpr std::uint64_t kLeast = std::uint64_t{1} << 20U;  // bytes of a result that is sent
constexpr std::uint64_t kSparsest = 4;  // a view may reach so many times as many elements as it has

/// Bytes of a number that has a byte order.
std::uint32_t unit_of(Dtype dtype) {
  const auto& info = dtype_info(dtype);
  return info.dtype_class == DtypeClass::kComplex ? info.item_size / 2U : info.item_size;
}

/// For what goes up, and what comes down.
struct Rooms {
  DeviceRoom source;
  DeviceRoom target;
};

/// One gather after the other, each of which returns before the GPU has done it.
class Gatherer {
 public:
  Gatherer(DeviceEngine& engine, std::size_t threads, const ComputedSource::Deliver& deliver,
           const std::function<void()>& report)
      : engine_(engine), conveyor_(engine, threads, report), deliver_(deliver) {}

  /// False: the GPU has no room for it.
  Result<bool> take(const DeviceGather& work) {
    const auto& gather = *work.gather;
    return is_c_order(gather.shape, gather.strides) ? stream(work) : send_whole(work);
  }

  /// Delivers what is still coming down.
  Status finish() { return conveyor_.finish(); }

 private:
  /// Values in order: a run of them after the other.
  Result<bool> stream(const DeviceGather& work) {
    const auto& gather = *work.gather;
    const auto from_item = dtype_info(gather.from).item_size;
    const auto to_item = dtype_info(gather.to).item_size;
    const auto run = engine_.pinned_bytes() / std::max(from_item, to_item);
    const auto numel = gather.numel();
    const auto begin = gather.storage + gather.offset * from_item;
    const Rooms* last = nullptr;
    for (std::uint64_t done = 0; done < numel; done += run) {
      const auto count = std::min(run, numel - done);
      auto& next = rooms_[next_++ % rooms_.size()];
      CKPT_ASSIGN_OR_RETURN(const bool fits, make_room(next, run * from_item, run * to_item));
      if (fits) last = &next;  // else the one before is used again, when it is free
      if (last == nullptr) return false;
      const auto& rooms = *last;
      CKPT_RETURN_IF_ERROR(
          conveyor_.upload(*gather.source, begin + done * from_item, count * from_item, rooms.source));
      CkptGather launch = launch_of(gather, rooms);
      launch.rank = 1;
      launch.sizes[0] = count;
      launch.from[0] = launch.to[0] = 1;
      CKPT_RETURN_IF_ERROR(engine_.gather(launch));
      CKPT_RETURN_IF_ERROR(download(rooms.target, count * to_item, work, done * to_item));
    }
    return true;
  }

  /// All that a view reaches, since its values lie in another order.
  Result<bool> send_whole(const DeviceGather& work) {
    const auto& gather = *work.gather;
    const auto from_item = dtype_info(gather.from).item_size;
    const auto bytes = device_reach(gather) * from_item;
    const auto result = gather.numel() * dtype_info(gather.to).item_size;
    auto& rooms = rooms_[next_++ % rooms_.size()];
    CKPT_ASSIGN_OR_RETURN(const bool fits, make_room(rooms, bytes, result));
    if (!fits) return false;
    CKPT_RETURN_IF_ERROR(
        conveyor_.upload(*gather.source, gather.storage + gather.offset * from_item, bytes, rooms.source));
    auto launch = launch_of(gather, rooms);
    set_dense_target(gather, launch);
    CKPT_RETURN_IF_ERROR(engine_.gather(launch));
    CKPT_RETURN_IF_ERROR(download(rooms.target, result, work, 0));
    return true;
  }

  static CkptGather launch_of(const Gather& gather, const Rooms& rooms) {
    CkptGather launch{};
    launch.source = rooms.source.buffer.view();
    launch.target = rooms.target.buffer.view();
    launch.swap = gather.swapped ? unit_of(gather.from) : 0;
    const bool moves = gather.from == gather.to;
    launch.source_dtype = device_dtype(gather.from, moves);
    launch.target_dtype = device_dtype(gather.to, moves);
    return launch;
  }

  Result<bool> make_room(Rooms& rooms, std::uint64_t source, std::uint64_t target) {
    CKPT_ASSIGN_OR_RETURN(const bool fits, conveyor_.make_room(rooms.source, source));
    if (!fits) return false;
    return conveyor_.make_room(rooms.target, target);
  }

  /// `offset`: where in the result the bytes begin.
  Status download(const DeviceRoom& from, std::uint64_t bytes, const DeviceGather& work,
                  std::uint64_t offset) {
    return conveyor_.download(from, bytes,
                              [this, &work, offset](std::uint64_t at, std::span<std::byte> values) -> Status {
                                CKPT_RETURN_IF_ERROR(watch(work, offset + at, values));
                                return deliver_(work.piece, work.offset + offset + at, values);
                              });
  }

  /// Shows results from byte `offset` on, and what they were made of, to whoever wants to see them.
  static Status watch(const DeviceGather& work, std::uint64_t offset, std::span<std::byte> results) {
    const auto& gather = *work.gather;
    if (!gather.watch) return {};
    const auto from_item = dtype_info(gather.from).item_size;
    const auto first = offset / dtype_info(gather.to).item_size;
    Bytes values(results.size() / dtype_info(gather.to).item_size * from_item);
    CKPT_RETURN_IF_ERROR(
        gather.source->read_at(gather.storage + (gather.offset + first) * from_item, values));
    if (gather.swapped) swap_byte_order(gather.from, values);
    if (!work.is_repeat) gather.watch->look(values, results, first);
    gather.watch->correct(values, results);
    return {};
  }

  DeviceEngine& engine_;
  DeviceConveyor conveyor_;
  const ComputedSource::Deliver& deliver_;
  std::array<Rooms, 3> rooms_;
  std::size_t next_ = 0;
};

}  // namespace

std::uint64_t device_reach(const Gather& gather) {
  std::uint64_t last = 0;
  for (std::size_t i = 0; i < gather.shape.size(); ++i)
    last += static_cast<std::uint64_t>(gather.shape[i] - 1) * static_cast<std::uint64_t>(gather.strides[i]);
  return last + 1;
}

void set_dense_target(const Gather& gather, CkptGather& launch) {
  launch.rank = 0;
  std::uint64_t stride = 1;
  for (auto i = gather.shape.size(); i-- > 0;) {
    const auto size = static_cast<std::uint64_t>(gather.shape[i]);
    if (size == 1) continue;
    launch.sizes[launch.rank] = size;
    launch.from[launch.rank] = static_cast<std::uint64_t>(gather.strides[i]);
    launch.to[launch.rank] = stride;
    ++launch.rank;
    stride *= size;
  }
}

bool suits_device(const Device& device, const Gather& gather) {
  const auto numel = gather.numel();
  const auto dimensions =
      std::count_if(gather.shape.begin(), gather.shape.end(), [](auto size) { return size != 1; });
  return numel * dtype_info(gather.to).item_size >= kLeast && dimensions <= CKPT_MAX_RANK &&
         device_reach(gather) / kSparsest <= numel && !gather.lazy.negative && !gather.lazy.conjugate &&
         !gather.result_swapped && (!gather.watch || is_c_order(gather.shape, gather.strides)) &&
         device.can_convert(gather.from, gather.to);
}

Result<std::vector<std::size_t>> gather_on_device(const Device& device, std::span<const DeviceGather> gathers,
                                                  std::size_t threads, const ComputedSource::Deliver& deliver,
                                                  const std::function<void()>& report) {
  CKPT_ASSIGN_OR_RETURN(auto* const engine, device.engine());
  Gatherer gatherer(*engine, threads, deliver, report);
  std::vector<std::size_t> left;
  for (std::size_t i = 0; i < gathers.size(); ++i) {
    const auto& gather = *gathers[i].gather;
    CKPT_ASSIGN_OR_RETURN(const bool taken, gatherer.take(gathers[i]));
    if (taken) {
      device.note_work(gather.numel() * dtype_info(gather.to).item_size, gather.from != gather.to);
    } else {
      left.push_back(i);
    }
  }
  CKPT_RETURN_IF_ERROR(gatherer.finish());
  return left;
}

}  // namespace ckpt
