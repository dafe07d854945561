// SPDX-License-Identifier: BSD-3-Clause
#include "render/inspect_text.h"

#include <algorithm>
#include <map>

#include <fmt/format.h>

#include "ckpt/base/text.h"
#include "ckpt/format/format.h"
#include "ckpt/format/torchscript.h"
#include "ckpt/inspect/value_json.h"
#include "ckpt/model/parameter_roles.h"
#include "render/json.h"
#include "render/row_chunks.h"
#include "render/statistics.h"

namespace ckpt::cli {
namespace {

constexpr std::size_t kWidestShape = 24;
constexpr std::size_t kLongestValue = 60;  // bytes of a string shown
constexpr std::size_t kMostEntries = 40;   // entries that are no tensors; JSON has all
constexpr std::size_t kMostFiles = 20;     // files of code; JSON has all

/// What a person would call the tensor: its key, or its path.
void append_label(std::string& out, const Checkpoint& checkpoint, const TensorInfo& tensor) {
  if (tensor.state_dict != kNoIndex && !tensor.has(kIsPart)) return append_printable(out, tensor.name);
  append_printable(out, checkpoint.path(tensor.place));
}

void append_shape(std::string& out, const Checkpoint& checkpoint, const TensorInfo& tensor) {
  out += '[';
  bool first = true;
  for (const auto size : checkpoint.shape(tensor)) {
    if (!first) out += ", ";
    first = false;
    const fmt::format_int digits(size);
    out.append(digits.data(), digits.size());
  }
  out += ']';
}

/// Remarks behind the columns: layout, flags, device.
void append_remarks(std::string& out, const Checkpoint& checkpoint, const TensorInfo& tensor) {
  out += tensor.has(kIsPart) ? "part" : role_name(role_of(checkpoint, tensor).kind);
  if (tensor.layout != TensorLayout::kStrided) out += fmt::format(" {}", tensor_layout_name(tensor.layout));
  if (!tensor.has(kContiguous)) out += " strided";
  if (tensor.has(kConjugate)) out += " conj";
  if (tensor.has(kNegative)) out += " neg";
  if (tensor.storage != kNoIndex) {
    const auto& device = checkpoint.devices[checkpoint.storages[tensor.storage].device];
    if (device != "cpu") out += ' ' + printable(device);
  }
}

struct Columns {
  std::size_t name = 0;
  std::size_t dtype = 0;
  std::size_t shape = 0;
};

/// Spaces behind the column that begins at `begin`, and those between columns. Widths are bytes, for names
/// that are mostly ASCII.
void end_column(std::string& line, std::size_t begin, std::size_t width) {
  const auto end = std::max(line.size(), begin + width);
  line.append(end - line.size() + 2, ' ');
}

/// The size of the row before is often that of the next.
struct SizeText {
  std::uint64_t bytes = 0;
  std::string text = human_bytes(0);

