// SPDX-License-Identifier: BSD-3-Clause
#include "render/statistics.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <string>

#include <fmt/format.h>

#include "ckpt/base/text.h"

namespace ckpt::cli {
namespace {

constexpr std::size_t kColumns = 9;
using Row = std::array<std::string, kColumns>;
constexpr std::array<std::string_view, kColumns> kTitles = {"",      "min", "max", "mean",     "std",
                                                            "zeros", "NaN", "Inf", "subnormal"};

std::string short_number(double value) {
  return fmt::format("{:.5g}", value);
}

std::string short_number(const std::optional<StatisticsValue>& value) {
  if (!value) return "-";
  if (const auto* real = std::get_if<double>(&*value)) return short_number(*real);
  return std::visit([](auto number) { return fmt::format("{}", number); }, *value);
}

Row row_of(std::string name, const TensorStatistics& statistics) {
  const auto& values = statistics.values;
  Row row;
  row[0] = std::move(name);
  if (!statistics.missing.empty()) {
    row[1] = fmt::format("({})", statistics.missing);
    return row;
  }
  row[1] = short_number(values.minimum);
  row[2] = short_number(values.maximum);
  row[3] = values.has_moments() ? short_number(values.mean) : "-";
  row[4] = values.has_moments() && values.finite() > 1 ? short_number(values.standard_deviation()) : "-";
  row[5] = with_separators(values.zeros);
  row[6] = with_separators(values.nans);
  row[7] = with_separators(values.infinities);
  row[8] = with_separators(values.subnormals);
  return row;
}

void print_row(const Row& row, const std::array<std::size_t, kColumns>& widths, Stream& out) {
  auto line = fmt::format("  {:<{}}", row[0], widths[0]);
  for (std::size_t i = 1; i < kColumns; ++i) line += fmt::format("  {:>{}}", row[i], widths[i]);
  line.erase(line.find_last_not_of(' ') + 1);
  out.format("{}\n", line);
}

void print_bins(const Histogram& histogram, Stream& out) {
  out.format("    {} bins from {} to {}:", histogram.counts().size(), short_number(histogram.low()),
             short_number(histogram.high()));
  for (const auto count : histogram.counts()) out.format(" {}", count);
  out.print("\n");
}

void write_real(JsonWriter& json, double value) {
  if (std::isnan(value)) {
    json.string_of_ours("NaN");
  } else if (std::isinf(value)) {
    json.string_of_ours(value < 0 ? "-Infinity" : "Infinity");
  } else {
    json.raw(fmt::format("{}", value));
  }
}

void write_value(JsonWriter& json, const std::optional<StatisticsValue>& value) {
  if (!value) {
    json.null();
  } else if (const auto* real = std::get_if<double>(&*value)) {
    write_real(json, *real);
  } else {
    json.raw(std::visit([](auto number) { return fmt::format("{}", number); }, *value));
  }
}

}  // namespace

void print_statistics(const InspectedFile& file, Stream& out) {
  if (file.statistics.empty()) return;
  std::vector<Row> rows;
  std::vector<const TensorStatistics*> shown;
  std::array<std::size_t, kColumns> widths{};
  for (std::size_t i = 0; i < kColumns; ++i) widths[i] = kTitles[i].size();
  for (std::size_t i = 0; i < file.tensors.size(); ++i) {
    const auto& tensor = file.checkpoint.tensors[file.tensors[i]];
    if (tensor.has(kIsPart)) continue;
    rows.push_back(row_of(label(file.checkpoint, tensor), file.statistics[i]));
    shown.push_back(&file.statistics[i]);
    for (std::size_t column = 0; column < kColumns; ++column) {
      const bool is_note = column == 1 && !file.statistics[i].missing.empty();
      if (!is_note) widths[column] = std::max(widths[column], rows.back()[column].size());
    }
  }
  widths[0] = std::min(widths[0], kWidestName);
  out.print("\nvalues:\n");
  Row titles;
  std::copy(kTitles.begin(), kTitles.end(), titles.begin());
  print_row(titles, widths, out);
  for (std::size_t i = 0; i < rows.size(); ++i) {
    print_row(rows[i], widths, out);
    if (shown[i]->histogram) print_bins(*shown[i]->histogram, out);
  }
}

void write_statistics(JsonWriter& json, const TensorStatistics& statistics) {
  const auto& values = statistics.values;
  json.begin_object();
  if (!statistics.missing.empty()) {
    json.key("missing").string_of_ours(statistics.missing);
    json.end_object();
    return;
  }
  json.key("count").number(values.count);
  json.key("zeros").number(values.zeros);
  json.key("nan").number(values.nans);
  json.key("inf").number(values.infinities);
  json.key("subnormal").number(values.subnormals);
  json.key("min");
  write_value(json, values.minimum);
  json.key("max");
  write_value(json, values.maximum);
  json.key("mean");
  values.has_moments() ? write_real(json, values.mean) : static_cast<void>(json.null());
  json.key("std");
  values.has_moments() && values.finite() > 1 ? write_real(json, values.standard_deviation())
                                              : static_cast<void>(json.null());
  if (statistics.histogram) {
    json.key("histogram").begin_object();
    json.key("low");
    write_real(json, statistics.histogram->low());
    json.key("high");
    write_real(json, statistics.histogram->high());
    json.key("counts").begin_array();
    for (const auto count : statistics.histogram->counts()) json.number(count);
    json.end_array();
    json.end_object();
  }
  json.end_object();
}

}  // namespace ckpt::cli
