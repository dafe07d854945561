// SPDX-License-Identifier: BSD-3-Clause
#include <initializer_list>
#include <optional>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include <fmt/format.h>

#include "ckpt/base/text.h"
#include "ckpt/edit/plan_fields.h"
#include "ckpt/edit/plan_json.h"

namespace ckpt {
namespace plan_text {
namespace {

class Writer {
 public:
  static constexpr bool kReads = false;

  template <typename T, typename... Check>
  void field(std::string_view name, const T& value, Check... /*for readers*/) {
    if (is_said(value)) required(name, value);
  }

  template <typename T, typename... Check>
  void required(std::string_view name, const T& value, Check... /*for readers*/) {
    next(is_block_);
    out_ += json_string(name) + ": ";
    write(value);
  }

  template <typename T>
  void one_of(std::initializer_list<std::string_view> names, std::size_t which, const T& value) {
    required(names.begin()[which], value);
  }

  void expect(bool /*holds*/, std::string_view /*what*/) {}

  /// Plans and edits have a field a line, all else stands on one.
  template <typename T>
  void write(const T& record) {
    out_ += '{';
    const auto is_block = std::exchange(is_block_, std::is_same_v<T, Plan> || std::is_same_v<T, Edit>);
    const auto is_first = std::exchange(is_first_, true);
    indent_ += is_block_ ? 2 : 0;
    fields(*this, record);
    indent_ -= is_block_ ? 2 : 0;
    if (is_block_) new_line();
    is_block_ = is_block;
    is_first_ = is_first;
    out_ += '}';
  }

  std::string take() { return std::move(out_) + '\n'; }

 private:
  static bool is_said(bool value) { return value; }

  static bool is_said(std::int64_t number) { return number != 0; }

  static bool is_said(const InitMethod& method) { return method != InitMethod(); }

  static bool is_said(OptimizerPolicy policy) { return policy != Plan().optimizer; }

  template <typename T>
  static bool is_said(const std::optional<T>& value) {
    return value.has_value();
  }

  template <typename T>
  static bool is_said(const std::vector<T>& values) {
    return !values.empty();
  }

  void new_line() {
    out_ += '\n';
    out_.append(indent_, ' ');
  }

  void next(bool on_new_line) {
    if (!std::exchange(is_first_, false)) out_ += on_new_line ? "," : ", ";
    if (on_new_line) new_line();
  }

  void write(bool value) { out_ += value ? "true" : "false"; }

  void write(std::uint64_t value) { out_ += fmt::format("{}", value); }

  void write(std::int64_t value) { out_ += fmt::format("{}", value); }

  void write(Dtype dtype) { out_ += json_string(dtype_info(dtype).name); }

  void write(MergeMethod method) { out_ += json_string(merge_method_info(method).name); }

  void write(const InitMethod& method) { out_ += json_string(init_method_text(method)); }

  void write(TorchVersion version) { out_ += json_string(torch_version_text(version)); }

  void write(FormatId format) { out_ += json_string(target_format_name(format)); }

  void write(OptimizerPolicy policy) { out_ += json_string(optimizer_policy_name(policy)); }

  void write(const NamePattern& pattern) { write(pattern.text()); }

  void write(const std::string& text) {
    if (is_utf8(text)) {
      append_json_string(out_, text);
      return;
    }
    out_ += R"({"hex": ")";
    for (const char c : text) out_ += fmt::format("{:02x}", static_cast<unsigned char>(c));
    out_ += "\"}";
  }

  template <typename T>
  void write(const std::optional<T>& value) {
    if (value) {
      write(*value);
    } else {
      out_ += "null";
    }
  }

  /// Records have a line each.
  template <typename T>
  void write(const std::vector<T>& values) {
    const bool is_block = requires {
      fields(*this, std::declval<const T&>());
    }
    &&!values.empty();
    out_ += '[';
    const auto is_first = std::exchange(is_first_, true);
    indent_ += is_block ? 2 : 0;
    for (const auto& value : values) {
      next(is_block);
      write(value);
    }
    indent_ -= is_block ? 2 : 0;
    if (is_block) new_line();
    is_first_ = is_first;
    out_ += ']';
  }

  std::string out_;
  std::size_t indent_ = 0;
  bool is_block_ = false;
  bool is_first_ = true;
};

}  // namespace
}  // namespace plan_text

std::string plan_to_json(const Plan& plan) {
  plan_text::Writer writer;
  writer.write(plan);
  return writer.take();
}

}  // namespace ckpt
