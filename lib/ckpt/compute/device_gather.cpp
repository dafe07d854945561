// SPDX-License-Identifier: BSD-3-Clause
#include "ckpt/compute/device_gather.h"

#include <algorithm>
#include <array>
#include <deque>
#include <optional>
#include <utility>

#include "ckpt/compute/convert.h"
#include "ckpt/compute/workers.h"
#include "ckpt/model/dense_order.h"

namespace ckpt {
namespace {

constexpr std::uint64_t kLeast = std::uint64_t{1} << 20U;  // bytes of a result that is sent
constexpr std::uint64_t kSlice = std::uint64_t{1} << 20U;  // bytes that one thread reads or writes at once
constexpr std::size_t kUnderWay = 2;    // pinned buffers that come down; the ring has one more
constexpr std::uint64_t kSparsest = 4;  // a view may reach so many times as many elements as it has

/// Elements from the first that the view reaches to the last.
std::uint64_t reach(const Gather& gather) {
  std::uint64_t last = 0;
  for (std::size_t i = 0; i < gather.shape.size(); ++i)
    last += static_cast<std::uint64_t>(gather.shape[i] - 1) * static_cast<std::uint64_t>(gather.strides[i]);
  return last + 1;
}

/// Bytes of a number that has a byte order.
std::uint32_t unit_of(Dtype dtype) {
  const auto& info = dtype_info(dtype);
  return info.dtype_class == DtypeClass::kComplex ? info.item_size / 2U : info.item_size;
}

/// Memory of the GPU that is used again and again.
struct Room {
  DeviceBuffer buffer;
  std::uint64_t size = 0;
};

/// For what goes up, and what comes down.
struct Rooms {
  Room source;
  Room target;
};

/// One step after the other, all of which return before the GPU has done them.
class Conveyor {
 public:
  Conveyor(DeviceEngine& engine, std::size_t threads, const ComputedSource::Deliver& deliver,
           const std::function<void()>& report)
      : engine_(engine), threads_(threads), deliver_(deliver), report_(report) {}

  /// False: the GPU has no room for it.
  Result<bool> take(const DeviceGather& work) {
    const auto& gather = *work.gather;
    return is_c_order(gather.shape, gather.strides) ? stream(work) : send_whole(work);
  }

  /// Delivers what is still coming down.
  Status finish() {
    while (!under_way_.empty()) CKPT_RETURN_IF_ERROR(collect());
    return {};
  }

 private:
  struct Coming {
    PinnedBuffer buffer;
    std::uint64_t size = 0;
    const DeviceGather* work = nullptr;
    std::uint64_t offset = 0;  ///< in the result
  };

  /// Values in order: a run of them after the other.
  Result<bool> stream(const DeviceGather& work) {
    const auto& gather = *work.gather;
    const auto from_item = dtype_info(gather.from).item_size;
    const auto to_item = dtype_info(gather.to).item_size;
    const auto run = engine_.pinned_bytes() / std::max(from_item, to_item);
    const auto numel = gather.numel();
    const auto begin = gather.storage + gather.offset * from_item;
    for (std::uint64_t done = 0; done < numel; done += run) {
      const auto count = std::min(run, numel - done);
      auto& [source, target] = rooms_[next_++ % rooms_.size()];
      CKPT_ASSIGN_OR_RETURN(const bool fits, make_room(source, target, run * from_item, run * to_item));
      if (!fits && done == 0) return false;
      CKPT_RETURN_IF_ERROR(upload(*gather.source, begin + done * from_item, count * from_item, source));
      CkptGather launch = launch_of(gather, source, target);
      launch.rank = 1;
      launch.sizes[0] = count;
      launch.from[0] = launch.to[0] = 1;
      CKPT_RETURN_IF_ERROR(engine_.gather(launch));
      CKPT_RETURN_IF_ERROR(download(target, count * to_item, work, done * to_item));
    }
    return true;
  }

  /// All that a view reaches, since its values lie in another order.
  Result<bool> send_whole(const DeviceGather& work) {
    const auto& gather = *work.gather;
    const auto from_item = dtype_info(gather.from).item_size;
    const auto bytes = reach(gather) * from_item;
    const auto result = gather.numel() * dtype_info(gather.to).item_size;
    auto& [source, target] = rooms_[next_++ % rooms_.size()];
    CKPT_ASSIGN_OR_RETURN(const bool fits, make_room(source, target, bytes, result));
    if (!fits) return false;
    CKPT_RETURN_IF_ERROR(upload(*gather.source, gather.storage + gather.offset * from_item, bytes, source));
    auto launch = launch_of(gather, source, target);
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
    CKPT_RETURN_IF_ERROR(engine_.gather(launch));
    CKPT_RETURN_IF_ERROR(download(target, result, work, 0));
    return true;
  }

  static CkptGather launch_of(const Gather& gather, const Room& source, const Room& target) {
    CkptGather launch{};
    launch.source = source.buffer.view();
    launch.target = target.buffer.view();
    launch.swap = gather.swapped ? unit_of(gather.from) : 0;
    const bool moves = gather.from == gather.to;
    launch.source_dtype = device_dtype(gather.from, moves);
    launch.target_dtype = device_dtype(gather.to, moves);
    return launch;
  }

