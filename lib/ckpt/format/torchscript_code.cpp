// SPDX-License-Identifier: BSD-3-Clause
#include "ckpt/format/torchscript_code.h"

#include <algorithm>
#include <optional>
#include <unordered_set>
#include <utility>

#include <fmt/format.h>

#include "ckpt/base/text.h"
#include "ckpt/model/tensor_info.h"

namespace ckpt {
namespace {

constexpr std::size_t kLongestName = 4096;          // bytes; real ones have about a hundred
constexpr std::uint64_t kLargestFile = 64U << 20U;  // bytes; traced code of large models has a few million

/// The string literal that `text` starts with, which loses it; as c10::printQuotedString writes them.
std::optional<std::string> take_string(std::string_view& text) {
  if (!text.starts_with('"')) return std::nullopt;
  std::string out;
  for (std::size_t i = 1; i < text.size() && out.size() <= kLongestName; ++i) {
    if (text[i] == '"') {
      text.remove_prefix(i + 1);
      return out;
    }
    if (text[i] != '\\') {
      out += text[i];
      continue;
    }
    if (++i == text.size()) break;
    constexpr std::string_view kLetters = "abfnrtv";
    constexpr std::string_view kMeant = "\a\b\f\n\r\t\v";
    if (const auto at = kLetters.find(text[i]); at != kLetters.npos) {
      out += kMeant[at];
    } else if (text[i] >= '0' && text[i] <= '3' && i + 2 < text.size()) {
      out += static_cast<char>((text[i] - '0') * 64 + (text[i + 1] - '0') * 8 + (text[i + 2] - '0'));
      i += 2;
    } else {
      out += text[i];
    }
  }
  return std::nullopt;
}

/// `["a", "b", ]`
std::optional<std::unordered_set<std::string>> read_names(std::string_view list) {
  std::unordered_set<std::string> names;
  if (!list.starts_with('[')) return std::nullopt;
  list.remove_prefix(1);
  while (!list.starts_with(']')) {
    auto name = take_string(list);
    if (!name || !list.starts_with(", ")) return std::nullopt;
    names.insert(std::move(*name));
    list.remove_prefix(2);
  }
  return names;
}

bool take_prefix(std::string_view& text, std::string_view prefix) {
  if (!text.starts_with(prefix)) return false;
  text.remove_prefix(prefix.size());
  return true;
}

/// Reads a file line by line. Lines of a class are indented by two spaces, those of its methods by more.
class CodeReader {
 public:
  explicit CodeReader(std::size_t most) : left_(most) {}

  Result<std::vector<ScriptClass>> run(std::string_view code) {
    while (!code.empty()) {
      const auto end = code.find('\n');
      line(code.substr(0, end));
      if (left_ == 0) return Error(ErrorCode::kRefused, "it declares more than any model needs");
      if (end == code.npos) break;
      code.remove_prefix(end + 1);
    }
    close();
    return std::move(classes_);
  }

 private:
  void line(std::string_view text) {
    if (take_prefix(text, "class ")) {
      --left_;
      close();
      open(text);
    } else if (!text.starts_with(' ')) {
      if (!text.empty()) close();
    } else if (is_open_ && take_prefix(text, "  ") && !text.starts_with(' ')) {
      --left_;
      if (!declaration(text)) is_broken_ = true;
    }
  }

  void open(std::string_view head) {
    const auto end = head.find_first_of("(:");
    if (end == head.npos || end == 0 || end > kLongestName) return;
    current_ = {};
    current_.name = head.substr(0, end);
    current_.is_module = head.substr(end) == "(Module):";
    parameters_.clear();
    buffers_.clear();
    is_broken_ = false;
    is_open_ = true;
  }

  void close() {
    if (!is_open_) return;
    is_open_ = false;
    if (is_broken_) return;
    for (std::uint32_t i = 0; i < current_.attributes.size(); ++i) {
      auto& attribute = current_.attributes[i];
      attribute.is_parameter = parameters_.contains(attribute.name);
      attribute.is_buffer = buffers_.contains(attribute.name);
      current_.positions.emplace(attribute.name, i);
    }
    classes_.push_back(std::move(current_));
  }

