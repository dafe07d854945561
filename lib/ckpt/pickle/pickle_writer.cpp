// SPDX-License-Identifier: BSD-3-Clause
#include "ckpt/pickle/pickle_writer.h"

#include <algorithm>

namespace ckpt {
namespace {

constexpr std::size_t kFrameHead = 1 + sizeof(std::uint64_t);  // FRAME and its length

}  // namespace

Bytes& PickleWriter::text() {
  if (mark_held_) out_.text.push_back(static_cast<std::byte>(Opcode::kMark));
  mark_held_ = false;
  return out_.text;
}

void PickleWriter::copy(std::uint32_t from, std::uint32_t to) {
  if (from == to) return;
  auto& out = text();
  const auto start = out.size();
  append_bytes(out, graph_.text().subspan(from, to - from));
  const auto& bodies = graph_.outside_bodies();
  if (bodies.empty()) return;
  auto body = std::lower_bound(bodies.begin(), bodies.end(), from,
                               [](const auto& left, std::uint32_t position) { return left.at < position; });
  for (; body != bodies.end() && body->at < to; ++body) {
    Instruction instruction;
    cut_instruction(graph_.text().subspan(body->at), instruction);
    out_.bodies.push_back({start + (body->at - from) + instruction.head_size, body->extent});
    bodies_ += body->extent.size;
  }
}

void PickleWriter::hold_mark() {
  text();  // an earlier one can't wait any longer
  mark_held_ = true;
}

bool PickleWriter::drop_mark() {
  const bool held = mark_held_;
  mark_held_ = false;
  return held;
}

void PickleWriter::open_frame() {
  frame_ = {out_.text.size(), bodies_};
  out_.text.push_back(static_cast<std::byte>(Opcode::kFrame));
  append_le(out_.text, std::uint64_t{0});
}

void PickleWriter::close_frame() {
  const auto begin = frame_->header + kFrameHead;
  if (out_.text.size() == begin) {
    out_.text.resize(frame_->header);
  } else {
    store_le(out_.text.data() + frame_->header + 1, out_.text.size() - begin + (bodies_ - frame_->bodies));
  }
  frame_.reset();
}

}  // namespace ckpt
