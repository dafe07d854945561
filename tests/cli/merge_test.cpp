// SPDX-License-Identifier: BSD-3-Clause
#include <array>
#include <span>

#include "support/cli_files.h"

namespace ckpt::test {
namespace {

using Keys = std::vector<std::string>;

/// The builder's values follow from the storage's key, so tensors of one name differ by where they lie in it.
class MergeCli : public Cli {
 public:
  MergeCli() {
    write("base.pt", zip_of("a float32 2x3; b float32 4; fc.w float32 5"));
    write("other.pt",
          zip_of("pad float32 9; b float32 4 storage=pad offset=1; a float32 2x3 storage=pad offset=3; "
                 "new float32 2"));
  }

  std::string values(const std::string& file, const std::string& key) const {
    return good("inspect " + file + " --get " + key + " --values 99");
  }
};

TEST_CASE("a base is updated with what it knows, in its own order", "[cli][merge]") {
  const MergeCli cli;
  const auto report = cli.good("merge base.pt other.pt -o out.pt");
  CHECK(report.find("2 of 3 tensors of 'base.pt' now come from 'other.pt'") != report.npos);
  CHECK(report.find(R"(Missing key(s) in state_dict: "fc.w".)") != report.npos);
  CHECK(report.find(R"(Unexpected key(s) in state_dict: "pad", "new".)") != report.npos);
  CHECK(cli.keys("out.pt") == Keys{"a", "b", "fc.w"});
  CHECK(cli.values("out.pt", "a") == cli.values("other.pt", "a"));
  CHECK(cli.values("out.pt", "b") == cli.values("other.pt", "b"));
  CHECK(cli.values("out.pt", "fc.w") == cli.values("base.pt", "fc.w"));
  CHECK(cli.values("base.pt", "a") != cli.values("other.pt", "a"));
}

TEST_CASE("--keys decides which keys the result has", "[cli][merge]") {
  const MergeCli cli;
  cli.good("merge base.pt other.pt --keys union -o out.pt");
  CHECK(cli.keys("out.pt") == Keys{"a", "b", "fc.w", "pad", "new"});
  cli.good("merge base.pt other.pt --keys intersection -f -o out.pt");
  CHECK(cli.keys("out.pt") == Keys{"a", "b"});
  CHECK(cli.bad("merge base.pt other.pt --keys equal -f -o out.pt").find("'fc.w'") != std::string::npos);
}

TEST_CASE("of several others the last one that has a key counts", "[cli][merge]") {
  const MergeCli cli;
  cli.write("third.pt", zip_of("x float32 8; y float32 3; a float32 2x3 storage=x offset=2"));
  const auto report = cli.good("merge base.pt other.pt third.pt -o out.pt");
  CHECK(report.find("1 of 3 tensors of 'base.pt' now come from 'other.pt'") != report.npos);
  CHECK(report.find("1 of 3 tensors of 'base.pt' now come from 'third.pt'") != report.npos);
  CHECK(cli.values("out.pt", "a") == cli.values("third.pt", "a"));
  CHECK(cli.values("out.pt", "b") == cli.values("other.pt", "b"));
}

TEST_CASE("shapes and dtypes that differ are refused with the option that decides", "[cli][merge]") {
  const MergeCli cli;
  cli.write("shape.pt", zip_of("x float32 12; a float32 3x3 storage=x offset=3; b float32 4"));
  const auto shape = cli.bad("merge base.pt shape.pt -o out.pt");
  CHECK(shape.find(
            "size mismatch for a: copying a param with shape torch.Size([3, 3]) from checkpoint, the shape "
            "in current model is torch.Size([2, 3]).") != shape.npos);
  CHECK(shape.find("--on-shape-mismatch") != shape.npos);
  CHECK(shape.find("more do") == shape.npos);
  cli.write("shapes.pt", zip_of("a float32 3x3; b float32 5"));
  const auto shapes = cli.bad("merge base.pt shapes.pt -o out.pt");
  CHECK(shapes.find(" 1 more does not fit") != shapes.npos);
  cli.good("merge base.pt shape.pt -o out.pt --on-shape-mismatch keep-base");
  CHECK(cli.values("out.pt", "a") == cli.values("base.pt", "a"));
  cli.good("merge base.pt shape.pt -f -o out.pt --on-shape-mismatch take-other");
  CHECK(cli.values("out.pt", "a") == cli.values("shape.pt", "a"));

  cli.write("dtype.pt", zip_of("a float64 2x3; b float32 4"));
  const auto dtype = cli.bad("merge base.pt dtype.pt -f -o out.pt");
  CHECK(dtype.find("'a' is of dtype float32 in the base and float64 in 'dtype.pt'") != dtype.npos);
  CHECK(dtype.find("--dtype") != dtype.npos);
  cli.good("merge base.pt dtype.pt -f -o out.pt --dtype other");
  CHECK(cli.good("inspect out.pt --get a").find("float64") != std::string::npos);
  cli.good("merge base.pt dtype.pt -f -o out.pt --dtype base");
  CHECK(cli.good("inspect out.pt --get a").find("float32") != std::string::npos);
}

TEST_CASE("what a filter before didn't find in its reference is no mismatch of a merge", "[cli][merge]") {
  const MergeCli cli;
  cli.write("reference.pt", zip_of("a float32 9; b float32 4; gone float32 1"));
  cli.write("b.pt", zip_of("b float32 4"));
  const auto filter = std::string("-e 'filter --like reference.pt' ");
  cli.good("apply " + filter + "-e 'merge other.pt' base.pt -o out.pt");
  CHECK(cli.keys("out.pt") == Keys{"b"});
  CHECK(cli.values("out.pt", "b") == cli.values("other.pt", "b"));
  const auto equal = cli.good("apply " + filter + "-e 'merge b.pt --keys equal' base.pt -f -o out.pt");
  CHECK(equal.find("Unexpected key(s) in state_dict: \"fc.w\"") != equal.npos);
  const auto all = cli.good("apply " + filter + "-e 'merge other.pt --keys union' base.pt -f -o out.pt");
  CHECK(all.find("Unexpected key(s) in state_dict: \"fc.w\"") != all.npos);
  CHECK(all.find("size mismatch for a:") != all.npos);
}

TEST_CASE("a file of which nothing fits is an error that names the prefix", "[cli][merge]") {
  const MergeCli cli;
  cli.write("ddp.pt", zip_of("module.a float32 2x3; module.b float32 4"));
  const auto error = cli.bad("merge base.pt ddp.pt -o out.pt");
  CHECK(error.find("none of its 2 keys is in the base") != error.npos);
  CHECK(error.find("2 would match after: ckpt rename-keys ddp.pt --strip-prefix module.") != error.npos);
}

TEST_CASE("state dicts pair by path, or the only one with the only one", "[cli][merge]") {
  const MergeCli cli;
  cli.write("two.pt", zip_of("model/a float32 2x3; ema/a float32 2x3; epoch = 3"));
  cli.write("same.pt", zip_of("x/q float32 7; ema/a float32 2x3 storage=x/q offset=1"));
  cli.good("merge two.pt same.pt -o out.pt");
  CHECK(cli.values("out.pt", "ema.a") == cli.values("same.pt", "ema.a"));
  CHECK(cli.values("out.pt", "model.a") == cli.values("two.pt", "model.a"));
  const auto error = cli.bad("merge two.pt other.pt -f -o out.pt");
  CHECK(error.find("don't pair") != error.npos);
  CHECK(error.find("--other-root") != error.npos);
  cli.good("merge two.pt other.pt --root model -f -o out.pt");
  CHECK(cli.values("out.pt", "model.a") == cli.values("other.pt", "a"));
  CHECK(cli.values("out.pt", "ema.a") == cli.values("two.pt", "ema.a"));
  CHECK(cli.good("inspect out.pt --get epoch") == "3\n");
  cli.good("merge base.pt same.pt --other-root ema -f -o out.pt");
  CHECK(cli.values("out.pt", "a") == cli.values("same.pt", "ema.a"));
}

TEST_CASE("containers may differ", "[cli][merge]") {
  const MergeCli cli;
  const char* description = "pad float32 1; b float32 4; a float32 2x3";  // the bases have integers
  cli.write("other.bin", std::string(as_text(build_torch_legacy(description))));
  cli.write("other.safetensors", std::string(as_text(build_safetensors(description))));
  cli.write("base.bin", std::string(as_text(build_torch_legacy("a int32 2x3; b int32 4"))));
  cli.write("base.safetensors", std::string(as_text(build_safetensors("a int32 2x3; b int32 4"))));
  cli.write("zip.pt", zip_of(description));
  cli.write("base.zip", zip_of("a int32 2x3; b int32 4"));
  for (const std::string base : {"base.zip", "base.bin", "base.safetensors"}) {
    for (const std::string other : {"zip.pt", "other.bin", "other.safetensors"}) {
      cli.good("merge " + base + " " + other + " --dtype other -f --verify -o out");
      CHECK(cli.values("out", "a") == cli.values(other, "a"));
      CHECK(cli.values("out", "b") == cli.values(other, "b"));
    }
  }
}

TEST_CASE("values that the base's dtype does not have are counted", "[cli][merge]") {
  const Cli cli;
  const std::array<float, 4> values = {1, 1e9F, -70000, 1e-9F};
  cli.write("base.pt", zip_of("a float16 4; b float16 4; c float32 1"));
  cli.write("other.safetensors",
            as_text(safetensors_file(R"({"a":{"dtype":"F32","shape":[4],"data_offsets":[0,16]},)"
                                     R"("__metadata__":{"b":"a"}})",
                                     as_text(std::as_bytes(std::span(values))))));
  const auto report = cli.good("merge base.pt other.safetensors --dtype base --verify -o out.pt");
  CHECK(report.find("\n  2 values out of range, now infinite: 'a' (2)\n") != report.npos);
  CHECK(cli.good("inspect out.pt --get b --values 4") == "1\n\"Infinity\"\n\"-Infinity\"\n0\n");
  const auto json = cli.good("merge -n base.pt other.safetensors --dtype base --json");
  CHECK(json.find(R"("merge_casts":[{"keys":[{"root":"","name":"a"},{"root":"","name":"b"}],)"
                  R"("from":"float32","to":"float16","values":4,"exact":false,"overflows":2,"zeros":1)") !=
        json.npos);
  CHECK(cli.good("merge -n base.pt other.safetensors --dtype other").find("range") == std::string::npos);
}

TEST_CASE("names that safetensors tie to a tensor are added as keys", "[cli][merge]") {
  const Cli cli;
  const auto file = [&](const char* name, const std::string& header) {
    cli.write(name, as_text(safetensors_file(header, "12345678")));
  };
  const std::string a = R"("a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]})";
  file("other.safetensors", "{" + a + R"(,"__metadata__":{"b":"a","c":"d"}})");
  file("plain.safetensors", "{" + a + "}");
  file("tied.safetensors", "{" + a + R"(,"__metadata__":{"b":"a"}})");
  cli.write("base.pt", zip_of("a float32 2"));
  cli.good("merge -q base.pt other.safetensors --keys union --verify -o out.pt");
  const auto out = read_file(cli, "out.pt");
  REQUIRE(out.tensors.size() == 2);
  CHECK(out.tensors[1].name == "b");
  CHECK(out.tensors[1].storage == out.tensors[0].storage);
  const auto report = cli.good("merge plain.safetensors other.safetensors --keys union -o out.safetensors");
  CHECK(report.find("'__metadata__' leads from 'b' to 'a'") != report.npos);
  CHECK(cli.good("merge -n tied.safetensors other.safetensors --keys union").find("added") ==
        std::string::npos);
  cli.write("apart.pt", zip_of("b float32 2; a float32 2"));
  CHECK(cli.good("merge tied.safetensors apart.pt --verify -o two.safetensors")
            .find("'a' and 'b' were one tensor in the base and are 2 now") != report.npos);
  CHECK(cli.good("inspect --keys two.safetensors") == "a\nb\n");
  CHECK(cli.good("filter tied.safetensors --like tied.safetensors -o as-it-was.safetensors")
            .find("key dropped") == report.npos);
  CHECK(cli.read("as-it-was.safetensors") == cli.read("tied.safetensors"));
  CHECK(cli.bad("rename -n two.safetensors --map a=b").find("would both be called 'b'") != report.npos);
  CHECK(cli.bad("rename -n other.safetensors --map a=b").find("would both be called 'b'") != report.npos);
  CHECK(cli.bad("merge -n base.pt other.safetensors --keys equal").find("no key 'b'") != std::string::npos);
  cli.good(
      "apply -q tied.safetensors -e 'merge other.safetensors' -e 'rename-keys --add-prefix m.' --to torch "
      "--verify -f -o out.pt");  // before and behind an edit that is not about keys
  CHECK(cli.good("inspect --keys out.pt") == "m.a\nm.b\n");
}

