// SPDX-License-Identifier: BSD-3-Clause
// --dtype: which tensors become what, and how they lie then. Their values are judged by PyTorch itself.
#include "support/cli_files.h"
#include "support/pickle_assembler.h"
#include "support/zip_builder.h"

namespace ckpt::test {
namespace {

using Lines = std::vector<std::string>;

/// For each tensor its name, dtype, storage and place.
Lines rows(const Cli& cli, const std::string& name) {
  const auto checkpoint = read_file(cli, name);
  Lines lines;
  for (const auto& row : checkpoint.tensors) {
    lines.push_back(fmt::format(
        "{} {}: storage {} of {} B, offset {}, strides {}", row.name, dtype_info(row.dtype).name, row.storage,
        checkpoint.storages[row.storage].bytes, row.offset, fmt::join(checkpoint.strides(row), "x")));
  }
  return lines;
}

constexpr auto kMixed = "w float32 2x3; b float16 3; n int64 scalar; mask bool 2";

TEST_CASE("each edit of a plan says what became of its own values", "[cli][convert]") {
  const Cli cli;
  cli.write("in.pt", zip_of("a int64 1; k int64 1"));  // beyond a million
  const auto run = [&](const std::string& a, const std::string& k) {
    return cli.good("apply -e 'convert --dtype \"a=float16\" --on-overflow " + a +
                    "' -e 'convert --dtype \"k=float16\" --on-overflow " + k + "' -n in.pt");
  };
  CHECK(run("inf", "clamp").find("2 values out of range, now infinite or clamped: ") != std::string::npos);
  CHECK(run("clamp", "clamp").find("2 values out of range, clamped: ") != std::string::npos);
}

TEST_CASE("a plain dtype is for floating tensors", "[cli][convert]") {
  const Cli cli;
  for (const auto& bytes : {zip_of(kMixed), legacy_of(kMixed), safetensors_of(kMixed)}) {
    cli.write("in", bytes);
    const auto report = cli.good("convert --dtype bfloat16 --on-overflow inf --verify -f in -o out");
    CHECK(holds(report, "1 tensor float32 -> bfloat16"));
    CHECK(holds(report, "1 tensor float16 -> bfloat16"));
    CHECK(holds(report, "; 30 B -> 18 B\n"));
    CHECK(holds(cli.good("inspect --json out"), "\"bfloat16\""));
    const auto checkpoint = read_file(cli, "out");
    for (const auto& row : checkpoint.tensors) {
      const auto wanted = row.name == "n"      ? Dtype::kInt64
                          : row.name == "mask" ? Dtype::kBool
                                               : Dtype::kBfloat16;
      CHECK(row.dtype == wanted);
    }
  }
}

TEST_CASE("the last rule that means a key counts, and only a name changes kinds", "[cli][convert]") {
  const Cli cli;
  cli.write("in.pt", zip_of(kMixed));
  cli.good(
      "convert -q --dtype float64 --dtype '*=int32' --dtype b=float32 --dtype mask=uint8 --on-overflow inf "
      "in.pt -o "
      "out.pt");
  const auto checkpoint = read_file(cli, "out.pt");
  Lines found;
  for (const auto& row : checkpoint.tensors)
    found.push_back(fmt::format("{} {}", row.name, dtype_info(row.dtype).name));
  CHECK(found == Lines{"w float64", "b float32", "n int32", "mask uint8"});
}

TEST_CASE("a shared storage is cast as one where all of its views are", "[cli][convert]") {
  const Cli cli;
  constexpr auto kShared =
      "whole float32 4x3; turned float32 3x4 storage=whole strides=1x3; row float32 3 storage=whole offset=3";
  for (const auto& bytes : {zip_of(kShared), legacy_of(kShared)}) {
    cli.write("in.pt", bytes);
    cli.good("convert -q --dtype float16 --on-overflow inf -f in.pt -o out.pt");
    const auto found = rows(cli, "out.pt");
    REQUIRE(found.size() == 3);
    CHECK(holds(found[0], "whole float16: storage 0 of 24 B, offset 0, strides 3x1"));
    CHECK(holds(found[1], "turned float16: storage 0 of 24 B, offset 0, strides 1x3"));
    CHECK(holds(found[2], "row float16: storage 0 of 24 B, offset 3, strides 1"));
    const auto report = cli.good("convert --dtype row=float64 -f in.pt -o out.pt");
    CHECK(holds(report,
                "1 tensor shared a storage with tensors that are not cast alike and has one of its "
                "own: 'row'"));
    CHECK(holds(rows(cli, "out.pt")[2], "row float64: storage 1 of 24 B, offset 0, strides 1"));
  }
}

TEST_CASE("the values of a lazily negated tensor are cast", "[cli][convert]") {
  for (const auto* const name : {"torch-2.15-bits.pt", "torch-2.15-bits-legacy.pt"}) {
    const Cli cli;
    cli.take(name, "in.pt");
    const auto values = [&](const std::string& dtype) {
      cli.good("convert -q --on-overflow inf --to torch -f in.pt -o out.pt --dtype module.lazy=" + dtype);
      return cli.good("inspect --values 3 --get module.lazy out.pt");
    };
    CHECK(values("int32") == "0\n-1\n0\n");
    CHECK_FALSE(holds(cli.good("inspect out.pt"), " neg\n"));
    CHECK(values("uint16") == "0\n65535\n0\n");  // another function makes such a tensor
    CHECK_FALSE(holds(cli.good("inspect out.pt"), " neg\n"));
    CHECK(values("float8_e4m3fn") == "-0.6875\n-1.875\n0.9375\n");  // PyTorch negates none of them
    CHECK_FALSE(holds(cli.good("inspect out.pt"), " neg\n"));
    CHECK(holds(values("float64"), "-0.69958"));
    CHECK(holds(cli.good("inspect out.pt"), " neg\n"));
  }
}

/// A zip of tensors "a" and "b" on one storage of 8 bytes, each as assembly of its call.
std::string two_tensors(const std::string& a, const std::string& b) {
  const auto pickle = testing::assemble("PROTO 2; EMPTY_DICT; MARK; BINUNICODE a; " + a + "; BINUNICODE b; " +
                                        b + "; SETITEMS; STOP");
  return std::string(as_text(build_zip("archive/data.pkl body=" + escaped(as_text(pickle)) +
                                       ";archive/data/0 body=01234567;archive/version body=3\\n")));
}

/// With these arguments behind the hooks, on that storage.
TensorPickle tensor_with(const std::string& storage_class, const std::string& more) {
  TensorPickle tensor;
  tensor.storage_class = "GLOBAL " + storage_class;
  tensor.numel = "BININT 8";
  tensor.view = "";
  tensor.more = more;
  return tensor;
}

constexpr auto kNegative = "EMPTY_DICT; BINUNICODE neg; NEWFALSE; SETITEM";  // the key alone counts

TEST_CASE("a tensor whose arguments make another one, too, keeps them", "[cli][convert]") {
  const std::string function = "GLOBAL torch._utils _rebuild_tensor_v2; ";
  const auto chars = [](const std::string& metadata) { return tensor_with("torch CharStorage", metadata); };
  const auto refusal = [](const std::string& file) {
    const Cli cli;
    cli.write("in.pt", file);
    CHECK(holds(cli.good("inspect in.pt"), "neg\n"));
    const auto ran = cli.run("convert --dtype a=int32 --on-overflow inf in.pt -o out.pt");
    CHECK(ran.status == 2);
    CHECK_FALSE(cli.exists("out.pt"));
    return ran.err;
  };
  CHECK(holds(refusal(two_tensors(chars("EMPTY_DICT; BINPUT 0; BINUNICODE neg; NEWTRUE; SETITEM").value(),
                                  chars("BINGET 0").value())),
              "tensor 'a': what makes it lazily negated makes other tensors so, too"));
  CHECK(holds(refusal(two_tensors(function + chars(kNegative).arguments() + "; BINPUT 0; REDUCE",
                                  function + "BINGET 0; REDUCE")),
              "tensor 'a': its arguments are those of another tensor, too"));
}

TEST_CASE("a lazily negated float8 becomes a float that PyTorch can negate, or nothing", "[cli][convert]") {
  const Cli cli;
  auto tensor =
      tensor_with("torch.storage UntypedStorage", std::string("GLOBAL torch float8_e4m3fnuz; ") + kNegative);
  tensor.sizes = "MARK; BININT 8; TUPLE";
  const auto call = "GLOBAL torch._utils _rebuild_tensor_v3; " + tensor.arguments() + "; REDUCE";
  cli.write("in.pt", two_tensors(call, call));
  const auto before = cli.good("inspect --values 8 --get a in.pt");
  cli.good("convert -q --dtype a=float32 in.pt -o out.pt");
  CHECK(cli.good("inspect --values 8 --get a out.pt") == before);
  const auto ran = cli.run("convert --dtype a=int32 in.pt -f -o out.pt");
  CHECK(ran.status == 2);
  CHECK(holds(ran.err, "tensor 'a' is lazily negated, and PyTorch negates no float8_e4m3fnuz"));
}

TEST_CASE("with --compact each tensor is cast alone", "[cli][convert]") {
  const Cli cli;
  cli.write(
      "in.pt",
      zip_of("base float32 900; a float32 4 storage=base offset=2; b float32 3 storage=base strides=2"));
  CHECK(holds(cli.good("convert --dtype float16 --on-overflow inf --compact in.pt -o out.pt"),
              "  compacted: 2 tensors got storages of their own, 3.60 kB of storages -> 1.81 kB\n"));
  const auto found = rows(cli, "out.pt");
  CHECK(holds(found[1], "a float16: storage 1 of 8 B, offset 0, strides 1"));
  CHECK(holds(found[2], "b float16: storage 2 of 6 B, offset 0, strides 1"));
}

TEST_CASE("an overflow writes nothing, and a dry run says so", "[cli][convert]") {
  const Cli cli;
  cli.write("in.pt", zip_of("w int64 3"));
  for (const auto* const options : {"-o out.pt", "-n"}) {
    const auto ran = cli.run(std::string("convert --dtype w=uint8 in.pt ") + options);
    CHECK(ran.status == 2);
    CHECK(holds(ran.err, "does not fit uint8, whose smallest number is 0"));
    CHECK(holds(ran.err, "--on-overflow clamp"));
    CHECK_FALSE(cli.exists("out.pt"));
  }
  CHECK(holds(cli.good("convert --dtype w=uint8 --on-overflow clamp in.pt -o out.pt"),
              "out of range, clamped: 'w'"));
  CHECK(cli.good("inspect --values 3 --get w out.pt") == "0\n0\n255\n");
}

TEST_CASE("values that do not fit are found, too, where they are put in another order", "[cli][convert]") {
  const Cli cli;
  cli.write("in.pt", zip_of("w int64 3x2 strides=1x3; v int64 3"));
  const std::string convert = "convert --dtype w=uint8 --to safetensors in.pt ";
  for (const auto* const options : {"-o out.st", "-n"}) {
    CHECK(holds(cli.bad(convert + options), "does not fit uint8"));
    CHECK_FALSE(cli.exists("out.st"));
  }
  const auto counted = [&](const std::string& command) {
    const auto report = cli.good(command + " --on-overflow clamp -n --json");
    const auto at = report.find("\"casts\"");
    REQUIRE(at != report.npos);
    return report.substr(at, report.find(']', report.find("\"w\"", at) + 4) - at);
  };
  CHECK(counted(convert) == counted("convert --dtype w=uint8 in.pt"));
}

TEST_CASE("a cast is judged, too, where another edit goes on with its values", "[cli][convert]") {
  const Cli cli;
  cli.write("in.pt", zip_of("w int64 3; v float32 2"));
  for (const std::string more : {"convert --dtype w=int64", "convert --compact", "filter-keys --drop v"})
    CHECK(holds(cli.bad("apply -e 'convert --dtype w=uint8' -e '" + more + "' in.pt -n"),
                "does not fit uint8"));
}

TEST_CASE("tensors without elements are cast, too", "[cli][convert]") {
  const Cli cli;
  cli.write("in.pt", zip_of("a float32 0; w float32 2"));
  for (const std::string to : {"safetensors", "torch", "torch-legacy"}) {
    cli.good("convert --dtype a=float16 --to " + to + " in.pt -f -o out");
    CHECK(holds(cli.good("inspect out --get a"), "float16"));
  }
}

TEST_CASE("what became of values that are out of range is said", "[cli][convert]") {
  const Cli cli;
  cli.write("in.pt", zip_of("w int64 3; f float32 3"));
  const auto report = [&](const std::string& dtypes) {
    return cli.good("convert -n --on-overflow inf in.pt " + dtypes);
  };
  CHECK(holds(report("--dtype w=uint8"), "out of range, now what PyTorch makes of them: 'w'"));
  CHECK(holds(report("--dtype w=float16"), "out of range, now infinite: 'w'"));
  CHECK(holds(report("--dtype w=float8_e5m2"), "out of range, now infinite: 'w'"));
  CHECK(holds(report("--dtype w=float8_e4m3fn"), "out of range, now 448 or -448: 'w'"));
  CHECK(holds(report("--dtype w=float8_e4m3fnuz"), "out of range, now NaN: 'w'"));
  CHECK(holds(report("--dtype w=float8_e8m0fnu"), "out of range, now NaN or without their sign: 'w'"));
  cli.write("two.pt", zip_of("v int64 3; w int64 3"));
  CHECK(holds(cli.good("convert -n --on-overflow inf two.pt --dtype w=float8_e4m3fn --dtype v=float16"),
              "out of range, now infinite or 448 or -448: "));
}

TEST_CASE("truth values are not said to be the numbers that they were", "[cli][convert]") {
  const Cli cli;
  cli.write("in.pt", zip_of("w float32 3; f float32 3; n uint8 2"));
  const auto report = cli.good("convert -n in.pt --dtype w=bool");
  CHECK(holds(report, "    each value but 0 is true now\n"));
  CHECK_FALSE(holds(report, "exactly"));
  CHECK_FALSE(holds(cli.good("convert -n in.pt --dtype w=bool --dtype f=float64"), "exactly"));
  CHECK(holds(cli.good("convert -n in.pt --dtype f=float64"), "each value is exactly what it was"));
  CHECK(holds(cli.good("convert -n --json in.pt --dtype w=bool"), R"("exact":false)"));
  CHECK(holds(cli.good("convert -n --json in.pt --dtype n=int16"), R"("exact":true)"));
}

TEST_CASE("a dtype of a kind that no tensor has changes nothing, and that is said", "[cli][convert]") {
  const Cli cli;
  cli.write("in.pt", zip_of("w float32 3; v float32 2"));
  for (const std::string dtype : {"complex64", "bool", "int8"}) {
    const auto report = cli.good("convert -n --dtype " + dtype + " in.pt");
    CHECK(holds(report, "note: nothing becomes " + dtype + ": there is no "));
    CHECK(holds(report, " tensor; only a rule that names one key (KEY=" + dtype + ") changes"));
  }
  CHECK(holds(cli.good("convert -n --dtype '*=int8' in.pt"),
              "nothing becomes int8: '*' means no integer tensor"));
  CHECK_FALSE(holds(cli.good("convert -n --dtype bfloat16 --on-overflow inf in.pt"), "nothing becomes"));
  CHECK_FALSE(holds(cli.good("convert -n --dtype float32 in.pt"), "nothing becomes"));
  CHECK_FALSE(holds(cli.good("convert -n --dtype float16 --dtype float32 in.pt"), "nothing becomes"));
  CHECK_FALSE(holds(cli.good("convert -n --dtype x=int8 --allow-unmatched in.pt"), "means no integer"));
  CHECK_FALSE(holds(cli.good("convert -n --dtype w=bool in.pt"), "nothing becomes"));
}

TEST_CASE("float8 goes where PyTorch can load it", "[cli][convert]") {
  const Cli cli;
  cli.write("in.pt", zip_of("w float32 3 parameter; v float32 2"));
  cli.write("legacy.pt", legacy_of("w float32 3"));
  cli.good("convert -q --dtype float8_e5m2 --on-overflow inf in.pt -o out.pt");
  CHECK(holds(rows(cli, "out.pt")[0], "w float8_e5m2: storage 0 of 3 B"));
  cli.good("convert -q --dtype float32 out.pt -o back.pt");
  CHECK(holds(rows(cli, "back.pt")[0], "w float32: storage 0 of 12 B"));
  CHECK(holds(cli.run("convert --dtype float8_e5m2 --on-overflow inf legacy.pt -o no.pt").err,
              "PyTorch can't load float8_e5m2 tensors from its legacy stream"));
  CHECK(holds(cli.run("convert --dtype w=int8 --on-overflow inf in.pt -o no.pt").err, "requires a gradient"));
}

TEST_CASE("rules that mean nothing or the impossible are refused", "[cli][convert]") {
  const Cli cli;
  cli.write("in.pt", zip_of("w float32 3; z complex64 2"));
  CHECK(holds(cli.run("convert --dtype fp16 in.pt -n").err, "did you mean 'float16'?"));
  CHECK(holds(cli.run("convert --dtype x=float16 in.pt -n").err, "--allow-unmatched"));
  CHECK(holds(cli.run("convert --dtype z=float32 in.pt -n").err, "is complex64, which can't become float32"));
  CHECK(cli.run("convert --on-overflow inf in.pt -n").status == 2);
}

TEST_CASE("one tensor under two keys is not torn apart by rules", "[cli][convert]") {
  const Cli cli;
  cli.take("torch-2.15-torchscript-attributes.pt", "in.pt");  // layers.0.weight is named.out.weight
  for (const std::string rules :
       {"bfloat16 --dtype named.out.weight=float32", "float32 --dtype named.out.weight=bfloat16"})
    CHECK(holds(cli.bad("convert in.pt -o out.pt --on-overflow inf --dtype " + rules),
                "bfloat16 and float32, and it is one"));
  CHECK(holds(cli.good("convert in.pt -o out.pt --dtype named.out.weight=bfloat16"),
              "'layers.0.weight' is the same tensor as 'named.out.weight' and is cast with it"));
}

}  // namespace
}  // namespace ckpt::test
