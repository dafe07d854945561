// SPDX-License-Identifier: BSD-3-Clause
// Options that every command has.
#pragma once

#include <string>

#include "console.h"

namespace CLI {
class App;
}

namespace ckpt::cli {

struct CommonOptions {
  bool quiet = false;
  bool verbose = false;
  bool json = false;
  std::string color = "auto";
  std::string progress = "auto";

  void attach(CLI::App& app);
  /// Hands the choices to the console and starts logging if asked to.
  void apply(Console& console) const;
};

}  // namespace ckpt::cli
