// SPDX-License-Identifier: BSD-3-Clause
#include <cstring>
#include <utility>

#include <fmt/format.h>

#include "support/cli_files.h"

namespace ckpt::test {
namespace {

using Keys = std::vector<std::string>;
using Values = std::vector<float>;

struct Tensor {
  std::string name;
  Values values;
  std::string shape;  ///< in brackets; empty: one dimension
};

/// A safetensors file of float32 tensors.
std::string file_of(const std::vector<Tensor>& tensors) {
  std::string header;
  std::string buffer;
  for (const auto& tensor : tensors) {
    const auto begin = buffer.size();
    buffer.append(4 * tensor.values.size(), '\0');
    for (std::size_t i = 0; i < tensor.values.size(); ++i)
      std::memcpy(buffer.data() + begin + 4 * i, &tensor.values[i], 4);
    header += fmt::format(R"({}"{}":{{"dtype":"F32","shape":[{}],"data_offsets":[{},{}]}})",
                          header.empty() ? "{" : ",", tensor.name,
                          tensor.shape.empty() ? std::to_string(tensor.values.size()) : tensor.shape, begin,
                          buffer.size());
  }
  return std::string(as_text(safetensors_file(header + "}", buffer)));
}

class MethodCli : public Cli {
 public:
  MethodCli() {
    write("base.st", file_of({{"a", {1, 2, 3, 4}, "2,2"}, {"b", {1, 1}, ""}}));
    write("x.st", file_of({{"a", {2, 2, 3, 4}, "2,2"}, {"b", {2, 1}, ""}}));
    write("y.st", file_of({{"a", {3, 5, 3, 4}, "2,2"}, {"b", {6, 1}, ""}}));
  }

  /// What --values prints of a key of out.st, on one line.
  std::string values(const std::string& key, const std::string& file = "out.st") const {
    auto text = good("inspect " + file + " --get " + key + " --values 99");
    for (auto& c : text) c = c == '\n' ? ' ' : c;
    return text;
  }

  std::string merged(const std::string& arguments) const {
    return good("merge base.st x.st y.st -f -o out.st " + arguments);
  }

