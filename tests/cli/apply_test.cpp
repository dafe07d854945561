// SPDX-License-Identifier: BSD-3-Clause
// Plans on the command line: --print-plan, apply PLAN, apply -e.
#include <algorithm>
#include <filesystem>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "support/cli_files.h"

namespace ckpt::test {
namespace {

using Keys = std::vector<std::string>;

std::vector<std::string> golden_files() {
  std::vector<std::string> files;
  for (const auto& entry : std::filesystem::directory_iterator(CKPT_TEST_DATA)) {
    const auto name = entry.path().filename().string();
    if (!name.ends_with(".md") && !name.starts_with("LICENSE")) files.push_back(entry.path().string());
  }
  std::sort(files.begin(), files.end());
  return files;
}

/// A report tells its input and output in the first line.
std::string below_first_line(const std::string& text) {
  const auto end = text.find('\n');
  return end == text.npos ? std::string() : text.substr(end);
}

class SmallCli : public Cli {
 public:
  SmallCli() {
    write("in.pt", zip_of("module.conv.w float32 2; module.conv.b float32 2; module.fc.w float32 2x3"));
  }
};

TEST_CASE("a printed plan, applied, gives the bytes that the command gives", "[cli][apply]") {
  const Cli cli;
  const auto reference = std::string(CKPT_TEST_DATA) + "/torch-2.15-flat.pt";
  const std::string commands[] = {
      "strip",
      "strip --wrapper features --optimizer drop",
      "filter --drop-entry optimizer --drop-entry epoch --allow-unmatched",
      "filter --keep re:weight --drop '**.bias' --optimizer keep --allow-unmatched",
      "filter --only-dtype float32,int64 --max-bytes 80 --optimizer drop",
      "filter --like " + reference + " --ignore-shape --optimizer keep",
      "filter --like " + reference + " --strict",
      "rename --add-prefix 'a b.' --map 're:weight$=w' --strip-prefix a --allow-unmatched",
      "rename --root '' --add-prefix x",
      "head --num-classes 3 --seed -7 --keep-rows --init normal:0.5 --torch 2.11 --optimizer drop",
      "head --head fc --label-offset 1 --background last --rename last --optimizer keep",
  };
  std::size_t written = 0;
  for (const auto& command : commands) {
    cli.write("plan.json", cli.good(command + " --print-plan"));
    CHECK(cli.good("apply plan.json --print-plan") == cli.read("plan.json"));
    for (const auto& file : golden_files()) {
      CAPTURE(command);
      CAPTURE(file);
      const auto direct = cli.run(command + " " + file + " -o direct --no-fsync");
      const auto applied = cli.run("apply plan.json " + file + " -o applied --no-fsync");
      CHECK(applied.status == direct.status);
      CHECK(applied.err == direct.err);
      CHECK(below_first_line(applied.out) == below_first_line(direct.out));
      REQUIRE(cli.exists("applied") == cli.exists("direct"));
      if (!cli.exists("direct")) continue;
      const bool are_same = cli.read("applied") == cli.read("direct");
      CHECK(are_same);
      ++written;
      std::filesystem::remove("direct");
      std::filesystem::remove("applied");
    }
  }
  CHECK(written > 500);
}

TEST_CASE("a merge in a plan names its sources, which are read when it is applied", "[cli][apply]") {
  const Cli cli;
  cli.take("torch-2.15-dataparallel.pt", "base.pt");
  cli.take("torch-2.15-training.pt", "other.pt");
  cli.good("merge -q base.pt other.pt --other-root model --keys union -o direct.pt");
  cli.write("plan.json", cli.good("merge base.pt other.pt --other-root model --keys union --print-plan"));
  CHECK(cli.read("plan.json").find("base.pt") == std::string::npos);
  cli.good("apply -q plan.json base.pt -o planned.pt");
  CHECK(cli.read("planned.pt") == cli.read("direct.pt"));
  cli.good("apply -q -e 'merge other.pt --other-root model --keys union' base.pt -o edited.pt");
  CHECK(cli.read("edited.pt") == cli.read("direct.pt"));
  cli.good("apply -q -e strip -e 'merge other.pt --other-root ema --keys union' base.pt -o both.pt");
  std::filesystem::remove("other.pt");
  CHECK(cli.bad("apply plan.json base.pt -f -o planned.pt").find("other.pt") != std::string::npos);
  CHECK(cli.bad("apply -e merge base.pt -f -o planned.pt").find("at least one OTHER") != std::string::npos);
}

TEST_CASE("two edits in one pass do what two commands do", "[cli][apply]") {
  const Cli cli;

  struct Case {
    const char* first;
    const char* second;
    bool same_bytes;  ///< else `_metadata` may tell more of the names in between
  };

  const Case cases[] = {
      {"strip", "filter --drop fc", true},
      {"filter --drop module.fc", "strip", true},
      {"filter --drop re:bias", "rename --map re:^module=m", true},
      {"rename --add-prefix a.", "rename --map a=b", true},
      {"filter --keep re:weight", "filter --only-dtype float32", true},
      {"filter --drop-entry optimizer", "filter --drop-entry epoch", true},
      {"strip", "rename --add-prefix net.", false},
      {"strip", "rename --map conv=stem.conv", false},
  };
  for (const auto& [first, second, same_bytes] : cases) {
    std::size_t compared = 0;
    for (const auto& file : golden_files()) {
      CAPTURE(first);
      CAPTURE(second);
      CAPTURE(file);
      const auto options = [](const std::string& in, const std::string& out) {
        return " -q --no-fsync --optimizer keep " + in + " -o " + out;
      };
      if (cli.run(first + options(file, "first")).status == 0 &&
          cli.run(second + options("first", "second")).status == 0) {
        CHECK(cli.good(fmt::format("apply -e '{}' -e '{}'", first, second) + options(file, "both")) == "");
        const bool are_same = cli.read("both") == cli.read("second");  // no megabytes in the message
        CHECK((are_same || !same_bytes));
        CHECK(cli.good("inspect --keys both") == cli.good("inspect --keys second"));
        ++compared;
      }
      for (const auto* name : {"first", "second", "both"}) std::filesystem::remove(name);
    }
    CHECK(compared > 3);
  }
}

TEST_CASE("a module that moved keeps its version where a merge brings another of the old name",
          "[cli][apply]") {
  const Cli cli;
  cli.take("torch-2.15-flat.pt", "flat.pt");
  cli.good("apply -q -e 'rename --map bn=old' -e 'merge flat.pt --keys union' flat.pt -o out.pt");
  CHECK(cli.good("inspect --get @_metadata.old.version out.pt") == "2\n");
  CHECK(cli.good("inspect --keys out.pt").find("\nbn.weight\n") != std::string::npos);
}

TEST_CASE("a mistake in the last of seven edits leaves nothing written", "[cli][apply]") {
  const SmallCli cli;
  const std::string six =
      "apply -e strip -e 'filter --drop fc' -e 'rename --map conv=a' -e 'rename --map a=b' -e 'rename --map "
      "b=c' "
      "-e 'rename --add-prefix d.' ";
  CHECK(cli.bad(six + "-e 'rename --map fc=head' in.pt -o out.pt") ==
        "ckpt: in.pt: edit 7 of 7 (rename-keys): 'fc' matches no key\n"
        "  hint: use --allow-unmatched to accept a pattern without a match\n");
  CHECK(cli.bad(six + "-e 'rename --map re:^.*$=x' in.pt -o out.pt") ==
        "ckpt: in.pt: keys 'module.conv.w' and 'module.conv.b' would both be called 'x'\n");
  CHECK(cli.bad(six + "-e 'rename --mop a=b' in.pt -o out.pt") ==
        "ckpt: -e 'rename --mop a=b': unknown options '--mop', 'a=b'\n  hint: did you mean --map?\n");
  CHECK(cli.bad(six + "-e 'rename --rules none.txt' in.pt -o out.pt") ==
        "ckpt: -e 'rename --rules none.txt': none.txt: cannot open for reading: No such file or directory\n");
  CHECK(cli.dir().names() == Keys{"in.pt"});
  auto plan = nlohmann::json::parse(cli.good(six + "--print-plan -e 'rename --map c=e'"));
  plan["edits"][6]["rules"][0]["map"] = 1;
  cli.write("plan.json", plan.dump());
  CHECK(cli.bad("apply plan.json in.pt -o out.pt") ==
        "ckpt: plan.json: edits[6].rules[0].map: expected a string, found the number 1\n");
  CHECK_FALSE(cli.exists("out.pt"));
  plan["edits"][6]["rules"][0]["map"] = "d.c";
  cli.write("plan.json", plan.dump());
  cli.good("apply -q plan.json in.pt -o out.pt");
  CHECK(cli.keys("out.pt") == Keys{"e.w", "e.b"});
}

TEST_CASE("edits act on the keys as those before left them", "[cli][apply]") {
  const SmallCli cli;
  CHECK(cli.good("apply -e strip -e 'filter --drop fc' -e 'rename --map conv=\"my conv\"' in.pt -o out.pt")
            .find("state dict: 2 of 3 keys kept") != std::string::npos);
  CHECK(cli.keys("out.pt") == Keys{"my conv.w", "my conv.b"});
  CHECK(cli.bad("apply -e 'rename --map module.conv=module.fc' -e 'rename --map module.fc.b=c' in.pt -n") ==
        "ckpt: in.pt: edit 1 of 2 (rename-keys): keys 'module.conv.w' and 'module.fc.w' would both be called "
        "'module.fc.w'\n");
  CHECK(cli.bad("apply -e 'filter --drop module' -e 'rename --add-prefix a' in.pt -n") ==
        "ckpt: in.pt: edit 1 of 2 (filter-keys): no key of the state dict at the root would be left\n"
        "  hint: to drop the whole entry, use --drop-entry PATH\n");
}

TEST_CASE("what an edit dropped is gone for the next", "[cli][apply]") {
  const Cli cli;
  cli.write("in.pt", zip_of("a/w float32 2; b/v float32 2; epoch = 7"));
  CHECK(cli.bad("apply -e 'filter --drop-entry b' -e 'rename --map v=x' in.pt -n") ==
        "ckpt: in.pt: edit 2 of 2 (rename-keys): 'v' matches no key\n"
        "  hint: use --allow-unmatched to accept a pattern without a match\n");
  CHECK(cli.bad("apply -e 'filter --drop-entry b' -e 'filter --drop-entry b.v' in.pt -n") ==
        "ckpt: in.pt: edit 2 of 2 (drop-entry): 'b.v' is gone: an edit before drops 'b'\n");
  cli.good(
      "apply -q -e 'filter --drop-entry b' -e 'filter --drop-entry b' --allow-unmatched in.pt -o out.pt");
  CHECK(cli.keys("out.pt") == Keys{"w"});
}

TEST_CASE("what stands around the edits is apply's own", "[cli][apply]") {
  const Cli cli;
  cli.write("in.pt", zip_of("a/w float32 2; b/w float32 2"));
  cli.good("apply -q -e 'rename --map w=x' --root b in.pt -o out.pt");
  CHECK(cli.keys("out.pt") == Keys{"w", "x"});
  cli.write("plan.json", cli.good("rename --map w=x --root a --print-plan"));
  cli.good("apply -q plan.json in.pt -f -o out.pt");
  CHECK(cli.keys("out.pt") == Keys{"x", "w"});
  cli.good("apply -q plan.json --root b in.pt -f -o out.pt");
  CHECK(cli.keys("out.pt") == Keys{"w", "x"});
  cli.write("plan.json", cli.good("rename --map nope=x --print-plan"));
  CHECK(cli.bad("apply plan.json in.pt -n").starts_with("ckpt: in.pt: 'nope' matches no key\n"));
  cli.good("apply -q plan.json in.pt -n --allow-unmatched");
  cli.take("torch-2.15-training.pt", "training.pt");
  cli.write("plan.json", cli.good("filter --drop module.fc --optimizer keep --print-plan"));
  cli.good("apply -q plan.json training.pt -o kept.pt");
  CHECK(cli.good("inspect --get optimizer kept.pt") == cli.good("inspect --get optimizer training.pt"));
  cli.good("apply -q plan.json --optimizer drop training.pt -o dropped.pt");
  CHECK(cli.bad("inspect --get optimizer dropped.pt").find("optimizer") != std::string::npos);
}

TEST_CASE("--print-plan needs no file, reads none and writes none", "[cli][apply]") {
  const Cli cli;
  const auto plan = cli.good("strip --print-plan");
  CHECK(plan == cli.good("strip --print-plan missing.pt -o out.pt -q"));
  CHECK(plan == cli.good("strip --print-plan --json"));
  CHECK(plan == cli.good("apply --print-plan -e strip-dataparallel"));
  CHECK(cli.dir().names().empty());
  CHECK(cli.bad("filter --like missing.pt --print-plan") ==
        "ckpt: missing.pt: cannot open for reading: No such file or directory\n");
  CHECK(cli.bad("rename --print-plan").starts_with("ckpt: nothing to rename"));
}

TEST_CASE("a plan needs no reference file any more", "[cli][apply]") {
  const SmallCli cli;
  cli.write("like.pt", zip_of("module.conv.w float32 2; module.fc.w float32 9"));
  cli.good("filter -q --like like.pt in.pt -o direct.pt");
  cli.write("plan.json", cli.good("filter --like like.pt --print-plan"));
  std::filesystem::remove("like.pt");
  cli.good("apply -q plan.json in.pt -o applied.pt");
  CHECK(cli.read("applied.pt") == cli.read("direct.pt"));
}

TEST_CASE("a key that is no UTF-8 can be in a plan", "[cli][apply]") {
  const Cli cli;
  cli.take("torch-2.15-flat-legacy.pt", "in.pt");
  auto bytes = cli.read("in.pt");
  bytes.replace(bytes.find("fc.bias"), 7,
                "fc.b\xff"
                "as");
  cli.write("in.pt", bytes);
  cli.write("plan.json", cli.good("rename --map '=fc.b\xff"
                                  "as=bias' --print-plan"));
  CHECK(nlohmann::json::accept(cli.read("plan.json")));
  cli.good("apply -q plan.json in.pt -o out.pt");
  CHECK(cli.keys("out.pt").back() == "bias");
  cli.write("like.json", cli.good("filter --like in.pt --print-plan"));
  CHECK(cli.good("apply like.json in.pt -n").find("9 of 9 keys kept") != std::string::npos);
}

TEST_CASE("a plan from standard input, a file from standard input, but not both", "[cli][apply]") {
  const SmallCli cli;
  const auto plan = cli.good("strip --print-plan");
  CHECK(cli.run_with_input("apply -q - in.pt -o out.pt", plan).status == 0);
  CHECK(cli.keys("out.pt").front() == "conv.w");
  cli.write("plan.json", plan);
  CHECK(cli.run_with_input("apply -q plan.json - -o piped.pt", cli.read("in.pt")).status == 0);
  CHECK(cli.read("piped.pt") == cli.read("out.pt"));
  CHECK(cli.run_with_input("apply -q -e strip - -f -o piped.pt", cli.read("in.pt")).status == 0);
  CHECK(cli.read("piped.pt") == cli.read("out.pt"));
  CHECK(cli.bad("apply - - -n") == "ckpt: standard input is named twice\n  hint: see 'ckpt apply --help'\n");
  const auto wrong = cli.run_with_input("apply - in.pt -n", "{}");
  CHECK(wrong.status == 2);
  CHECK(wrong.err.find("expected a field 'schema', found none") != std::string::npos);
}

TEST_CASE("a command line of apply that means nothing says what would", "[cli][apply]") {
  const SmallCli cli;

  struct Case {
    const char* line;
    const char* error;
  };

  const Case cases[] = {
      {"apply", "PLAN, or -e 'COMMAND OPTIONS', is required\n  hint: see 'ckpt apply --help'\n"},
      {"apply plan.json", "FILE is required\n  hint: see 'ckpt apply --help'\n"},
      {"apply -e strip -n", "FILE is required\n  hint: see 'ckpt apply --help'\n"},
      {"apply -e", "--edit needs a value\n  hint: see 'ckpt apply --help'\n"},
      {"apply -e strip in.pt", "no output: give --output FILE or --in-place\n"},
      {"apply missing.json in.pt -n", "missing.json: cannot open for reading: No such file or directory\n"},
      {"apply '' in.pt -n", "cannot open for reading: No such file or directory\n"},
      {"apply . in.pt -n", ".: is a directory\n"},
      {"apply in.pt in.pt -n",
       "in.pt: byte 4: this is no well-formed JSON\n"
       "  hint: the first word behind 'apply' is the plan, unless -e tells the edits\n"},
      {"apply -e '' in.pt -n", "-e '': expected a command and its options, found nothing\n"},
      {"apply -e stripp in.pt -n",
       "-e 'stripp': no command is called 'stripp'\n  hint: did you mean 'strip'?\n"},
      {"apply -e 'inspect --keys' in.pt -n", "-e 'inspect --keys': 'inspect' is no command that edits\n"},
      {"apply -e 'apply x' in.pt -n", "-e 'apply x': 'apply' is no command that edits\n"},
      {"apply -e 'rename --map \"a=b' in.pt -n",
       "-e 'rename --map \"a=b': the double quote at column 14 has no end\n"},
      {"apply -e 'strip in.pt' -n", "FILE is required\n  hint: see 'ckpt apply --help'\n"},
      {"apply -e 'strip in.pt' in.pt -n",
       "-e 'strip in.pt': 'in.pt' belongs to no option\n  hint: files stand outside of -e, behind the "
       "edits\n"},
      {"apply -e 'strip -' in.pt -n",
       "-e 'strip -': '-' belongs to no option\n  hint: files stand outside of -e, behind the edits\n"},
      {"apply -e 'strip --force' in.pt -n",
       "-e 'strip --force': '--force' is an option of 'ckpt apply', not of an edit\n"
       "  hint: write it outside of -e\n"},
      {"apply -e 'strip --output=x.pt' in.pt -n",
       "-e 'strip --output=x.pt': '--output' is an option of 'ckpt apply', not of an edit\n"
       "  hint: write it outside of -e\n"},
      {"apply -e 'strip -fqo x.pt' in.pt -n",
       "-e 'strip -fqo x.pt': '-f' is an option of 'ckpt apply', not of an edit\n  hint: write it outside of "
       "-e\n"},
      {"apply -e 'strip --root a' in.pt -n",
       "-e 'strip --root a': '--root' is an option of 'ckpt apply', not of an edit\n  hint: write it outside "
       "of -e\n"},
      {"apply -e 'strip --help' in.pt -n",
       "-e 'strip --help': '--help' is an option of 'ckpt apply', not of an edit\n  hint: write it outside "
       "of -e\n"},
      {"apply -e 'filter --keep' in.pt -n",
       "-e 'filter --keep': --keep needs a value\n  hint: see 'ckpt filter-keys --help'\n"},
      {"apply -e 'filter --like-root [ --like x' in.pt -n",
       "-e 'filter --like-root [ --like x': --like-root: '[' is no path: unexpected text at column 1\n"
       "  hint: see 'ckpt filter-keys --help'\n"},
      {"apply -e filter in.pt -n",
       "-e 'filter': nothing to filter by: give --keep, --drop, --like, --only-dtype, --min-bytes, "
       "--max-bytes or "
       "--drop-entry\n"},
      {"apply -e 'filter --like missing.pt' -e 'strip --nonsense' in.pt -n",
       "-e 'strip --nonsense': unknown option '--nonsense'\n  hint: see 'ckpt strip-dataparallel --help'\n"},
  };
  for (const auto& [line, error] : cases) {
    CAPTURE(line);
    CHECK(cli.bad(line) == std::string("ckpt: ") + error);
  }
}

TEST_CASE("apply is an editing command like the others", "[cli][apply]") {
  const SmallCli cli;
  const auto done = cli.run("apply -e strip in.pt in.pt missing.pt --json -n");
  CHECK(done.status == 2);
  const auto document = nlohmann::json::parse(done.out);
  CHECK(document["schema"] == "ckpt.apply/1");
  CHECK(document["files"].size() == 3);
  CHECK(document["errors"][0]["code"] == "not-found");
  CHECK(document["files"][0]["removed_wrappers"] == nlohmann::json::parse(R"(["module."])"));
  const auto usage = nlohmann::json::parse(cli.run("apply -e 'strip -o x' in.pt --json").out);
  CHECK(usage["errors"][0]["code"] == "usage");
  CHECK(usage["files"].empty());
  CHECK(cli.run("apply -e 'rename --add-prefix a --strip-prefix a' in.pt -o out.pt --must-change").status ==
        1);
  CHECK_FALSE(cli.exists("out.pt"));
  cli.good("apply -q -e strip in.pt -i --verify");
  CHECK(cli.keys("in.pt").front() == "conv.w");
  cli.write("like.pt", zip_of("conv.w float32 2; gone float32 1"));
  CHECK(cli.run("apply -e 'filter --like like.pt --strict' in.pt -o out.pt").status == 1);
}

TEST_CASE("what several conversions cast is reported together", "[cli][apply]") {
  const SmallCli cli;
  const std::string line =
      "apply -e 'convert --dtype module.conv.w=float16' -e 'convert --dtype module.fc.w=bfloat16' in.pt -f "
      "-o out.pt";
  CHECK(holds(cli.good(line),
              "  cast: 1 tensor float32 -> float16, 1 tensor float32 -> bfloat16; 32 B -> 16 B\n"));
  const auto cast = nlohmann::json::parse(cli.good(line + " --json"))["files"][0]["conversion"]["cast"];
  CHECK(cast["casts"].size() == 2);
  CHECK(cast["bytes_before"] == 32);
  CHECK(cast["bytes_after"] == 16);
}

}  // namespace
}  // namespace ckpt::test