TEST_CASE("tensors tied in the other file are tied wherever they go", "[cli][merge]") {
  const Cli cli;
  cli.write("base.pt", zip_of("a float32 1x5x2; b float32 1; c float32 5x2"));
  cli.write("other.pt", zip_of("a float64 1x5x2; b float64 1x5x2 storage=a; c float64 5x2 storage=a"));
  cli.good("merge -q base.pt other.pt --on-shape-mismatch take-other --dtype base -o out.pt");
  const auto out = read_file(cli, "out.pt");
  REQUIRE(out.tensors.size() == 3);
  CHECK(out.tensors[1].storage == out.tensors[0].storage);
  CHECK(out.tensors[2].storage == out.tensors[0].storage);
}

TEST_CASE("tensors tied in the base stay tied if they get one storage, and else it is said", "[cli][merge]") {
  const MergeCli cli;
  cli.write("tied.pt", zip_of("a float32 3; b float32 3 storage=a"));
  cli.write("same.pt", zip_of("x float32 9; a float32 3 storage=x offset=2; b float32 3 storage=x offset=2"));
  cli.write("apart.pt", zip_of("x float32 9; a float32 3; b float32 3"));
  CHECK(cli.good("merge tied.pt same.pt -o out.pt").find("one tensor in the base") == std::string::npos);
  CHECK(cli.good("inspect out.pt").find("tied") != std::string::npos);
  CHECK(cli.good("merge tied.pt apart.pt -f -o out.pt").find("'a' and 'b' were one tensor in the base") !=
        std::string::npos);
  CHECK(cli.good("inspect out.pt").find("tied") == std::string::npos);
}

TEST_CASE("one file is nothing to merge", "[cli][merge]") {
  const MergeCli cli;
  CHECK(cli.bad("merge base.pt -o out.pt").find("at least one OTHER") != std::string::npos);
}

}  // namespace
}  // namespace ckpt::test
