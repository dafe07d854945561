// SPDX-License-Identifier: BSD-3-Clause
// What stands in the text of a plan: each part declares its fields once, in a function `fields`, through
// which a reader and a writer walk. An edit more is a function more. For plan_reader.cpp and plan_writer.cpp
// alone.
//
//   io.field(name, value)           may be missing, and is spelled where it says something
//   io.required(name, value)        is always there
//   io.one_of(names, which, value)  exactly one of the names is there
//   io.expect(holds, what)          what is needed besides
//   io.require(status)              the same, with an error of its own; for readers
#pragma once

#include <algorithm>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <variant>
#include <vector>

#include "ckpt/base/result.h"
#include "ckpt/edit/plan.h"
#include "ckpt/model/key_path.h"

namespace ckpt::plan_text {

inline constexpr std::string_view kSchema = "ckpt.plan/1";

/// A T that a reader fills and a writer looks at.
template <typename Io, typename T>
using Of = std::conditional_t<Io::kReads, T, const T>;

inline Result<std::string> checked_path(std::string_view text) {
  const auto steps = parse_path(text);
  if (!steps.ok()) return steps.error();
  return std::string(text);
}

/// What --map renames.
inline Result<NamePattern> checked_renamed(std::string_view text) {
  CKPT_ASSIGN_OR_RETURN(auto pattern, NamePattern::parse(text));
  if (pattern.negated()) return Error(ErrorCode::kUsage, "a negated pattern can't be renamed");
  return pattern;
}

inline Result<std::string> checked_replacement(const NamePattern& pattern, std::string_view text) {
  CKPT_RETURN_IF_ERROR(pattern.check_replacement(text));
  return std::string(text);
}

/// The edit of that name, with nothing said; none: no edit is called so.
template <std::size_t... I>
std::optional<Edit> edit_named(std::string_view name, std::vector<std::string>& names,
                               std::index_sequence<I...> /*alternatives*/) {
  std::optional<Edit> found;
  for (auto& edit : {Edit(std::in_place_index<I>)...}) {
    names.emplace_back(edit_name(edit));
    if (names.back() == name) found = edit;
  }
  return found;
}

template <typename Io>
void fields(Io& io, Of<Io, StripWrappers>& edit) {
  io.field("wrappers", edit.wrappers, parse_wrapper);
}

template <typename Io>
void fields(Io& io, Of<Io, KeyRule>& rule) {
  std::size_t which = rule.keep ? 0 : 1;
  io.one_of({"keep", "drop"}, which, rule.pattern);
  if constexpr (Io::kReads) rule.keep = which == 0;
}

template <typename Io>
void fields(Io& io, Of<Io, ReferenceKey>& key) {
  std::optional<std::vector<std::int64_t>> shape;
  if (key.is_tensor) shape = key.shape;
  io.required("key", key.name);
  io.required("shape", shape);
  if constexpr (Io::kReads) {
    key.is_tensor = shape.has_value();
    key.shape = std::move(shape).value_or(key.shape);
  }
}

template <typename Io>
void fields(Io& io, Of<Io, FilterKeys>& edit) {
  io.field("rules", edit.rules);
  io.field("only_dtypes", edit.only_dtypes);
  io.field("min_bytes", edit.min_bytes);
  io.field("max_bytes", edit.max_bytes);
  io.field("like", edit.like);
  io.field("ignore_shape", edit.ignore_shape);
  io.field("strict", edit.strict);
  io.expect(!edit.rules.empty() || !edit.only_dtypes.empty() || edit.min_bytes || edit.max_bytes || edit.like,
            "something to filter by: rules, only_dtypes, min_bytes, max_bytes or like");
  io.expect(edit.like || !(edit.ignore_shape || edit.strict), "'like' beside 'ignore_shape' and 'strict'");
}

template <typename Io>
void fields(Io& io, Of<Io, RenameRule>& rule) {
  using Kind = RenameRule::Kind;
  auto which = static_cast<std::size_t>(rule.kind);
  std::string text = rule.kind == Kind::kMap && rule.pattern ? rule.pattern->text() : rule.text;
  io.one_of({"map", "add_prefix", "strip_prefix"}, which, text);
  if constexpr (Io::kReads) {
    rule.kind = static_cast<Kind>(which);
    if (rule.kind == Kind::kMap) {
      rule.pattern = io.value_of(checked_renamed(text));
    } else {
      rule.text = std::move(text);
    }
  }
  if (rule.kind != Kind::kMap) return;
  io.required("to", rule.text);
  if constexpr (Io::kReads) {
    if (rule.pattern) rule.text = io.value_of(checked_replacement(*rule.pattern, rule.text));
  }
}

template <typename Io>
void fields(Io& io, Of<Io, RenameKeys>& edit) {
  io.required("rules", edit.rules);
  io.expect(!edit.rules.empty(), "at least one rule");
}

/// A choice as one of its words, which stand in the order of its enumerators; missing, it is the first.
template <typename Io, typename Choice>
void choice(Io& io, std::string_view name, Choice& value, const std::vector<std::string>& words) {
  using Value = std::remove_const_t<Choice>;
  std::optional<std::string> word;
  if (value != Value{}) word = words[static_cast<std::size_t>(value)];
  io.field(name, word);
  if constexpr (Io::kReads) {
    if (!word) return;
    const auto found = std::find(words.begin(), words.end(), *word);
    if (found == words.end()) return io.unknown(name, *word, words);
    value = static_cast<Value>(found - words.begin());
  }
}

template <typename Io>
void fields(Io& io, Of<Io, MergeSource>& source) {
  io.required("file", source.file);
  io.field("root", source.root);
}

template <typename Io>
void fields(Io& io, Of<Io, RecipeSetting>& setting) {
  std::string parameter(merge_parameter_info(setting.parameter).name);
  std::string value = setting.value.files.empty() ? std::string() : setting_value_text(setting);
  io.required("parameter", parameter);
  io.field("keys", setting.keys);
  io.required("value", value);
  if constexpr (Io::kReads) {
    setting.parameter = io.value_of(parse_merge_parameter(parameter));
    setting.value = io.value_of(parse_parameter_value(setting.parameter, value));
  }
}

template <typename Io>
void fields(Io& io, Of<Io, MergeRecipe>& recipe) {
  io.required("name", recipe.method);
  io.field("settings", recipe.settings);
  io.field("around_base", recipe.around_base);
  io.required("seed", recipe.seed);
  choice(io, "accumulate", recipe.accumulate, {"float64", "float32"});
  std::optional<std::string> integers;
  if (recipe.integers) integers = integer_rule_name(*recipe.integers);
  io.field("integers", integers);
  if constexpr (Io::kReads) {
    if (integers) recipe.integers = io.value_of(parse_integer_rule(*integers));
  }
  io.field("allow_unrelated", recipe.allow_unrelated);
}

template <typename Io>
void fields(Io& io, Of<Io, MergeTensors>& edit) {
  io.required("sources", edit.sources);
  choice(io, "keys", edit.keys, {"base", "union", "intersection", "equal"});
  choice(io, "on_shape_mismatch", edit.on_shape_mismatch, {"error", "keep-base", "take-other"});
  choice(io, "dtype", edit.on_dtype_mismatch, {"error", "base", "other"});
  io.field("method", edit.method);
  io.field("output_dtype", edit.dtype);
  io.expect(!edit.sources.empty(), "at least one source");
  io.expect(edit.method || !edit.dtype, "'method' beside 'output_dtype'");
  if constexpr (Io::kReads) {
    if (edit.method) io.require(check_recipe(*edit.method, edit.sources.size() + 1));
  }
}

template <typename Io>
void fields(Io& io, Of<Io, ReplaceHead::KeptRow>& row) {
  io.required("to", row.to);
  io.required("from", row.from);
}

template <typename Io>
void fields(Io& io, Of<Io, ReplaceHead>& edit) {
  io.field("heads", edit.heads);
  io.field("num_classes", edit.num_classes);
  io.field("init", edit.init);
  io.required("seed", edit.seed);
  io.required("torch", edit.torch);
  io.field("keep_rows", edit.keep_rows);
  io.field("rows", edit.rows);
  io.field("label_offset", edit.label_offset);
  choice(io, "background", edit.background, {"none", "first", "last"});
  io.field("rename", edit.rename);
  io.field("no_bias", edit.no_bias);
  io.field("in_features", edit.in_features);
  io.expect(edit.num_classes.value_or(1) > 0 && edit.in_features.value_or(1) > 0,
            "num_classes and in_features from 1 on");
  io.expect(!edit.rename || edit.heads.size() < 2, "one head beside 'rename'");
  io.expect(edit.rows.empty() || (!edit.keep_rows && edit.label_offset == 0),
            "either 'rows' or 'keep_rows' and 'label_offset'");
}

template <typename Io>
void fields(Io& io, Of<Io, DropEntries>& edit) {
  io.required("paths", edit.paths, checked_path);
  io.expect(!edit.paths.empty(), "at least one path");
}

template <typename Io>
void fields(Io& io, Of<Io, DtypeRule>& rule) {
  io.field("pattern", rule.pattern);
  io.required("dtype", rule.dtype);
}

template <typename Io>
void fields(Io& io, Of<Io, Convert>& edit) {
  io.field("state_dict", edit.state_dict);
  io.field("tensors_only", edit.tensors_only);
  io.field("weights_only", edit.weights_only);
  io.field("device_tag_cpu", edit.device_tag_cpu);
  io.field("dtypes", edit.dtypes);
  choice(io, "on_overflow", edit.on_overflow, {"error", "clamp", "inf"});
  io.field("compact", edit.compact);
  io.field("dedupe", edit.dedupe);
  io.expect(!edit.dtypes.empty() || edit.on_overflow == OnOverflow::kError, "'dtypes' beside 'on_overflow'");
}

template <typename Io>
void fields(Io& io, Of<Io, Edit>& edit) {
  std::string name(edit_name(edit));
  io.required("edit", name);
  if constexpr (Io::kReads) {
    std::vector<std::string> names;
    auto named = edit_named(name, names, std::make_index_sequence<std::variant_size_v<Edit>>());
    if (!named) return io.unknown("edit", name, names);
    edit = *std::move(named);
  }
  std::visit([&](auto& alternative) { fields(io, alternative); }, edit);
}

template <typename Io>
void fields(Io& io, Of<Io, Plan>& plan) {
  std::string schema(kSchema);
  io.required("schema", schema);
  if constexpr (Io::kReads) {
    if (schema != kSchema) return io.other_schema(schema);
  }
  io.required("edits", plan.edits);
  io.field("roots", plan.roots, checked_path);
  io.field("optimizer", plan.optimizer);
  io.field("allow_unmatched", plan.allow_unmatched);
  io.field("to", plan.target.format);
  choice(io, "tied", plan.target.tied, {"alias", "copy", "error"});
  io.expect(!plan.edits.empty(), "at least one edit");
}

}  // namespace ckpt::plan_text
