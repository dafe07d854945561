// SPDX-License-Identifier: BSD-3-Clause
#include "edit_command.h"

#include <memory>
#include <utility>

#include <CLI/CLI.hpp>

#include "rewrite_command.h"

namespace ckpt::cli {

void EditFrame::attach(CLI::App& app, const std::function<void()>& attach_own) {
  input.attach(app);
  app.get_option("FILE")->required(false);
  app.callback([this] {
    if (input.files.empty() && !output.print_plan) throw CLI::RequiredError("FILE");
  });
  attach_own();
  output.attach(app);
  compute.attach_with_backend(app);
  common.attach(app);
}

Plan EditFrame::plan(std::vector<Edit> edits) const {
  return {std::move(edits), input.roots, output.optimizer_policy(), output.allow_unmatched, output.target()};
}

Command editing_command(std::string_view name, std::string_view alias, std::string_view summary,
                        std::string_view manual, AttachEdit attach_edit) {
  const auto attach = [name, attach_edit](CLI::App& app) -> Runner {
    const auto frame = std::make_shared<EditFrame>();
    EditMaker make_edits;
    frame->attach(app, [&] { make_edits = attach_edit(app); });
    return [name, frame, make_edits](Console& console) {
      frame->common.apply(console);
      auto edits = make_edits();
      if (!edits.ok()) return fail(name, edits.error(), console);
      return rewrite(name, frame->input, *frame, frame->plan(std::move(edits).value()), console);
    };
  };
  return {name, alias, summary, manual, attach, attach_edit};
}

}  // namespace ckpt::cli
