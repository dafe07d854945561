// SPDX-License-Identifier: BSD-3-Clause
// Plans as text, both ways, and everything that can be wrong with one.
#include "ckpt/edit/plan_json.h"

#include <string>
#include <utility>
#include <vector>

#include <fmt/format.h>

#include "ckpt/edit/json_tape.h"
#include "support/catch.h"

namespace ckpt {
namespace {

NamePattern pattern(const std::string& text) {
  auto parsed = NamePattern::parse(text);
  REQUIRE(parsed.ok());
  return std::move(parsed).value();
}

Plan plan_of(Edit edit) {
  Plan plan;
  plan.edits.push_back(std::move(edit));
  return plan;
}

/// Prints the plan, reads it, and prints that.
std::string there_and_back(const Plan& plan) {
  const auto text = plan_to_json(plan);
  auto read = plan_from_json(text);
  if (!read.ok()) return read.error().text();
  CHECK(plan_to_json(*read) == text);
  return text;
}

/// "usage: edits[0]: …; hint: …" of a text that is no plan.
std::string mistake(const std::string& text) {
  const auto plan = plan_from_json(text);
  if (plan.ok()) return "none";
  const auto& error = plan.error();
  auto said = fmt::format("{}: {}", error_code_name(error.code()), error.text());
  if (!error.hint().empty()) said += "; hint: " + error.hint();
  return said;
}

/// The same of a plan of one edit.
std::string mistake_in_edit(const std::string& edit) {
  return mistake(R"({"schema": "ckpt.plan/1", "edits": [)" + edit + "]}");
}

TEST_CASE("a plan that strips", "[edit][plan]") {
  CHECK(there_and_back(plan_of(StripWrappers{})) == R"({
  "schema": "ckpt.plan/1",
  "edits": [
    {
      "edit": "strip-dataparallel"
    }
  ]
}
)");
  CHECK(there_and_back(plan_of(StripWrappers{{"net", "odd \"name\""}})) == R"({
  "schema": "ckpt.plan/1",
  "edits": [
    {
      "edit": "strip-dataparallel",
      "wrappers": ["net", "odd \"name\""]
    }
  ]
}
)");
}

TEST_CASE("a plan that filters holds patterns as they were written, and the reference itself",
          "[edit][plan]") {
  FilterKeys filter;
  filter.rules = {
      {true, pattern("re:^layer[12]\\.")}, {false, pattern("!**.bias")}, {true, NamePattern::exact("a*b")}};
  filter.only_dtypes = {Dtype::kFloat32, Dtype::kFloat8E4m3fn};
  filter.min_bytes = 0;
  filter.max_bytes = 18446744073709551615U;
  filter.like =
      std::vector<ReferenceKey>{{"fc.weight", {3, 2}, true}, {"step", {}, true}, {"_extra_state", {}, false}};
  filter.ignore_shape = true;
  filter.strict = true;
  CHECK(there_and_back(plan_of(filter)) == R"({
  "schema": "ckpt.plan/1",
  "edits": [
    {
      "edit": "filter-keys",
      "rules": [
        {"keep": "re:^layer[12]\\."},
        {"drop": "!**.bias"},
        {"keep": "=a*b"}
      ],
      "only_dtypes": ["float32", "float8_e4m3fn"],
      "min_bytes": 0,
      "max_bytes": 18446744073709551615,
      "like": [
        {"key": "fc.weight", "shape": [3, 2]},
        {"key": "step", "shape": []},
        {"key": "_extra_state", "shape": null}
      ],
      "ignore_shape": true,
      "strict": true
    }
  ]
}
)");
  const auto read = plan_from_json(plan_to_json(plan_of(filter)));
  REQUIRE(read.ok());
  const auto& back = std::get<FilterKeys>(read->edits.front());
  REQUIRE(back.rules.size() == 3);
  CHECK(back.rules[0].keep);
  CHECK(back.rules[0].pattern.matches("a.layer1.w") == false);
  CHECK(back.rules[0].pattern.matches("layer1.w"));
  CHECK(back.rules[1].pattern.negated());
  CHECK(back.rules[2].pattern.matches("a*b"));
  CHECK(back.only_dtypes == filter.only_dtypes);
  CHECK(back.min_bytes == filter.min_bytes);
  CHECK(back.max_bytes == filter.max_bytes);
  REQUIRE(back.like->size() == 3);
  CHECK((*back.like)[0].shape == std::vector<std::int64_t>{3, 2});
  CHECK((*back.like)[1].is_tensor);
  CHECK_FALSE((*back.like)[2].is_tensor);
  CHECK(back.ignore_shape);
  CHECK(back.strict);
}

