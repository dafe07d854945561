// SPDX-License-Identifier: BSD-3-Clause
#include "ckpt/rewrite/execute.h"

#include "ckpt/edit/apply.h"
#include "ckpt/format/convert.h"
#include "support/catch.h"
#include "support/checkpoint_builder.h"
#include "support/faulty_sink.h"

using namespace ckpt;
using namespace ckpt::test;

namespace {

TEST_CASE("a disk that fills up at any byte is an error of writing, and all before it is there",
          "[rewrite]") {
  auto checkpoint = read_bytes(build_torch_zip("module.a float32 20; module.b int64 3; module.c float16 1"));
  REQUIRE(checkpoint.ok());
  Plan plan;
  plan.edits.emplace_back(StripWrappers{});
  REQUIRE(apply_plan(plan, *checkpoint).ok());
  const auto layout = format_of(checkpoint->format).lay_out(*checkpoint);
  REQUIRE(layout.ok());
  const auto whole = written(*layout, *checkpoint);
  for (std::uint64_t room = 0; room < whole.size(); ++room) {
    FaultySink sink(room);
    const auto done = execute(*layout, 0, *checkpoint, sink, nullptr);
    REQUIRE_FALSE(done.ok());
    REQUIRE(done.error().code() == ErrorCode::kIo);
    REQUIRE(sink.bytes() == Bytes(whole.begin(), whole.begin() + static_cast<std::ptrdiff_t>(room)));
  }
  FaultySink sink(whole.size());
  CHECK(execute(*layout, 0, *checkpoint, sink, nullptr).ok());
  CHECK(sink.bytes() == whole);
}

/// A layout of which most bytes have to be gathered.
struct Computed {
  Checkpoint checkpoint;
  Layout layout;
};

Computed with_computed_bytes(std::optional<FormatId> format) {
  auto checkpoint = read_bytes(build_torch_zip(
      "a float32 900x1200 strides=1x900; b int64 3; c float32 7x5 storage=a strides=1x9; d float16 5"));
  REQUIRE(checkpoint.ok());
  REQUIRE(format_of(checkpoint->format).locate_storages(*checkpoint).ok());
  Plan plan;
  Convert convert;
  convert.compact = true;
  plan.edits.emplace_back(convert);
  plan.target.format = format;
  REQUIRE(apply_plan(plan, *checkpoint).ok());
  std::vector<std::string> notes;
  auto layout = lay_out_as(plan.target, *checkpoint, notes);
  REQUIRE(layout.ok());
  return {std::move(checkpoint).value(), std::move(layout).value()};
}

TEST_CASE("computed bytes are the same from any number of threads, and into a pipe", "[rewrite]") {
  const auto format = GENERATE(FormatId::kTorchZip, FormatId::kTorchLegacy, FormatId::kSafetensors);
  const auto computed = with_computed_bytes(format);
  FaultySink pipe(1U << 30U);
  REQUIRE(execute(computed.layout, 0, computed.checkpoint, pipe, nullptr).ok());
  for (const std::size_t threads : {1U, 2U, 5U}) {
    MemorySink file;
    REQUIRE(
        execute(computed.layout, 0, computed.checkpoint, file, nullptr, {threads, nullptr, nullptr}).ok());
    CHECK(file.bytes() == pipe.bytes());
  }
}

}  // namespace