  /// False for what would be a declaration and can't be read.
  bool declaration(std::string_view text) {
    if (take_prefix(text, "def ")) {
      const auto end = text.find('(');
      if (end != text.npos && end <= kLongestName) current_.methods.emplace_back(text.substr(0, end));
      return true;
    }
    if (take_prefix(text, "__parameters__ = ")) return names(text, parameters_);
    if (take_prefix(text, "__buffers__ = ")) {
      current_.lists_buffers = true;
      return names(text, buffers_);
    }
    if (take_prefix(text, "__annotations__[")) {
      auto name = take_string(text);
      if (!name || !take_prefix(text, "] = ")) return false;
      add(std::move(*name), text);
      return true;
    }
    const auto colon = text.find(" : ");
    if (colon == text.npos) return true;  // `__annotations__ = []`, a member of an enum
    if (colon > kLongestName) return false;
    add(std::string(text.substr(0, colon)), text.substr(colon + 3));
    return true;
  }

  static bool names(std::string_view list, std::unordered_set<std::string>& out) {
    auto names = read_names(list);
    if (names) out = std::move(*names);
    return names.has_value();
  }

  void add(std::string name, std::string_view type) {
    if (type.starts_with("Final[")) return;  // a constant, which no object carries
    current_.attributes.push_back({std::move(name), std::string(type.substr(0, kLongestName))});
  }

  std::size_t left_;  ///< declarations that may still come
  std::vector<ScriptClass> classes_;
  ScriptClass current_;
  std::unordered_set<std::string> parameters_;
  std::unordered_set<std::string> buffers_;
  bool is_open_ = false;
  bool is_broken_ = false;
};

}  // namespace

std::uint32_t ScriptClass::position(std::string_view attribute) const {
  const auto found = positions.find(std::string(attribute));
  return found == positions.end() ? kNoIndex : found->second;
}

Result<std::vector<ScriptClass>> parse_script_classes(std::string_view code, std::size_t most) {
  return CodeReader(most).run(code);
}

bool is_script_class(const GlobalName& name) {
  constexpr std::string_view kRoot = "__torch__";
  const auto below_root = name.module.substr(std::min(kRoot.size(), name.module.size()));
  return name.module.starts_with(kRoot) && (below_root.empty() || below_root.starts_with('.')) &&
         !below_root.starts_with(".torch.classes.") && name.module.size() <= kLongestName;
}

const ScriptClass* ScriptClasses::find(const GlobalName& name) {
  if (!is_script_class(name)) return nullptr;
  auto file = files_.find(std::string(name.module));
  if (file == files_.end())
    file = files_.emplace(std::string(name.module), read(std::string(name.module))).first;
  const auto found = file->second.find(std::string(name.name));
  return found == file->second.end() ? nullptr : &found->second;
}

ScriptClasses::File ScriptClasses::read(const std::string& module) {
  auto path = "code/" + module;
  std::replace(path.begin(), path.end(), '.', '/');
  path += ".py";
  const auto record = directory_.find(path);
  if (!record) return {};
  auto classes = parse(*record);
  if (!classes.ok()) {
    if (std::exchange(reported_, true)) return {};  // hostile files have a million
    diagnostics_.add(
        {"torchscript-code-unreadable", Severity::kWarning, path,
         fmt::format("the code of {} can't be read: {}", quoted(path), classes.error().message()), ""});
    return {};
  }
  File file;
  for (auto& script_class : *classes) {
    auto name = script_class.name;
    file.emplace(std::move(name), std::move(script_class));
  }
  return file;
}

Result<std::vector<ScriptClass>> ScriptClasses::parse(RecordId record) {
  CKPT_ASSIGN_OR_RETURN(const auto code,
                        read_record(directory_, record, std::min(kLargestFile, bytes_left_), diagnostics_));
  bytes_left_ -= code.size();
  CKPT_ASSIGN_OR_RETURN(auto classes, parse_script_classes(as_text(code), declarations_left_));
  for (const auto& script_class : classes)
    declarations_left_ -= 1 + script_class.attributes.size() + script_class.methods.size();
  return classes;
}

}  // namespace ckpt
