// SPDX-License-Identifier: BSD-3-Clause
#include "rewrite_command.h"

#include <algorithm>
#include <memory>
#include <optional>
#include <variant>

#include <fmt/format.h>

#include "ckpt/base/text.h"
#include "ckpt/compute/device.h"
#include "ckpt/compute/tensor_backend.h"
#include "ckpt/edit/apply.h"
#include "ckpt/edit/plan_json.h"
#include "ckpt/format/convert.h"
#include "ckpt/format/format.h"
#include "ckpt/io/output_set.h"
#include "ckpt/rewrite/execute.h"
#include "ckpt/rewrite/verify.h"
#include "logging.h"
#include "merge_sources.h"
#include "progress_bar.h"
#include "render/command_line.h"
#include "render/json.h"
#include "render/report.h"

namespace ckpt::cli {
namespace {

/// One input on its way to its output.
class Rewrite {
 public:
  Rewrite(const std::string& input, const EditFrame& frame, const ComputeOptions& compute, const Plan& plan,
          Console& console)
      : flags_(frame.output),
        compute_flags_(frame.compute),
        compute_(compute),
        plan_(plan),
        console_(console) {
    result_.file = input;
    result_.output = flags_.path_for(input);
    result_.dry_run = flags_.dry_run;
    result_.verbose = frame.common.verbose;
  }

  Status run() {
    CKPT_RETURN_IF_ERROR(check_output());
    CKPT_RETURN_IF_ERROR(read());
    auto report = apply_plan(plan_, checkpoint_);
    if (!report.ok()) return in_file(std::move(report).error());
    result_.report = std::move(report).value();
    result_.output_format = format_of(output_format(plan_.target, checkpoint_)).name();
    result_.changed = !result_.report.changes_nothing() || result_.output_format != result_.format;
    auto layout = lay_out_as(plan_.target, checkpoint_, result_.report.notes);
    if (!layout.ok()) return in_file(std::move(layout).error());
    const auto totals = layout->totals();
    result_.bytes_out = totals.literal + totals.copied;
    const auto computed = computed_bytes(*layout, 0, checkpoint_);
    result_.bytes_copied = moved_bytes(*layout, 0, checkpoint_);
    if (result_.report.strict_failed || (flags_.must_change && !result_.changed)) {
      result_.status = ExitCode::kAnswerIsNo;
      return {};
    }
    result_.left_alone = flags_.in_place && !result_.changed;
    if (result_.left_alone) return {};
    compute_flags_.add_device(compute_, computed);
    const auto calculated = compute_.backend ? compute_.backend->computed() : 0;
    const auto left = compute_.backend ? compute_.backend->left() : 0;
    const auto summed = compute_.backend ? compute_.backend->summed() : 0;
    CKPT_RETURN_IF_ERROR(flags_.dry_run ? dry_run(*layout) : write(*layout));
    if (compute_.backend) describe_backend(calculated, left, summed);
    return describe_device();
  }

  const FileResult& result() const { return result_; }

  FileResult& result() { return result_; }

 private:
  Error in_file(Error error) const {
    return std::move(error).in_file(source_ ? source_->name() : result_.file);
  }

  OutputOptions options() const {
    OutputOptions options;
    options.overwrite = flags_.force || flags_.in_place ? Overwrite::kYes : Overwrite::kNo;
    options.fsync = flags_.no_fsync ? Fsync::kNo : Fsync::kYes;
    if (flags_.is_directory()) options.missing_directory = MissingDirectory::kIsMade;
    options.mode_of = source_.get();
    return options;
  }

  Status check_output() {
    if (result_.output.empty()) return {};
    if (!flags_.in_place && result_.output != "-" && result_.file != "-" &&
        same_file(result_.file, result_.output)) {
      return Error(ErrorCode::kExists, "input and output are the same file")
          .in_file(result_.output)
          .with_hint("use --in-place to replace the input");
    }
    return OutputSet::check(result_.output, options());
  }

  Status read() {
    CKPT_ASSIGN_OR_RETURN(
        source_, open_input(result_.file, result_.output == "-" ? "" : directory_of(result_.output)));
    log_step(fmt::format("reading {} ({})", source_->name(), human_bytes(source_->size())));
    Diagnostics diagnostics;
    CKPT_ASSIGN_OR_RETURN(checkpoint_, read_checkpoint(source_, diagnostics, Intent::kRewrite));
    if (reads_values(plan_)) CKPT_RETURN_IF_ERROR(format_of(checkpoint_.format).locate_storages(checkpoint_));
    result_.format = format_of(checkpoint_.format).name();
    result_.bytes_in = source_->size();
    result_.findings = diagnostics.findings();
    if (const auto* finding = diagnostics.first_error()) {
      return Error(ErrorCode::kRefused, finding->message)
          .in_file(source_->name())
          .with_hint(
              "readers disagree about this file, so it is not rewritten; 'ckpt inspect' shows what PyTorch "
              "sees");
    }
    return {};
  }

  /// Says who calculated, if it was asked to be somebody else than usual.
  void describe_backend(std::uint64_t computed_before, std::uint64_t left_before,
                        std::uint64_t summed_before) {
    const auto& backend = *compute_.backend;
    auto text =
        fmt::format("{} computed {}", backend.name(), counted(backend.computed() - computed_before, "value"));
    if (const auto left = backend.left() - left_before; left > 0)
      text += fmt::format("; it has no pass for the other {}, which the native kernels computed",
                          with_separators(left));
    result_.report.notes.push_back(std::move(text));
    if (const auto summed = backend.summed() - summed_before; summed > 0)
      result_.report.notes.push_back(
          fmt::format("{} added up {}, which gives other last bits than the native kernels have",
                      backend.name(), counted(summed, "value")));
  }

