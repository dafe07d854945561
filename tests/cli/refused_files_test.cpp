// SPDX-License-Identifier: BSD-3-Clause
// What is no checkpoint, or a broken one, is named; the status is 2, and nothing is written.
#include <sys/stat.h>

#include "support/checkpoint_builder.h"
#include "support/run_cli.h"
#include "support/zip_builder.h"

namespace ckpt::test {
namespace {

/// The error of `inspect`, which has to be that of an edit as well.
std::string refusal(const Cli& cli, const std::string& file) {
  auto error = cli.bad("inspect " + file);
  CHECK(cli.bad("strip " + file + " -o out.pt") == error);
  CHECK(cli.bad("filter " + file + " --drop-entry epoch -n") == error);
  CHECK_FALSE(cli.exists("out.pt"));
  return error;
}

TEST_CASE("files that are something else are named for what they are", "[cli][refused]") {
  const Cli cli;
  cli.write("lfs.pt", "version https://git-lfs.github.com/spec/v1\noid sha256:0123\nsize 1200000000\n");
  CHECK(refusal(cli, "lfs.pt") == "ckpt: lfs.pt: this is a Git LFS pointer to 1.20 GB; run git lfs pull\n");
  cli.write("page.pt", "<!DOCTYPE html>\n<html><body>404</body></html>");
  CHECK(refusal(cli, "page.pt") == "ckpt: page.pt: this is an HTML page, as a failed download leaves\n");
  cli.write("empty.pt", "");
  CHECK(refusal(cli, "empty.pt") == "ckpt: empty.pt: this is an empty file\n");
  cli.write("text.pt", "hello");
  CHECK(refusal(cli, "text.pt") == "ckpt: text.pt: this is plain text\n");
  cli.write("zeros.pt", std::string(5000, '\0'));
  CHECK(refusal(cli, "zeros.pt").find("a file of zero bytes only") != std::string::npos);
  cli.write("gzip.pt", "\x1f\x8b\x08 and so on");
  CHECK(refusal(cli, "gzip.pt") == "ckpt: gzip.pt: this is gzip data; unpack it first\n");
  CHECK(refusal(cli, "missing.pt") ==
        "ckpt: missing.pt: cannot open for reading: No such file or directory\n");
  ::mkdir("folder", 0777);
  CHECK(refusal(cli, "folder").starts_with("ckpt: folder: "));
}

TEST_CASE("a truncated archive says so, wherever it was cut", "[cli][refused]") {
  const Cli cli;
  cli.take("torch-2.15-flat.pt", "whole.pt");
  const auto whole = cli.read("whole.pt");
  for (const std::size_t size :
       {whole.size() - 1, whole.size() - 22, whole.size() - 200, whole.size() / 2, std::size_t{100}}) {
    CAPTURE(size);
    cli.write("cut.pt", whole.substr(0, size));
    CHECK(refusal(cli, "cut.pt").find("zip archive is cut short: ") != std::string::npos);
  }
}

TEST_CASE("a cut legacy stream or safetensors file gives the two numbers", "[cli][refused]") {
  const Cli cli;
  for (const auto* file : {"torch-2.15-flat-legacy.pt", "torch-2.15-dataparallel.safetensors"}) {
    CAPTURE(file);
    cli.take(file, "whole");
    cli.write("cut", cli.read("whole").substr(0, cli.read("whole").size() - 3));
    const auto error = refusal(cli, "cut");
    CHECK(error.starts_with("ckpt: cut: "));
    CHECK(error.find_first_of("0123456789") != std::string::npos);
    std::filesystem::remove("whole");
  }
}

TEST_CASE("an archive that readers see differently is shown, but not rewritten", "[cli][refused]") {
  const Cli cli;
  const auto bytes = build_zip("a/data.pkl; a/byteorder; a/data/0; a/data/0; a/version; end");
  cli.write("twice.pt", as_text(bytes));
  CHECK(cli.good("inspect -s twice.pt").find("[zip-duplicate-name]") != std::string::npos);
  const auto error = cli.bad("rename twice.pt --add-prefix x. -o out.pt");
  CHECK(error.find("readers disagree about this file, so it is not rewritten") != std::string::npos);
  CHECK_FALSE(cli.exists("out.pt"));
  CHECK(cli.run("rename twice.pt --add-prefix x. -n").status == 2);
}

TEST_CASE("no state dict: the mappings that hold tensors are listed", "[cli][refused]") {
  const Cli cli;
  cli.take("torch-2.15-root-tensor.pt", "tensor.pt");
  CHECK(cli.bad("strip tensor.pt -n") ==
        "ckpt: tensor.pt: no state dict in the file; no mapping of the file holds tensors\n"
        "  hint: name a mapping with --root PATH\n");
}

TEST_CASE("what has no tensors can be looked at", "[cli][refused]") {
  const Cli cli;
  cli.take("rxnmapper-0.4.3-training-args.bin", "args.bin");
  CHECK(cli.good("inspect -s args.bin").find("0 tensors") != std::string::npos);
  CHECK(cli.bad("strip args.bin -n").find("no state dict in the file") != std::string::npos);
}

}  // namespace
}  // namespace ckpt::test
