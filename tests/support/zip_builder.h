// SPDX-License-Identifier: BSD-3-Clause
// Zip archives from a description, for tests: every field of every record can be made to lie.
//
// One line (or part between ';') is one thing; words after the first are `key=value`:
//
//   a/data.pkl                      a record: local header, data, central entry
//   a/data/0 body=ab\0 crc=1        with its own body (\n, \0, \s for a space, \xNN) and a wrong CRC
//   a/x zeros=5000                  a body of zeros
//   end entries=2                   overrides a field of the end record
//   zip64 / locator / comment / before / after …
//
// Keys of records:  body zeros | local-name local-flags local-method local-crc local-size local-stored
// local-extra
//                   | name flags method crc size stored offset extra entry-comment disk needs time
//                   | descriptor=16|24|none  gap=BYTES (before the header)  deflate=1  listed=0  written=0
//                   `like=N`: the entry points at the N-th record (from 0) and takes its sizes and CRC.
// Keys of `end`:     entries entries-here disk central-disk central-size central-offset comment-size
// Keys of `zip64`:   entries entries-here disk central-disk central-size central-offset record-size
// Keys of `locator`: at disks
// `comment TEXT`, `before TEXT` (offsets count it), `before-all TEXT` (they don't), `between TEXT` (directory
// and end records), `behind-entries TEXT` (counted in the directory's size), `after TEXT`; `twice` repeats
// the whole file.
//
// Bodies not given are those of a small checkpoint: {'a': ones(2)} on storage '0'.
#pragma once

#include <memory>
#include <string_view>

#include "ckpt/base/bytes.h"
#include "ckpt/io/byte_source.h"

namespace ckpt::test {

/// The archive that `description` describes. Aborts the test on a description it doesn't understand.
Bytes build_zip(std::string_view description);

std::shared_ptr<const ByteSource> zip_source(Bytes bytes);

inline std::shared_ptr<const ByteSource> zip_source(std::string_view description) {
  return zip_source(build_zip(description));
}

}  // namespace ckpt::test
