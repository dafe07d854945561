// SPDX-License-Identifier: BSD-3-Clause
#include <algorithm>
#include <array>
#include <cmath>
#include <iterator>
#include <limits>
#include <map>
#include <optional>
#include <utility>

#include <fmt/format.h>

#include "ckpt/base/text.h"
#include "ckpt/format/format.h"
#include "ckpt/model/parameter_roles.h"
#include "render/freeze.h"

namespace ckpt::cli {
namespace {

constexpr std::size_t kShown = 5;         // names of a list; JSON has all
constexpr std::size_t kWidestGroup = 50;  // a longer name pushes its line's other columns to the right

template <typename Names>
std::string examples(const Names& names) {
  std::string out;
  for (std::size_t i = 0; i < std::min(kShown, names.size()); ++i)
    out += (i > 0 ? ", " : "") + ckpt::quoted(names[i]);
  if (names.size() > kShown) out += fmt::format(" and {} more", with_separators(names.size() - kShown));
  return out;
}

/// As PEFT prints it: four decimals.
std::string percent(const FreezeGroup& group) {
  if (group.parameters.numel == 0) return "0.0000";
  return fmt::format("{:.4f}", 100.0 * static_cast<double>(group.trainable.numel) /
                                   static_cast<double>(group.parameters.numel));
}

constexpr std::size_t kColumns = 6;
using Row = std::array<std::string, kColumns>;

Row row_of(const FreezeGroup& group, std::string name) {
  return {std::move(name),
          with_separators(group.parameters.numel),
          human_bytes(group.parameters.bytes),
          with_separators(group.trainable.numel),
          percent(group),
          with_separators(group.buffers.numel)};
}

/// The name to the left, numbers to the right.
void print_groups(const FreezeReport& report, Stream& out) {
  std::vector<Row> rows = {{"group", "parameters", "bytes", "trainable", "trainable%", "buffers"}};
  const bool only_all = report.groups.size() == 1 && report.groups.front().name.empty();  // --groups 0
  for (const auto& group : report.groups) {
    if (!only_all) rows.push_back(row_of(group, group.name.empty() ? "(empty)" : printable(group.name)));
  }
  rows.push_back(row_of(report.total, "all"));
  std::array<std::size_t, kColumns> widths{};
  for (const auto& row : rows) {
    for (std::size_t i = 0; i < kColumns; ++i) widths[i] = std::max(widths[i], row[i].size());
  }
  widths[0] = std::min(widths[0], kWidestGroup);
  for (const auto& row : rows) {
    out.format("  {:<{}}", row[0], widths[0]);
    for (std::size_t i = 1; i < kColumns; ++i) out.format("  {:>{}}", row[i], widths[i]);
    out.print("\n");
  }
}

/// "parameters by name 41, by metadata 21; buffers by metadata 60".
std::string kinds(const FreezeReport& report) {
  std::map<std::pair<RoleKind, RoleEvidence>, std::uint64_t> counts;
  for (const auto& entry : report.entries) ++counts[{entry.role.kind, entry.role.evidence}];
  std::string out;
  auto before = RoleKind::kUnknown;
  for (const auto& [role, count] : counts) {
    const auto kind = role.first == RoleKind::kParameter ? "parameters" : "buffers";
    out += role.first == before ? ", " : out.empty() ? kind : fmt::format("; {}", kind);
    out += fmt::format("{}by {} {}", role.first == before ? "" : " ", evidence_name(role.second),
                       with_separators(count));
    before = role.first;
  }
  return out;
}

std::string conflict_text(const FreezeConflict& conflict) {
  if (conflict.overlap) {
    return fmt::format("{} is frozen and changes all the same: it shares memory with {}, which trains",
                       ckpt::quoted(conflict.name), ckpt::quoted(conflict.other));
  }
  return fmt::format("{} {}: it is one tensor with {}", ckpt::quoted(conflict.name),
                     conflict.trains ? "trains, whatever freezes it" : "is frozen, whatever trains it",
                     ckpt::quoted(conflict.other));
}

std::string number(std::optional<double> value) {
  return value && std::isfinite(*value) ? fmt::format("{:.4g}", *value) : "-";
}

/// How far the groups that changed moved, and then the tensors that moved farthest.
void print_differences(const FreezeResult& result, const FreezeReport& report,
                       const BaseComparison& comparison, Stream& out) {
  using Line = std::array<std::string, 4>;
  std::vector<Line> lines;
  const auto add = [&](std::string name, const Differences& moved) {
    const auto cosine = moved.cosine();
    lines.push_back({std::move(name), number(moved.largest), number(moved.relative_norm()),
                     cosine ? fmt::format("{:.6f}", *cosine) : "-"});
  };
  const auto heading = [&](const char* name) {
    lines.push_back({name, "largest", "relative norm", "cosine"});
  };
  heading("group");
  for (std::size_t i = 0; i < report.groups.size(); ++i) {
    const auto& name = report.groups[i].name;
    if (comparison.groups[i].largest > 0)
      add(name.empty() ? "(empty)" : printable(name), comparison.groups[i]);
  }
  if (lines.size() == 1) return;
  add("all parameters", comparison.total);
  std::vector<std::size_t> farthest;
  for (std::size_t i = 0; i < report.entries.size(); ++i) {
    const auto& moved = comparison.differences[i];
    if (moved && moved->largest > 0 && report.entries[i].first == i) farthest.push_back(i);
  }
  const auto distance = [&](std::size_t entry) {
    return comparison.differences[entry]->relative_norm().value_or(std::numeric_limits<double>::infinity());
  };
  std::stable_sort(farthest.begin(), farthest.end(),
                   [&](std::size_t a, std::size_t b) { return distance(a) > distance(b); });
  if (farthest.size() > kShown) farthest.resize(kShown);
  heading("farthest");
  for (const auto entry : farthest)
    add(printable(result.checkpoint.tensors[report.entries[entry].tensor].name),
        *comparison.differences[entry]);
  std::array<std::size_t, 4> widths{};
  for (const auto& line : lines) {
    for (std::size_t i = 0; i < line.size(); ++i) widths[i] = std::max(widths[i], line[i].size());
  }
  widths[0] = std::min(widths[0], kWidestGroup);
  for (const auto& line : lines) {
    out.format("    {:<{}}", line[0], widths[0]);
    for (std::size_t i = 1; i < line.size(); ++i) out.format("  {:>{}}", line[i], widths[i]);
    out.print("\n");
  }
}

/// Of the tensors that were not compared.
std::map<std::string_view, std::vector<std::string_view>> names_by_reason(const FreezeResult& result,
                                                                          const FreezeReport& report,
                                                                          const BaseComparison& comparison) {
  std::map<std::string_view, std::vector<std::string_view>> names;
  for (std::size_t i = 0; i < report.entries.size(); ++i) {
    if (comparison.verdicts[i] == BaseVerdict::kNotCompared)
      names[comparison.reasons[i]].push_back(result.checkpoint.tensors[report.entries[i].tensor].name);
  }
  return names;
}

/// Values that no distance counts: "12 pairs … left out: 'a' (10), 'b' (2)".
void print_left_out(const FreezeResult& result, const FreezeReport& report, const BaseComparison& comparison,
                    Stream& out) {
  std::uint64_t total = 0;
  std::vector<std::string> names;
  for (std::size_t i = 0; i < report.entries.size(); ++i) {
    const auto& moved = comparison.differences[i];
    if (!moved || moved->not_finite == 0 || report.entries[i].first != i) continue;
    total += moved->not_finite;
    names.push_back(fmt::format("{} ({})",
                                ckpt::quoted(result.checkpoint.tensors[report.entries[i].tensor].name),
                                with_separators(moved->not_finite)));
  }
  if (names.empty()) return;
  const auto more = names.size() > kShown ? names.size() - kShown : 0;
  names.resize(names.size() - more);
  out.format("    {} with a NaN or an infinite value, left out of the distances: {}{}\n",
             counted(total, "pair"), fmt::join(names, ", "),
             more > 0 ? fmt::format(" and {} more", with_separators(more)) : "");
}

void print_comparison(const FreezeResult& result, const FreezeReport& report,
                      const BaseComparison& comparison, Stream& out) {
  std::map<BaseVerdict, std::vector<std::string_view>> names;
  std::vector<std::string_view> frozen;
  for (std::size_t i = 0; i < report.entries.size(); ++i) {
    const auto& entry = report.entries[i];
    const auto name = result.checkpoint.tensors[entry.tensor].name;
    names[comparison.verdicts[i]].push_back(name);
    const bool changed = comparison.verdicts[i] == BaseVerdict::kChanged;
    if (changed && entry.role.kind == RoleKind::kParameter && !entry.trains) frozen.push_back(name);
  }
  out.format("  base {}: {} of {} equal bit for bit\n", ckpt::quoted(result.base),
             with_separators(names[BaseVerdict::kEqual].size()), counted(report.entries.size(), "tensor"));
  const std::pair<BaseVerdict, const char*> lists[] = {{BaseVerdict::kChanged, "changed"},
                                                       {BaseVerdict::kOtherShape, "of another shape"},
                                                       {BaseVerdict::kOtherDtype, "of another dtype"},
                                                       {BaseVerdict::kNotInBase, "not in the base"}};
  for (const auto& [verdict, text] : lists) {
    if (!names[verdict].empty())
      out.format("    {} {}: {}\n", with_separators(names[verdict].size()), text, examples(names[verdict]));
  }
  for (const auto& [reason, without] : names_by_reason(result, report, comparison))
    out.format("    {} not compared, {}: {}\n", with_separators(without.size()), reason, examples(without));
  if (!comparison.only_in_base.empty())
    out.format("    {} only in the base: {}\n", with_separators(comparison.only_in_base.size()),
               examples(comparison.only_in_base));
  if (!frozen.empty())
    out.format("    {} would be frozen, but changed: {}\n", with_separators(frozen.size()), examples(frozen));
  print_left_out(result, report, comparison, out);
  print_differences(result, report, comparison, out);
}

void print_report(const FreezeResult& result, std::size_t index, Stream& out) {
  const auto& report = result.reports[index];
  const auto& total = report.total;
  out.format("\n{}{}, {} and {}:\n",
             result.checkpoint.state_dicts[report.state_dict].of_module ? "module" : "state dict",
             report.root.empty() ? "" : ' ' + printable(report.root),
             counted(total.parameters.tensors, "parameter"), counted(total.buffers.tensors, "buffer"));
  print_groups(report, out);
  out.format("\n  trainable params: {} || all params: {} || trainable%: {}\n",
             with_separators(total.trainable.numel), with_separators(total.parameters.numel), percent(total));
  out.format("  {} of {} train{}\n", with_separators(total.trainable.tensors),
             counted(total.parameters.tensors, "parameter"),
             report.start == FreezeStart::kRequiresGrad ? ", as requires_grad says where no rule does" : "");
  out.format("  training takes {} of gradients and {} of optimizer state ({})\n",
             human_bytes(report.memory.gradients), human_bytes(report.memory.state),
             optimizer_kind_name(result.optimizer));
  if (!report.entries.empty()) out.format("  kinds: {}\n", kinds(report));
  if (!result.comparisons.empty()) print_comparison(result, report, result.comparisons[index], out);
  for (const auto& note : freeze_notes(result, report)) out.format("  note: {}\n", note);
}

}  // namespace

std::string_view optimizer_kind_name(OptimizerKind kind) {
  switch (kind) {
    case OptimizerKind::kSgd: return "sgd";
    case OptimizerKind::kMomentum: return "momentum";
    case OptimizerKind::kAdam: return "adam";
    case OptimizerKind::kAdamW: return "adamw";
  }
  return "adamw";
}

std::vector<std::string> freeze_notes(const FreezeResult& result, const FreezeReport& report) {
  std::vector<std::string> notes;
  for (const auto& finding : result.findings) {
    if (finding.severity == Severity::kError) notes.push_back(finding.message);
  }
  const auto& conflicts = report.conflicts;
  for (std::size_t i = 0; i < std::min(kShown, conflicts.size()); ++i)
    notes.push_back(conflict_text(conflicts[i]));
  if (conflicts.size() > kShown)
    notes.push_back(fmt::format("{} more such ties", with_separators(conflicts.size() - kShown)));
  std::vector<std::string> ties;
  for (std::size_t i = 0; i < report.entries.size(); ++i) {
    const auto& entry = report.entries[i];
    if (entry.first == i || entry.role.kind != RoleKind::kParameter) continue;
    ties.push_back(std::string(result.checkpoint.tensors[entry.tensor].name));
  }
  if (!ties.empty())
    notes.push_back(fmt::format("{} of a parameter that has another key, too, counted there: {}",
                                counted(ties.size(), "key"), examples(ties)));
  if (!report.untrainable.empty())
    notes.push_back(fmt::format("{} of a dtype without gradients can't train: {}",
                                counted(report.untrainable.size(), "parameter"),
                                examples(report.untrainable)));
  std::vector<std::string_view> modules;
  for (const auto& moving : report.moving) modules.push_back(moving.module);
  if (!modules.empty())
    notes.push_back(fmt::format(
        "{} still {} statistics in training mode: {}; call eval() on them after each model.train()",
        counted(modules.size(), "frozen norm layer"), modules.size() == 1 ? "moves its" : "move their",
        examples(modules)));
  if (report.extra_states > 0)
    notes.push_back(fmt::format("{} counted neither as parameter nor as buffer",
                                counted(report.extra_states, "extra state")));
  return notes;
}

void print_freeze(const FreezeResult& result, Stream& out) {
  out.format("{}: {}, {}\n", printable(result.file), format_of(result.checkpoint.format).name(),
             human_bytes(result.bytes));
  for (std::size_t i = 0; i < result.reports.size(); ++i) print_report(result, i, out);
}

}  // namespace ckpt::cli
