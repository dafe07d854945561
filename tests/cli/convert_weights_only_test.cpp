// SPDX-License-Identifier: BSD-3-Clause
// --weights-only: what becomes plain, what goes, what is refused. That PyTorch loads it is judged by
// tests/judge/convert_edits.py.
#include "support/cli_files.h"
#include "support/pickle_checkpoint.h"

namespace ckpt::test {
namespace {

class Converted {
 public:
  /// A dict of these keys and values, as assembly; "$" is a tensor.
  explicit Converted(const std::string& items) {
    const auto bytes = zip_of_pickle("EMPTY_DICT; MARK; " + items + "; SETITEMS");
    cli_.write("in.pt", std::string(as_text(bytes)));
  }

  std::string report() const { return cli_.good("convert --weights-only in.pt --verify -f -o out.pt"); }

  std::string error() const { return cli_.bad("convert --weights-only in.pt -f -o out.pt"); }

  std::string value(const std::string& path) const {
    const auto done = cli_.run("inspect --get '" + path + "' out.pt");
    return done.status == 0 ? done.out : "none\n";
  }

  const Cli& cli() const { return cli_; }

 private:
  Cli cli_;
};

const std::string kFloat8 =
    "GLOBAL numpy dtype; BINUNICODE \"f8\"; NEWFALSE; NEWTRUE; TUPLE3; REDUCE; "
    "MARK; BININT1 3; BINUNICODE \"<\"; NONE; NONE; NONE; BININT -1; BININT -1; BININT1 0; TUPLE; BUILD";

const std::string kHalf =
    "GLOBAL _codecs encode; BINUNICODE \"\\x00\\x00\\x00\\x00\\x00\\x00\\xc3\\xa0?\"; BINUNICODE \"latin1\"; "
    "TUPLE2; REDUCE";

const std::string kScalar =
    "GLOBAL numpy.core.multiarray scalar; " + kFloat8 + "; " + kHalf + "; TUPLE2; REDUCE";

const std::string kUnknown = "GLOBAL my Class; EMPTY_TUPLE; NEWOBJ";

std::string key(const std::string& name) {
  return "BINUNICODE \"" + name + "\"; ";
}

TEST_CASE("numbers of NumPy become numbers", "[cli][convert]") {
  const Converted converted(key("w") + "$; " + key("x") + kScalar);
  CHECK(holds(converted.report(), "  1 value made plain:\n    'x' (float)\n"));
  CHECK(converted.value("x") == "0.5\n");
  CHECK(holds(converted.cli().good("inspect --globals out.pt"), "numpy") == false);
}

TEST_CASE("arrays of NumPy become tensors", "[cli][convert]") {
  const auto array =
      "GLOBAL numpy.core.multiarray _reconstruct; GLOBAL numpy ndarray; BININT1 0; TUPLE1; "
      "GLOBAL _codecs encode; BINUNICODE \"b\"; BINUNICODE \"latin1\"; TUPLE2; REDUCE; TUPLE3; REDUCE; "
      "MARK; BININT1 1; BININT1 1; TUPLE1; " +
      kFloat8 + "; NEWFALSE; " + kHalf + "; TUPLE; BUILD";
  const Converted converted(key("w") + "$; " + key("a") + array);
  CHECK(holds(converted.report(), "'a' (tensor)"));
  CHECK(holds(converted.cli().good("inspect --get a --values 1 out.pt"), "0.5"));
}

TEST_CASE("arrays become tensors in the byte order that PyTorch expects of their storage", "[cli][convert]") {
  const auto array = [](const std::string& dtype, const std::string& bytes) {
    return "GLOBAL numpy.core.multiarray _reconstruct; GLOBAL numpy ndarray; BININT1 0; TUPLE1; "
           "GLOBAL _codecs encode; BINUNICODE \"b\"; BINUNICODE \"latin1\"; TUPLE2; REDUCE; TUPLE3; REDUCE; "
           "MARK; BININT1 1; BININT1 1; TUPLE1; GLOBAL numpy dtype; BINUNICODE \"" +
           dtype +
           "\"; NEWFALSE; NEWTRUE; TUPLE3; REDUCE; MARK; BININT1 3; BINUNICODE \"<\"; NONE; NONE; NONE; "
           "BININT -1; BININT -1; BININT1 0; TUPLE; BUILD; NEWFALSE; GLOBAL _codecs encode; BINUNICODE \"" +
           bytes + "\"; BINUNICODE \"latin1\"; TUPLE2; REDUCE; TUPLE; BUILD";
  };
  const Cli cli;
  const auto items = key("w") + "$; " + key("signed") + array("i2", "\\x02\\x00") + "; " + key("unsigned") +
                     array("u2", "\\x03\\x00");
  cli.write("in.pt", std::string(as_text(zip_of_pickle("EMPTY_DICT; MARK; " + items + "; SETITEMS",
                                                       "a/byteorder body=big"))));
  cli.good("convert -q --weights-only in.pt -o out.pt");
  CHECK(cli.good("inspect --get signed --values 1 out.pt") == "2\n");
  CHECK(cli.good("inspect --get unsigned --values 1 out.pt") == "3\n");
}

TEST_CASE("a Namespace is its attributes, wherever it is used", "[cli][convert]") {
  const auto args = "GLOBAL argparse Namespace; EMPTY_TUPLE; NEWOBJ; BINPUT 9; EMPTY_DICT; BINPUT 8; MARK; " +
                    key("lr") + "BINFLOAT 0.1; " + key("odd") + kUnknown + "; SETITEMS; BUILD";
  const Converted converted(key("w") + "$; " + key("args") + args + "; " + key("same") + "BINGET 9");
  const auto report = converted.report();
  CHECK(holds(report, "    'args' (dict)\n"));
  CHECK(holds(report, "  1 value dropped, which weights_only=True refuses:\n    'args@odd' (my.Class)\n"));
  CHECK(converted.value("args") == "{\"lr\":0.1}\n");
  CHECK(converted.value("same") == "{\"lr\":0.1}\n");
}

TEST_CASE("members of enumerations, paths and defaultdicts become plain", "[cli][convert]") {
  const Converted converted(
      key("w") + "$; " + key("kind") + "GLOBAL my.package Kind; BININT1 3; TUPLE1; REDUCE; " + key("path") +
      "GLOBAL pathlib PosixPath; BINUNICODE \"/\"; BINUNICODE \"a\"; BINUNICODE \"b\"; TUPLE3; REDUCE; " +
      key("counts") + "GLOBAL collections defaultdict; GLOBAL __builtin__ int; TUPLE1; REDUCE; BINPUT 5; " +
      key("n") + "BININT1 2; SETITEM; " + key("again") + "BINGET 5; " + key("keys") +
      "EMPTY_DICT; GLOBAL my.package Kind; BININT1 4; TUPLE1; REDUCE; NONE; SETITEM");
  converted.report();
  CHECK(converted.value("kind") == "3\n");
  CHECK(converted.value("path") == "/a/b\n");
  CHECK(converted.value("counts") == "{\"n\":2}\n");
  CHECK(converted.value("again") == "{\"n\":2}\n");
  CHECK(converted.value("keys") == "{\"4\":null}\n");
}

TEST_CASE("a member whose value is a key already goes", "[cli][convert]") {
  const Converted converted(
      key("w") + "$; " + key("keys") +
      "EMPTY_DICT; MARK; BININT1 4; NEWTRUE; GLOBAL my Kind; BININT1 4; TUPLE1; REDUCE; NONE; SETITEMS");
  CHECK(holds(converted.report(), "(my.Kind)"));
  CHECK(converted.value("keys") == "{\"4\":true}\n");
}

TEST_CASE("what is refused takes along what can't be without it", "[cli][convert]") {
  const Converted converted(key("w") + "$; " + key("list") + "EMPTY_LIST; MARK; BININT1 1; " + kUnknown +
                            "; BININT1 2; APPENDS; " + key("tuple") + "BININT1 1; " + kScalar + "; " +
                            kUnknown + "; TUPLE2; TUPLE2; " + key("deep") +
                            "EMPTY_LIST; BININT1 5; GLOBAL __builtin__ len; TUPLE2; APPEND");
  const auto report = converted.report();
  CHECK(holds(report,
              "  3 values dropped, which weights_only=True refuses:\n"
              "    'list[1]' (my.Class)\n"
              "    'tuple' (my.Class)\n"
              "    'deep[0]' (builtins.len)\n"));
  CHECK_FALSE(holds(report, "made plain"));
  CHECK(converted.value("list") == "[1,2]\n");
  CHECK(converted.value("deep") == "[]\n");
  CHECK(converted.value("tuple") == "none\n");
}

TEST_CASE("what can neither become plain nor go is named", "[cli][convert]") {
  const Cli cli;
  cli.write("root.pt", std::string(as_text(zip_of_pickle("GLOBAL my Class; $; TUPLE1; REDUCE"))));
  CHECK(cli.bad("convert --weights-only root.pt -o out.pt") ==
        "ckpt: root.pt: the root of the file is made of 'my.Class', which weights_only=True refuses\n");
  cli.write("dict.pt", std::string(as_text(zip_of_pickle("EMPTY_DICT; " + key("model") +
                                                         "GLOBAL my Dict; EMPTY_TUPLE; NEWOBJ; " + key("w") +
                                                         "$; SETITEM; SETITEM"))));
  CHECK(cli.bad("convert --weights-only dict.pt -o out.pt") ==
        "ckpt: dict.pt: the state dict at 'model' is made by 'my.Dict', which weights_only=True refuses\n");
  cli.take("torch-2.15-module.pt", "module.pt");
  const auto error = cli.bad("convert --weights-only module.pt -o out.pt");
  CHECK(holds(error, "stands at the root, which weights_only=True refuses\n"));
  CHECK(holds(error, "  hint: take its weights alone: --state-dict --weights-only\n"));
  cli.good("convert -q --state-dict --weights-only module.pt -o weights.pt");
  CHECK_FALSE(holds(cli.good("inspect weights.pt"), "weights-only"));
}

TEST_CASE("an extra state that is refused is a key that goes", "[cli][convert]") {
  const Converted converted(key("w") + "$; " + key("a._extra_state") + kUnknown + "; " +
                            key("b._extra_state") + "BININT1 1");
  CHECK(holds(converted.report(), R"('["a._extra_state"]' (my.Class))"));
  CHECK(converted.value(R"(["a._extra_state"])") == "none\n");
  CHECK(converted.value(R"(["b._extra_state"])") == "1\n");
}

TEST_CASE("a file that is taken already is copied as it is", "[cli][convert]") {
  const Cli cli;
  cli.take("torch-2.15-flat.pt", "in.pt");
  cli.good("convert --weights-only in.pt -o out.pt");
  CHECK(cli.read("out.pt") == cli.read("in.pt"));
}

TEST_CASE("a pickle of another protocol is spelled in protocol 2", "[cli][convert]") {
  const Cli cli;
  for (const auto* const file :
       {"torch-2.15-protocol4.pt", "torch-2.15-protocol5-legacy.pt", "torch-2.15-protocol0-legacy.pt"}) {
    cli.take(file, "in.pt");
    CHECK(holds(cli.good("convert --weights-only in.pt --verify -f -o out.pt"),
                "  spelled in pickle protocol 2"));
    CHECK_FALSE(holds(cli.good("inspect out.pt"), "weights-only"));
    std::filesystem::remove("in.pt");
  }
}

}  // namespace
}  // namespace ckpt::test
