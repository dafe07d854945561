// SPDX-License-Identifier: BSD-3-Clause
// Bytes that do not lie anywhere yet: values that are gathered, converted or merged while they are written.
// They can be read like a file, or be produced at once by every processor.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <vector>

#include "ckpt/base/bytes.h"
#include "ckpt/base/export.h"
#include "ckpt/base/result.h"
#include "ckpt/io/byte_source.h"
#include "ckpt/io/extent.h"

namespace ckpt {

class Device;
class TensorBackend;

/// Who computes.
struct ComputeOptions {
  std::size_t threads = 0;                       ///< the calling one too; 0: one a processor
  std::shared_ptr<const Device> device;          ///< a GPU that may help; null: processors alone
  std::shared_ptr<const TensorBackend> backend;  ///< who calculates; null: the native kernels
};

/// Bytes of a source.
struct SourceStretch {
  const ByteSource* source;
  Extent extent;
};

class CKPT_EXPORT ComputedSource : public ByteSource {
 public:
  /// Takes `bytes`, which begin `offset` bytes into piece `piece`. Called by any thread and in any order,
  /// once for each byte. Its failure ends the work.
  using Deliver = std::function<Status(std::size_t piece, std::uint64_t offset, ByteView bytes)>;

  /// Does `produce` find out something about the values that a report shows, or that refuses them? Then it is
  /// called even where nothing is written.
  virtual bool has_verdict() const { return false; }

  /// Adds to `out` the tensors of other sources that a stretch of this one is computed from, each as a whole.
  virtual void add_inputs(Extent wanted, std::vector<SourceStretch>& out) const = 0;

  /// Computes stretches of the source and hands them over block by block. `report()` is called by the calling
  /// thread now and then. The bytes depend on the source alone, neither on how it is cut nor on the options,
  /// unless those have a back end that was asked for its sums.
  /// Errors: those of reading the inputs, of `deliver`, and of values that are refused; these last may come
  /// when all has been delivered, so nothing counts before this returns.
  virtual Status produce(std::span<const Extent> pieces, const ComputeOptions& options,
                         const Deliver& deliver, const std::function<void()>& report) const = 0;
};

}  // namespace ckpt
