// SPDX-License-Identifier: BSD-3-Clause
// Decoding and encoding in one line of a test: assembly in, graph or assembly out.
#pragma once

#include <string>
#include <string_view>

#include "ckpt/pickle/decoder.h"
#include "ckpt/pickle/encoder.h"
#include "support/pickle_assembler.h"
#include "support/pickle_printer.h"

namespace ckpt::testing {

inline Result<ValueGraph> decode_bytes(const Bytes& bytes, const DecodeLimits& limits = {}) {
  const MemorySource source("pickle", bytes);
  return decode_pickle(source, {0, bytes.size()}, limits);
}

inline Result<ValueGraph> decode_text(std::string_view assembly) {
  return decode_bytes(assemble(assembly));
}

/// The error of decoding, or "decoded".
inline std::string decode_error(std::string_view assembly, const DecodeLimits& limits = {}) {
  const auto graph = decode_bytes(assemble(assembly), limits);
  return graph ? "decoded" : graph.error().text();
}

/// The pickle with its outside bodies, which are read from `source`.
inline Bytes whole(const EncodedPickle& pickle, const Bytes& source) {
  Bytes bytes;
  std::uint64_t done = 0;
  for (const auto& body : pickle.bodies) {
    append_bytes(bytes, ByteView(pickle.text).subspan(done, body.at - done));
    append_bytes(bytes, ByteView(source).subspan(body.extent.offset, body.extent.size));
    done = body.at;
  }
  append_bytes(bytes, ByteView(pickle.text).subspan(done));
  return bytes;
}

/// The edited pickle as assembly, or the error.
inline std::string edited(std::string_view assembly, const GraphEdits& edits) {
  const auto source = assemble(assembly);
  const auto graph = decode_bytes(source);
  if (!graph) return graph.error().text();
  const auto pickle = encode_pickle(*graph, edits);
  return pickle ? disassemble(whole(*pickle, source)) : pickle.error().text();
}

}  // namespace ckpt::testing
