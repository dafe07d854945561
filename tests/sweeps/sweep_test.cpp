// SPDX-License-Identifier: BSD-3-Clause
// Small checkpoints broken in every way that a loop can think of, in process:
//
//   * every truncation;
//   * every byte set to 0x00 and 0xff, one more, one less, each bit flipped;
//   * every number of the format (sizes, offsets, counts, memo indices, frames, lengths) set to the values
//     around which arithmetic goes wrong.
//
// Each is read, looked at as `inspect` does, edited and laid out; every other one is converted, too. What is
// allowed: success or an error that says something. What is not: a crash, more than kSlowest, more than
// kMostMemory, an output that can't be read back. With --all every small golden file and every value takes
// its turn; without it a choice of both, for every test run.
#include <malloc.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <memory>
#include <new>
#include <string>
#include <string_view>
#include <vector>

#include "ckpt/edit/apply.h"
#include "ckpt/format/convert.h"
#include "ckpt/format/format.h"
#include "ckpt/inspect/base_comparison.h"
#include "ckpt/inspect/findings.h"
#include "ckpt/inspect/freeze.h"
#include "ckpt/inspect/value_json.h"
#include "ckpt/inspect/values.h"
#include "ckpt/model/module_names.h"
#include "ckpt/pickle/opcode.h"
#include "ckpt/rewrite/execute.h"
#include "ckpt/rewrite/verify.h"
#include "ckpt/zip/records.h"

namespace {

// ---- memory: what is allocated now, and the most there was

std::atomic<std::size_t> live_bytes{0};
std::atomic<std::size_t> peak_bytes{0};

void* counted_allocation(std::size_t size) {
  void* block = std::malloc(size == 0 ? 1 : size);  // NOLINT: this is operator new
  if (block == nullptr) throw std::bad_alloc();
  const auto now = live_bytes += ::malloc_usable_size(block);
  if (now > peak_bytes) peak_bytes = now;
  return block;
}

void counted_release(void* block) noexcept {
  if (block == nullptr) return;
  live_bytes -= ::malloc_usable_size(block);
  std::free(block);  // NOLINT: this is operator delete
}

}  // namespace

void* operator new(std::size_t size) {
  return counted_allocation(size);
}

void* operator new[](std::size_t size) {
  return counted_allocation(size);
}

void* operator new(std::size_t size, const std::nothrow_t&) noexcept {
  try {
    return counted_allocation(size);
  } catch (const std::bad_alloc&) {
    return nullptr;
  }
}

void operator delete(void* block) noexcept {
  counted_release(block);
}

void operator delete[](void* block) noexcept {
  counted_release(block);
}

void operator delete(void* block, std::size_t) noexcept {
  counted_release(block);
}

void operator delete[](void* block, std::size_t) noexcept {
  counted_release(block);
}