  const std::string& of(std::uint64_t value) {
    if (value != bytes) text = human_bytes(bytes = value);
    return text;
  }
};

void print_row(const Checkpoint& checkpoint, const TensorInfo& tensor, const Columns& columns, SizeText& size,
               Stream& out) {
  constexpr std::size_t kSizeWidth = 9;
  auto& line = out.buffer();
  line += "  ";
  auto begin = line.size();
  append_label(line, checkpoint, tensor);
  end_column(line, begin, columns.name);
  begin = line.size();
  line += dtype_info(tensor.dtype).name;
  end_column(line, begin, columns.dtype);
  begin = line.size();
  append_shape(line, checkpoint, tensor);
  end_column(line, begin, columns.shape);
  const auto& bytes = size.of(checkpoint.bytes(tensor));
  if (bytes.size() < kSizeWidth) line.append(kSizeWidth - bytes.size(), ' ');
  line += bytes;
  line += "  ";
  append_remarks(line, checkpoint, tensor);
  line += '\n';
  out.settle();
}

/// The widths of columns that hold all rows, but for the rows that are wider than most.
Columns columns_of(const Checkpoint& checkpoint, const std::vector<TensorId>& tensors) {
  Columns columns;
  std::string text;
  for (const auto id : tensors) {
    const auto& tensor = checkpoint.tensors[id];
    if (columns.name < kWidestName) {
      text.clear();
      append_label(text, checkpoint, tensor);
      columns.name = std::max(columns.name, text.size());
    }
    if (columns.shape < kWidestShape) {
      text.clear();
      append_shape(text, checkpoint, tensor);
      columns.shape = std::max(columns.shape, text.size());
    }
    columns.dtype = std::max(columns.dtype, dtype_info(tensor.dtype).name.size());
  }
  columns.name = std::min(columns.name, kWidestName);
  columns.shape = std::min(columns.shape, kWidestShape);
  return columns;
}

void print_rows(const Checkpoint& checkpoint, const std::vector<TensorId>& tensors, Stream& out) {
  const auto columns = columns_of(checkpoint, tensors);
  const auto print = [&](std::size_t begin, std::size_t end, Stream& chunk) {
    SizeText size;
    for (auto row = begin; row < end; ++row)
      print_row(checkpoint, checkpoint.tensors[tensors[row]], columns, size, chunk);
  };
  print_in_chunks(tensors.size(), print, out);
}

/// Tensors by the state dict that names them; those outside come last.
void print_tensors(const InspectedFile& file, Stream& out) {
  const auto& checkpoint = file.checkpoint;
  std::vector<std::vector<TensorId>> groups(checkpoint.state_dicts.size() + 1);
  std::uint32_t group = 0;
  for (const auto id : file.tensors) {
    const auto& tensor = checkpoint.tensors[id];
    if (!tensor.has(kIsPart)) {
      group =
          tensor.state_dict == kNoIndex ? static_cast<std::uint32_t>(groups.size() - 1) : tensor.state_dict;
    }
    groups[group].push_back(id);
  }
  for (std::size_t i = 0; i < groups.size(); ++i) {
    if (groups[i].empty()) continue;
    if (i + 1 == groups.size()) {
      out.format("\n{}:\n", checkpoint.state_dicts.empty() ? "tensors" : "tensors outside state dicts");
    } else {
      const auto& dict = checkpoint.state_dicts[i];
      const auto path = checkpoint.path(dict.place);
      out.format("\n{}{}, {}:\n", dict.of_module ? "module" : "state dict",
                 path.empty() ? "" : ' ' + printable(path), counted(dict.entries.size(), "key"));
    }
    print_rows(checkpoint, groups[i], out);
  }
}

/// A state dict's `_metadata` has an entry a module: JSON has them.
bool inside_metadata(const Checkpoint& checkpoint, PlaceId place) {
  for (; place != kNoIndex; place = checkpoint.places[place].parent) {
    const auto& step = checkpoint.places[place];
    if (step.kind == StepKind::kAttribute && checkpoint.graph().string_view(step.step) == "_metadata")
      return true;
  }
  return false;
}

/// Attributes of modules are hundreds of hooks and flags: JSON has them.
bool inside_module(const Checkpoint& checkpoint, PlaceId place) {
  for (; place != kNoIndex; place = checkpoint.places[place].parent) {
    if (checkpoint.places[place].kind == StepKind::kAttribute) return true;
  }
  return false;
}

void print_code(const ScriptCode& code, Stream& out) {
  out.format("\ncode:\n  class {}", code.root_class.empty() ? "unknown" : printable(code.root_class));
  for (std::size_t i = 0; i < code.methods.size(); ++i)
    out.format("{}{}", i == 0 ? ", methods: " : ", ", printable(code.methods[i]));
  out.print("\n");
  const auto shown = std::min(code.files.size(), kMostFiles);
  std::size_t width = 0;
  for (std::size_t i = 0; i < shown; ++i) width = std::max(width, printable(code.files[i].first).size());
  width = std::min(width, kWidestName);
  for (std::size_t i = 0; i < shown; ++i) {
    const auto& [name, bytes] = code.files[i];
    out.format("  {:<{}}  {:>9}\n", printable(name), width, human_bytes(bytes));
  }
  if (shown < code.files.size())
    out.format("  … {} more (--json lists all)\n", with_separators(code.files.size() - shown));
  if (code.constants > 0) out.format("  {}\n", counted(code.constants, "constant"));
  if (code.has_bytecode) out.print("  bytecode for the lite interpreter\n");
}

void print_entries(const InspectedFile& file, Stream& out) {
  const auto& checkpoint = file.checkpoint;
  const bool modules = script_code(checkpoint) != nullptr ||
                       std::any_of(checkpoint.state_dicts.begin(), checkpoint.state_dicts.end(),
                                   [](const StateDict& dict) { return dict.of_module; });
  std::vector<const Entry*> shown;
  std::size_t more = 0;
  for (const auto& entry : checkpoint.entries) {
    if (inside_metadata(checkpoint, entry.place) || (modules && inside_module(checkpoint, entry.place)))
      continue;
    if (shown.size() < kMostEntries) {
      shown.push_back(&entry);
    } else {
      ++more;
    }
  }
  if (shown.empty() && checkpoint.metadata.empty()) return;
  out.print("\nentries:\n");
  std::size_t width = 0;
  for (const auto* entry : shown) width = std::max(width, checkpoint.path(entry->place).size());
  width = std::min(width, kWidestName);
  for (const auto* entry : shown) {
    const auto text = describe_entry(checkpoint.graph(), entry->use, kLongestValue);
    const auto path = checkpoint.path(entry->place);
    out.format("  {:<{}}  {:<6}  {}\n", path.empty() ? "(root)" : printable(path), width, text.kind,
               text.json.empty() ? printable(text.class_name) : printable(text.json));
  }
  for (const auto& [key, value] : checkpoint.metadata)
    out.format("  __metadata__.{}  str  {}\n", printable(key), printable(value.substr(0, kLongestValue)));
  if (more > 0) out.format("  … {} more (--json lists all)\n", with_separators(more));
}

void print_amounts(const char* title, const std::map<std::string_view, Amount>& amounts, Stream& out) {
  out.format("  {}: ", title);
  bool first = true;
  for (const auto& [name, amount] : amounts) {
    if (amount.tensors == 0) continue;
    out.format("{}{} {} ({})", first ? "" : ", ", name, human_bytes(amount.bytes),
               counted(amount.tensors, "tensor"));
    first = false;
  }
  out.print("\n");
}

void print_totals(const InspectedFile& file, Stream& out) {
  const auto& totals = file.totals;
  out.format("\ntotals:\n  {}, {} values, {} in {}\n", counted(totals.tensors, "tensor"),
             with_separators(totals.numel), human_bytes(totals.bytes),
             counted(file.checkpoint.storages.size(), "storage"));
  if (totals.tensors == 0) return;
  out.format("  {}, {}\n", counted(totals.parameters, "parameter tensor"), counted(totals.buffers, "buffer"));
  print_amounts("by dtype", totals.by_dtype, out);
  print_amounts("by section", totals.by_section, out);
}

const char* color_of(Severity severity) {
  switch (severity) {
    case Severity::kInfo: return "\x1b[36m";
    case Severity::kWarning: return "\x1b[33m";
    case Severity::kError: return "\x1b[31m";
  }
  return "";
}

void print_findings(const InspectedFile& file, Console& console) {
  if (file.findings.empty()) return;
  auto& out = console.out;
  out.print("\nfindings:\n");
  for (std::size_t i = 0; i < file.findings.size(); ++i) {
    const auto& finding = file.findings[i];
    const bool colored = console.colored();
    out.format("  {}{}{}: {} [{}]\n", colored ? color_of(finding.severity) : "",
               severity_name(finding.severity), colored ? "\x1b[0m" : "", finding.message, finding.id);
    const bool same_follows = i + 1 < file.findings.size() && file.findings[i + 1].fix == finding.fix;
    if (!finding.fix.empty() && !same_follows) out.format("    fix: {}\n", spell_fix(finding.fix, file.name));
  }
}

void print_header(const InspectedFile& file, Stream& out) {
  const auto& checkpoint = file.checkpoint;
  out.format("{}: {}, {}", printable(file.name), format_of(checkpoint.format).name(),
             human_bytes(file.bytes));
  if (!checkpoint.writer.empty()) out.format(", written by {}", checkpoint.writer);
  if (checkpoint.big_endian) out.print(", big-endian");
  out.print("\n");
}

/// Digits compare as numbers: "layer2" before "layer10".
bool naturally_before(std::string_view a, std::string_view b) {
  while (!a.empty() && !b.empty()) {
    const auto digits_a = std::min(a.find_first_not_of("0123456789"), a.size());
    const auto digits_b = std::min(b.find_first_not_of("0123456789"), b.size());
    if (digits_a > 0 && digits_b > 0) {
      auto number_a = a.substr(0, digits_a);
      auto number_b = b.substr(0, digits_b);
      while (number_a.size() > 1 && number_a.front() == '0') number_a.remove_prefix(1);
      while (number_b.size() > 1 && number_b.front() == '0') number_b.remove_prefix(1);
      if (number_a.size() != number_b.size()) return number_a.size() < number_b.size();
      if (number_a != number_b) return number_a < number_b;
      a.remove_prefix(digits_a);
      b.remove_prefix(digits_b);
      continue;
    }
    if (a.front() != b.front()) return a.front() < b.front();
    a.remove_prefix(1);
    b.remove_prefix(1);
  }
  return a.size() < b.size();
}

/// Sums of one module and everything below it.
struct Branch {
  std::map<std::string, Branch, bool (*)(const std::string&, const std::string&)> below{
      [](const std::string& a, const std::string& b) { return naturally_before(a, b); }};
  std::uint64_t tensors = 0;
  std::uint64_t numel = 0;
  std::uint64_t bytes = 0;
};

void print_branch(const std::string& name, const Branch& branch, std::size_t indent,
                  std::optional<std::uint64_t> depth, Stream& out) {
  // names have as many levels as dots; keys with thousands of dots are cut by `kDeepestTree` on insertion
  out.format("{:{}}{:<{}}  {:>12} values  {:>9}  {}\n", "", indent, printable(name),
             indent < 36 ? 40 - indent : 4, with_separators(branch.numel), human_bytes(branch.bytes),
             counted(branch.tensors, "tensor"));
  if (depth && *depth == 0) return;
  for (const auto& [child, below] : branch.below) {
    print_branch(child, below, indent + 2, depth ? std::optional(*depth - 1) : std::nullopt, out);
  }
}

}  // namespace

std::string label(const Checkpoint& checkpoint, const TensorInfo& tensor) {
  std::string out;
  append_label(out, checkpoint, tensor);
  return out;
}

void look_closer(InspectedFile& file, const Diagnostics& diagnostics) {
  file.totals = summarize(file.checkpoint);
  file.by_storage = tensors_by_storage(file.checkpoint);
  if (file.checkpoint.has_document()) file.globals = globals_of(file.checkpoint.graph());
  file.findings = find_remarks(file.checkpoint, file.by_storage, file.globals);
  file.findings.insert(file.findings.end(), diagnostics.findings().begin(), diagnostics.findings().end());
  std::stable_sort(file.findings.begin(), file.findings.end(),
                   [](const Finding& a, const Finding& b) { return a.severity < b.severity; });
}

void sort_tensors(const Checkpoint& checkpoint, const std::string& order, std::vector<TensorId>& tensors) {
  if (order == "file") return;
  std::erase_if(tensors, [&](TensorId id) { return checkpoint.tensors[id].has(kIsPart); });
  if (order == "bytes") {
    std::stable_sort(tensors.begin(), tensors.end(), [&](TensorId a, TensorId b) {
      return checkpoint.bytes(checkpoint.tensors[a]) > checkpoint.bytes(checkpoint.tensors[b]);
    });
    return;
  }
  std::stable_sort(tensors.begin(), tensors.end(), [&](TensorId a, TensorId b) {
    return naturally_before(label(checkpoint, checkpoint.tensors[a]),
                            label(checkpoint, checkpoint.tensors[b]));
  });
}

void print_inspection(const InspectedFile& file, bool summary_only, Console& console) {
  auto& out = console.out;
  print_header(file, out);
  if (!summary_only) {
    print_tensors(file, out);
    print_statistics(file, out);
    if (const auto* code = script_code(file.checkpoint)) print_code(*code, out);
    print_entries(file, out);
  }
  print_totals(file, out);
  print_findings(file, console);
}

void print_keys(const InspectedFile& file, char end, Stream& out) {
  const auto& checkpoint = file.checkpoint;
  for (const auto id : file.tensors) {
    const auto& tensor = checkpoint.tensors[id];
    if (tensor.state_dict == kNoIndex || tensor.has(kIsPart)) continue;
    out.buffer() += tensor.name;
    out.buffer() += end;
    out.settle();
  }
}

void print_tree(const InspectedFile& file, std::optional<std::uint64_t> depth, Stream& out) {
  constexpr std::size_t kDeepestTree = 64;
  const auto& checkpoint = file.checkpoint;
  print_header(file, out);
  for (std::uint32_t i = 0; i < checkpoint.state_dicts.size(); ++i) {
    Branch root;
    for (const auto id : file.tensors) {
      const auto& tensor = checkpoint.tensors[id];
      if (tensor.state_dict != i || tensor.has(kIsPart)) continue;
      const auto add = [&](Branch& branch) {
        ++branch.tensors;
        branch.numel += checkpoint.numel(tensor);
        branch.bytes += checkpoint.bytes(tensor);
      };
      auto* branch = &root;
      add(*branch);
      std::string_view rest = tensor.name;
      for (std::size_t level = 0; level < kDeepestTree && !rest.empty(); ++level) {
        const auto dot = level + 1 == kDeepestTree ? rest.npos : rest.find('.');
        branch = &branch->below[std::string(rest.substr(0, dot))];
        add(*branch);
        rest = dot == rest.npos ? std::string_view() : rest.substr(dot + 1);
      }
    }
    if (root.tensors == 0) continue;  // --root or --select did not choose it
    const auto path = checkpoint.path(checkpoint.state_dicts[i].place);
    print_branch(path.empty() ? "state dict" : "state dict " + path, root, 0, depth, out);
  }
}

void print_globals(const InspectedFile& file, Stream& out) {
  for (const auto& global : file.globals) {
    out.format("{}{}\n", printable(global.name),
               global.weights_only ? "" : "  (refused by weights_only=True)");
  }
}

void print_tensor_line(const Checkpoint& checkpoint, const TensorInfo& tensor, Stream& out) {
  std::string shape;
  append_shape(shape, checkpoint, tensor);
  out.format("{} {} {} {}\n", printable(checkpoint.path(tensor.place)), dtype_info(tensor.dtype).name, shape,
             human_bytes(checkpoint.bytes(tensor)));
}

}  // namespace ckpt::cli
