// SPDX-License-Identifier: BSD-3-Clause
// --json: one document on standard output, whatever happens.
#include <filesystem>
#include <set>

#include <nlohmann/json.hpp>

#include "support/cli_files.h"

namespace ckpt::test {
namespace {

using nlohmann::json;

/// The one document of a run; checks what all documents have.
json document(const Cli& cli, const std::string& line, int status = 0) {
  INFO(line);
  const auto done = cli.run(line);
  CHECK(done.err == "");
  CHECK(done.status == status);
  CHECK(done.out.ends_with("}\n"));
  CHECK(split_lines(done.out).size() == 1);
  auto parsed = json::parse(done.out, nullptr, false);
  REQUIRE(parsed.is_object());
  CHECK(parsed["status"] == status);
  REQUIRE(parsed["files"].is_array());
  REQUIRE(parsed["errors"].is_array());
  CHECK(parsed["schema"].get<std::string>().starts_with("ckpt."));
  for (const auto& error : parsed["errors"]) {
    CHECK(error["code"].is_string());
    CHECK(error["message"].is_string());
    CHECK(error.contains("file"));
    CHECK(error.contains("hint"));
  }
  return parsed;
}

TEST_CASE("inspect: what a file's object has", "[cli][json]") {
  const Cli cli;
  cli.take("torch-2.15-training.pt", "in.pt");
  const auto all = document(cli, "inspect --json in.pt");
  CHECK(all["schema"] == "ckpt.inspect/1");
  REQUIRE(all["files"].size() == 1);
  const auto& file = all["files"][0];
  CHECK(file["file"] == "in.pt");
  CHECK(file["format"] == "torch-zip");
  CHECK(file["bytes"] == 13560);
  for (const auto* list : {"entries", "tensors", "storages", "findings", "globals"})
    CHECK(file[list].is_array());
  const auto& tensor = file["tensors"][0];
  CHECK(tensor["path"] == "model[\"module.conv.weight\"]");
  CHECK(tensor["name"] == "module.conv.weight");
  CHECK(tensor["root"] == "model");
  CHECK(tensor["section"] == "model");
  CHECK(tensor["kind"] == "parameter");
  CHECK(tensor["dtype"] == "float32");
  CHECK(tensor["shape"] == json::parse("[2,1,3,3]"));
  CHECK(tensor["strides"] == json::parse("[9,9,3,1]"));
  CHECK(tensor["offset"] == 0);
  CHECK(tensor["numel"] == 18);
  CHECK(tensor["bytes"] == 72);
  CHECK(tensor["requires_grad"] == false);
  CHECK(tensor["device"] == "cpu");
  CHECK(tensor["kind_from"].is_string());
  for (const auto* total : {"tensors", "parameters", "buffers", "numel", "bytes", "view_bytes"}) {
    CHECK(file["totals"][total].is_number_unsigned());
  }
  CHECK(file["totals"]["by_dtype"].is_object());
  CHECK(file["totals"]["by_section"]["optimizer"].is_object());
}

TEST_CASE("inspect: names and roots are null outside state dicts, and a path is unique", "[cli][json]") {
  const Cli cli;
  for (const auto* name : {"torch-2.15-training.pt", "torch-2.15-keys.pt", "torch-2.15-keys-objects.pt",
                           "torch-2.15-holders.pt", "torch-2.15-sparse.pt", "torch-2.15-quantized.pt",
                           "torch-2.15-module.pt", "torch-2.15-nested-tensor.pt"}) {
    CAPTURE(name);
    cli.take(name);
    const auto all = document(cli, "inspect --json " + std::string(name));
    std::set<std::string> paths;
    for (const auto& tensor : all["files"][0]["tensors"]) {
      const auto path = tensor["path"].get<std::string>();
      CAPTURE(path);
      CHECK(paths.insert(path).second);
      CHECK(tensor["name"].is_null() == tensor["root"].is_null());
      const auto kind = tensor["kind"].get<std::string>();
      CHECK((kind == "parameter" || kind == "buffer" || kind == "unknown" || kind == "optimizer" ||
             kind == "other"));
      CHECK(tensor["root"].is_null() == (kind == "optimizer" || kind == "other"));
    }
  }
}

TEST_CASE("inspect: totals count each storage once, views count as what they show", "[cli][json]") {
  const Cli cli;
  cli.take("torch-2.15-tied.pt", "in.pt");
  const auto totals = document(cli, "inspect --json in.pt")["files"][0]["totals"];
  CHECK(totals["bytes"] == 100);
  CHECK(totals["view_bytes"] == 180);
  cli.write("views.pt", zip_of("w float32 10; v float32 2 storage=w offset=3"));
  const auto file = document(cli, "inspect --json views.pt")["files"][0];
  CHECK(file["totals"]["bytes"] == 40);
  CHECK(file["storages"].size() == 1);
  CHECK(file["storages"][0]["tensors"] == json::parse(R"(["w","v"])"));
  CHECK(file["tensors"][1]["offset"] == 3);
}

TEST_CASE("names that are no UTF-8 have their bytes in hexadecimal beside them", "[cli][json]") {
  const Cli cli;
  cli.take("torch-2.15-tiny.pt", "a\xff.pt");
  const auto done = cli.run_words({"inspect", "--json", "a\xff.pt"});
  const auto file = json::parse(done.out)["files"][0];
  CHECK(file["file"] == "a\xef\xbf\xbd.pt");
  CHECK(file["file_hex"] == "61ff2e7074");
}

TEST_CASE("edits tell the bytes of names that are no UTF-8, too", "[cli][json]") {
  const Cli cli;
  cli.take("torch-2.15-flat-legacy.pt", "in.pt");
  auto bytes = cli.read("in.pt");
  bytes.replace(bytes.find("fc.bias"), 7,
                "fc.b\xff"
                "as");
  cli.write("in.pt", bytes);
  const auto renamed = document(cli,
                                "rename --json in.pt -n --map =fc.b\xff"
                                "as=bias");
  const auto pair = renamed["files"][0]["state_dicts"][0]["renamed"][0];
  CHECK(pair["from_hex"] == "66632e62ff6173");
  CHECK(pair["to"] == "bias");
  CHECK_FALSE(pair.contains("to_hex"));
  const auto dropped = document(cli, "filter --json in.pt -n --drop fc")["files"][0]["state_dicts"][0];
  CHECK(dropped["dropped"].size() == 2);
  CHECK(dropped["dropped_hex"] == json::parse(R"([null,"66632e62ff6173"])"));
  CHECK_FALSE(dropped.contains("missing_hex"));
}

TEST_CASE("a command that does not exist is a document, too", "[cli][json]") {
  const Cli cli;
  for (const auto* line : {"frobnicate --json m.pt", "--json", "help nothing --json"}) {
    CAPTURE(line);
    const auto all = document(cli, line, 2);
    CHECK(all["schema"] == "ckpt.help/1");
    CHECK(all["errors"][0]["code"] == "usage");
  }
}

TEST_CASE("help and version are documents, too, when asked for as such", "[cli][json]") {
  const Cli cli;
  for (const auto* line :
       {"help --json", "--help --json", "-h --json", "help help --json", "help --json -h"}) {
    const auto all = document(cli, line);
    CHECK(all["schema"] == "ckpt.help/1");
    CHECK(all["commands"].size() == cli::commands().size());
    CHECK(all["errors"].empty());
  }
  for (const auto* line : {"help strip --json", "help --json strip-dataparallel", "strip --help --json"}) {
    const auto all = document(cli, line);
    REQUIRE(all["commands"].size() == 1);
    const auto& command = all["commands"][0];
    CHECK(command["name"] == "strip-dataparallel");
    CHECK(command["alias"] == "strip");
    CHECK(command["operands"] == "FILE...");
    CHECK(command["manual"].get<std::string>().starts_with("## Examples"));
    CHECK(command["options"][0] ==
          json::parse(R"({"names": ["-h", "--help"], "operand": null, "description": "Print this help"})"));
    CHECK(command["options"][1]["names"] == json::parse(R"(["--root"])"));
    CHECK(command["options"][1]["operand"] == "PATH");
  }
  const auto version = cli.good("--version");
  for (const auto* line : {"--version --json", "inspect --version --json"}) {
    const auto all = document(cli, line);
    CHECK("ckpt " + all["version"].get<std::string>() + '\n' == version);
    CHECK(all["commands"].empty());
  }
}

TEST_CASE("several inputs have one object each, in order, also those that can't be read", "[cli][json]") {
  const Cli cli;
  cli.take("torch-2.15-tiny.pt", "a.pt");
  cli.write("bad.pt", "hello");
  std::filesystem::create_directory("out");
  for (const std::string command : {"inspect --json ", "strip --json -o out/ "}) {
    const auto all = document(cli, command + "a.pt bad.pt missing.pt", 2);
    REQUIRE(all["files"].size() == 3);
    CHECK(all["files"][0]["file"] == "a.pt");
    CHECK(all["files"][1]["file"] == "bad.pt");
    CHECK(all["files"][2]["file"] == "missing.pt");
    REQUIRE(all["errors"].size() == 2);
    CHECK(all["errors"][0]["code"] == "unsupported");
    CHECK(all["errors"][0]["file"] == "bad.pt");
    CHECK(all["errors"][1]["code"] == "not-found");
  }
}

TEST_CASE("errors carry their stable code", "[cli][json]") {
  const Cli cli;
  cli.take("torch-2.15-dataparallel.pt", "in.pt");
  cli.take("torch-1.13-training.pt", "training.pt");
  cli.write("cut.pt", cli.read("in.pt").substr(0, 3000));

  struct Case {
    const char* line;
    const char* code;
  };

  const Case cases[] = {
      {"strip --json in.pt -o in.pt", "exists"},
      {"strip --json in.pt -o training.pt", "exists"},
      {"strip --json cut.pt -n", "corrupt"},
      {"strip --json gone.pt -n", "not-found"},
      {"strip --json in.pt -o no/such/file.pt", "not-found"},
      {"filter --json in.pt --drop nope -n", "not-found"},
      {"filter --json training.pt --drop module.fc -n", "refused"},
      {"rename --json in.pt --map '**=x' -n", "refused"},
  };
  for (const auto& [line, code] : cases) {
    CAPTURE(line);
    const auto all = document(cli, line, 2);
    REQUIRE(all["errors"].size() == 1);
    CHECK(all["errors"][0]["code"] == code);
  }
}

TEST_CASE("a usage error is a document too, wherever --json stands", "[cli][json]") {
  const Cli cli;
  for (const auto* line :
       {"inspect --json", "inspect --json --bogus in.pt", "inspect --bogus --json in.pt",
        "inspect in.pt --sort x --json", "strip in.pt --json", "strip --json a.pt b.pt -o out.pt",
        "filter in.pt -n --json", "filter in.pt --keep 're:(' -n --json",
        "filter in.pt --only-dtype x -n --json", "rename in.pt -n --json", "frobnicate --json",
        "help nothing --json", "apply --json", "apply -e strip --json", "apply -e 'strip x' in.pt --json",
        "strip --wrapper a.b in.pt -n --json", "inspect --values 3 --json in.pt"}) {
    const auto all = document(cli, line, 2);
    REQUIRE(all["errors"].size() == 1);
    CHECK(all["errors"][0]["code"] == "usage");
    CHECK(all["errors"][0]["file"].is_null());
    CHECK(all["files"].empty());
  }
}

TEST_CASE("edits: what was done", "[cli][json]") {
  const Cli cli;
  cli.take("torch-2.15-dataparallel.pt", "in.pt");
  const auto all = document(cli, "strip --json in.pt -o out.pt");
  CHECK(all["schema"] == "ckpt.strip-dataparallel/1");
  const auto& file = all["files"][0];
  CHECK(file["file"] == "in.pt");
  CHECK(file["output"] == "out.pt");
  CHECK(file["changed"] == true);
  CHECK(file["written"] == true);
  CHECK(file["dry_run"] == false);
  CHECK(file["status"] == 0);
  CHECK(file["bytes_in"] == 4281);
  CHECK(file["bytes_out"] == std::filesystem::file_size("out.pt"));
  CHECK(file["removed_wrappers"] == json::parse(R"(["module."])"));
  CHECK(file["state_dicts"][0]["renamed"].size() == 9);
  CHECK(file["state_dicts"][0]["renamed"][0] ==
        json::parse(R"({"from":"module.conv.weight","to":"conv.weight"})"));
  auto dry = document(cli, "strip --json in.pt -n -o new.pt")["files"][0];
  CHECK(dry["written"] == false);
  CHECK(dry["dry_run"] == true);
  dry["written"] = true;
  dry["dry_run"] = false;
  dry["output"] = "out.pt";
  CHECK(dry == file);
}

TEST_CASE("edits: how optimizers followed", "[cli][json]") {
  const Cli cli;
  cli.take("torch-2.15-training.pt", "in.pt");
  auto file = document(cli, "filter --json in.pt --drop module.fc -n")["files"][0];
  CHECK(file["optimizers"] == json::parse(R"([{"path":"optimizer","root":"model","told_by":"names",
      "parameters_before":6,"parameters_after":4,"dropped":["module.fc.weight","module.fc.bias"],"reset":[],
      "renamed_names":0}])"));
  file = document(cli, "strip --json in.pt -n")["files"][0];
  CHECK(file["optimizers"][0]["told_by"].is_null());
  CHECK(file["optimizers"][0]["renamed_names"] == 6);
  file = document(cli, "filter --json in.pt --drop module.fc --optimizer drop -n")["files"][0];
  CHECK(file["optimizers"].empty());
  cli.take("torch-1.13-training.pt", "unnamed.pt");
  file =
      document(cli, "filter --json unnamed.pt --drop module.fc --optimizer remap=model-order -n")["files"][0];
  CHECK(file["optimizers"][0]["told_by"] == "model-order");
  const auto errors = document(cli, "filter --json unnamed.pt --drop module.fc -n", 2)["errors"];
  CHECK(errors[0]["hint"].get<std::string>().ends_with(
      "\n    ckpt filter --optimizer remap=model-order --json unnamed.pt --drop module.fc -n"));
}

TEST_CASE("edits: nothing to do, --must-change and --strict", "[cli][json]") {
  const Cli cli;
  cli.take("torch-2.15-flat.pt", "in.pt");
  auto file = document(cli, "strip --json in.pt -i")["files"][0];
  CHECK(file["changed"] == false);
  CHECK(file["written"] == false);
  file = document(cli, "strip --json in.pt -o out.pt --must-change", 1)["files"][0];
  CHECK(file["status"] == 1);
  CHECK(file["written"] == false);
  cli.write("like.pt", zip_of("fc.weight float32 9x9; gone float32 1"));
  file = document(cli, "filter --json in.pt --like like.pt --strict -o out.pt", 2)["files"][0];
  CHECK(file["written"] == false);
  cli.write("like.pt", zip_of("fc.weight float32 9x9; fc.bias float32 3; gone float32 1"));
  file = document(cli, "filter --json in.pt --like like.pt --strict -o out.pt", 1)["files"][0];
  CHECK(file["state_dicts"][0]["missing"] == json::parse(R"(["gone"])"));
  CHECK(file["state_dicts"][0]["mismatched"][0]["name"] == "fc.weight");
  CHECK(file["state_dicts"][0]["mismatched"][0]["shape"] == json::parse("[3,2]"));
  CHECK(file["state_dicts"][0]["mismatched"][0]["reference_shape"] == json::parse("[9,9]"));
  CHECK(file["state_dicts"][0]["unexpected"].size() == 7);
  CHECK_FALSE(cli.exists("out.pt"));
}

TEST_CASE("with -o - the document goes to standard error, the bytes to standard output", "[cli][json]") {
  const Cli cli;
  cli.take("torch-2.15-dataparallel.pt", "in.pt");
  cli.good("strip -q in.pt -o out.pt");
  DrainedPipe pipe;
  Outcome done;
  {
    const Redirected standard_output(1, pipe.input());
    done = cli.run("strip --json in.pt -o -");
  }
  CHECK(pipe.finish() == cli.read("out.pt"));
  CHECK(done.out == "");
  CHECK(json::parse(done.err)["files"][0]["output"] == "-");
}

TEST_CASE("--json wins over -q and over views", "[cli][json]") {
  const Cli cli;
  cli.take("torch-2.15-dataparallel.pt", "in.pt");
  document(cli, "strip -q --json in.pt -n");
  for (const auto* view : {"--keys", "--tree", "-s", "--globals"}) {
    CHECK(document(cli, std::string("inspect --json in.pt ") + view)["files"][0]["tensors"].size() == 9);
  }
}

TEST_CASE("--select, --root and --sort choose what the document lists", "[cli][json]") {
  const Cli cli;
  cli.take("torch-2.15-training.pt", "in.pt");
  CHECK(document(cli, "inspect --json in.pt --root ema --select module.fc")["files"][0]["tensors"].size() ==
        2);
  CHECK(document(cli, "inspect --json in.pt --root ema --sort bytes")["files"][0]["tensors"][0]["bytes"] ==
        72);
}

TEST_CASE("every golden file's document can be parsed", "[cli][json]") {
  const Cli cli;
  for (const auto& entry : std::filesystem::directory_iterator(CKPT_TEST_DATA)) {
    const auto path = entry.path().string();
    if (path.ends_with(".md") || path.find("LICENSE") != std::string::npos) continue;
    CAPTURE(path);
    const auto done = cli.run("inspect --json " + path);
    CHECK(done.err == "");
    const auto all = json::parse(done.out, nullptr, false);
    REQUIRE(all.is_object());
    CHECK(all["status"] == done.status);
    CHECK(all["errors"].empty() == (done.status == 0));
  }
}

}  // namespace
}  // namespace ckpt::test