namespace ckpt {
namespace {

constexpr std::size_t kMostMemory = 64U << 20U;  // for files of a few kilobytes
constexpr std::chrono::milliseconds kSlowest{2000};
constexpr std::uint64_t kMostWritten = 1U << 20U;  // larger outputs are laid out, not written

using Clock = std::chrono::steady_clock;

// What runs now, for those who look at a core dump or a sanitizer's report.
std::string current_file;          // NOLINT: global for reports
char current_case[200] = "start";  // NOLINT: global for reports

extern "C" const char* __asan_default_options() {  // NOLINT: the sanitizer's name
  return "quarantine_size_mb=4";                   // more is fresh memory, and most of the time
}

extern "C" void __asan_on_error() {  // NOLINT: the sanitizer's name
  std::fprintf(stderr, "sweep: %s: %s\n", current_file.c_str(), current_case);
}

struct Tally {
  std::uint64_t passed = 0;
  std::uint64_t failed = 0;
  std::uint64_t read = 0;     // cases that were still a checkpoint
  std::uint64_t written = 0;  // … and gave an output
  std::size_t most_memory = 0;
  std::string hungriest;
  Clock::duration longest{};
  std::string slowest;
};

/// An empty string, or what is wrong.
std::string check_error(const Error& error) {
  if (error.code() == ErrorCode::kInternal) return "internal error: " + error.text();
  return error.message().empty() ? "an error without a message" : "";
}

void look(Checkpoint& checkpoint) {
  const auto totals = summarize(checkpoint);
  const auto by_storage = tensors_by_storage(checkpoint);
  std::vector<GlobalUse> globals;
  if (checkpoint.has_document()) {
    globals = globals_of(checkpoint.graph());
    (void)value_as_json(checkpoint, checkpoint.graph().root());
  }
  (void)find_remarks(checkpoint, by_storage, globals);
  for (const auto& tensor : checkpoint.tensors) {
    (void)checkpoint.path(tensor.place);
    (void)first_values(checkpoint, tensor, 3);
  }
  for (const auto& entry : checkpoint.entries) (void)describe_entry(checkpoint.graph(), entry.use, 60);
  FreezeQuestion question;
  question.train_last = 1;
  question.parameters.push_back(NamePattern::parse("**").value());
  const auto reports = freeze_report(checkpoint, question);
  if (!reports.ok()) return;
  for (const auto& report : *reports)
    (void)compare_with_base(checkpoint, report, checkpoint, report.state_dict, 1, nullptr);
}

/// Of three edits, one at a time, so that each sees every kind of damage somewhere.
Plan plan_of(std::uint64_t number, const Checkpoint& checkpoint) {
  Plan plan;
  plan.optimizer = OptimizerPolicy::kRemapModelOrder;
  plan.allow_unmatched = true;
  if (number % 3 != 0 && checkpoint.format == FormatId::kTorchScript) {  // whose keys no edit changes
    ReplaceHead head;
    head.num_classes = 5;
    if (!checkpoint.state_dicts.empty()) head.heads.emplace_back(module_of(checkpoint.original_name(0, 0)));
    plan.edits.emplace_back(std::move(head));
  } else if (number % 3 == 0) {
    plan.edits.emplace_back(StripWrappers{});
  } else if (number % 3 == 1) {
    plan.edits.emplace_back(RenameKeys{{{RenameRule::Kind::kAddPrefix, std::nullopt, "renamed."}}});
  } else {
    FilterKeys filter;
    const auto& dicts = checkpoint.state_dicts;
    const bool has_key = !dicts.empty() && !dicts.front().entries.empty();  // a module may have none
    const auto key = has_key ? checkpoint.original_name(0, 0) : std::string();
    filter.rules.push_back({false, NamePattern::exact(key)});
    plan.edits.emplace_back(std::move(filter));
  }
  return plan;
}

std::string edit(std::uint64_t number, Checkpoint& checkpoint, bool trusted, Tally& tally) {
  const auto report = apply_plan(plan_of(number, checkpoint), checkpoint);
  if (!report.ok()) return check_error(report.error());
  const auto layout = format_of(checkpoint.format).lay_out(checkpoint);
  if (!layout.ok()) return check_error(layout.error());
  if (layout->parts.front().size > kMostWritten) return {};
  MemorySink sink;
  const auto done = execute(*layout, 0, checkpoint, sink, nullptr);
  if (!done.ok()) return check_error(done.error());
  if (sink.bytes().size() != layout->parts.front().size) return "the output is not as long as its layout";
  ++tally.written;
  if (!trusted) return {};  // readers disagree about the input; commands refuse it
  Diagnostics diagnostics;
  const auto again = read_checkpoint(std::make_shared<MemorySource>("output", sink.bytes()), diagnostics);
  return again.ok() ? "" : "the output can't be read: " + again.error().text();
}

/// The whole file in another container, each in its turn.
std::string convert(std::uint64_t number, const Bytes& bytes, Tally& tally) {
  constexpr std::array kTargets = {FormatId::kTorchZip, FormatId::kTorchLegacy, FormatId::kSafetensors};
  Diagnostics diagnostics;
  auto checkpoint = read_checkpoint(std::make_shared<MemorySource>("input", bytes), diagnostics);
  if (!checkpoint.ok() || diagnostics.first_error() != nullptr) return {};
  std::vector<std::string> notes;
  const auto tied = number % 4 == 0 ? TiedTensors::kAlias : TiedTensors::kCopy;
  const Target target{kTargets[number / 2 % kTargets.size()], tied};
  const auto layout = lay_out_as(target, *checkpoint, notes);
  if (!layout.ok()) return check_error(layout.error());
  if (layout->parts.front().size > kMostWritten) return {};
  MemorySink sink;
  const auto done = execute(*layout, 0, *checkpoint, sink, nullptr);
  if (!done.ok()) return check_error(done.error());
  ++tally.written;
  const auto same =
      verify(*layout, 0, *checkpoint, std::make_shared<MemorySource>("output", sink.bytes()), nullptr);
  return same.ok() ? "" : "the output is not the input: " + same.error().text();
}

std::string run_case(std::uint64_t number, const Bytes& bytes, Tally& tally) {
  Diagnostics diagnostics;
  auto checkpoint = read_checkpoint(std::make_shared<MemorySource>("input", bytes), diagnostics);
  if (!checkpoint.ok()) return check_error(checkpoint.error());
  ++tally.read;
  look(*checkpoint);
  auto wrong = edit(number, *checkpoint, diagnostics.first_error() == nullptr, tally);
  return wrong.empty() && number % 2 == 0 ? convert(number, bytes, tally) : wrong;
}

void run(const Bytes& bytes, Tally& tally) {
  const auto before = live_bytes.load();
  peak_bytes = before;
  const auto start = Clock::now();
  std::string wrong;
  try {
    wrong = run_case(tally.passed + tally.failed, bytes, tally);
  } catch (const std::exception& error) {
    wrong = std::string("exception: ") + error.what();
  }
  const auto took = Clock::now() - start;
  const auto memory = peak_bytes - before;
  if (memory > tally.most_memory) {
    tally.most_memory = memory;
    tally.hungriest = current_file + ": " + current_case;
  }
  if (took > tally.longest) {
    tally.longest = took;
    tally.slowest = current_file + ": " + current_case;
  }
  if (wrong.empty() && took > kSlowest) wrong = "took too long";
  if (wrong.empty() && memory > kMostMemory) wrong = "took " + std::to_string(memory >> 20U) + " MiB";
  if (wrong.empty()) {
    ++tally.passed;
    return;
  }
  ++tally.failed;
  std::printf("FAILED %s: %s: %s\n", current_file.c_str(), current_case, wrong.c_str());
}

template <typename... Values>
void name_case(const char* format, Values... values) {
  std::snprintf(current_case, sizeof current_case, format, values...);  // NOLINT: no allocation wanted here
}

// ---- the three loops

void truncate_everywhere(const Bytes& original, Tally& tally) {
  for (std::size_t size = 0; size < original.size(); ++size) {
    name_case("first %zu bytes", size);
    run(Bytes(original.begin(), original.begin() + static_cast<std::ptrdiff_t>(size)), tally);
  }
}

void replace_bytes(const Bytes& original, bool all, Tally& tally) {
  auto bytes = original;
  for (std::size_t at = 0; at < original.size(); ++at) {
    const auto old = static_cast<unsigned>(original[at]);
    std::vector<unsigned> values = {0x00, 0xff, old + 1, old - 1};
    for (unsigned bit = 0; bit < 8; ++bit) values.push_back(old ^ (1U << bit));
    if (!all) values = {at % 2 == 0 ? 0x00U : 0xffU, at % 3 == 0 ? old - 1 : old + 1, old ^ (1U << (at % 8))};
    for (const auto value : values) {
      if ((value & 0xffU) == old) continue;
      name_case("byte %zu is %#x instead of %#x", at, value & 0xffU, old);
      bytes[at] = static_cast<std::byte>(value);
      run(bytes, tally);
    }
    bytes[at] = original[at];
  }
}

/// A number in the file: where, how wide, in which byte order all of these formats have (little-endian).
struct Field {
  std::size_t at;
  std::size_t width;
};

std::uint64_t number_at(const Bytes& bytes, std::size_t at, std::size_t width) {
  std::uint64_t value = 0;
  for (std::size_t i = width; i-- > 0;) value = (value << 8U) | static_cast<std::uint64_t>(bytes[at + i]);
  return value;
}

/// Adds the fields of widths `widths` that follow each other from `at` on.
void add_fields(std::vector<Field>& fields, std::size_t at, std::initializer_list<std::size_t> widths) {
  for (const auto width : widths) {
    fields.push_back({at, width});
    at += width;
  }
}

/// Every zip record, by its signature; the last column of a few extra fields besides.
void find_zip_fields(const Bytes& bytes, std::vector<Field>& fields) {
  for (std::size_t at = 0; at + 22 <= bytes.size(); ++at) {
    const auto left = bytes.size() - at;
    const auto signature = number_at(bytes, at, 4);
    if (signature == kLocalHeaderSignature && left >= kLocalHeaderSize) {
      add_fields(fields, at + 4, {2, 2, 2, 2, 2, 4, 4, 4, 2, 2});
      const auto extra = at + kLocalHeaderSize + number_at(bytes, at + 26, 2);
      if (number_at(bytes, at + 28, 2) >= 4) add_fields(fields, extra, {2, 2});
    } else if (signature == kCentralEntrySignature && left >= kCentralEntrySize) {
      add_fields(fields, at + 4, {2, 2, 2, 2, 2, 2, 4, 4, 4, 2, 2, 2, 2, 2, 4, 4});
    } else if (signature == kDescriptorSignature) {
      add_fields(fields, at + 4, {4, 4, 4});
    } else if (signature == kZip64EndSignature && left >= kZip64EndSize) {
      add_fields(fields, at + 4, {8, 2, 2, 4, 4, 8, 8, 8, 8});
    } else if (signature == kZip64LocatorSignature) {
      add_fields(fields, at + 4, {4, 8, 4});
    } else if (signature == kEndRecordSignature) {
      add_fields(fields, at + 4, {2, 2, 2, 2, 4, 4, 2});
    }
  }
}

/// Operands and lengths of the pickles' instructions: from each PROTO on to STOP.
void find_pickle_fields(const Bytes& bytes, std::vector<Field>& fields) {
  std::size_t at = 0;
  while (at + 2 < bytes.size()) {
    const bool starts = bytes[at] == std::byte{0x80} && bytes[at + 1] <= std::byte{5};
    if (!starts) {
      ++at;
      continue;
    }
    std::vector<Field> found;
    auto next = at;
    bool stopped = false;
    while (!stopped && next < bytes.size()) {
      const auto opcode = static_cast<Opcode>(bytes[next++]);
      const auto& info = opcode_info(opcode);
      if (info.form == OperandForm::kInvalid || next + info.operand_size > bytes.size()) break;
      if (info.operand_size > 0) found.push_back({next, info.operand_size});
      std::uint64_t skip = info.operand_size;
      const bool counted = info.form != OperandForm::kFixed && info.operand_size > 0;
      if (counted) skip += number_at(bytes, next, info.operand_size);
      for (int lines = info.form == OperandForm::kTwoLines ? 2
                       : info.form == OperandForm::kLine   ? 1
                                                           : 0;
           lines > 0; --lines) {
        while (next < bytes.size() && bytes[next] != std::byte{'\n'}) ++next;
        ++next;
      }
      if (skip > bytes.size() || next + skip > bytes.size()) break;
      next += skip;
      stopped = opcode == Opcode::kStop;
    }
    if (stopped) fields.insert(fields.end(), found.begin(), found.end());
    at = stopped ? next : at + 1;
  }
}

void replace_numbers(const Bytes& original, Tally& tally) {
  std::vector<Field> fields = {{0, 8}};  // the length of a safetensors header
  find_zip_fields(original, fields);
  find_pickle_fields(original, fields);
  std::vector<std::uint64_t> values = {0, 1, ~std::uint64_t{0}, original.size()};
  for (const unsigned bits : {7U, 8U, 15U, 16U, 31U, 32U, 63U}) {
    const auto power = std::uint64_t{1} << bits;
    values.insert(values.end(), {power - 1, power, power + 1});
  }
  auto bytes = original;
  for (const auto& field : fields) {
    if (field.at + field.width > original.size()) continue;
    for (const auto value : values) {
      const bool fits = field.width == 8 || value >> (8 * field.width) == 0 || value == ~std::uint64_t{0};
      if (!fits || value == number_at(original, field.at, field.width)) continue;
      name_case("number of %zu bytes at %zu is %#llx", field.width, field.at,
                static_cast<unsigned long long>(value));
      for (std::size_t i = 0; i < field.width; ++i)
        bytes[field.at + i] = static_cast<std::byte>(value >> (8 * i));
      run(bytes, tally);
    }
    std::copy_n(original.begin() + static_cast<std::ptrdiff_t>(field.at), field.width,
                bytes.begin() + static_cast<std::ptrdiff_t>(field.at));
  }
}

// ---- files

constexpr const char* kChoice[] = {
    "torch-1.13-aliased.pt",
    "torch-1.13-meta.pt",
    "torch-1.13-protocol5.pt",
    "torch-1.13-quantized-legacy.pt",
    "torch-1.13-sparse-legacy.pt",
    "torch-1.13-tiny.pt",
    "torch-1.13-torchscript-frozen.pt",
    "torch-2.15-averaged-legacy.pt",
    "torch-2.15-bits-legacy.pt",
    "torch-2.15-dataparallel.safetensors",
    "torch-2.15-dtypes.safetensors",
    "torch-2.15-empty-legacy.pt",
    "torch-2.15-extra-state-legacy.pt",
    "torch-2.15-holders-legacy.pt",
    "torch-2.15-keys-objects-legacy.pt",
    "torch-2.15-mixed.pt",
    "torch-2.15-module-nested.pt",
    "torch-2.15-odd.safetensors",
    "torch-2.15-parameters-legacy.pt",
    "torch-2.15-protocol0-legacy.pt",
    "torch-2.15-protocol1-legacy.pt",
    "torch-2.15-rezipped-deflated.pt",
    "torch-2.15-rezipped-stored.pt",
    "torch-2.15-tied-legacy.pt",
    "torch-2.15-tiny.pt",
    "torch-2.15-torchscript.pt",
};
constexpr std::uintmax_t kSmall = 8192;  // bytes of a file that --all takes

std::vector<std::string> files_to_sweep(bool all) {
  if (!all) return {std::begin(kChoice), std::end(kChoice)};
  std::vector<std::string> names;
  for (const auto& entry : std::filesystem::directory_iterator(CKPT_TEST_DATA)) {
    const auto name = entry.path().filename().string();
    const bool document = name.ends_with(".md") || name.starts_with("LICENSE");
    if (!document && entry.file_size() < kSmall) names.push_back(name);
  }
  std::sort(names.begin(), names.end());
  return names;
}

Bytes contents(const std::string& name) {
  std::ifstream file(std::string(CKPT_TEST_DATA) + "/" + name, std::ios::binary);
  const std::string text{std::istreambuf_iterator<char>(file), {}};
  const auto view = as_bytes(text);
  return {view.begin(), view.end()};
}

int sweep(const std::vector<std::string>& names, bool all) {
  Tally tally;
  for (const auto& name : names) {
    current_file = name;
    const auto original = contents(name);
    if (original.empty()) {
      std::printf("FAILED %s: can't be read\n", name.c_str());
      ++tally.failed;
      continue;
    }
    const auto start = Clock::now();
    const auto before = tally.passed + tally.failed;
    truncate_everywhere(original, tally);
    replace_bytes(original, all, tally);
    replace_numbers(original, tally);
    if (all) {
      const auto seconds = std::chrono::duration<double>(Clock::now() - start).count();
      std::printf("%-45s %8llu cases %6.1f s\n", name.c_str(),
                  static_cast<unsigned long long>(tally.passed + tally.failed - before), seconds);
      std::fflush(stdout);
    }
  }
  std::printf("%llu files were still checkpoints, %llu were written\n",
              static_cast<unsigned long long>(tally.read), static_cast<unsigned long long>(tally.written));
  std::printf("slowest: %.1f ms, %s\n", std::chrono::duration<double, std::milli>(tally.longest).count(),
              tally.slowest.c_str());
  std::printf("most memory: %.1f MiB, %s\n", static_cast<double>(tally.most_memory) / (1U << 20U),
              tally.hungriest.c_str());
  std::printf("%llu passed, %llu failed\n", static_cast<unsigned long long>(tally.passed),
              static_cast<unsigned long long>(tally.failed));
  return tally.failed == 0 ? 0 : 1;
}

}  // namespace
}  // namespace ckpt

/// ckpt_sweeps [--all] [NAME...]
int main(int argc, char** argv) {
  std::vector<std::string> names(argv + 1, argv + argc);
  std::setvbuf(stdout, nullptr, _IOLBF, 0);
  ::mallopt(M_MMAP_THRESHOLD,
            1 << 30);  // blocks come from the heap, and the heap stays: system calls would be
  ::mallopt(M_TRIM_THRESHOLD, 1 << 30);  // most of the time
  const bool all = std::erase(names, "--all") > 0;
  return ckpt::sweep(names.empty() ? ckpt::files_to_sweep(all) : names, all);
}
