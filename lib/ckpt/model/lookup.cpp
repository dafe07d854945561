// SPDX-License-Identifier: BSD-3-Clause
#include "ckpt/model/lookup.h"

#include <charconv>
#include <optional>

#include <fmt/format.h>

#include "ckpt/base/text.h"
#include "ckpt/model/anatomy.h"
#include "ckpt/model/key_path.h"

namespace ckpt {
namespace {

constexpr std::size_t kSuggestFrom = 1000;  // keys looked at for a suggestion

/// The number that the digits of an index step spell, if it is below `count`.
std::optional<std::size_t> index_below(std::size_t count, std::string_view digits) {
  std::size_t number = 0;
  const auto [end, ec] = std::from_chars(digits.data(), digits.data() + digits.size(), number);
  if (ec != std::errc() || number >= count) return std::nullopt;
  return number;
}

class Walk {
 public:
  Walk(const Checkpoint& checkpoint, std::string_view path) : graph_(checkpoint.graph()), path_(path) {
    const auto root = checkpoint.new_root();
    found_.value = root == kNoIndex ? graph_.root() : checkpoint.state_dicts[root].mapping;
  }

  Status step(const PathStep& step) {
    if (in_arguments_) return argument(step);
    dissect(graph_, graph_.resolve(found_.value), anatomy_);
    switch (step.kind) {
      case PathStep::Kind::kKey:
        return find(anatomy_.items, step, [&](Use key) { return graph_.string(key) == step.text; });
      case PathStep::Kind::kOther:
        return find(anatomy_.items, step,
                    [&](Use key) { return !graph_.is_string(key) && python_repr(graph_, key) == step.text; });
      case PathStep::Kind::kAttribute:
        return find(attributes(graph_, anatomy_.states), step,
                    [&](Use key) { return graph_.string(key) == step.text; });
      case PathStep::Kind::kIndex: return index(step);
      case PathStep::Kind::kPart: return part(step);
    }
    return {};
  }

  Result<FoundValue> found() const {
    if (in_arguments_)
      return missing({PathStep::Kind::kPart, "args"}, "");  // a value only with an index behind it
    return found_;
  }

 private:
  template <typename Matches>
  Status find(const std::vector<MappingItem>& items, const PathStep& step, Matches matches) {
    for (const auto& item : items) {
      if (!matches(item.key)) continue;
      found_ = {item.value, item.key, item.pair, false};
      return {};
    }
    std::vector<std::string> names;
    for (const auto& item : items) {
      if (names.size() == kSuggestFrom) break;
      if (auto name = graph_.string(item.key)) names.push_back(std::move(*name));
    }
    return missing(step, nearest(step.text, names));
  }

  Status index(const PathStep& step) {
    const auto number = index_below(anatomy_.elements.size(), step.text);
    if (!number) return missing(step, "", anatomy_.elements.size());
    const bool list = anatomy_.kind == ValueKind::kList;
    found_ = {anatomy_.elements[*number], kNoUse, kNoUse, list};
    return {};
  }

  Status part(const PathStep& step) {
    if (step.text == "args") {
      in_arguments_ = true;
      return {};
    }
    if (step.text == "state" && !anatomy_.states.empty()) {
      found_ = {anatomy_.states.front(), kNoUse, kNoUse, false};
      return {};
    }
    return missing(step, "");
  }

  /// The step behind <args>. What is called comes before its arguments.
  Status argument(const PathStep& step) {
    in_arguments_ = false;
    const auto count = anatomy_.arguments.empty() ? 0 : anatomy_.arguments.size() - 1;
    const auto number = index_below(count, step.text);
    if (step.kind != PathStep::Kind::kIndex || !number) return missing(step, "", count);
    found_ = {anatomy_.arguments[*number + 1], kNoUse, kNoUse, false};
    return {};
  }

  /// `elements`: how many there are where the step is an index.
  Error missing(const PathStep& step, const std::string& suggestion, std::size_t elements = 0) const {
    const bool is_index = step.kind == PathStep::Kind::kIndex;
    Error error(ErrorCode::kNotFound,
                fmt::format("no {} in the file: {}", quoted(path_),
                            is_index ? counted(elements, "element") + " there"
                                     : fmt::format("nothing is called {} there", quoted(step.text))));
    if (suggestion.empty()) return error;
    return std::move(error).with_hint(fmt::format("did you mean {}?", quoted(suggestion)));
  }

  const ValueGraph& graph_;
  std::string_view path_;
  Anatomy anatomy_;
  FoundValue found_;
  bool in_arguments_ = false;  ///< the last step was <args>
};

}  // namespace

Result<FoundValue> find_value(const Checkpoint& checkpoint, std::string_view path) {
  CKPT_ASSIGN_OR_RETURN(const auto steps, parse_path(path));
  if (!checkpoint.has_document()) {
    return Error(ErrorCode::kUnsupported,
                 fmt::format("no {} in the file: it holds tensors and nothing else", quoted(path)));
  }
  if (checkpoint.has_new_root() && checkpoint.state_dicts[checkpoint.new_root()].of_module) {
    return Error(ErrorCode::kNotFound,
                 fmt::format("no {} in the file: it becomes the state dict of a module", quoted(path)));
  }
  Walk walk(checkpoint, path);
  for (const auto& step : steps) CKPT_RETURN_IF_ERROR(walk.step(step));
  return walk.found();
}

}  // namespace ckpt
