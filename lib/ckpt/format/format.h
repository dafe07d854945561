// SPDX-License-Identifier: BSD-3-Clause
// A container: how it is told from others, read into a Checkpoint, and laid out again.
#pragma once

#include <memory>
#include <string_view>
#include <vector>

#include "ckpt/base/diagnostics.h"
#include "ckpt/base/export.h"
#include "ckpt/base/intent.h"
#include "ckpt/base/result.h"
#include "ckpt/format/layout.h"
#include "ckpt/io/byte_source.h"
#include "ckpt/model/checkpoint.h"

namespace ckpt {

/// What a file shows of itself before it is read.
struct Probe {
  const ByteSource& source;
  ByteView prefix;  ///< the first 512 bytes, or fewer
};

class CKPT_EXPORT Format {
 public:
  Format() = default;
  Format(const Format&) = delete;
  Format& operator=(const Format&) = delete;
  virtual ~Format() = default;

  virtual FormatId id() const = 0;
  /// "torch zip": for people and for JSON's `format` (with '-' for ' ').
  virtual std::string_view name() const = 0;
  /// Could this be a file of the format? Looks at the prefix, costs nothing.
  virtual bool probe(const Probe& probe) const = 0;
  /// Reads the metadata. Errors: kCorrupt, kUnsupported (named for what it is), kIo.
  virtual Result<Checkpoint> read(std::shared_ptr<const ByteSource> source, Diagnostics& diagnostics,
                                  Intent intent) const = 0;

  /// Fills in the extents of storages that only the container's headers know, for who copies their bytes into
  /// another file; a storage in a compressed record stays without. Errors: kRefused where readers disagree
  /// about the file, kCorrupt, kIo.
  virtual Status locate_storages(Checkpoint&) const { return {}; }

  /// The file that holds `checkpoint` with its edits. Unedited, it is the input's bytes.
  /// Errors: kUnsupported for edits this container can't spell, kIo where headers are read.
  virtual Result<Layout> lay_out(const Checkpoint& checkpoint) const = 0;
};

/// Every format, in the order in which they are asked.
CKPT_EXPORT const std::vector<const Format*>& all_formats();
CKPT_EXPORT const Format& format_of(FormatId id);

/// The format of `source`. Errors: kUnsupported that says what the file is instead, kCorrupt for a damaged
/// one.
CKPT_EXPORT Result<const Format*> detect_format(const ByteSource& source);

/// `detect_format` and `read` in one; errors get the file's name.
CKPT_EXPORT Result<Checkpoint> read_checkpoint(std::shared_ptr<const ByteSource> source,
                                               Diagnostics& diagnostics, Intent intent = Intent::kLook);

}  // namespace ckpt