TEST_CASE("a reference without keys is a reference", "[edit][plan]") {
  FilterKeys filter;
  filter.like.emplace();
  CHECK(there_and_back(plan_of(filter)).find("\"like\": []\n") != std::string::npos);
}

TEST_CASE("a plan that renames", "[edit][plan]") {
  using Kind = RenameRule::Kind;
  RenameKeys rename;
  rename.rules = {{Kind::kMap, pattern("layer*.w"), "stage*.w"},
                  {Kind::kMap, pattern("a=b"), ""},
                  {Kind::kAddPrefix, std::nullopt, "net."},
                  {Kind::kStripPrefix, std::nullopt, ""}};
  CHECK(there_and_back(plan_of(rename)) == R"({
  "schema": "ckpt.plan/1",
  "edits": [
    {
      "edit": "rename-keys",
      "rules": [
        {"map": "layer*.w", "to": "stage*.w"},
        {"map": "a=b", "to": ""},
        {"add_prefix": "net."},
        {"strip_prefix": ""}
      ]
    }
  ]
}
)");
  const auto read = plan_from_json(plan_to_json(plan_of(rename)));
  REQUIRE(read.ok());
  const auto& back = std::get<RenameKeys>(read->edits.front());
  CHECK(back.rules[0].pattern->replace("layer1.w", back.rules[0].text) == "stage1.w");
  CHECK(back.rules[3].kind == Kind::kStripPrefix);
}

TEST_CASE("a plan of several edits, and what stands around them", "[edit][plan]") {
  Plan plan;
  plan.edits = {DropEntries{{"optimizer", "a[\"b c\"][0]"}}, StripWrappers{}};
  plan.roots = {"", "model"};
  plan.optimizer = OptimizerPolicy::kDrop;
  plan.allow_unmatched = true;
  CHECK(there_and_back(plan) == R"({
  "schema": "ckpt.plan/1",
  "edits": [
    {
      "edit": "drop-entry",
      "paths": ["optimizer", "a[\"b c\"][0]"]
    },
    {
      "edit": "strip-dataparallel"
    }
  ],
  "roots": ["", "model"],
  "optimizer": "drop",
  "allow_unmatched": true
}
)");
  const auto read = plan_from_json(plan_to_json(plan));
  REQUIRE(read.ok());
  CHECK(read->roots == plan.roots);
  CHECK(read->optimizer == plan.optimizer);
  CHECK(read->allow_unmatched);
}

