// SPDX-License-Identifier: BSD-3-Clause
// Rows by the million come out as one thread would print them.
#include "render/row_chunks.h"

#include <new>
#include <string>
#include <string_view>

#include <nlohmann/json.hpp>

#include "support/checkpoint_builder.h"
#include "support/run_cli.h"

namespace ckpt::test {
namespace {

using cli::kManyRows;
using cli::kRowsOfChunk;
using cli::print_in_chunks;
using cli::StringStream;

constexpr std::size_t kRows = kManyRows + kRowsOfChunk / 2;  // the last chunk is half full

std::string row(std::size_t index) {
  return std::to_string(index) + '\n';
}

/// `count` rows as one thread prints them.
std::string rows(std::size_t count) {
  std::string out;
  for (std::size_t i = 0; i < count; ++i) out += row(i);
  return out;
}

void print_rows(std::size_t begin, std::size_t end, cli::Stream& out) {
  for (auto i = begin; i < end; ++i) out.print(row(i));
}

TEST_CASE("rows come in order", "[cli]") {
  for (const auto count : {std::size_t{0}, std::size_t{1}, kManyRows - 1, kManyRows, kRows}) {
    StringStream out;
    print_in_chunks(count, print_rows, out);
    CHECK((out.text() == rows(count)));
  }
}

TEST_CASE("rows come behind what was printed before them", "[cli]") {
  StringStream out;
  out.print("title\n");
  print_in_chunks(kRows, print_rows, out);
  out.print("end\n");
  CHECK((out.text() == "title\n" + rows(kRows) + "end\n"));
}

TEST_CASE("few rows are one chunk", "[cli]") {
  StringStream out;
  int chunks = 0;
  print_in_chunks(
      kManyRows - 1, [&](auto, auto, auto&) { ++chunks; }, out);
  CHECK(chunks == 1);
}

TEST_CASE("a chunk may be larger than a stream's buffer, or empty", "[cli]") {
  const std::string wide(10'000, 'x');
  StringStream out;
  print_in_chunks(
      kRows,
      [&](std::size_t begin, std::size_t end, cli::Stream& chunk) {
        if (begin / kRowsOfChunk % 8 != 1) return;
        for (auto i = begin; i < end; ++i) chunk.print(wide + row(i));
      },
      out);
  std::string expected;
  for (std::size_t i = 0; i < kRows; ++i) {
    if (i / kRowsOfChunk % 8 == 1) expected += wide + row(i);
  }
  CHECK((out.text() == expected));
}

TEST_CASE("what a chunk throws is thrown, and nothing behind it is written", "[cli]") {
  for (const auto bad : {std::size_t{0}, kRowsOfChunk, 7 * kRowsOfChunk, kManyRows}) {
    StringStream out;
    const auto print = [&](std::size_t begin, std::size_t end, cli::Stream& chunk) {
      if (begin == bad) throw std::bad_alloc();
      print_rows(begin, end, chunk);
    };
    CHECK_THROWS_AS(print_in_chunks(kRows, print, out), std::bad_alloc);
    CHECK(rows(bad).starts_with(out.text()));
  }
}

TEST_CASE("inspect: tensors by the thousand are in order, in text and JSON", "[cli][json]") {
  const Cli cli;
  std::string header = "{";
  for (std::size_t i = 0; i < kRows; ++i) {
    header += (i > 0 ? ",\"t" : "\"t") + std::to_string(i) +
              R"(":{"dtype":"U8","shape":[1],"data_offsets":[)" + std::to_string(i) + ',' +
              std::to_string(i + 1) + "]}";
  }
  cli.write("in.safetensors", as_text(safetensors_file(header + '}', std::string(kRows, 'x'))));
  const auto parsed = nlohmann::json::parse(cli.good("inspect --json in.safetensors"));
  const auto& file = parsed["files"][0];
  REQUIRE(file["tensors"].size() == kRows);
  REQUIRE(file["storages"].size() == kRows);
  const auto lines = split_lines(cli.good("inspect in.safetensors"));
  REQUIRE(lines.size() > kRows + 3);
  bool in_order = true;
  for (std::size_t i = 0; i < kRows; ++i) {
    const auto name = "t" + std::to_string(i);
    in_order = in_order && file["tensors"][i]["name"] == name && file["storages"][i]["key"] == name &&
               lines[i + 3].starts_with("  " + name + ' ');
  }
  CHECK(in_order);
}

}  // namespace
}  // namespace ckpt::test
