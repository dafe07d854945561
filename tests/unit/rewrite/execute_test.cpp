// SPDX-License-Identifier: BSD-3-Clause
#include "ckpt/rewrite/execute.h"

#include "ckpt/edit/apply.h"
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

}  // namespace