  Result<bool> make_room(Room& source, Room& target, std::uint64_t source_size, std::uint64_t target_size) {
    for (auto [room, size] : {std::pair(&source, source_size), std::pair(&target, target_size)}) {
      if (room->size >= size) continue;
      *room = {};
      if (engine_.budget_left() < size) return false;
      CKPT_ASSIGN_OR_RETURN(room->buffer, engine_.allocate(size));
      room->size = size;
    }
    return true;
  }

  Status upload(const ByteSource& from, std::uint64_t offset, std::uint64_t bytes, const Room& to) {
    for (std::uint64_t done = 0; done < bytes;) {
      CKPT_ASSIGN_OR_RETURN(const auto pinned, engine_.next_pinned(CKPT_TO_DEVICE));
      const auto part = pinned.bytes.first(std::min<std::uint64_t>(pinned.bytes.size(), bytes - done));
      CKPT_RETURN_IF_ERROR(in_slices(part.size(), [&](std::uint64_t at, std::uint64_t size) {
        return from.read_at(offset + done + at, part.subspan(at, size));
      }));
      CKPT_RETURN_IF_ERROR(engine_.upload(pinned, part.size(), to.buffer.view(done)));
      done += part.size();
    }
    return {};
  }

  /// `offset`: where in the result the bytes begin.
  Status download(const Room& from, std::uint64_t bytes, const DeviceGather& work, std::uint64_t offset) {
    for (std::uint64_t done = 0; done < bytes;) {
      if (under_way_.size() == kUnderWay) CKPT_RETURN_IF_ERROR(collect());
      CKPT_ASSIGN_OR_RETURN(const auto pinned, engine_.next_pinned(CKPT_TO_HOST));
      const auto size = std::min<std::uint64_t>(pinned.bytes.size(), bytes - done);
      CKPT_RETURN_IF_ERROR(engine_.download(from.buffer.view(done), size, pinned));
      under_way_.push_back({pinned, size, &work, offset + done});
      done += size;
    }
    return {};
  }

  /// Waits for what was asked for first, and hands it over.
  Status collect() {
    const auto coming = under_way_.front();
    under_way_.pop_front();
    CKPT_RETURN_IF_ERROR(engine_.wait(coming.buffer));
    const auto hand_over = [&](std::uint64_t at, std::uint64_t size) -> Status {
      const auto values = coming.buffer.bytes.subspan(at, size);
      CKPT_RETURN_IF_ERROR(watch(*coming.work, coming.offset + at, values));
      return deliver_(coming.work->piece, coming.work->offset + coming.offset + at, values);
    };
    CKPT_RETURN_IF_ERROR(in_slices(coming.size, hand_over));
    report_();
    return {};
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

  template <typename Work>
  Status in_slices(std::uint64_t bytes, const Work& work) {
    const auto slice = [&](std::size_t job, std::span<std::byte>) {
      return work(job * kSlice, std::min(kSlice, bytes - job * kSlice));
    };
    return Workers(threads_, (bytes + kSlice - 1) / kSlice).run(slice, [] {});
  }

  DeviceEngine& engine_;
  std::size_t threads_;
  const ComputedSource::Deliver& deliver_;
  const std::function<void()>& report_;
  std::array<Rooms, 3> rooms_;
  std::size_t next_ = 0;
  std::deque<Coming> under_way_;
};

}  // namespace

bool suits_device(const Device& device, const Gather& gather) {
  const auto numel = gather.numel();
  const auto dimensions =
      std::count_if(gather.shape.begin(), gather.shape.end(), [](auto size) { return size != 1; });
  return numel * dtype_info(gather.to).item_size >= kLeast && dimensions <= CKPT_MAX_RANK &&
         reach(gather) / kSparsest <= numel && !gather.lazy.negative && !gather.lazy.conjugate &&
         !gather.result_swapped && (!gather.watch || is_c_order(gather.shape, gather.strides)) &&
         device.can_convert(gather.from, gather.to);
}

Result<std::vector<std::size_t>> gather_on_device(const Device& device, std::span<const DeviceGather> gathers,
                                                  std::size_t threads, const ComputedSource::Deliver& deliver,
                                                  const std::function<void()>& report) {
  CKPT_ASSIGN_OR_RETURN(auto* const engine, device.engine());
  Conveyor conveyor(*engine, threads, deliver, report);
  std::vector<std::size_t> left;
  for (std::size_t i = 0; i < gathers.size(); ++i) {
    const auto& gather = *gathers[i].gather;
    CKPT_ASSIGN_OR_RETURN(const bool taken, conveyor.take(gathers[i]));
    if (taken) {
      device.note_work(gather.numel() * dtype_info(gather.to).item_size, gather.from != gather.to);
    } else {
      left.push_back(i);
    }
  }
  CKPT_RETURN_IF_ERROR(conveyor.finish());
  return left;
}

}  // namespace ckpt