TEST_CASE("names that are no UTF-8 are told by their bytes", "[edit][plan]") {
  using Kind = RenameRule::Kind;
  const std::string names[] = {"\xff",
                               "fc.b\xff"
                               "as",
                               std::string("\0\xfe", 2), "\xed\xb3\xbf"};
  for (const auto& name : names) {
    RenameKeys rename;
    rename.rules = {{Kind::kMap, NamePattern::exact(name), name}, {Kind::kAddPrefix, std::nullopt, name}};
    CHECK(there_and_back(plan_of(rename)).find(R"({"map": {"hex": "3d)") != std::string::npos);
    const auto read = plan_from_json(plan_to_json(plan_of(rename)));
    REQUIRE(read.ok());
    const auto& back = std::get<RenameKeys>(read->edits.front());
    CHECK(back.rules[0].pattern->matches(name));
    CHECK(back.rules[0].text == name);
    CHECK(back.rules[1].text == name);
  }
  FilterKeys filter;
  filter.like = std::vector<ReferenceKey>{{"\xff", {1}, true}};
  CHECK(there_and_back(plan_of(filter)).find(R"({"key": {"hex": "ff"}, "shape": [1]})") != std::string::npos);
  // what is UTF-8 stands as it is, with what JSON wants escaped
  RenameKeys rename;
  rename.rules = {{Kind::kAddPrefix, std::nullopt, std::string("\xc3\xa4\n\"\\\0\x7f", 7)}};
  const auto read = plan_from_json(there_and_back(plan_of(rename)));
  REQUIRE(read.ok());
  CHECK(std::get<RenameKeys>(read->edits.front()).rules[0].text == rename.rules[0].text);
}

TEST_CASE("a plan may be written by hand: order and layout are free", "[edit][plan]") {
  const auto plan = plan_from_json(
      "\xef\xbb\xbf\t{\"allow_unmatched\":false,\"edits\":[{\"paths\":[\"\\u0065poch\"],\"edit\":\"drop-"
      "entry\"},"
      "{\"only_dtypes\":[\"half\"],\"edit\":\"filter-keys\",\"rules\":[]}],"
      "\"schema\":\"ckpt.plan/1\",\"roots\":[]}\r\n");
  REQUIRE(plan.ok());
  CHECK(std::get<DropEntries>(plan->edits[0]).paths == std::vector<std::string>{"epoch"});
  CHECK(std::get<FilterKeys>(plan->edits[1]).only_dtypes == std::vector{Dtype::kFloat16});
  CHECK_FALSE(std::get<FilterKeys>(plan->edits[1]).min_bytes);
}

TEST_CASE("what is no JSON is told with its byte", "[edit][plan]") {
  CHECK(mistake("") == "corrupt: byte 0: this is no well-formed JSON");
  CHECK(mistake("PK\x03\x04") == "corrupt: byte 0: this is no well-formed JSON");
  CHECK(mistake("{\"schema\": \"ckpt.plan/1\",}") == "corrupt: byte 25: this is no well-formed JSON");
  CHECK(mistake("{} {}") == "corrupt: byte 3: this is no well-formed JSON");
  CHECK(mistake(std::string("{}\0", 3)) == "corrupt: byte 2: this is no well-formed JSON");
  CHECK(mistake("[\"\xff\"]") == "corrupt: byte 2: this is no well-formed JSON");
  CHECK(mistake(R"(["\udcff"])").starts_with("corrupt: byte "));  // a lone surrogate: many parsers refuse it
  CHECK(mistake("[NaN]") == "corrupt: byte 1: this is no well-formed JSON");
}

TEST_CASE("sizes and nesting have limits", "[edit][plan]") {
  const auto nested = [](std::size_t levels) { return std::string(levels, '[') + std::string(levels, ']'); };
  CHECK(mistake(nested(16)) == "usage: expected an object, found an array");
  CHECK(mistake(nested(17)) == "unsupported: nested deeper than 16 levels");
  CHECK(mistake(std::string(10'000'000, '[')) == "unsupported: nested deeper than 16 levels");
  CHECK(JsonTape::parse("[0, [1], {\"a\": 2}]", {.values = 7}).ok());
  const auto values = JsonTape::parse("[0, [1], {\"a\": 2}]", {.values = 6});
  REQUIRE_FALSE(values.ok());
  CHECK(values.error().text() == "more than 6 values");
  const auto text = JsonTape::parse("[0, 1]", {.text = 5});
  REQUIRE_FALSE(text.ok());
  CHECK(text.error().text() == "6 bytes of JSON, at most 5 are read");
  CHECK(text.error().code() == ErrorCode::kUnsupported);
}

TEST_CASE("JSON that is no plan, or one of another version", "[edit][plan]") {
  CHECK(mistake("null") == "usage: expected an object, found null");
  CHECK(mistake("\"ckpt.plan/1\"") == "usage: expected an object, found the string 'ckpt.plan/1'");
  CHECK(mistake("{}") == "usage: expected a field 'schema', found none");
  CHECK(mistake(R"({"model_type": "llama", "vocab_size": 3})") ==
        "usage: expected a field 'schema', found 'model_type', 'vocab_size'");
  CHECK(mistake(R"({"schema": 1})") == "usage: schema: expected a string, found the number 1");
  CHECK(mistake(R"({"schema": "ckpt.inspect/1", "files": []})") ==
        "usage: schema: expected 'ckpt.plan/1', found 'ckpt.inspect/1'; hint: this is no plan as "
        "--print-plan prints "
        "it");
  CHECK(mistake(R"({"schema": "ckpt.plan/2", "edits": [], "more": 1})") ==
        "unsupported: schema: expected 'ckpt.plan/1', found 'ckpt.plan/2'; hint: another version of ckpt "
        "wrote this "
        "plan");
  CHECK(mistake(R"({"schema": "ckpt.plan/1"})") == "usage: expected a field 'edits', found 'schema'");
  CHECK(mistake(R"({"schema": "ckpt.plan/1", "edits": []})") == "usage: expected at least one edit");
  CHECK(mistake(R"({"schema": "ckpt.plan/1", "edits": {}})") ==
        "usage: edits: expected an array, found an object");
  CHECK(mistake(R"({"schema": "ckpt.plan/1", "edits": [], "root": []})") ==
        "usage: unknown field 'root'; hint: did you mean 'roots'?");
  CHECK(mistake(R"({"schema": "ckpt.plan/1", "edits": [], "edits": []})") ==
        "usage: two fields are called 'edits'");
}

TEST_CASE("mistakes around the edits", "[edit][plan]") {
  const auto around = [](const std::string& fields) {
    return mistake(R"({"schema": "ckpt.plan/1", "edits": [{"edit": "strip-dataparallel"}], )" + fields + "}");
  };
  CHECK(around(R"("optimizer": "drop")") == "none");
  CHECK(around(R"("optimizer": "remove")") ==
        "usage: optimizer: expected keep, drop, remap or remap=model-order, found 'remove'");
  CHECK(around(R"("optimizer": true)") == "usage: optimizer: expected a word, found true");
  CHECK(around(R"("allow_unmatched": "yes")") ==
        "usage: allow_unmatched: expected true or false, found the string 'yes'");
  CHECK(around(R"("roots": "model")") == "usage: roots: expected an array, found the string 'model'");
  CHECK(around(R"("roots": ["model", "a[", "b"])") ==
        "usage: roots[1]: 'a[' is no path: unexpected text at column 2");
  CHECK(around(R"("roots": [null])") == "usage: roots[0]: expected a string, found null");
}

TEST_CASE("a plan that merges by a method says how", "[edit][plan]") {
  MergeTensors edit;
  edit.sources = {{"a.pt", std::nullopt}, {"b.pt", std::nullopt}};
  edit.method.emplace();
  edit.method->method = MergeMethod::kDella;
  edit.method->settings = {*parse_named_setting("weight=1,[0,0.5]", MergeMethod::kDareTies),
                           *parse_named_setting("fc:normalize=no", MergeMethod::kDareTies),
                           *parse_named_setting("rescale_by=density", MergeMethod::kDareTies)};
  edit.method->seed = ~std::uint64_t{0};
  edit.method->accumulate = Accumulate::kFloat32;
  edit.method->integers = IntegerRule::kMax;
  edit.method->allow_unrelated = true;
  edit.dtype = Dtype::kBfloat16;
  CHECK(there_and_back(plan_of(edit)) == R"({
  "schema": "ckpt.plan/1",
  "edits": [
    {
      "edit": "merge",
      "sources": [
        {"file": "a.pt"},
        {"file": "b.pt"}
      ],
      "method": {"name": "della", "settings": [
        {"parameter": "weight", "value": "1,[0,0.5]"},
        {"parameter": "normalize", "keys": "fc", "value": "no"},
        {"parameter": "rescale_by", "value": "density"}
      ], "seed": 18446744073709551615, "accumulate": "float32", "integers": "max", "allow_unrelated": true},
      "output_dtype": "bfloat16"
    }
  ]
}
)");
  const auto mistake_of = [](const std::string& fields) {
    return mistake_in_edit(R"({"edit": "merge", "sources": [{"file": "a"}], )" + fields + "}");
  };
  CHECK(mistake_of(R"("output_dtype": "float16")") ==
        "usage: edits[0]: expected 'method' beside 'output_dtype'");
  CHECK(mistake_of(R"("method": {"name": "tis", "seed": 0})") ==
        "usage: edits[0].method.name: unknown method 'tis'; hint: did you mean 'ties'?");
  CHECK(mistake_of(
            R"("method": {"name": "mean", "seed": 0, "settings": [{"parameter": "t", "value": "1"}]})") ==
        "usage: edits[0]: 'mean' has no parameter 't'; hint: it has none");
  CHECK(mistake_of(R"("method": {"name": "mean", "seed": 0, "settings": [{"parameter": "t", "value": "x"}]})")
            .starts_with("usage: edits[0].method.settings[0]: 'x': expected a number, found 'x'"));
  CHECK(mistake_of(R"("method": {"name": "mean", "seed": 0, "integers": "min"})") ==
        "usage: edits[0].method: expected equal, first, max or sum, found 'min'");
}

TEST_CASE("a plan that converts says what it is asked for, and the container", "[edit][plan]") {
  Convert edit;
  edit.state_dict = true;
  edit.tensors_only = true;
  edit.weights_only = true;
  edit.device_tag_cpu = true;
  edit.compact = true;
  edit.dedupe = true;
  auto plan = plan_of(edit);
  plan.target = {FormatId::kTorchLegacy, TiedTensors::kCopy};
  CHECK(there_and_back(plan) == R"({
  "schema": "ckpt.plan/1",
  "edits": [
    {
      "edit": "convert",
      "state_dict": true,
      "tensors_only": true,
      "weights_only": true,
      "device_tag_cpu": true,
      "compact": true,
      "dedupe": true
    }
  ],
  "to": "torch-legacy",
  "tied": "copy"
}
)");
  Convert halved;
  halved.dtypes = {{std::nullopt, Dtype::kBfloat16}, {*NamePattern::parse("**.bias"), Dtype::kFloat32}};
  halved.on_overflow = OnOverflow::kClamp;
  CHECK(there_and_back(plan_of(halved)) == R"({
  "schema": "ckpt.plan/1",
  "edits": [
    {
      "edit": "convert",
      "dtypes": [
        {"dtype": "bfloat16"},
        {"pattern": "**.bias", "dtype": "float32"}
      ],
      "on_overflow": "clamp"
    }
  ]
}
)");
  CHECK(there_and_back(plan_of(Convert{})) == R"({
  "schema": "ckpt.plan/1",
  "edits": [
    {
      "edit": "convert"
    }
  ]
}
)");
  CHECK(mistake_in_edit(R"({"edit": "convert", "compact": 1})") ==
        "usage: edits[0].compact: expected true or false, found the number 1");
  CHECK(mistake(R"({"schema": "ckpt.plan/1", "edits": [{"edit": "convert"}], "to": "onnx"})") ==
        "usage: to: expected torch, torch-legacy or safetensors, found 'onnx'");
}

