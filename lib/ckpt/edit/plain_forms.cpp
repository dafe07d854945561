// SPDX-License-Identifier: BSD-3-Clause
#include "ckpt/edit/plain_forms.h"

#include <algorithm>
#include <array>
#include <string>
#include <vector>

#include "ckpt/model/weights_only.h"

namespace ckpt {
namespace {

/// Modules whose classes take one number or text and are no enumerations.
constexpr std::array<std::string_view, 20> kNoEnumerations = {
    "array",     "builtins", "collections", "copyreg", "datetime", "decimal", "fractions",
    "functools", "io",       "itertools",   "numpy",   "operator", "pandas",  "random",
    "re",        "torch",    "types",       "typing",  "uuid",     "weakref",
};

/// Is the object made with no arguments but its class, by NEWOBJ, by a call, or by copyreg's reconstructor?
bool is_made_bare(const ValueGraph& graph, const Anatomy& anatomy, std::string_view global) {
  const auto count = anatomy.arguments.size();
  if (global != "copyreg._reconstructor") return count == 1;
  return count == 4 && global_name(graph, anatomy.arguments[2]) == "builtins.object" &&
         graph.is_none(anatomy.arguments[3]);
}

/// The class of an object that copyreg's reconstructor makes is its argument.
std::string class_name(const ValueGraph& graph, const Anatomy& anatomy, std::string_view global) {
  if (global != "copyreg._reconstructor" || anatomy.arguments.size() < 2) return std::string(global);
  return global_name(graph, anatomy.arguments[1]);
}

/// A Namespace is its attributes.
std::optional<PlainForm> namespace_form(const ValueGraph& graph, const Anatomy& anatomy,
                                        std::string_view global) {
  const auto name = class_name(graph, anatomy, global);
  if (name != "argparse.Namespace" && name != "types.SimpleNamespace") return std::nullopt;
  if (!is_made_bare(graph, anatomy, global) || !anatomy.items.empty() || !anatomy.elements.empty())
    return std::nullopt;
  if (anatomy.states.empty()) return PlainDict{anatomy.made};
  if (anatomy.states.size() > 1) return std::nullopt;
  Anatomy state;
  dissect(graph, graph.resolve(anatomy.states.front()), state);
  if (state.kind != ValueKind::kDict) return std::nullopt;
  return PlainAttributes{anatomy.states.front()};
}

/// str(PurePosixPath(*parts)), str(PureWindowsPath(*parts)).
std::optional<std::string> join_path(const std::vector<std::string>& parts, bool windows) {
  if (windows) {
    // drives and roots have rules of their own: only what a path's `parts` are is joined
    std::string text;
    for (std::size_t i = 0; i < parts.size(); ++i) {
      const auto& part = parts[i];
      const bool is_anchor = i == 0 && part.ends_with('\\');
      if (part.empty() || part == "." || part.find('/') != std::string::npos ||
          (!is_anchor && part.find('\\') != std::string::npos))
        return std::nullopt;
      if (i > 0 && !text.ends_with('\\')) text += '\\';
      text += part;
    }
    return text.empty() ? std::string(".") : text;
  }
  std::string joined;
  for (const auto& part : parts) {
    if (part.starts_with('/')) joined.clear();
    if (!joined.empty() && !joined.ends_with('/')) joined += '/';
    joined += part;
  }
  const auto slashes = std::min(joined.find_first_not_of('/'), joined.size());
  std::string text(slashes == 2 ? "//" : slashes > 0 ? "/" : "");
  const auto root = text.size();
  for (std::size_t at = slashes; at < joined.size();) {
    const auto end = std::min(joined.find('/', at), joined.size());
    const auto name = joined.substr(at, end - at);
    at = end + 1;
    if (name.empty() || name == ".") continue;
    if (text.size() > root) text += '/';
    text += name;
  }
  return text.empty() ? std::string(".") : text;
}

std::optional<PlainForm> path_form(const ValueGraph& graph, const Anatomy& anatomy, std::string_view global) {
  if (!global.starts_with("pathlib.")) return std::nullopt;
  const auto name = global.substr(global.rfind('.') + 1);
  const bool windows = name == "WindowsPath" || name == "PureWindowsPath";
  if (!windows && name != "PosixPath" && name != "PurePosixPath") return std::nullopt;
  std::vector<std::string> parts;
  for (std::size_t i = 1; i < anatomy.arguments.size(); ++i) {
    auto part = graph.string(anatomy.arguments[i]);
    if (!part) return std::nullopt;
    parts.push_back(std::move(*part));
  }
  auto text = join_path(parts, windows);
  if (!text) return std::nullopt;
  return PlainScalar{std::move(*text)};
}

/// A class called with one number or text: what a member of an enumeration is pickled as. Functions have
/// small letters.
std::optional<PlainForm> enumeration_form(const ValueGraph& graph, const Anatomy& anatomy,
                                          std::string_view global) {
  const auto dot = global.rfind('.');
  if (dot == std::string_view::npos || anatomy.arguments.size() != 2 || !anatomy.states.empty() ||
      !anatomy.items.empty() || !anatomy.elements.empty() || graph.opcode(anatomy.made) != Opcode::kReduce)
    return std::nullopt;
  const auto package = global.substr(0, global.find('.'));
  const auto initial = global[dot + 1];
  if (initial < 'A' || initial > 'Z' ||
      std::find(kNoEnumerations.begin(), kNoEnumerations.end(), package) != kNoEnumerations.end())
    return std::nullopt;
  const auto value = anatomy.arguments[1];
  if (const auto flag = graph.boolean(value)) return PlainScalar{*flag};
  if (const auto number = graph.integer(value)) return PlainScalar{*number};
  if (auto text = graph.string(value)) return PlainScalar{std::move(*text)};
  return std::nullopt;
}

/// A release number is a text with comparisons.
std::optional<PlainForm> text_form(const ValueGraph& graph, const Anatomy& anatomy, std::string_view global) {
  if (global != "torch.torch_version.TorchVersion" && global != "numpy.str_") return std::nullopt;
  if (anatomy.arguments.size() != 2) return std::nullopt;
  auto text = graph.string(anatomy.arguments[1]);
  if (!text) return std::nullopt;
  return PlainScalar{std::move(*text)};
}

}  // namespace

std::optional<PlainForm> plain_form(const ValueGraph& graph, Use node, const Anatomy& anatomy,
                                    std::string_view global) {
  if (auto scalar = numpy_scalar(graph, node)) return PlainScalar{std::move(*scalar)};
  if (auto array = numpy_array(graph, node)) {
    if (!array->dtype.torch_dtype()) return std::nullopt;
    return PlainTensor{std::move(*array)};
  }
  if (global == "collections.defaultdict" && anatomy.arguments.size() <= 2 && anatomy.states.empty())
    return PlainDict{anatomy.made};
  if (auto form = namespace_form(graph, anatomy, global)) return form;
  if (auto form = path_form(graph, anatomy, global)) return form;
  if (auto form = text_form(graph, anatomy, global)) return form;
  return enumeration_form(graph, anatomy, global);
}

std::string_view plain_form_name(const PlainForm& form) {
  if (std::holds_alternative<PlainTensor>(form)) return "tensor";
  const auto* scalar = std::get_if<PlainScalar>(&form);
  if (scalar == nullptr) return "dict";
  constexpr std::array<std::string_view, 5> kNames = {"int", "float", "bool", "complex", "str"};
  return kNames[scalar->value.index()];
}

}  // namespace ckpt