  std::string refused(const std::string& arguments) const { return bad("merge -n " + arguments); }
};

bool has(const std::string& text, std::string_view part) {
  return text.find(part) != text.npos;
}

TEST_CASE("the mean of files is in every tensor, and the report tells of it", "[cli][merge]") {
  const MethodCli cli;
  const auto report = cli.merged("--method mean");
  CHECK(has(report, "  mean of 'base.st', 'x.st' and 'y.st'\n    2 tensors computed\n"));
  CHECK(has(report, "cosine with 'base.st': 'x.st' 0.9"));
  CHECK(has(cli.values("a"), "2 3 3 4"));
  CHECK(has(cli.values("b"), "3 1"));
}

TEST_CASE("weights are one for each file that counts", "[cli][merge]") {
  const MethodCli cli;
  cli.merged("--method linear --weights 1,0,3");
  CHECK(has(cli.values("a"), "2.5 4.25 3 4"));
  cli.merged("--method linear --weights 1,0,3 --normalize no");
  CHECK(has(cli.values("b"), "19 4"));
  cli.merged("--method task-arithmetic --weights 1,0.5");
  CHECK(has(cli.values("a"), "3 3.5 3 4"));
  CHECK(has(cli.refused("base.st x.st --method linear --weights 1"),
            "weight has 1 value: 'linear' takes one for each of 2 files"));
  CHECK(has(cli.refused("base.st x.st --method ties --weights 1,2"),
            "weight has 2 values: 'ties' takes one for each of 1 file around BASE"));
}

TEST_CASE("parameters can be other ones for some keys, the last that matches decides", "[cli][merge]") {
  const MethodCli cli;
  const auto report =
      cli.merged("--method task-arithmetic --weights 1,1 --weights b=0,0 --lambda =b=2 --param b:lambda=1");
  CHECK(has(cli.values("a"), "4 5 3 4"));
  CHECK(has(cli.values("b"), "1 1"));
  CHECK(has(report, "'=b': lambda 2"));
  cli.write("keys.txt", "b\n");
  cli.merged("--method task-arithmetic --weights 1,1 --weights @keys.txt=0,0");
  CHECK(has(cli.values("b"), "1 1"));
  CHECK(has(cli.refused("base.st x.st --method ties --lambda c=2"), "'c' matches no key"));
  cli.good("merge -n base.st x.st --method ties --lambda c=2 --allow-unmatched");
}

TEST_CASE("the last that matches decides, whichever option says it", "[cli][merge]") {
  const MethodCli cli;
  const std::string ties = "--method ties ";
  CHECK(has(cli.merged(ties + "--param density=0.3 --density 0.5"), "density 0.5,"));
  CHECK(has(cli.merged(ties + "--density 0.5 --param density=0.3"), "density 0.3,"));
  CHECK(has(cli.merged(ties + "--param lambda=2 --lambda 3 --param lambda=4 --lambda 5"), "lambda 5,"));
  const std::string line = "--method task-arithmetic ";
  cli.merged(line + "--param b:lambda=9 --lambda 1 --weights 1,1 --lambda b=0");
  CHECK(has(cli.values("b"), "1 1"));
  cli.merged(line + "--lambda b=9 --lambda 1 --param b:lambda=0");
  CHECK(has(cli.values("b"), "1 1"));
  const auto plan = cli.good(
      "merge base.st x.st --method ties --print-plan --param b:density=0.3 --density 0.5 --density b=0.9");
  CHECK(plan.find("\"0.3\"") < plan.find("\"0.5\""));
  CHECK(plan.find("\"0.5\"") < plan.find("\"0.9\""));
  cli.good(
      "apply base.st -e 'merge x.st y.st --method task-arithmetic --param lambda=9 --lambda 0' -f -o out.st");
  CHECK(has(cli.values("a"), "1 2 3 4"));
}

TEST_CASE("what is thinned away may differ from file to file", "[cli][merge]") {
  const MethodCli cli;
  cli.write("zero.st", file_of({{"a", {0, 0, 0, 0}, ""}}));
  cli.write("up.st", file_of({{"a", {8, 4, 2, 1}, ""}}));
  cli.write("down.st", file_of({{"a", {10, 20, 40, 80}, ""}}));
  cli.good(
      "merge zero.st up.st down.st --method breadcrumbs --density 0.25 --param gamma=0.25,0.5 "
      "--allow-unrelated -o out.st");
  CHECK(has(cli.values("a"), "0 24 0 0"));
  CHECK(has(cli.refused("zero.st up.st down.st --method breadcrumbs --param gamma=0,0,0"),
            "gamma has 3 values: 'breadcrumbs' takes one for each of 2 files around BASE"));
}

TEST_CASE("a list of values lies over the layers", "[cli][merge]") {
  const MethodCli cli;
  const std::vector<Tensor> zeros = {
      {"embed", {0}, ""}, {"h.0.w", {0}, ""}, {"h.1.w", {0}, ""}, {"h.2.w", {0}, ""}, {"norm", {0}, ""}};
  auto ones = zeros;
  for (auto& tensor : ones) tensor.values = {1};
  cli.write("zeros.st", file_of(zeros));
  cli.write("ones.st", file_of(ones));
  cli.good("merge zeros.st ones.st --method linear --weights '[1,0],[0,1]' -o out.st");
  const std::vector<std::pair<std::string, std::string>> expected = {
      {"embed", "0 "}, {"h.0.w", "0 "}, {"h.1.w", "0.5 "}, {"h.2.w", "1 "}, {"norm", "0 "}};
  for (const auto& [key, value] : expected) CHECK(cli.values(key).ends_with(value));
}

TEST_CASE("what a method does not know is refused with the nearest", "[cli][merge]") {
  const MethodCli cli;
  CHECK(has(cli.refused("base.st x.st --method tis"), "unknown method 'tis'\n  hint: did you mean 'ties'?"));
  CHECK(has(cli.refused("base.st x.st --method ties --param densty=1"), "did you mean 'density'?"));
  CHECK(has(cli.refused("base.st x.st --method ties --param foo=1"),
            "--param: 'ties' has no parameter 'foo'\n"
            "  hint: it has: weight, density, normalize, lambda, rescale, rescale_by, consensus\n"));
  CHECK(has(cli.refused("base.st x.st --method karcher --param toll=1"), "did you mean 'tol'?"));
  CHECK(has(cli.refused("base.st x.st --method mean --param foo=1"), "  hint: it has none\n"));
  CHECK(cli.refused("base.st x.st --method ties --normalize maybe") ==
        "ckpt: --normalize: 'maybe': expected yes or no, found 'maybe'\n");
  CHECK(cli.refused("base.st x.st --method ties --param rescale=some") ==
        "ckpt: --param: 'some': expected yes or no, found 'some'\n");
  CHECK(cli.refused("base.st x.st --method mean --dtype foo") == "ckpt: unknown dtype 'foo'\n");
  CHECK(has(cli.refused("base.st x.st --method mean --density 1"), "'mean' has no parameter 'density'"));
  CHECK(has(cli.refused("base.st x.st --method slerp"), "'slerp' needs t"));
  CHECK(has(cli.refused("base.st x.st --method slerp --t 2"), "t is 2: expected a number from 0 to 1"));
  CHECK(has(cli.refused("base.st x.st --method slerp --t x"), "--t: 'x': expected a number, found 'x'"));
  CHECK(has(cli.refused("base.st x.st y.st --method slerp --t 0"), "'slerp' merges 2 files, found 3"));
  CHECK(has(cli.refused("base.st x.st y.st --method nuslerp"), "--around-base"));
  CHECK(has(cli.refused("base.st x.st --seed 1"), "--seed goes with --method"));
  CHECK(has(cli.refused("base.st x.st --dtype float16"), "--dtype float16 goes with --method"));
  CHECK(has(cli.refused("base.st x.st --method mean --dtype other"), "--dtype other goes without --method"));
}

TEST_CASE("files that have nothing to do with each other are refused before anything is written",
          "[cli][merge]") {
  const MethodCli cli;
  cli.write("other.st", file_of({{"a", {-4, 3, -2, 1}, "2,2"}, {"b", {-1, 1}, ""}}));
  const auto error = cli.bad("merge base.st other.st --method mean -o out.st");
  CHECK(has(error, "'base.st' and 'other.st' are not related"));
  CHECK(has(error, "--allow-unrelated"));
  CHECK_FALSE(cli.exists("out.st"));
  CHECK(has(cli.refused("base.st other.st --method mean"), "are not related"));
  cli.good("merge base.st other.st --method mean --allow-unrelated -o out.st");
}

TEST_CASE("files are related or not, whatever is done with the result", "[cli][merge]") {
  const MethodCli cli;
  cli.write("away.st", file_of({{"a", {-1, -2, -3, -4}, "2,2"}, {"b", {-1, -1}, ""}}));
  for (const std::string more :
       {"convert --dtype float16", "merge base.st --method mean", "convert --compact"}) {
    const auto run = "apply -e 'merge away.st --method mean' -e '" + more + "' base.st -o out.st";
    CHECK(has(cli.bad(run), "are not related"));
    CHECK_FALSE(cli.exists("out.st"));
  }
}

TEST_CASE("a tensor that not every file has stays the base's, and that is said", "[cli][merge]") {
  const MethodCli cli;
  cli.write("part.st", file_of({{"a", {2, 2, 3, 4}, "2,2"}, {"c", {7}, ""}}));
  const auto report = cli.good("merge base.st part.st x.st --method mean -o out.st");
  CHECK(has(report, "1 tensor as it is, for not every file has it: 'b'"));
  CHECK(has(cli.values("b"), "1 1"));
  CHECK(cli.keys("out.st") == Keys{"a", "b"});
  const auto all = cli.good("merge base.st part.st x.st --method mean --keys union -f -o out.st");
  CHECK(has(all, "1 tensor of fewer files, as others lack it: 'b'"));
  CHECK(has(cli.values("b"), "1.5 1"));
  CHECK(has(cli.values("c"), "7"));
  cli.good("merge base.st part.st x.st --method mean --keys intersection -f -o out.st");
  CHECK(cli.keys("out.st") == Keys{"a"});
  CHECK(has(cli.refused("base.st part.st --method mean --keys equal"), "(--keys equal)"));
}

TEST_CASE("a tensor that too few files have for the method stays the base's", "[cli][merge]") {
  const MethodCli cli;
  cli.write("part.st", file_of({{"a", {2, 2, 3, 4}, "2,2"}}));
  for (const std::string method : {"nuslerp --around-base", "model-stock"}) {
    const auto report = cli.good("merge base.st part.st x.st --keys union -f -o out.st --method " + method);
    CHECK(has(report, "1 tensor as it is, for not every file has it: 'b'"));
    CHECK(has(cli.values("b"), "1 1"));
  }
  const auto report =
      cli.good("merge base.st part.st x.st --keys union -f -o out.st --method multislerp --around-base");
  CHECK(has(report, "1 tensor of fewer files, as others lack it: 'b'"));
}

TEST_CASE("shapes that differ are refused until an option decides", "[cli][merge]") {
  const MethodCli cli;
  cli.write("more.st", file_of({{"a", {2, 2, 3, 4, 5, 6}, "3,2"}, {"b", {3, 1}, ""}}));
  CHECK(has(cli.refused("base.st more.st --method mean"), "size mismatch for a"));
  cli.good("merge base.st more.st --method mean --on-shape-mismatch keep-base -o out.st");
  CHECK(has(cli.values("a"), "1 2 3 4"));
  CHECK(has(cli.values("b"), "2 1"));
  cli.good("merge base.st more.st --method mean --on-shape-mismatch take-other -f -o out.st");
  CHECK(has(cli.values("a"), "2 2 3 4 5 6"));
}

TEST_CASE("the result has the base's dtype or the one that is asked for, also where nothing is merged",
          "[cli][merge]") {
  const MethodCli cli;
  cli.write("part.st", file_of({{"a", {2, 2, 3, 4}, "2,2"}}));
  cli.good("merge base.st part.st --method mean --dtype float16 -o out.st");
  for (const auto* key : {"a", "b"})
    CHECK(has(cli.good(std::string("inspect out.st --get ") + key), "float16"));
  CHECK(has(cli.values("b"), "1 1"));
}

TEST_CASE("floats are merged into floats of a byte or more", "[cli][merge]") {
  const MethodCli cli;
  cli.write("part.st", file_of({{"a", {2, 2, 3, 4}, "2,2"}}));
  for (const std::string dtype : {"complex64", "int8", "bool", "quint8", "float4_e2m1fn_x2"})
    CHECK(has(cli.refused("base.st part.st --method mean --dtype " + dtype),
              "floats can't be merged into " + dtype));
}

TEST_CASE("empty tensors at one place are several", "[cli][merge]") {
  const MethodCli cli;
  const auto empty = file_of({{"e", {}, "0"}, {"f", {}, "0"}, {"w", {1, 2}, ""}});
  cli.write("empty.st", empty);
  cli.write("more.st", empty);
  cli.good("merge empty.st more.st --method mean -o out.st");
  CHECK(has(cli.good("inspect out.st"), "3 tensors"));
}

TEST_CASE("tied tensors that only get another dtype stay tied", "[cli][merge]") {
  const MethodCli cli;
  cli.write("tied.pt", zip_of("a float32 3; b float32 3x4 strides=1x3; c float32 3x4 storage=b strides=1x3"));
  cli.write("part.pt", zip_of("a float32 3"));
  const auto report = cli.good("merge tied.pt part.pt --method mean --dtype float16 -o out.pt");
  CHECK_FALSE(has(report, "one tensor in the base"));
  const auto out = read_file(cli, "out.pt");
  CHECK(out.tensors[1].storage == out.tensors[2].storage);
  CHECK(out.strides(out.tensors[2]) == std::vector<std::int64_t>{1, 3});
}

TEST_CASE("integers follow their rule and never become floats", "[cli][merge]") {
  const MethodCli cli;
  cli.write("i.pt", zip_of("w float32 3; n int64 2"));
  cli.write("j.pt", zip_of("w float32 3; q int64 5; n int64 2 storage=q offset=2"));
  const auto error = cli.refused("i.pt j.pt --method mean --allow-unrelated");
  CHECK(has(error, "'n'"));
  CHECK(has(error, "--integers"));
  cli.good("merge i.pt j.pt --method mean --integers first --allow-unrelated -o out.pt");
  CHECK(cli.values("n", "out.pt") == cli.values("n", "i.pt"));
  for (const std::string rule : {"max", "sum"}) {
    cli.good("merge i.pt j.pt --method mean --allow-unrelated -f -o out.pt --integers " + rule);
    CHECK(has(cli.good("inspect out.pt --get n"), "int64"));
  }
}

TEST_CASE("counters of batches become the largest, and statistics of batches are remarked on",
          "[cli][merge]") {
  const MethodCli cli;
  const char* description =
      "bn.running_mean float32 2; bn.running_var float32 2; bn.num_batches_tracked int64 ";
  cli.write("i.pt", zip_of(std::string(description) + "scalar"));
  cli.write("j.pt", zip_of("q int64 9; " + std::string(description) + "scalar storage=q offset=5"));
  const auto report = cli.good("merge i.pt j.pt --method mean --allow-unrelated -o out.pt");
  CHECK(has(report, "1 counter of batches (num_batches_tracked) is the largest of all files"));
  CHECK(has(report, "running_mean and running_var of 1 layer"));
  CHECK(has(report, "2 tensors computed, 1 of integers by rule"));
}

TEST_CASE("tensors that are one in every file stay one, others get their own", "[cli][merge]") {
  const MethodCli cli;
  cli.write("tied.pt", zip_of("a float32 3; b float32 3 storage=a"));
  cli.write("same.pt", zip_of("x float32 9; a float32 3 storage=x offset=2; b float32 3 storage=x offset=2"));
  cli.write("apart.pt", zip_of("a float32 3; b float32 3"));
  const std::string options = " --method mean --allow-unrelated -f -o out.pt";
  CHECK_FALSE(has(cli.good("merge tied.pt same.pt" + options), "one tensor in the base"));
  CHECK(has(cli.good("inspect out.pt"), "tied"));
  CHECK(
      has(cli.good("merge tied.pt apart.pt" + options), "'a' and 'b' were one tensor in the base and are 2"));
  CHECK_FALSE(has(cli.good("inspect out.pt"), "tied"));
}

TEST_CASE("a name that safetensors tie to a tensor is one of the file's", "[cli][merge]") {
  const MethodCli cli;
  cli.write("zip.pt", zip_of("p float32 9; a float32 3 storage=p offset=4; b float32 3 storage=p offset=4"));
  cli.write("tied.pt", zip_of("a float32 3; b float32 3 storage=a"));
  cli.good("convert tied.pt --to safetensors -o tied.st");
  for (const std::string options :
       {"", " --method mean --allow-unrelated", " --method ties --lambda 0.5 --allow-unrelated"}) {
    cli.good("merge zip.pt tied.st --keys intersection -f -o out.pt" + options);
    CHECK(cli.values("b", "out.pt") == cli.values("a", "out.pt"));
    CHECK((cli.values("b", "out.pt") == cli.values("a", "tied.pt")) == options.empty());
    CHECK(has(cli.good("inspect out.pt"), "tied"));
  }
}

TEST_CASE("a tie with what is not merged is said to be broken", "[cli][merge]") {
  const MethodCli cli;
  cli.write("two.pt", zip_of("model/a float32 3; model/b float32 2; ema/a float32 3 storage=model/a"));
  for (const std::string method : {"", " --method mean"}) {
    const auto report = cli.good("merge two.pt two.pt --root model -n" + method);
    CHECK(has(report, "'a' and 'ema.a' were one tensor in the base and are 2 now"));
  }
  CHECK_FALSE(has(cli.good("merge two.pt two.pt -n --method mean"), "are 2 now"));
}

TEST_CASE("the optimizer and all else stay the base's", "[cli][merge]") {
  const MethodCli cli;
  cli.take("torch-2.15-training.pt", "base.pt");
  const auto report = cli.good("merge base.pt base.pt --root model --method mean -o out.pt");
  CHECK(has(report, "the optimizer state at 'optimizer' stays and belongs to the old values"));
  CHECK(cli.good("inspect out.pt --get epoch") == cli.good("inspect base.pt --get epoch"));
}

TEST_CASE("where places count they are those of C order, and the result lies as the base does",
          "[cli][merge]") {
  const MethodCli cli;
  cli.write("lying.pt", zip_of("a float32 4x3x2x2 strides=12x1x6x3; t float32 5x4 strides=1x5; v float32 7"));
  cli.write("x.pt",
            zip_of("p float32 99; a float32 4x3x2x2 storage=p offset=3; t float32 5x4 storage=p offset=5; "
                   "v float32 7 storage=p offset=1"));
  cli.good("convert lying.pt --to safetensors -o dense.st");  // in C order
  for (const std::string method :
       {"ties", "dare-linear", "della", "breadcrumbs --param gamma=0.1", "arcee-fusion"}) {
    const auto options = " x.pt --method " + method + (method == "arcee-fusion" ? "" : " --density 0.5") +
                         " --allow-unrelated --verify -f -o ";
    const auto report = cli.good("merge lying.pt" + options + "out.pt");
    CHECK_FALSE(has(report, "C order"));
    cli.good("merge dense.st" + options + "out.st");
    for (const std::string key : {"a", "t", "v"}) CHECK(cli.values(key, "out.pt") == cli.values(key));
    const auto table = cli.good("inspect --json out.pt");
    CHECK(has(table, R"("strides":[12,1,6,3])"));
    CHECK(has(table, R"("strides":[1,5])"));
  }
}

TEST_CASE("a big-endian base stays one", "[cli][merge]") {
  const MethodCli cli;
  cli.take("torch-2.15-bigendian.pt", "big.pt");
  cli.take("torch-2.15-dtypes.pt", "little.pt");
  const std::string options =
      " --method linear --weights 1,1 --normalize no --integers sum --keys intersection --verify -f -o ";
  cli.good("merge little.pt little.pt" + options + "out.pt");
  for (const std::string files : {"big.pt little.pt", "big.pt big.pt"}) {
    cli.good("merge " + files + options + "big-out.pt");
    CHECK(has(cli.good("inspect -s big-out.pt"), ", big-endian"));
    for (const std::string name :
         {"float16", "bfloat16", "float32", "float64", "complex64", "int16", "int64", "uint8"})
      CHECK(cli.values("module." + name, "big-out.pt") == cli.values("module." + name, "out.pt"));
  }
}

TEST_CASE("seeds decide random masks, and are printed", "[cli][merge]") {
  const MethodCli cli;
  Values zeros(4096);
  Values ones(4096, 1);
  cli.write("zeros.st", file_of({{"w", zeros, ""}, {"one", {1}, ""}}));
  cli.write("ones.st", file_of({{"w", ones, ""}, {"one", {1}, ""}}));
  const std::string line = "merge zeros.st ones.st --allow-unrelated --method dare-linear --density 0.5 -f ";
  CHECK(has(cli.good(line + "-o 0.st"), ", seed 0\n"));
  CHECK(has(cli.good(line + "--seed 7 -o 7.st"), ", seed 7\n"));
  cli.good(line + "--seed 7 --threads 1 -o again.st");
  CHECK((cli.read("7.st") == cli.read("again.st")));
  CHECK((cli.read("7.st") != cli.read("0.st")));
}

TEST_CASE("a seed is any whole number of 64 bits, and nothing else", "[cli][merge]") {
  const MethodCli cli;
  const std::string line = "merge base.st x.st --method dare-linear --density 0.5 -f -o out.st --seed ";
  for (const std::string seed : {"0", "9223372036854775807", "9223372036854775808", "18446744073709551615"}) {
    CHECK(has(cli.good(line + seed), ", seed " + seed + "\n"));
    CHECK(has(cli.good(line + seed + " --json"), "\"seed\":" + seed + ","));
    CHECK(has(cli.good(line + seed + " --print-plan"), "\"seed\": " + seed));
  }
  CHECK(has(cli.good(line + "-1"), ", seed 18446744073709551615\n"));
  for (const std::string seed :
       {"18446744073709551616", "99999999999999999999", "-9223372036854775809", "1.5", "x", "''"})
    CHECK(cli.bad(line + seed) == "ckpt: --seed: expected a whole number from -2^63 to 2^64 - 1, found " +
                                      (seed == "''" ? "" : seed) + "\n  hint: see 'ckpt merge --help'\n");
  CHECK(cli.refused("base.st x.st --method ties --seed 1") ==
        "ckpt: --seed means nothing to 'ties', which draws no random masks\n"
        "  hint: it goes with dare-linear, dare-ties, della, della-linear\n");
}

TEST_CASE("a plan of a method does what its command does", "[cli][merge]") {
  const MethodCli cli;
  const std::string options =
      " --method linear --weights '1,[0,2]' --weights b=1,1 --normalize no --integers max --accumulate "
      "float32 "
      "--dtype float64 --allow-unrelated";
  cli.write("plan.json", cli.good("merge base.st x.st --print-plan" + options));
  cli.good("apply plan.json base.st -o applied.st");
  cli.good("merge base.st x.st -o out.st" + options);
  CHECK((cli.read("applied.st") == cli.read("out.st")));
  CHECK(has(cli.read("plan.json"), R"({"parameter": "weight", "keys": "b", "value": "1,1"})"));
}

/// LoRA of rank 1 for a weight of 2 x 3, and what it makes of it with alpha 2: twice the product.
class AdapterCli : public Cli {
 public:
  AdapterCli() {
    write("base.st", file_of({{"fc.weight", {0, 0, 0, 1, 1, 1}, "2,3"}, {"fc.bias", {1, 2}, ""}}));
    std::filesystem::create_directories("adapter");
    write("adapter/a.st", file_of({{prefix + "lora_A.weight", {1, 2, 3}, "1,3"},
                                   {prefix + "lora_B.weight", {1, 10}, "2,1"}}));
  }

