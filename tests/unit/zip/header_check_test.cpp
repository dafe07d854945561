// SPDX-License-Identifier: BSD-3-Clause
#include <atomic>
#include <csignal>
#include <map>
#include <thread>

#include <fmt/format.h>

#include "ckpt/zip/coverage.h"
#include "ckpt/zip/directory.h"
#include "support/catch.h"
#include "support/zip_builder.h"

using namespace ckpt;
using namespace ckpt::test;

namespace {

constexpr std::size_t kMany = ZipDirectory::kFewEntries + 100;

/// An archive of many records, the last of which has another name in its local header.
Bytes with_wrong_header() {
  std::string description = "a/data.pkl";
  for (std::size_t i = 0; i + 2 < kMany; ++i) description += fmt::format("\na/data/{} zeros=5000", i);
  return build_zip(description + "\na/data/last zeros=5000 local-name=a/data/tsal");
}

std::vector<std::string> ids(const Diagnostics& diagnostics) {
  std::vector<std::string> out;
  for (const auto& finding : diagnostics.findings()) out.push_back(finding.id);
  return out;
}

TEST_CASE("who rewrites an archive gets to know of every local header", "[zip]") {
  for (const auto intent : {Intent::kLook, Intent::kRewrite}) {
    Diagnostics diagnostics;
    const auto directory = ZipDirectory::read(zip_source(with_wrong_header()), diagnostics, intent);
    REQUIRE(directory.ok());
    CHECK(ids(diagnostics).empty());  // many records: `read` itself doesn't wait for it
    for (int again = 0; again < 2; ++again) {
      Diagnostics found;
      REQUIRE(directory->check_local_headers(found).ok());
      CHECK(ids(found) == std::vector<std::string>{"zip-local-name-differs"});
    }
  }
}

std::vector<std::string> described(const Diagnostics& diagnostics) {
  std::vector<std::string> out;
  for (const auto& finding : diagnostics.findings())
    out.push_back(finding.id + " " + finding.place + ": " + finding.message);
  return out;
}

TEST_CASE("pieces find what one look from the start finds", "[zip]") {
  constexpr auto kPiece = static_cast<int>(CoveragePieces::kPieceSize);
  const auto archive = [](const std::map<int, std::string>& faults) {
    std::string description = "a/data.pkl";
    for (int i = 1; i < 2 * kPiece + 10; ++i) {
      const auto fault = faults.find(i);
      description += fmt::format("\na/data/{} zeros=20 {}", i, fault == faults.end() ? "" : fault->second);
    }
    return build_zip(description);
  };
  const std::map<int, std::string> cases[] = {
      {},
      {{3, "local-name=a/data/X"}, {kPiece + 5, "local-name=a/data/Y"}, {2 * kPiece, "gap=hole"}},
      {{kPiece - 1, "gap=hole"}, {kPiece, "gap=hole"}},
      {{kPiece - 1, "stored=10 size=10"}},             // its header says more than the directory
      {{kPiece - 2, "stored=4000 size=4000"}},         // reaches over the border into other records
      {{kPiece, fmt::format("like={}", kPiece - 1)}},  // two entries, one record
  };
  for (const auto& faults : cases) {
    Diagnostics ignored;
    const auto directory = ZipDirectory::read(zip_source(archive(faults)), ignored, Intent::kLook);
    REQUIRE(directory.ok());
    Diagnostics whole;
    REQUIRE(directory->check_local_headers(whole).ok());
    Diagnostics in_pieces;
    const auto again = ZipDirectory::read(zip_source(archive(faults)), ignored, Intent::kRewrite);
    REQUIRE(again->check_local_headers(in_pieces).ok());
    CHECK(described(in_pieces) == described(whole));
    CHECK(whole.findings().empty() == faults.empty());
  }
}

/// Says which thread reads local headers, and whether that one would take a signal. Reads fail on request.
class WatchedSource final : public ByteSource {
 public:
  explicit WatchedSource(Bytes bytes) : memory_("watched", std::move(bytes)) {}

  const std::string& name() const override { return memory_.name(); }

  std::uint64_t size() const override { return memory_.size(); }

  Status read_at(std::uint64_t offset, std::span<std::byte> out) const override {
    if (std::this_thread::get_id() != first_thread_) {
      sigset_t blocked;
      pthread_sigmask(SIG_SETMASK, nullptr, &blocked);
      if (sigismember(&blocked, SIGTERM) == 0) takes_signals = true;
      if (++elsewhere > 10) return Error(ErrorCode::kIo, "no more");
    }
    return memory_.read_at(offset, out);
  }

  mutable std::atomic<int> elsewhere = 0;  ///< reads by another thread
  mutable std::atomic<bool> takes_signals = false;

 private:
  MemorySource memory_;
  std::thread::id first_thread_ = std::this_thread::get_id();
};

TEST_CASE("headers are looked at by a thread that takes no signals, and its errors arrive", "[zip]") {
  const auto source = std::make_shared<WatchedSource>(with_wrong_header());
  Diagnostics diagnostics;
  const auto directory = ZipDirectory::read(source, diagnostics, Intent::kRewrite);
  REQUIRE(directory.ok());
  while (source->elsewhere == 0) std::this_thread::yield();  // it has begun
  const auto status = directory->check_local_headers(diagnostics);
  REQUIRE_FALSE(status.ok());
  CHECK(status.error().message() == "no more");
  CHECK(source->elsewhere == 11);
  CHECK_FALSE(source->takes_signals);
}

TEST_CASE("nobody has to wait for the look at the headers", "[zip]") {
  Diagnostics diagnostics;
  auto directory = ZipDirectory::read(zip_source(with_wrong_header()), diagnostics, Intent::kRewrite);
  REQUIRE(directory.ok());
  const auto moved = std::move(*directory);  // the thread goes on
  CHECK(moved.entries().size() == kMany);
}

}  // namespace