TEST_CASE("mistakes in edits are told with their place", "[edit][plan]") {
  struct Case {
    const char* edit;
    const char* error;
  };

  const Case cases[] = {
      {"7", "edits[0]: expected an object, found the number 7"},
      {"{}", "edits[0]: expected a field 'edit', found none"},
      {R"({"edit": "filter"})",
       "edits[0]: unknown edit 'filter'; hint: known: strip-dataparallel, filter-keys, "
       "rename-keys, drop-entry, merge, replace-head, convert"},
      {R"({"edit": "rename-key"})", "edits[0]: unknown edit 'rename-key'; hint: did you mean 'rename-keys'?"},
      {R"({"edit": "strip-dataparallel", "wrappers": ["a", "b.c"]})",
       "edits[0].wrappers[1]: a wrapper is one name without dots"},
      {R"({"edit": "strip-dataparallel", "wrapper": ["a"]})",
       "edits[0]: unknown field 'wrapper'; hint: did you mean 'wrappers'?"},
      {R"({"edit": "filter-keys"})",
       "edits[0]: expected something to filter by: rules, only_dtypes, min_bytes, max_bytes or like"},
      {R"({"edit": "filter-keys", "keep": ["a"]})",
       "edits[0]: unknown field 'keep'; hint: known: edit, rules, only_dtypes, min_bytes, max_bytes, like, "
       "ignore_shape, strict"},
      {R"({"edit": "filter-keys", "rules": ["a"]})",
       "edits[0].rules[0]: expected an object, found the string 'a'"},
      {R"({"edit": "filter-keys", "rules": [{"keep": "a"}, {}]})",
       "edits[0].rules[1]: expected one of the fields 'keep', 'drop', found none"},
      {R"({"edit": "filter-keys", "rules": [{"keep": "a", "drop": "b"}]})",
       "edits[0].rules[0]: expected only one of the fields 'keep', 'drop', found 'keep', 'drop'"},
      {R"({"edit": "filter-keys", "rules": [{"keep": 3}]})",
       "edits[0].rules[0].keep: expected a pattern, found the number 3"},
      {R"({"edit": "filter-keys", "rules": [{"keep": ""}]})",
       "edits[0].rules[0].keep: a pattern is empty; hint: to name the empty key, write '='"},
      {R"({"edit": "filter-keys", "rules": [{"drop": "re:("}]})",
       "edits[0].rules[0].drop: '(' is no regular expression: missing ): ("},
      {R"({"edit": "filter-keys", "rules": [{"drop": "a", "why": "b"}]})",
       "edits[0].rules[0]: unknown field 'why'; hint: known: keep, drop"},
      {R"({"edit": "filter-keys", "only_dtypes": ["fp32"]})",
       "edits[0].only_dtypes[0]: unknown dtype 'fp32'; hint: did you mean 'float32'?"},
      {R"({"edit": "filter-keys", "min_bytes": -1})",
       "edits[0].min_bytes: expected a whole number from 0 to 2^64 - 1, found a number that is negative, a "
       "fraction or too large"},
      {R"({"edit": "filter-keys", "min_bytes": null})",
       "edits[0].min_bytes: expected a whole number from 0 to 2^64 - 1, found null"},
      {R"({"edit": "filter-keys", "max_bytes": "1 MB"})",
       "edits[0].max_bytes: expected a whole number from 0 to 2^64 - 1, found the string '1 MB'"},
      {R"({"edit": "filter-keys", "min_bytes": 1, "strict": true})",
       "edits[0]: expected 'like' beside 'ignore_shape' and 'strict'"},
      {R"({"edit": "filter-keys", "like": [{"key": "a"}]})",
       "edits[0].like[0]: expected a field 'shape', found 'key'"},
      {R"({"edit": "filter-keys", "like": [{"key": "a", "shape": [9223372036854775808]}]})",
       "edits[0].like[0].shape[0]: expected a whole number from 0 to 2^63 - 1, found the number "
       "9223372036854775808"},
      {R"({"edit": "rename-keys"})", "edits[0]: expected a field 'rules', found 'edit'"},
      {R"({"edit": "rename-keys", "rules": []})", "edits[0]: expected at least one rule"},
      {R"({"edit": "rename-keys", "rules": [{"map": "a"}]})",
       "edits[0].rules[0]: expected a field 'to', found 'map'"},
      {R"({"edit": "rename-keys", "rules": [{"map": "!a", "to": "b"}]})",
       "edits[0].rules[0]: a negated pattern can't be renamed"},
      {R"({"edit": "rename-keys", "rules": [{"add_prefix": "a", "to": "b"}]})",
       "edits[0].rules[0]: unknown field 'to'; hint: known: map, add_prefix, strip_prefix"},
      {R"({"edit": "rename-keys", "rules": [{"add_prefix": {"hex": "fg"}}]})",
       "edits[0].rules[0].add_prefix: expected a string or {\"hex\": DIGITS}, found other characters, or "
       "half a "
       "byte"},
      {R"({"edit": "rename-keys", "rules": [{"add_prefix": {"hex": "fff"}}]})",
       "edits[0].rules[0].add_prefix: expected a string or {\"hex\": DIGITS}, found other characters, or "
       "half a "
       "byte"},
      {R"({"edit": "rename-keys", "rules": [{"add_prefix": {"hex": "ff", "text": "a"}}]})",
       "edits[0].rules[0].add_prefix: expected a string or {\"hex\": DIGITS}, found another object"},
      {R"({"edit": "drop-entry", "paths": []})", "edits[0]: expected at least one path"},
      {R"({"edit": "drop-entry", "paths": ["a..b"]})",
       "edits[0].paths[0]: 'a..b' is no path: unexpected text at column 2"},
      {R"({"edit": "drop-entry", "paths": ["a"], "paths": ["b"]})",
       "edits[0]: two fields are called 'paths'"},
  };
  for (const auto& [edit, error] : cases) {
    CAPTURE(edit);
    CHECK(mistake_in_edit(edit) == std::string("usage: ") + error);
  }
}

TEST_CASE("a mistake in the seventh edit is told as such, with a long text cut", "[edit][plan]") {
  std::string edits;
  for (int i = 0; i < 6; ++i) edits += R"({"edit": "strip-dataparallel"}, )";
  CHECK(mistake_in_edit(edits + R"({"edit": "drop-entry", "paths": ["a", 1]})") ==
        "usage: edits[6].paths[1]: expected a string, found the number 1");
  CHECK(mistake_in_edit(edits + R"({"edit": "strip-dataparallel", "wrappers": ")" + std::string(1000, 'x') +
                        "\"}") ==
        "usage: edits[6].wrappers: expected an array, found a string of 1000 bytes");
}

}  // namespace
}  // namespace ckpt
