// SPDX-License-Identifier: BSD-3-Clause
// One description of a checkpoint, written as a torch zip, a legacy stream or safetensors; and what a read
// checkpoint holds, as lines to compare.
//
// One item a line, or between ';'. A path's parts, separated by '/', are keys of nested dicts:
//
//   model/w float32 2x3                          a tensor with a storage of its own, whose key is its path
//   model/v float32 3 storage=model/w offset=3   one more view of that storage
//   t float32 3x2 storage=model/w strides=1x3
//   s int64 scalar                               a tensor without dimensions
//   epoch = 7                                    a number that is no tensor
//   groups = [{'params':[0,1]}]                  numbers, strings, lists and dicts, without spaces
//   state/#0/exp_avg float32 2                   a part that is a number: an integer as a key
//
// Further options: numel=N (elements of the storage, if the views don't reach its end), device=cuda:0,
// parameter (an nn.Parameter). safetensors take contiguous tensors alone, under their whole path.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "ckpt/base/bytes.h"
#include "ckpt/format/format.h"
#include "ckpt/io/byte_source.h"
#include "ckpt/model/checkpoint.h"

namespace ckpt::test {

Bytes build_torch_zip(std::string_view description);
Bytes build_torch_legacy(std::string_view description);
Bytes build_safetensors(std::string_view description);

/// A legacy stream in pieces, each of which a test can replace. Pickles are assembly, see pickle_assembler.h.
struct LegacyPieces {
  std::string magic;
  std::string protocol;
  std::string system;
  std::string object;
  std::string keys;
  std::vector<Bytes> storages;  ///< each with its count
  std::string trailing;

  Bytes build() const;
};

LegacyPieces legacy_pieces(std::string_view description);

/// Assembly of a whole object pickle that is one tensor on storage "0"; every argument as assembly without
/// the final ';'. For tests that need one of them to lie.
struct TensorPickle {
  std::string storage_class = "GLOBAL torch FloatStorage";
  std::string key = "BINUNICODE \"0\"";
  std::string numel = "BININT 2";
  std::string view = "NONE";  ///< left out where empty, as in zips
  std::string offset = "BININT 0";
  std::string sizes = "MARK; BININT 2; TUPLE";
  std::string strides = "MARK; BININT 1; TUPLE";
  std::string more = {};  ///< behind the hooks; left out where empty

  std::string arguments() const;  ///< as a tuple
  std::string value() const;

  std::string pickle() const { return "PROTO 2; " + value() + "; STOP"; }
};

/// A body as `build_zip` wants it spelled.
std::string escaped(std::string_view bytes);

/// A safetensors file of this header, length in front.
Bytes safetensors_file(std::string_view header, std::string_view buffer);

std::shared_ptr<const ByteSource> source_of(Bytes bytes);

inline std::shared_ptr<const ByteSource> source_of(std::string_view text) {
  const auto view = as_bytes(text);
  return source_of(Bytes(view.begin(), view.end()));
}

/// Reads `bytes` with whatever format they show. Its findings as "severity id" lines in `findings`, if given.
Result<Checkpoint> read_bytes(Bytes bytes, std::vector<std::string>* findings = nullptr);

/// The error of reading, or "read", followed by the findings: "read, warning legacy-trailing-bytes".
std::string outcome(Bytes bytes);

/// What `layout` writes.
Bytes written(const Layout& layout, const Checkpoint& checkpoint);

/// Every tensor: path, dtype, shape, strides where they are not C order, and its bytes in hexadecimal.
std::vector<std::string> table(const Checkpoint& checkpoint);

}  // namespace ckpt::test
