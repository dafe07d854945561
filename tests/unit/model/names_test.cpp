// SPDX-License-Identifier: BSD-3-Clause
// What is said with names: paths, patterns, wrappers, modules.
#include <string>
#include <vector>

#include "ckpt/model/key_path.h"
#include "ckpt/model/module_names.h"
#include "ckpt/model/name_pattern.h"
#include "ckpt/model/wrappers.h"
#include "support/catch.h"

using namespace ckpt;

namespace {

using Names = std::vector<std::string>;

TEST_CASE("an expression captures its first group, or all that it matches", "[model]") {
  const auto captured = [](std::string_view text, std::string_view key) {
    const auto pattern = NamePattern::parse(text);
    if (!pattern.ok()) FAIL(pattern.error().text());
    return pattern->captured(key).value_or("nothing");
  };
  CHECK(captured("re:layer[0-9]", "net.layer1.0.weight") == "layer1");
  CHECK(captured("re:layer([0-9])[.](.)", "net.layer1.0.weight") == "1");
  CHECK(captured("re:(x)?weight", "net.weight") == "");
  CHECK(captured("re:bias", "net.weight") == "nothing");
  CHECK(captured("**.weight", "net.weight") == "nothing");
  CHECK(captured("!re:bias", "net.weight") == "nothing");
}

TEST_CASE("a path of any keys is read as it was written", "[model]") {
  const Names keys = {"a",
                      "a.b",
                      "",
                      "0",
                      "[0]",
                      "{0}",
                      "x@y",
                      "<values>",
                      "-",
                      "sp ace",
                      "new\nline",
                      "tab\t",
                      "quo\"te",
                      "back\\slash",
                      "Ünïcödé",
                      "\U0001f600",
                      ".",
                      "..",
                      std::string("nul\0", 4)};
  for (const auto& first : keys) {
    for (const auto& second : keys) {
      std::string path;
      append_key_step(path, first);
      append_key_step(path, second);
      CAPTURE(path);
      const auto steps = parse_path(path);
      REQUIRE(steps.ok());
      REQUIRE(steps->size() == 2);
      CHECK((*steps)[0].kind == PathStep::Kind::kKey);
      CHECK((*steps)[0].text == first);
      CHECK((*steps)[1].text == second);
    }
  }
}

TEST_CASE("every kind of step", "[model]") {
  const auto steps = parse_path(R"(optimizer.state{0}["odd key"][3]@args@"odd name"{(1, '}')}<indices>)");
  REQUIRE(steps.ok());
  using Kind = PathStep::Kind;
  const std::vector<std::pair<Kind, std::string>> expected = {
      {Kind::kKey, "optimizer"},      {Kind::kKey, "state"},      {Kind::kOther, "0"},
      {Kind::kKey, "odd key"},        {Kind::kIndex, "3"},        {Kind::kAttribute, "args"},
      {Kind::kAttribute, "odd name"}, {Kind::kOther, "(1, '}')"}, {Kind::kPart, "indices"}};
  REQUIRE(steps->size() == expected.size());
  for (std::size_t i = 0; i < expected.size(); ++i) {
    CHECK((*steps)[i].kind == expected[i].first);
    CHECK((*steps)[i].text == expected[i].second);
  }
  CHECK(parse_path("")->empty());
}

TEST_CASE("a text that is no path says where it stops being one", "[model]") {
  const std::vector<std::pair<std::string, int>> cases = {
      {".a", 1},     {"a..b", 2}, {"a.", 2},       {"a[", 2}, {"a[x]", 2},  {"a[\"b\"", 2},
      {"a[\"b]", 2}, {"a{0", 2},  {"a<values", 2}, {"a@", 2}, {"a[0]b", 5}, {"a[\"\\u12\"]", 2}};
  for (const auto& [path, column] : cases) {
    CAPTURE(path);
    const auto steps = parse_path(path);
    REQUIRE_FALSE(steps.ok());
    CHECK(steps.error().code() == ErrorCode::kUsage);
    CHECK(steps.error().message().ends_with("unexpected text at column " + std::to_string(column)));
  }
}

TEST_CASE("floats are spelled as Python does", "[model]") {
  CHECK(python_float(1) == "1.0");
  CHECK(python_float(0.1) == "0.1");
  CHECK(python_float(-0.0) == "-0.0");
  CHECK(python_float(1e-5) == "1e-05");
  CHECK(python_float(0.0001) == "0.0001");
  CHECK(python_float(1e16) == "1e+16");
  CHECK(python_float(1e15) == "1000000000000000.0");
  CHECK(python_float(5e-324) == "5e-324");
}

TEST_CASE("what patterns match", "[model]") {
  struct Case {
    std::string pattern;
    Names yes;
    Names no;
  };

  const std::vector<Case> cases = {
      {"fc", {"fc", "fc.weight", "fc.a.b"}, {"fcx", "a.fc", "f"}},
      {"fc.weight", {"fc.weight"}, {"fc.weights", "fc"}},
      {"*", {"a", ""}, {"a.b"}},
      {"**", {"a", "a.b", "", "new\nline"}, {}},
      {"a.*", {"a.b"}, {"a.b.c", "a", "ab"}},
      {"a.**", {"a.b", "a.b.c"}, {"a"}},
      {"**.bias", {"a.bias", "a.b.bias"}, {"bias", "a.bias.c"}},
      {"l?.w", {"l1.w"}, {"l.w", "l12.w", "l..w"}},
      {"a+(b)*", {"a+(b)", "a+(b)c"}, {"aab"}},
      {"=a*b", {"a*b"}, {"ab", "axb", "a*b.c"}},
      {"=", {""}, {"a"}},
      {"re:^l[12]", {"l1", "l2.w"}, {"l3", "xl1"}},
      {"re:w", {"w", "awa"}, {"v"}},
      {"!fc", {"conv"}, {"fc", "fc.w"}},
      {"!re:w$", {"v"}, {"w"}},
      {"!=a", {"b"}, {"a"}},
      {"*\xff", {"a\xff"}, {"a"}},
  };
  for (const auto& [text, yes, no] : cases) {
    const auto pattern = NamePattern::parse(text);
    REQUIRE(pattern.ok());
    CHECK(pattern->text() == text);
    for (const auto& key : yes) {
      CAPTURE(text, key);
      CHECK(pattern->matches(key));
    }
    for (const auto& key : no) {
      CAPTURE(text, key);
      CHECK_FALSE(pattern->matches(key));
    }
  }
  CHECK_FALSE(NamePattern::parse("").ok());
  CHECK_FALSE(NamePattern::parse("!").ok());
  CHECK(NamePattern::parse("re:[").error().code() == ErrorCode::kUsage);
  CHECK(NamePattern::exact("a*b").matches("a*b"));
}

TEST_CASE("what a replacement makes of a key", "[model]") {
  struct Case {
    std::string pattern, replacement, key, result;
  };

  const std::vector<Case> cases = {
      {"fc", "head", "fc.weight", "head.weight"}, {"fc", "", "fc.weight", "weight"},
      {"fc", "head", "conv.w", "conv.w"},         {"a.*.w", "b.*.v", "a.1.w", "b.1.v"},
      {"**.a.*", "*.b.*", "x.y.a.z", "x.y.b.z"},  {"*.*", "\\2.\\1", "a.b", "b.a"},
      {"re:(\\d+)", "<\\1>", "l1.2", "l<1>.<2>"}, {"=a*", "b", "a*", "b"},
  };
  for (const auto& [text, replacement, key, result] : cases) {
    CAPTURE(text, key);
    CHECK(NamePattern::parse(text)->replace(key, replacement) == result);
  }
}

TEST_CASE("an index of patterns knows what each of them matches", "[model]") {
  const Names texts = {"a",    "a.b", "=a.b", "=a", "a.b.c", "*",     "!a",
                       "re:b", "a.b", "",     "=",  "a.",    "!=a.b", "b"};
  std::vector<NamePattern> patterns;
  for (const auto& text : texts) {
    if (auto pattern = NamePattern::parse(text); pattern.ok()) patterns.push_back(*pattern);
  }
  const PatternIndex index(patterns);
  for (const auto* key : {"a", "a.b", "a.b.c", "a.b.c.d", "a..b", "a.", "ab", "b", "", ".a", "."}) {
    std::vector<bool> found(patterns.size());
    index.for_matches(key, [&](std::size_t i) {
      CHECK_FALSE(found[i]);
      found[i] = true;
    });
    for (std::size_t i = 0; i < patterns.size(); ++i) {
      CAPTURE(key, patterns[i].text());
      CHECK(found[i] == patterns[i].matches(key));
    }
  }
}

TEST_CASE("a wider pattern is suggested where there is one", "[model]") {
  CHECK(NamePattern::parse("a.*")->wider() == "a.**");
  CHECK(NamePattern::parse("!a.*")->wider() == "!a.**");
  CHECK(NamePattern::parse("a.**")->wider().empty());
  CHECK(NamePattern::parse("fc")->wider() == "**fc**");
  CHECK(NamePattern::parse("=fc")->wider().empty());
  CHECK(NamePattern::parse("re:fc")->wider().empty());
}

TEST_CASE("wrappers, nested and in mid-key", "[model]") {
  struct Case {
    Names before, after, removed;
  };

  const std::vector<Case> cases = {
      {{"module.a", "module.b"}, {"a", "b"}, {"module."}},
      {{"module.module.a"}, {"a"}, {"module.", "module.module."}},
      {{"_orig_mod.a"}, {"a"}, {"_orig_mod."}},
      {{"f.module.a", "g"}, {"f.a", "g"}, {"f.module."}},
      {{"module.a", "b"}, {"module.a", "b"}, {}},
      {{"module.a", "_orig_mod.b"}, {"module.a", "_orig_mod.b"}, {}},
      {{"n_averaged", "module.a"}, {"n_averaged", "a"}, {"module."}},
      {{"x.n_averaged", "x.module.a"}, {"x.n_averaged", "x.a"}, {"x.module."}},
      {{"module"}, {"module"}, {}},
      {{"module."}, {""}, {"module."}},
      {{}, {}, {}},
  };
  for (const auto& [before, after, removed] : cases) {
    CAPTURE(before);
    auto keys = before;
    CHECK(strip_wrappers(keys, {}) == removed);
    CHECK(keys == after);
  }
  Names keys = {"mine.a"};
  CHECK(strip_wrappers(keys, {"mine"}) == Names{"mine."});
  CHECK(keys == Names{"a"});
}

/// "module → name", "module gone" or nothing for what stays.
Names moved(const Names& modules, const std::vector<KeyMove>& keys) {
  Names out;
  const auto moves = move_modules(modules, keys);
  for (std::size_t i = 0; i < modules.size(); ++i) {
    if (moves[i].kind == ModuleMove::Kind::kMoves) out.push_back(modules[i] + " > " + moves[i].name);
    if (moves[i].kind == ModuleMove::Kind::kGoes) out.push_back(modules[i] + " gone");
    if (moves[i].value != i) out.push_back(modules[i] + " has that of " + modules[moves[i].value]);
  }
  return out;
}

TEST_CASE("modules move with their keys", "[model]") {
  CHECK(moved({"", "module", "module.a"}, {{"module.a.w", "a.w"}}) ==
        Names{" has that of module", "module gone", "module.a > a"});
  CHECK(moved({"", "fc"}, {{"fc.w", "head.w"}, {"a", "a"}}) == Names{"fc > head"});
  CHECK(moved({"fc"}, {{"fc.w", "a.w"}, {"fc.b", "c.b"}}) == Names{"fc gone"});
  CHECK(moved({"fc"}, {{"fc.w", "", true}, {"fc.b", "", true}}).empty());
  CHECK(moved({"fc"}, {{"fc.w", "", true}, {"fc.b", "head.b"}}) == Names{"fc > head"});
  CHECK(moved({"", "a", "a.drop"}, {{"a.w", "b.w"}}) == Names{"a > b", "a.drop > b.drop"});
  CHECK(moved({"fc"}, {{"fc.w", "fc.weight"}}).empty());
  CHECK(moved({"", "module", "module.a", "module.fc"}, {{"module.a.w", "a.w"}, {"module.fc.w", "", true}}) ==
        Names{" has that of module", "module gone", "module.a > a",
              "module.fc > fc"});  // dropped with all its keys
}

TEST_CASE("modules move although something below them does, too", "[model]") {
  SECTION("a prefix is cut, and one of the modules below is renamed") {
    const std::vector<KeyMove> keys = {{"module.layers.0.w", "layers.0.w"},
                                       {"module.classifier.1.w", "head.1.w"}};
    CHECK(moved({"", "module", "module.layers", "module.classifier"}, keys) ==
          Names{" has that of module", "module gone", "module.layers > layers", "module.classifier > head"});
    CHECK(moved({"a"}, {{"a.x.w", "b.x.w"}, {"a.y.w", "b.z.u.w"}}) == Names{"a > b"});
    CHECK(moved({"a"}, {{"a.x.w", "b.x.w"}, {"a.y.w", "c.z.w"}}) == Names{"a gone"});
    CHECK(moved({"a"}, {{"a.y.w", "c.z.w"}, {"a.x.w", "b.x.w"}}) == Names{"a gone"});
  }
  SECTION("wrappers outside and inside") {
    CHECK(moved({"", "module", "module.v", "module.v.c", "module.v.c._orig_mod"},
                {{"module.v.c._orig_mod.w", "v.c.w"}}) ==
          Names{" has that of module", "module gone", "module.v > v", "module.v.c > v.c",
                "module.v.c has that of module.v.c._orig_mod", "module.v.c._orig_mod gone"});
    CHECK(moved({"", "module", "module._orig_mod", "module._orig_mod.a"},
                {{"module._orig_mod.a.w", "a.w"}}) == Names{" has that of module._orig_mod", "module gone",
                                                            "module._orig_mod gone",
                                                            "module._orig_mod.a > a"});
  }
  SECTION("its own keys decide") {
    CHECK(moved({"bn"}, {{"bn.gamma", "norm.weight"}, {"bn.mean", "norm.mean"}}) == Names{"bn > norm"});
    CHECK(moved({"b"}, {{"b.bias", "x.bias"}, {"b.module.w", "z.b.w"}}) == Names{"b > x"});
    CHECK(moved({"b"}, {{"b.bias", "b.bias"}, {"b.module.w", "z.w"}}).empty());
  }
  SECTION("where segments change their order or all are others, nothing is known") {
    CHECK(moved({"", "conv"}, {{"conv.w", "w.conv"}, {"conv.b", "b.conv"}}) == Names{"conv gone"});
    CHECK(moved({"a", "a.b"}, {{"a.b.w", "x.y.w"}}) == Names{"a gone", "a.b > x.y"});
  }
}

}  // namespace
