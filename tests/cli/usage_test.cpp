// SPDX-License-Identifier: BSD-3-Clause
// Help, versions, and command lines that mean nothing.
#include "support/run_cli.h"

namespace ckpt::test {
namespace {

TEST_CASE("help goes to standard output, with status 0", "[cli]") {
  const Cli cli;
  for (const auto* line : {"--help", "-h", "help", "help help", "help --help"}) {
    const auto text = cli.good(line);
    for (const auto* name : {"inspect", "strip-dataparallel", "filter-keys", "rename-keys"}) {
      CHECK(text.find(name) != std::string::npos);
    }
  }
}

TEST_CASE("every command lists its options and has a manual, under both of its names", "[cli]") {
  const Cli cli;
  for (const auto& command : cli::commands()) {
    const std::string name(command.name);
    const std::string alias(command.alias);
    CAPTURE(name);
    const auto usage = cli.good(name + " --help");
    const auto line = "Usage: ckpt " + name + " [OPTIONS] " + std::string(command.operands) + '\n';
    CHECK(usage.find(line) != std::string::npos);
    for (const auto* option : {"-h, --help", "-q, --quiet", "-v, --verbose", "--json", "--color WHEN",
                               "--progress WHEN", "--root PATH"}) {
      CHECK(usage.find(option) != std::string::npos);
    }
    if (!alias.empty()) CHECK(cli.good(alias + " -h") == usage);
    const auto manual = cli.good("help " + name);
    for (const auto* section :
         {"## Examples", "## Description", "## Memory and disk", "## Exit status", "## Options"}) {
      CHECK(manual.find(section) != std::string::npos);
    }
    if (!alias.empty()) CHECK(cli.good("help " + alias) == manual);
    for (const auto& one : split_lines(usage)) CHECK(one.size() <= 100);
  }
}

TEST_CASE("every command that edits prints its plan, and apply knows it", "[cli]") {
  const Cli cli;
  std::size_t editing = 0;
  for (const auto& command : cli::commands()) {
    const std::string name(command.name);
    CAPTURE(name);
    const auto usage = cli.good(name + " --help");
    CHECK((usage.find("--print-plan") != std::string::npos) ==
          (usage.find("--dry-run") != std::string::npos));
    const auto known = cli.run("apply -n -e '" + name + " --no-such-option' m.pt").err;
    if (command.attach_edit == nullptr) {
      CHECK(known.find("is no command that edits") != std::string::npos);
    } else {
      CHECK(known.find("unknown option '--no-such-option'") != std::string::npos);
      ++editing;
    }
  }
  CHECK(editing >= 3);
}

TEST_CASE("help wins over what else is on the command line", "[cli]") {
  const Cli cli;
  CHECK(cli.good("strip missing.pt -o missing.pt --help").starts_with("Remove"));
}

TEST_CASE("the version is one line that a script can read", "[cli]") {
  const Cli cli;
  const auto text = cli.good("--version");
  CHECK(text.starts_with("ckpt "));
  CHECK(split_lines(text).size() == 1);
  CHECK(cli.good("inspect --version") == text);
}

TEST_CASE("no command is a usage error that shows the commands", "[cli]") {
  const Cli cli;
  CHECK(cli.bad("").find("Usage: ckpt COMMAND") != std::string::npos);
}

TEST_CASE("a command line that means nothing is status 2 and says what would", "[cli]") {
  const Cli cli;

  struct Case {
    const char* line;
    const char* error;
  };

  const Case cases[] = {
      {"frobnicate", "ckpt: no command is called 'frobnicate'\n"},
      {"''", "ckpt: no command is called ''\n"},
      {"stripp model.pt", "ckpt: no command is called 'stripp'\n  hint: did you mean 'strip'?\n"},
      {"filter-key", "ckpt: no command is called 'filter-key'\n  hint: did you mean 'filter-keys'?\n"},
      {"help nothing", "ckpt: no command is called 'nothing'\n"},
      {"inspect", "ckpt: FILE is required\n  hint: see 'ckpt inspect --help'\n"},
      {"inspect --sumary m.pt", "ckpt: unknown option '--sumary'\n  hint: did you mean --summary?\n"},
      {"strip m.pt --inplace", "ckpt: unknown option '--inplace'\n  hint: did you mean --in-place?\n"},
      {"inspect --nonsense m.pt", "ckpt: unknown option '--nonsense'\n  hint: see 'ckpt inspect --help'\n"},
      {"inspect -x m.pt", "ckpt: unknown option '-x'\n  hint: see 'ckpt inspect --help'\n"},
      {"inspect --color sometimes m.pt",
       "ckpt: --color: expected auto, always or never, found sometimes\n  hint: see 'ckpt inspect --help'\n"},
      {"inspect --nonsense --zzz m.pt",
       "ckpt: unknown options '--nonsense', '--zzz'\n  hint: see 'ckpt inspect --help'\n"},
      {"inspect m.pt --get", "ckpt: --get needs a value\n  hint: see 'ckpt inspect --help'\n"},
      {"inspect m.pt --get a --get b",
       "ckpt: --get is given more than once\n  hint: see 'ckpt inspect --help'\n"},
      {"--quiet inspect m.pt",
       "ckpt: no command is called '--quiet'\n  hint: options stand behind the command\n"},
      {"help inspct", "ckpt: no command is called 'inspct'\n  hint: did you mean 'inspect'?\n"},
      {"inspect --sort size m.pt",
       "ckpt: --sort: expected file, name or bytes, found size\n  hint: see 'ckpt inspect --help'\n"},
      {"inspect --summary --tree m.pt",
       "ckpt: --summary, --tree, --keys, --globals and --get exclude each other\n"},
      {"inspect --root a..b m.pt",
       "ckpt: --root: 'a..b' is no path: unexpected text at column 2\n  hint: see 'ckpt inspect --help'\n"},
      {"filter m.pt -n --like m.pt --like-root '[' ",
       "ckpt: --like-root: '[' is no path: unexpected text at column 1\n  hint: see 'ckpt filter-keys "
       "--help'\n"},
      {"inspect --values 3 m.pt", "ckpt: --values goes with --get\n"},
      {"inspect --depth 3 m.pt", "ckpt: --depth goes with --tree\n"},
      {"strip m.pt", "ckpt: no output: give --output FILE or --in-place\n"},
      {"strip m.pt -i -o out.pt", "ckpt: --output and --in-place exclude each other\n"},
      {"strip a.pt b.pt -o out.pt",
       "ckpt: 2 inputs but one output: give a directory (-o DIR/) or --in-place\n"},
      {"strip a.pt b.pt -o -", "ckpt: 2 inputs but one output: give a directory (-o DIR/) or --in-place\n"},
      {"strip x/m.pt y/m.pt -o out/", "ckpt: two inputs are called 'm.pt'\n"},
      {"strip - -i", "ckpt: standard input can't be edited in place\n"},
      {"strip - -o out/", "ckpt: standard input has no name for a file in a directory\n"},
      {"strip m.pt -o o.pt --wrapper a.b", "ckpt: a wrapper is one name without dots\n"},
      {"strip m.pt -o o.pt --wrapper ''", "ckpt: a wrapper is one name without dots\n"},
      {"filter m.pt -n",
       "ckpt: nothing to filter by: give --keep, --drop, --like, --only-dtype, --min-bytes, --max-bytes or "
       "--drop-entry\n"},
      {"filter m.pt -n --strict", "ckpt: --strict, --ignore-shape and --like-root go with --like\n"},
      {"filter m.pt -n --ignore-shape --keep a",
       "ckpt: --strict, --ignore-shape and --like-root go with --like\n"},
      {"filter m.pt -n --keep a --like-root b",
       "ckpt: --strict, --ignore-shape and --like-root go with --like\n"},
      {"filter m.pt -n --only-dtype fp32", "ckpt: unknown dtype 'fp32'\n  hint: did you mean 'float32'?\n"},
      {"filter m.pt -n --only-dtype F16", "ckpt: unknown dtype 'F16'\n  hint: did you mean 'float16'?\n"},
      {"filter m.pt -n --only-dtype bf16", "ckpt: unknown dtype 'bf16'\n  hint: did you mean 'bfloat16'?\n"},
      {"filter m.pt -n --only-dtype torch.half",
       "ckpt: unknown dtype 'torch.half'\n  hint: did you mean 'float16'?\n"},
      {"filter m.pt -n --only-dtype flaot32",
       "ckpt: unknown dtype 'flaot32'\n  hint: did you mean 'float32'?\n"},
      {"filter m.pt -n --only-dtype float32,words", "ckpt: unknown dtype 'words'\n"},
      {"filter m.pt -n --keep ''", "ckpt: a pattern is empty\n  hint: to name the empty key, write '='\n"},
      {"filter m.pt -n --keep 're:('", "ckpt: '(' is no regular expression: missing ): (\n"},
      {"filter m.pt -n --drop @none.txt",
       "ckpt: none.txt: cannot open for reading: No such file or directory\n"},
      {"filter m.pt -n --drop a --optimizer sometimes",
       "ckpt: --optimizer: expected keep, drop, remap or remap=model-order, found sometimes\n"
       "  hint: see 'ckpt filter-keys --help'\n"},
      {"rename m.pt -n", "ckpt: nothing to rename: give --map, --add-prefix, --strip-prefix or --rules\n"},
      {"merge - - -n", "ckpt: standard input is named twice\n"},
      {"merge a.pt - - -n", "ckpt: standard input is named twice\n"},
      {"apply -n -e 'merge -' -", "ckpt: standard input is named twice\n"},
      {"freeze-report - --base -", "ckpt: standard input is named twice\n"},
      {"strip m.pt -n --libtorch here", "ckpt: --libtorch goes with --backend torch\n"},
      {"merge a.pt b.pt -n --method mean --libtorch here", "ckpt: --libtorch goes with --backend torch\n"},
      {"merge a.pt b.pt -n --backend torch", "ckpt: --backend torch goes with merge --method\n"},
      {"convert m.pt -n --dtype float16 --backend torch", "ckpt: --backend torch goes with merge --method\n"},
      {"head m.pt -n --num-classes 3 --seed 99999999999999999999",
       "ckpt: --seed: expected a whole number from -2^63 to 2^64 - 1, found 99999999999999999999\n"
       "  hint: see 'ckpt replace-head --help'\n"},
      {"head m.pt -n --num-classes 3 --seed -9223372036854775809",
       "ckpt: --seed: expected a whole number from -2^63 to 2^64 - 1, found -9223372036854775809\n"
       "  hint: see 'ckpt replace-head --help'\n"},
      {"rename m.pt -n --map x", "ckpt: 'x' is no OLD=NEW\n"},
      {"rename m.pt -n --map '!a=b'", "ckpt: '!a=b': a negated pattern can't be renamed\n"},
      {"rename m.pt -n --map 're:^(a)=\\2'",
       "ckpt: '\\\\2' can't stand for what 're:^(a)' matches: there is no group \\2\n"},
      {"rename m.pt -n --map 're:a=b\\c'",
       "ckpt: 'b\\\\c' can't stand for what 're:a' matches: behind \\ stands a digit or another \\\n"},
      {"rename m.pt -n --map 'a.*=b.*.*'",
       "ckpt: 'b.*.*' can't stand for what 'a.*' matches: it has more wildcards\n"},
      {"rename m.pt -n --map '*?*?*?*?*?=*?*?*?*?*?'",
       "ckpt: '*?*?*?*?*?' can't stand for what '*?*?*?*?*?' matches: it has more than 9 wildcards\n"},
      {"rename m.pt -n --rules none.txt",
       "ckpt: none.txt: cannot open for reading: No such file or directory\n"},
  };
  for (const auto& [line, error] : cases) {
    CAPTURE(line);
    CHECK(cli.bad(line) == error);
  }
}

TEST_CASE("a number that is none, or below zero, is a usage error", "[cli]") {
  const Cli cli;
  cli.take("torch-2.15-flat.pt", "m.pt");
  for (const auto* line :
       {"inspect m.pt --tree --depth x", "inspect m.pt --tree --depth -1",
        "inspect m.pt --get fc.bias --values -1", "filter m.pt -n --min-bytes -1",
        "filter m.pt -n --max-bytes 1.5", "filter m.pt -n --max-bytes 99999999999999999999999"}) {
    CAPTURE(line);
    CHECK(cli.bad(line).starts_with("ckpt: "));
  }
}

TEST_CASE("options may stand anywhere, take = and end at --", "[cli]") {
  const Cli cli;
  cli.take("torch-2.15-flat.pt", "-m.pt");
  cli.take("torch-2.15-flat.pt", "m.pt");
  CHECK(cli.good("inspect --get=fc.bias m.pt") == "[\"fc.bias\"] float32 [3] 12 B\n");
  CHECK(cli.good("inspect m.pt --get fc.bias") == "[\"fc.bias\"] float32 [3] 12 B\n");
  CHECK(cli.good("inspect --get fc.bias -- -m.pt") == "[\"fc.bias\"] float32 [3] 12 B\n");
  CHECK(cli.good("strip -qfn m.pt") == "");
}

TEST_CASE("a usage error is found before anything is read or written", "[cli]") {
  const Cli cli;
  CHECK(cli.bad("strip a.pt b.pt -o out.pt").find("No such file") == std::string::npos);
  CHECK(cli.dir().names().empty());
}

}  // namespace
}  // namespace ckpt::test
