// SPDX-License-Identifier: BSD-3-Clause
#include "render/cast_report.h"

#include <algorithm>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <fmt/format.h>

#include "ckpt/base/text.h"
#include "render/json.h"

namespace ckpt::cli {
namespace {

constexpr std::size_t kShown = 5;  // names of a list in the text report; JSON has all

using Casts = std::vector<CastValues>;
using Count = std::uint64_t CastTally::*;

CastTally tally_of(const CastValues& cast) {
  return cast.watch ? cast.watch->tally() : CastTally();
}

/// "6 tensors float32 -> bfloat16, 1 tensor float64 -> float32".
std::string pairs(const Casts& casts) {
  std::vector<std::pair<std::string, std::size_t>> found;
  for (const auto& cast : casts) {
    auto pair = fmt::format("{} -> {}", dtype_info(cast.from).name, dtype_info(cast.to).name);
    const auto known =
        std::find_if(found.begin(), found.end(), [&](const auto& one) { return one.first == pair; });
    if (known == found.end()) {
      found.emplace_back(std::move(pair), cast.keys.size());
    } else {
      known->second += cast.keys.size();
    }
  }
  std::string out;
  for (const auto& [pair, tensors] : found)
    out += fmt::format("{}{} {}", out.empty() ? "" : ", ", counted(tensors, "tensor"), pair);
  return out;
}

/// "12 values became 0: 'a' (10), 'b' (2)", the most first.
void print_count(Stream& out, std::string_view indent, const Casts& casts, Count count, std::string_view what,
                 std::string_view became) {
  std::vector<std::pair<std::uint64_t, const std::string*>> found;
  std::uint64_t total = 0;
  for (const auto& cast : casts) {
    const auto values = tally_of(cast).*count;
    total += values;
    if (values > 0) found.emplace_back(values, &cast.keys.front().name);
  }
  if (total == 0) return;
  std::stable_sort(found.begin(), found.end(),
                   [](const auto& a, const auto& b) { return a.first > b.first; });
  std::string names;
  for (std::size_t i = 0; i < std::min(kShown, found.size()); ++i)
    names += fmt::format("{}{} ({})", i > 0 ? ", " : "", quoted(*found[i].second),
                         with_separators(found[i].first));
  if (found.size() > kShown) names += fmt::format(" and {} more", with_separators(found.size() - kShown));
  out.format("{}{} {}: {}\n", indent, counted(total, what), became, names);
}

/// What PyTorch casts values to that a dtype has no number for; nothing for integers, each of which may be
/// another.
std::vector<std::string_view> cast_to(Dtype dtype) {
  if (dtype_info(dtype).dtype_class == DtypeClass::kInteger) return {};
  if (dtype == Dtype::kFloat8E4m3fn) return {"448", "-448"};
  if (dtype == Dtype::kFloat8E8m0fnu) return {"NaN", "without their sign"};
  if (dtype == Dtype::kFloat8E5m2 || dtype_info(dtype).item_size > 1) return {"infinite"};
  return {"NaN"};
}

std::string out_of_range(const Casts& casts) {
  constexpr std::string_view kClamped = "clamped";
  std::vector<std::string_view> found;
  for (const auto& cast : casts) {
    if (tally_of(cast).overflows == 0) continue;
    auto values = cast_to(cast.to);
    if (cast.watch->on_overflow() == OnOverflow::kClamp) values = {kClamped};
    if (values.empty()) return "out of range, now what PyTorch makes of them";
    for (const auto value : values) {
      if (std::find(found.begin(), found.end(), value) == found.end()) found.push_back(value);
    }
  }
  if (found.size() == 1 && found.front() == kClamped) return "out of range, clamped";
  return fmt::format("out of range, now {}", fmt::join(found, " or "));
}

void print_error(Stream& out, const Casts& casts) {
  const CastValues* worst = nullptr;
  bool to_bool = false;
  for (const auto& cast : casts) {
    if (cast.watch && (worst == nullptr || tally_of(cast).largest_error > tally_of(*worst).largest_error))
      worst = &cast;
    to_bool = to_bool || cast.to == Dtype::kBool;
  }
  if (to_bool) out.print("    each value but 0 is true now\n");
  if (worst != nullptr) {
    out.format("    largest relative error: {:.3g}, in {}\n", tally_of(*worst).largest_error,
               quoted(worst->keys.front().name));
  } else if (!to_bool) {
    out.print("    each value is exactly what it was\n");
  }
}

std::string_view word(OnOverflow choice) {
  switch (choice) {
    case OnOverflow::kError: return "error";
    case OnOverflow::kClamp: return "clamp";
    case OnOverflow::kInf: return "inf";
  }
  return "";
}

void write_tally(JsonWriter& json, const CastTally& tally) {
  json.key("overflows").number(tally.overflows);
  json.key("zeros").number(tally.zeros);
  json.key("subnormals").number(tally.subnormals);
  json.key("nans").number(tally.nans);
  json.key("largest_error").raw(fmt::format("{}", tally.largest_error));
}

void write_key(JsonWriter& json, const CastKey& key) {
  json.key("root").string(key.root);
  json.key("name").string(key.name);
  write_hex_if_needed(json, "name_hex", key.name);
}

}  // namespace

void print_casts(Stream& out, const CastReport& report) {
  if (!report.casts.empty()) {
    out.format("  cast: {}; {} -> {}\n", pairs(report.casts), human_bytes(report.bytes_before),
               human_bytes(report.bytes_after));
    print_error(out, report.casts);
    print_count(out, "    ", report.casts, &CastTally::overflows, "value", out_of_range(report.casts));
    print_count(out, "    ", report.casts, &CastTally::zeros, "value", "became 0");
    print_count(out, "    ", report.casts, &CastTally::subnormals, "value", "became subnormal");
    print_count(out, "    ", report.casts, &CastTally::nans, "NaN", "kept");
  }
  if (!report.separated.empty()) {
    std::string names;
    for (std::size_t i = 0; i < std::min(kShown, report.separated.size()); ++i)
      names += fmt::format("{}{}", i > 0 ? ", " : "", quoted(report.separated[i]));
    if (report.separated.size() > kShown)
      names += fmt::format(" and {} more", with_separators(report.separated.size() - kShown));
    out.format("    {} shared a storage with tensors that are not cast alike and {}: {}\n",
               counted(report.separated.size(), "tensor"),
               report.separated.size() == 1 ? "has one of its own" : "have storages of their own", names);
  }
  for (std::size_t i = 0; i < std::min(kShown, report.left.size()); ++i) {
    out.format("  note: {} is of {} and stays as it is\n", quoted(report.left[i].key.name),
               report.left[i].what);
  }
  if (report.left.size() > kShown)
    out.format("  note: so {} {} more\n", report.left.size() == kShown + 1 ? "does" : "do",
               with_separators(report.left.size() - kShown));
}

void print_overflows(Stream& out, const std::vector<CastValues>& casts) {
  print_count(out, "  ", casts, &CastTally::overflows, "value", out_of_range(casts));
}

void write_cast_values(JsonWriter& json, const std::vector<CastValues>& casts) {
  json.begin_array();
  for (const auto& cast : casts) {
    json.begin_object();
    json.key("keys").begin_array();
    for (const auto& key : cast.keys) {
      json.begin_object();
      write_key(json, key);
      json.end_object();
    }
    json.end_array();
    json.key("from").string(dtype_info(cast.from).name);
    json.key("to").string(dtype_info(cast.to).name);
    json.key("values").number(cast.values);
    json.key("exact").boolean(is_exact_cast(cast.from, cast.to));
    write_tally(json, tally_of(cast));
    json.end_object();
  }
  json.end_array();
}

void write_casts(JsonWriter& json, const CastReport& report) {
  CastTally total;
  for (const auto& cast : report.casts) total.add(tally_of(cast), 0);
  json.begin_object();
  json.key("on_overflow").string(word(report.on_overflow));
  json.key("bytes_before").number(report.bytes_before);
  json.key("bytes_after").number(report.bytes_after);
  write_tally(json, total);
  json.key("casts");
  write_cast_values(json, report.casts);
  json.key("left").begin_array();
  for (const auto& one : report.left) {
    json.begin_object();
    write_key(json, one.key);
    json.key("is_of").string(one.what);
    json.end_object();
  }
  json.end_array();
  write_names(json, "separated", "separated_hex", report.separated);
  json.end_object();
}

}  // namespace ckpt::cli