  Status describe_device() {
    if (!compute_.device) return {};
    CKPT_ASSIGN_OR_RETURN(const auto info, compute_.device->info());
    result_.device = {compute_.device->label(), info.name, compute_.device->copied(),
                      compute_.device->computed()};
    return {};
  }

  Status dry_run(const Layout& layout) {
    const auto bar = progress_bar(printable(result_.file));
    return rehearse(layout, 0, checkpoint_, bar.get(), compute_);
  }

  Status write(const Layout& layout) {
    OutputSet outputs;
    CKPT_ASSIGN_OR_RETURN(auto* file, outputs.add(result_.output, options(), layout.parts.front().size));
    log_step(fmt::format("writing {} in {} segments", result_.output, layout.parts.front().segments.size()));
    {
      const auto bar = progress_bar(printable(result_.output));
      CKPT_RETURN_IF_ERROR(execute(layout, 0, checkpoint_, *file, bar.get(), compute_));
    }
    if (flags_.verify) {
      CKPT_ASSIGN_OR_RETURN(const auto written, file->reopen());
      log_step("verifying");
      const auto bar = progress_bar("verifying " + printable(result_.output));
      auto same = verify(layout, 0, checkpoint_, written, bar.get());
      if (!same.ok()) return std::move(same).error().in_file(result_.output);
    }
    return outputs.commit();
  }

  /// None where nobody would see it.
  std::unique_ptr<ProgressBar> progress_bar(std::string label) const {
    if (!ProgressBar::wanted(console_)) return nullptr;
    return std::make_unique<ProgressBar>(console_, std::move(label));
  }

  const OutputFlags& flags_;
  const ComputeFlags& compute_flags_;
  ComputeOptions compute_;
  const Plan& plan_;
  Console& console_;
  std::shared_ptr<const ByteSource> source_;
  Checkpoint checkpoint_;
  FileResult result_;
};

/// LibTorch makes passes of merge methods, and nothing else.
Status check_backend(const ComputeFlags& flags, const Plan& plan) {
  const auto computes = [](const Edit& edit) {
    const auto* merge = std::get_if<MergeTensors>(&edit);
    return merge != nullptr && merge->method.has_value();
  };
  if (!flags.libtorch.empty() && flags.backend != "torch")
    return Error(ErrorCode::kUsage, "--libtorch goes with --backend torch");
  if (flags.backend != "torch" || std::any_of(plan.edits.begin(), plan.edits.end(), computes)) return {};
  return Error(ErrorCode::kUsage, "--backend torch goes with merge --method");
}

/// Inputs are checked for themselves; others of a merge read it, too.
Status check_standard_input(const std::vector<std::string>& files, const Plan& plan) {
  auto count = std::count(files.begin(), files.end(), "-");
  for (const auto& edit : plan.edits) {
    const auto* merge = std::get_if<MergeTensors>(&edit);
    if (merge == nullptr) continue;
    count += std::count_if(merge->sources.begin(), merge->sources.end(),
                           [](const auto& source) { return source.file == "-"; });
  }
  if (count <= 1) return {};
  return Error(ErrorCode::kUsage, "standard input is named twice");
}

Status check_usage(const std::vector<std::string>& files, const EditFrame& frame, const Plan& plan) {
  CKPT_RETURN_IF_ERROR(frame.output.check(files));
  CKPT_RETURN_IF_ERROR(check_standard_input(files, plan));
  return check_backend(frame.compute, plan);
}

/// The same with command lines in its hint where the library can only say which option they are about.
Error spelled_out(Error error, const Console& console) {
  if (error.hint().find(kRepeat) == std::string::npos) return error;
  return Error(error.code(), error.message())
      .in_file(error.file())
      .with_hint(with_command_lines(error.hint(), console.arguments));
}

}  // namespace

ExitCode fail(std::string_view command, const Error& error, Console& console) {
  if (console.json) {
    write_failure(console.out, command, error);
  } else {
    print_error(console, error);
  }
  return ExitCode::kCouldNotDoIt;
}

ExitCode rewrite(std::string_view command, const InputOptions& input, const EditFrame& frame, Plan plan,
                 Console& console) {
  const auto& output = frame.output;
  if (output.print_plan) {
    console.out.print(plan_to_json(plan));
    return ExitCode::kDone;
  }
  if (auto usage = check_usage(input.files, frame, plan); !usage.ok())
    return fail(command, usage.error(), console);
  if (auto opened = open_merge_sources(plan); !opened.ok()) return fail(command, opened.error(), console);
  const auto compute = frame.compute.options();
  if (!compute.ok()) return fail(command, compute.error(), console);
  auto& report_stream = output.output == "-" ? console.err : console.out;
  std::optional<JsonDocument> document;
  if (console.json) document.emplace(report_stream, command);
  std::vector<Error> errors;
  auto status = ExitCode::kDone;
  for (const auto& file : input.files) {
    Rewrite one(file, frame, *compute, plan, console);
    auto done = one.run();
    if (!done.ok()) {
      one.result().status = ExitCode::kCouldNotDoIt;
      auto error = std::move(done).error().in_file(file == "-" ? "standard input" : file);
      errors.push_back(spelled_out(std::move(error), console));
      if (!console.json) print_error(console, errors.back());
    }
    status = worse(status, one.result().status);
    if (document) {
      write_result(document->writer(), one.result());
    } else if (!console.quiet && one.result().status != ExitCode::kCouldNotDoIt) {
      print_result(report_stream, one.result());
    }
  }
  if (document) document->end(errors, status);
  return status;
}

}  // namespace ckpt::cli
