// SPDX-License-Identifier: BSD-3-Clause
// Findings, and that their fixes fix.
#include <set>

#include <nlohmann/json.hpp>

#include "support/cli_files.h"
#include "support/pickle_checkpoint.h"

namespace ckpt::test {
namespace {

using nlohmann::json;

json findings_of(const Cli& cli, const std::string& file) {
  const auto done = cli.run_words({"inspect", "--json", file});
  const auto all = json::parse(done.out, nullptr, false);
  return all["files"].empty() || !all["files"][0].contains("findings") ? json::array()
                                                                       : all["files"][0]["findings"];
}

/// "severity id", once each.
std::set<std::string> ids_of(const Cli& cli, const std::string& file) {
  std::set<std::string> ids;
  for (const auto& finding : findings_of(cli, file)) {
    ids.insert(finding["severity"].get<std::string>() + ' ' + finding["id"].get<std::string>());
  }
  return ids;
}

TEST_CASE("the fix that a finding prints makes the finding go", "[cli][findings]") {
  const Cli cli;
  std::size_t fixes = 0;
  for (const auto& entry : std::filesystem::directory_iterator(CKPT_TEST_DATA)) {
    const auto name = entry.path().filename().string();
    if (name.ends_with(".md") || name.starts_with("LICENSE")) continue;
    CAPTURE(name);
    for (const std::string& file : {name, "odd name of " + name}) {  // fixes are written for a shell
      cli.take(name, file);
      for (const auto& finding : findings_of(cli, file)) {
        if (finding["fix"].is_null()) continue;
        const auto fix = finding["fix"].get<std::string>();
        CAPTURE(fix);
        REQUIRE(fix.starts_with("ckpt "));
        auto words = shell_words(fix);
        words.erase(words.begin());
        const auto done = cli.run_words(words);
        REQUIRE(done.status == 0);
        CHECK(done.err == "");
        const auto fixed = words.back();
        const auto id = finding["severity"].get<std::string>() + ' ' + finding["id"].get<std::string>();
        CHECK_FALSE(ids_of(cli, fixed).contains(id));
        ++fixes;
        std::filesystem::remove(fixed);
      }
      std::filesystem::remove(file);
    }
  }
  CHECK(fixes > 50);
}

TEST_CASE("each kind of remark is found where it belongs", "[cli][findings]") {
  const Cli cli;
  using Ids = std::set<std::string>;

  struct Case {
    const char* file;
    Ids ids;
  };

  const Case cases[] = {
      {"torch-2.15-flat.pt", {}},
      {"torch-2.15-tied.pt", {"info tied-tensors", "warning wrapper-prefix"}},
      {"torch-2.15-views.pt", {"warning wrapper-prefix", "warning large-storage"}},
      {"torch-2.15-module.pt", {"warning weights-only"}},
      {"torch-2.15-rezipped-deflated.pt", {"warning wrapper-prefix", "info storage-deflated"}},
      {"torch-2.15-no-crc.pt", {"info crc-missing", "warning wrapper-prefix"}},
  };
  for (const auto& [file, ids] : cases) {
    CAPTURE(file);
    cli.take(file);
    for (const auto& id : ids) {
      CAPTURE(id);
      if (id == "warning wrapper-prefix") continue;  // of some of them, as their keys are
      CHECK(ids_of(cli, file).contains(id));
    }
    if (ids.empty()) CHECK(ids_of(cli, file).empty());
  }
  cli.write("cuda.pt", zip_of("a float32 2 device=cuda:0; b float32 2 device=cuda:1"));
  CHECK(ids_of(cli, "cuda.pt").contains("info device-tags"));
  CHECK(cli.good("inspect cuda.pt").find("b  float32  [2]        8 B  unknown cuda:1\n") !=
        std::string::npos);
}

TEST_CASE("one view keeps a storage, and several keep storages", "[cli][findings]") {
  const Cli cli;
  cli.write("one.pt", zip_of("a float32 2 numel=9"));
  cli.write("two.pt", zip_of("a float32 2 numel=9; b float32 2 numel=9"));
  CHECK(holds(cli.good("inspect one.pt"),
              "1 view keeps a storage larger than what it shows; 28 B recoverable"));
  CHECK(holds(cli.good("inspect two.pt"), "2 views keep storages larger than what they show; 56 B recover"));
}

TEST_CASE("a module that keeps keys to itself is said to", "[cli][findings]") {
  const Cli cli;
  const auto module = [](const std::string& child) {
    return "GLOBAL m Net; EMPTY_TUPLE; NEWOBJ; EMPTY_DICT; MARK; BINUNICODE _parameters; EMPTY_DICT; "
           "BINUNICODE w; "
           "$; SETITEM; BINUNICODE _buffers; EMPTY_DICT; BINUNICODE _modules; EMPTY_DICT; BINUNICODE c; " +
           child + "; SETITEM; SETITEMS; BUILD";
  };
  cli.write("packed.pt", as_text(zip_of_pickle(module("GLOBAL m rebuild; EMPTY_TUPLE; REDUCE"))));
  CHECK(ids_of(cli, "packed.pt").contains("warning module-keys-unknown"));
  CHECK(cli.bad("convert --state-dict packed.pt -o out.pt") ==
        "ckpt: packed.pt: the module (a m.Net) holds modules that the file doesn't show as such, so it can't "
        "tell "
        "their keys\n");
  cli.write("plain.pt", as_text(zip_of_pickle(module("NONE"))));
  CHECK_FALSE(ids_of(cli, "plain.pt").contains("warning module-keys-unknown"));
  cli.good("convert -q --state-dict plain.pt -o out.pt");
}

TEST_CASE("recoverable bytes are those that no view shows", "[cli][findings]") {
  const Cli cli;
  cli.write("in.pt", zip_of("a float32 10 numel=1010; b float32 5"));
  CHECK(cli.good("inspect -s in.pt").find("4.00 kB recoverable") != std::string::npos);
}

TEST_CASE("commands that write pass on what the reader noticed", "[cli][findings]") {
  const Cli cli;
  cli.take("torch-2.15-rezipped-deflated.pt", "in.pt");
  const auto done = cli.run("strip --json in.pt -n");
  CHECK(json::parse(done.out)["files"][0]["findings"][0]["id"] == "storage-deflated");
}

}  // namespace
}  // namespace ckpt::test
