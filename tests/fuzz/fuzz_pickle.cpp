// SPDX-License-Identifier: BSD-3-Clause
// Any bytes as a pickle: the decoder says what is wrong or gives a graph whose nodes lie in order, which
// encodes to its bytes; every question about a value can be asked; an edit is refused or gives a pickle that
// reads again.
#include <cstdlib>
#include <vector>

#include "ckpt/pickle/decoder.h"
#include "ckpt/pickle/encoder.h"
#include "ckpt/pickle/restricted_spelling.h"

namespace ckpt {
namespace {

void require(bool truth) {
  if (!truth) std::abort();
}

void ask_everything(const ValueGraph& graph) {
  std::vector<Use> children;
  std::uint64_t budget =
      100'000;  // operands looked at: a long chain of APPENDs shares them, a fuzzer finds it
  for (Use node = 0; node < graph.size(); ++node) {
    require(graph.start(node) <= node);
    require(!graph.repeats(node) || graph.repeated(node) < node);
    require(graph.at(node) < graph.end(node));
    require(graph.finished(node) >= node);
    (void)graph.string(node);
    (void)graph.integer(node);
    (void)graph.floating(node);
    (void)graph.boolean(node);
    (void)graph.global(node);
    (void)graph.body_size(node);
    if (budget == 0) continue;
    graph.children(node, children);
    budget -= std::min<std::uint64_t>(budget, children.size());
    for (const auto child : children) require(child < node);
  }
}

Bytes whole(const EncodedPickle& pickle, const ByteSource& source) {
  Bytes bytes;
  std::uint64_t done = 0;
  for (const auto& body : pickle.bodies) {
    append_bytes(bytes, ByteView(pickle.text).subspan(done, body.at - done));
    append_bytes(bytes, source.read(body.extent).value());
    done = body.at;
  }
  append_bytes(bytes, ByteView(pickle.text).subspan(done));
  require(bytes.size() == pickle.size());
  return bytes;
}

/// Drops, renames or moves something; where depends on the input.
GraphEdits some_edits(const ValueGraph& graph, std::size_t seed) {
  GraphEdits edits;
  auto pick = [&] {
    seed = seed * 6364136223846793005U + 1442695040888963407U;
    return static_cast<Use>((seed >> 33U) % graph.size());
  };
  const auto first = pick();
  edits.drop(first);
  if (seed % 2 == 0) edits.drop(first + 1);
  if (seed % 3 == 0) edits.replace(pick(), NewValue::text("renamed"));
  if (seed % 5 == 0) edits.replace(pick(), NewValue::move_of(pick()));
  return edits;
}

void check(ByteView data) {
  const MemorySource source("fuzz", Bytes(data.begin(), data.end()));
  DecodeLimits limits;
  limits.nodes = 1U << 20U;
  const auto graph = decode_pickle(source, {0, data.size()}, limits);
  if (!graph) return;
  ask_everything(*graph);
  const auto same = encode_pickle(*graph, {});
  require(same.ok());
  const auto bytes = whole(*same, source);
  require(bytes.size() == graph->extent().size && std::equal(bytes.begin(), bytes.end(), data.begin()));

  if (const auto restricted = spell_restricted(*graph); restricted.ok()) {
    const MemorySource output("output", whole(*restricted, source));
    const auto again = decode_pickle(output, {0, output.size()}, limits);
    require(!again.ok() || refused_opcodes(*again).empty());
    require(again.ok() || again.error().code() == ErrorCode::kUnsupported);  // more nodes than may be
  }
  const auto edited = encode_pickle(*graph, some_edits(*graph, data.size()));
  if (!edited) return;
  const MemorySource output("output", whole(*edited, source));
  const auto again = decode_pickle(output, {0, output.size()}, limits);
  require(again.ok() && again->irregular().empty() && again->extent().size == output.size());
}

}  // namespace
}  // namespace ckpt

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  ckpt::check(std::as_bytes(std::span(data, size)));
  return 0;
}
