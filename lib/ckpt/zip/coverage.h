// SPDX-License-Identifier: BSD-3-Clause
// Every byte before the central directory belongs to one record, to its padding or to its descriptor, or
// is reported: bytes in front, holes (with a record of their own in them or not), overlaps.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <stop_token>

#include "ckpt/base/diagnostics.h"
#include "ckpt/base/result.h"
#include "ckpt/io/byte_source.h"
#include "ckpt/zip/entry_table.h"

namespace ckpt {

enum class LocalHeaders : std::uint8_t {
  kRead,    ///< all of them: exact, and names and sizes are compared too
  kAssume,  ///< only where the directory alone shows a hole larger than a header's padding
};

/// Reports bytes that belong to no record or to several. Reads local headers, never data: a read or so for
/// each record that is large, one for many that are small. Errors: kIo.
Status check_coverage(const ByteSource& source, const EntryTable& table, Extent central, LocalHeaders how,
                      Diagnostics& diagnostics);

/// The same look at every local header, cut into pieces for several threads.
class CoveragePieces {
 public:
  static constexpr std::size_t kPieceSize = 1024;  ///< records

  /// Source and table must outlive this.
  CoveragePieces(const ByteSource& source, const EntryTable& table, Extent central);
  ~CoveragePieces();

  std::size_t size() const;

  /// Each piece once, on any thread. Asked to stop, it does. Errors: kIo.
  Status run(std::size_t piece, const std::stop_token& stop);

  /// What all pieces found, as `check_coverage` tells it. Precondition: all have been run. Errors: kIo.
  Status report(Diagnostics& diagnostics) const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace ckpt