  std::string values(const std::string& key, const std::string& file = "out.st") const {
    auto text = good("inspect " + file + " --get " + key + " --values 99");
    for (auto& c : text) c = c == '\n' ? ' ' : c;
    return text;
  }

  const std::string prefix = "base_model.model.fc.";
};

TEST_CASE("an adapter is added to the weight that it is made for", "[cli][merge]") {
  const AdapterCli cli;
  const auto report = cli.good("merge base.st adapter/a.st --method lora --param alpha=2 -o out.st");
  CHECK(has(report, "lora of 'adapter/a.st' around 'base.st'"));
  CHECK(has(cli.values("fc.weight"), "2 4 6 21 41 61"));
  CHECK(has(cli.values("fc.bias"), "1 2"));
  CHECK(has(cli.bad("merge base.st adapter/a.st --method lora -f -o out.st"), "--param alpha=VALUE"));
  cli.write("adapter/adapter_config.json", R"({"peft_type": "LORA", "lora_alpha": 2.0, "r": 1})");
  cli.good("merge base.st adapter/a.st --method lora -f -o out.st");
  CHECK(has(cli.values("fc.weight"), "2 4 6 21 41 61"));
  cli.good("merge base.st adapter/a.st --method lora --weights 0.5 -f -o out.st");
  CHECK(has(cli.values("fc.weight"), "1 2 3 11 21 31"));
  const auto lora = [&](const std::string& config) {
    cli.write("adapter/adapter_config.json", config);
    return cli.bad("merge base.st adapter/a.st --method lora -f -o out.st");
  };
  CHECK(has(lora("{"), "its adapter_config.json: "));
  CHECK(has(lora(R"({"lora_alpha": "x"})"), "its adapter_config.json: lora_alpha is no number"));
  CHECK(has(lora(R"({"r": 1})"), "its adapter_config.json has no lora_alpha"));
  cli.write("adapter/adapter_config.json", R"({"lora_alpha": 2, "use_rslora": true})");
  CHECK_FALSE(has(cli.good("merge base.st adapter/a.st --method lora -f -o out.st"), "rank_stabilized"));
  cli.write("adapter/adapter_config.json", R"({"lora_alpha": 1, "alpha_pattern": {"fc": 2}})");
  cli.good("merge base.st adapter/a.st --method lora -f -o out.st");
  CHECK(has(cli.values("fc.weight"), "2 4 6 21 41 61"));
}

TEST_CASE("an adapter's weights lie over the layers that are left", "[cli][merge]") {
  const AdapterCli cli;
  const Values zeros = {0, 0, 0, 0, 0, 0};
  cli.write("deep.st", file_of({{"h.0.w.weight", zeros, "2,3"},
                                {"h.1.w.weight", zeros, "2,3"},
                                {"h.2.w.weight", zeros, "2,3"}}));
  cli.write("deep-lora.st",
            file_of({{"h.1.w.lora_A.weight", {1, 2, 3}, "1,3"}, {"h.1.w.lora_B.weight", {1, 10}, "2,1"}}));
  cli.good(
      "apply -e 'filter-keys --drop h.2.w.weight' -e 'merge deep-lora.st --method lora --param alpha=2 "
      "--weights [0,1]' deep.st -o out.st");
  CHECK(has(cli.values("h.1.w.weight"), "2 4 6 20 40 60"));
}

TEST_CASE("what is said of an adapter's scale counts before what its configuration says", "[cli][merge]") {
  const AdapterCli cli;
  const Tensor a = {"fc.lora_A.weight", {1, 2, 3, 0, 0, 0, 0, 0, 0, 0, 0, 0}, "4,3"};
  const Tensor b = {"fc.lora_B.weight", {1, 0, 0, 0, 10, 0, 0, 0}, "2,4"};
  cli.write("adapter/a.st", file_of({a, b}));
  const auto merged = [&](const std::string& options) {
    cli.good("merge base.st adapter/a.st --method lora -f -o out.st " + options);
    return cli.values("fc.weight");
  };
  for (const std::string config : {R"({"lora_alpha": 4, "use_rslora": true})", R"({"lora_alpha": 4})"}) {
    cli.write("adapter/adapter_config.json", config);
    CHECK(has(merged("--param rank_stabilized=yes"), "2 4 6 21 41 61"));
    CHECK(has(merged("--param rank_stabilized=no"), "1 2 3 11 21 31"));
    CHECK(has(merged("--param other:rank_stabilized=no --allow-unmatched"),
              config.ends_with("true}") ? "2 4 6 21 41 61" : "1 2 3 11 21 31"));
  }
}

TEST_CASE("a bias that was trained beside an adapter replaces the base's", "[cli][merge]") {
  const AdapterCli cli;
  const Tensor a = {cli.prefix + "lora_A.weight", {1, 2, 3}, "1,3"};
  const Tensor b = {cli.prefix + "lora_B.weight", {1, 10}, "2,1"};
  cli.write("x.st", file_of({a, b, {cli.prefix + "base_layer.bias", {7, 8}, ""}}));
  cli.good("merge base.st x.st --method lora --param alpha=2 -o out.st");
  CHECK(has(cli.values("fc.weight"), "2 4 6 21 41 61"));
  CHECK(has(cli.values("fc.bias"), "7 8"));
}

TEST_CASE("what no adapter touches gets the dtype that is asked for, and stays tied", "[cli][merge]") {
  const AdapterCli cli;
  cli.write("base.pt", zip_of("fc.weight float32 2x3; fc.bias float64 2; e float32 4x2; head float32 4x2 "
                              "storage=e; n int64 1"));
  const auto report = cli.good(
      "merge base.pt adapter/a.st --method lora --param alpha=2 --dtype bfloat16 --verify -o out.pt");
  CHECK_FALSE(has(report, "one tensor in the base"));
  const auto out = read_file(cli, "out.pt");
  for (const auto& tensor : out.tensors)
    CHECK(tensor.dtype == (tensor.name == "n" ? Dtype::kInt64 : Dtype::kBfloat16));
  CHECK(out.tensors[2].storage == out.tensors[3].storage);
}

TEST_CASE("a weight with an adapter lies as the base's does", "[cli][merge]") {
  const AdapterCli cli;
  cli.write("lying.pt",
            zip_of("fc.weight float32 2x3 strides=1x2; conv.weight float32 4x3x2x2 strides=12x1x6x3; "
                   "fc.bias float32 2; head float32 3x2 strides=1x3"));
  cli.good("convert lying.pt --to safetensors -o dense.st");  // in C order
  cli.write("x.st", file_of({{"fc.lora_A.weight", {1, 2, 3}, "1,3"},
                             {"fc.lora_B.weight", {1, 10}, "2,1"},
                             {"conv.lora_A.weight", {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12}, "1,3,2,2"},
                             {"conv.lora_B.weight", {1, 10, 100, 1000}, "4,1,1,1"},
                             {"head", {1, 2, 3, 4, 5, 6}, "3,2"}}));
  const std::string options = " x.st --method lora --param alpha=2 --verify -o ";
  CHECK_FALSE(has(cli.good("merge lying.pt" + options + "out.pt"), "C order"));
  cli.good("merge dense.st" + options + "out.st");
  for (const std::string key : {"fc.weight", "conv.weight", "head"})
    CHECK(cli.values(key, "out.pt") == cli.values(key));
  const auto table = cli.good("inspect --json out.pt");
  for (const auto* strides : {"[1,2]", "[12,1,6,3]", "[1,3]"})
    CHECK(has(table, fmt::format(R"("strides":{})", strides)));
}

TEST_CASE("keys that the base lacks are merged by the same rules", "[cli][merge]") {
  const MethodCli cli;
  cli.write("one.st", file_of({{"b", {2, 1}, ""}, {"e", {2, 4}, ""}}));
  cli.write("two.st", file_of({{"b", {2, 1}, ""}, {"e", {4, 8}, ""}}));
  cli.write("wide.st", file_of({{"b", {2, 1}, ""}, {"e", {1, 2, 3, 4}, ""}}));
  const std::string union_of = "merge base.st one.st two.st x.st --keys union -f -o out.st ";
  CHECK(has(cli.good(union_of + "--method mean"), "2 tensors of fewer files, as others lack them: 'a', 'e'"));
  CHECK(has(cli.values("e"), "3 6"));
  cli.good(union_of + "--method linear --param e:weight=1,3,1,1");
  CHECK(has(cli.values("e"), "2.5 5"));
  cli.good(union_of + "--method ties --dtype bfloat16");
  CHECK(has(cli.values("e"), "4 8"));
  CHECK(has(cli.good("inspect out.st --get e"), "bfloat16"));
  const std::string misfits = "merge base.st one.st wide.st --keys union --method mean -f -o out.st ";
  CHECK(has(cli.bad(misfits), "size mismatch for e"));
  cli.good(misfits + "--on-shape-mismatch keep-base");
  CHECK(has(cli.values("e"), "2 4"));
  cli.good(misfits + "--on-shape-mismatch take-other");
  CHECK(has(cli.values("e"), "1 2 3 4"));
}

TEST_CASE("integers that the base lacks follow their rule", "[cli][merge]") {
  const MethodCli cli;
  cli.write("w.pt", zip_of("w float32 3"));
  cli.write("i.pt", zip_of("q int64 9; w float32 3; bn.num_batches_tracked int64 scalar storage=q offset=5; "
                           "n int64 2"));
  cli.write("j.pt", zip_of("q int64 9; w float32 3; bn.num_batches_tracked int64 scalar; n int64 2 storage=q "
                           "offset=2"));
  const std::string merge = "w.pt j.pt i.pt --keys union --allow-unrelated --method ";
  for (const std::string method : {"mean ", "ties "}) {
    CHECK(has(cli.refused(merge + method), "--integers"));
    cli.good("merge -f -o out.pt " + merge + method + "--integers max");
    CHECK(cli.values("bn.num_batches_tracked", "out.pt") == cli.values("bn.num_batches_tracked", "j.pt"));
    cli.good("merge -f -o out.pt " + merge + method + "--integers first");
    CHECK(cli.values("n", "out.pt") == cli.values("n", "j.pt"));
  }
}

TEST_CASE("layers are those of the result", "[cli][merge]") {
  const MethodCli cli;
  const auto ones = [](const Keys& names) {
    std::vector<Tensor> tensors;
    for (const auto& name : names) tensors.push_back({name, {1}, ""});
    return file_of(tensors);
  };
  cli.write("even.st", ones({"h.0.w", "h.2.w"}));
  cli.write("all.st", ones({"h.0.w", "h.1.w", "h.2.w", "z"}));
  cli.good(
      "merge even.st all.st all.st --keys union --method linear --normalize no "
      "--weights '0,[0,10],[0,100]' -o out.st");
  CHECK(cli.values("h.1.w").ends_with("55 "));
  CHECK(cli.values("h.2.w").ends_with("110 "));
  CHECK(cli.values("z").ends_with("0 "));
  cli.good(
      "apply -e 'filter-keys --drop h.2.w' -e 'merge all.st --method linear --normalize no "
      "--weights [1,1],[0,4]' all.st -f -o out.st");
  CHECK(cli.values("h.1.w").ends_with("5 "));
}

TEST_CASE("a plain tensor that requires a gradient becomes no float8", "[cli][merge]") {
  const MethodCli cli;
  cli.write("v.pt", zip_of("v float32 2"));
  cli.write("w.pt", zip_of("v float32 2; w float32 3 parameter"));
  const std::string merge = "v.pt w.pt --keys union --method mean --dtype ";
  CHECK(has(cli.refused(merge + "float8_e4m3fn"), "'w' requires a gradient and is no Parameter"));
  cli.good("merge -o out.pt " + merge + "bfloat16");
}

TEST_CASE("a new tensor lies as the other's does", "[cli][merge]") {
  const MethodCli cli;
  cli.write("v.pt", zip_of("v float32 7"));
  cli.write("t.pt", zip_of("v float32 7; t float32 5x4 strides=1x5"));
  cli.good("merge v.pt t.pt t.pt --keys union --method mean -o out.pt");
  CHECK(has(cli.good("inspect --json out.pt"), R"("strides":[1,5])"));
  CHECK(cli.values("t", "out.pt") == cli.values("t", "t.pt"));
}

TEST_CASE("counters that are floats become the largest, and relate no models", "[cli][merge]") {
  const MethodCli cli;
  cli.write("n0.st", file_of({{"bn.num_batches_tracked", {100000}, ""}, {"w", {1, 0}, ""}}));
  cli.write("n1.st", file_of({{"bn.num_batches_tracked", {200000}, ""}, {"w", {0, 1}, ""}}));
  CHECK(
      has(cli.refused("n0.st n1.st --method mean"), "are not related: the cosine of their values is 0.000"));
  const auto report = cli.good("merge n0.st n1.st --method mean --allow-unrelated -o out.st");
  CHECK(has(report, "1 counter of batches (num_batches_tracked) is the largest of all files"));
  CHECK(has(cli.values("bn.num_batches_tracked"), "200000"));
}

TEST_CASE("of very many files each is held against the base", "[cli][merge]") {
  const MethodCli cli;
  cli.write("w.st", file_of({{"w", {1, 0.1F}, ""}}));
  cli.write("other.st", file_of({{"w", {0, 1}, ""}}));
  std::string files;
  for (int i = 0; i < 40; ++i) files += " w.st";
  CHECK(
      has(cli.refused("w.st" + files + " other.st --method mean"), "'w.st' and 'other.st' are not related"));
  CHECK(has(cli.good("merge w.st" + files + " --method mean -f -o out.st"), "cosine with 'w.st'"));
}

TEST_CASE("values that became infinite are counted", "[cli][merge]") {
  const MethodCli cli;
  cli.write("large.st", file_of({{"a", {1, 2, 70000, 4}, "2,2"}, {"b", {-1e6F, 1e6F}, ""}}));
  const std::string merge = "merge large.st large.st --method mean -f -o out.st";
  CHECK_FALSE(has(cli.good(merge), "infinite"));
  const auto report = cli.good(merge + " --dtype float16");
  CHECK(has(report, "3 values of the result are NaN or infinite: in 'a', 'b'"));
  CHECK(has(cli.good(merge + " --dtype float16 --json"), R"("not_finite":2)"));
  for (const std::string dtype : {"float64", "bfloat16", "float8_e4m3fn"})
    CHECK_FALSE(has(cli.good(merge + " --dtype " + dtype), "infinite"));
  CHECK(has(cli.good(merge + " --dtype float8_e4m3fnuz"), "3 values of the result are NaN"));
}

TEST_CASE("what lay over one another or was expanded is said", "[cli][merge]") {
  const MethodCli cli;
  cli.write("parts.pt", zip_of("p float32 12; whole float32 8 storage=p; part float32 4 storage=p offset=2; "
                               "rest float32 4 storage=p offset=8; wide float32 3x4 storage=p strides=0x1"));
  const auto report = cli.good("merge parts.pt parts.pt --method mean -o out.pt");
  CHECK(has(report, "lay over one another in the base and do not now"));
  CHECK(has(report, "1 expanded tensor is written out in full"));
  cli.write("two.pt", zip_of("model/a float32 4; model/b float32 4 storage=model/a; "
                             "ema/whole float32 8; ema/b float32 4 storage=ema/whole offset=2"));
  CHECK(has(cli.good("merge two.pt two.pt --method mean -f -o out.pt"),
            "'whole' and 'b' lay over one another"));
  cli.write("apart.pt", zip_of("whole float32 8; part float32 4"));
  CHECK_FALSE(has(cli.good("merge apart.pt apart.pt --method mean -f -o out.pt"), "lay over"));
}

TEST_CASE("adapters that are no product of two matrices, or not the base's, are refused by name",
          "[cli][merge]") {
  const AdapterCli cli;
  const auto error = [&](const std::vector<Tensor>& tensors) {
    cli.write("x.st", file_of(tensors));
    return cli.bad("merge -n base.st x.st --method lora --param alpha=1");
  };
  const Tensor a = {cli.prefix + "lora_A.weight", {1, 2, 3}, "1,3"};
  const Tensor b = {cli.prefix + "lora_B.weight", {1, 10}, "2,1"};
  CHECK(has(error({a}), "lora_B of 'fc' is missing"));
  CHECK(has(error({a, b, {cli.prefix + "lora_magnitude_vector", {1, 2}, ""}}), "lora_magnitude_vector"));
  CHECK(has(error({{"x.lora_A.weight", {1}, "1,1"}, {"x.lora_B.weight", {1}, "1,1"}}),
            "it adapts 'x.weight', which the base does not have"));
  CHECK(has(error({{cli.prefix + "lora_A.weight", {1, 2}, "1,2"}, b}), "size mismatch for fc"));
  CHECK(has(error({{"fc.weight", {1}, ""}}), "holds no adapter"));
  cli.write("adapter/adapter_config.json", R"({"use_dora": true})");
  CHECK(has(cli.bad("merge -n base.st adapter/a.st --method lora"), "DoRA"));
}

TEST_CASE("what is no number stays none, as in mergekit", "[cli][merge]") {
  const MethodCli cli;
  cli.write("base.st", file_of({{"a", {1, 2, 3, 4}, ""}}));
  cli.write("x.st", file_of({{"a", {1, 2.5F, NAN, 4}, ""}}));
  cli.write("y.st", file_of({{"a", {1, 2, 3, 5}, ""}}));
  cli.good("merge base.st x.st --method arcee-fusion --allow-unrelated -f -o out.st");
  CHECK(cli.values("a") == "1 2 \"NaN\" 4 ");  // no importance is known in that row
  cli.merged("--method multislerp --allow-unrelated");
  CHECK(cli.values("a") == "\"NaN\" \"NaN\" \"NaN\" \"NaN\" ");
}

}  // namespace
}  // namespace ckpt::test
