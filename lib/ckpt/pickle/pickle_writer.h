// SPDX-License-Identifier: BSD-3-Clause
// The output of the encoder: text of a graph and new text, outside bodies carried along, frames opened and
// closed with their lengths filled in.
#pragma once

#include <cstdint>
#include <optional>

#include "ckpt/pickle/encoder.h"

namespace ckpt {

class PickleWriter {
 public:
  explicit PickleWriter(const ValueGraph& graph) : graph_(graph) {}

  void reserve(std::uint64_t bytes) { out_.text.reserve(bytes); }

  /// Appends a range of the graph's text, with the outside bodies of its instructions. Both ends lie at
  /// instructions.
  void copy(std::uint32_t from, std::uint32_t to);

  /// Where new text is to be appended.
  Bytes& text();

  /// Writes MARK in front of whatever comes next, if anything comes.
  void hold_mark();
  /// Forgets the MARK that is held back. Was there one?
  bool drop_mark();

  void open_frame();
  /// Fills in the length; a frame that stayed empty disappears.
  void close_frame();

  EncodedPickle take() && { return std::move(out_); }

 private:
  struct OpenFrame {
    std::size_t header;    ///< position of the FRAME instruction
    std::uint64_t bodies;  ///< bytes of outside bodies in front of it
  };

  const ValueGraph& graph_;
  EncodedPickle out_;
  std::uint64_t bodies_ = 0;  ///< bytes of outside bodies so far
  std::optional<OpenFrame> frame_;
  bool mark_held_ = false;
};

}  // namespace ckpt
