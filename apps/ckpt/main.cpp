// SPDX-License-Identifier: BSD-3-Clause
#include <exception>
#include <string>
#include <vector>

#include "ckpt/io/output_set.h"
#include "command.h"

int main(int argc, char** argv) {
  ckpt::cli::ProcessConsole process;
  ckpt::remove_temporaries_on_signals();
  try {
    return ckpt::cli::run_program({argv + 1, argv + argc}, process.console);
  } catch (const std::bad_alloc&) {
    print_error(process.console, ckpt::Error(ckpt::ErrorCode::kIo, "out of memory"));
  } catch (const std::exception& error) {
    print_error(process.console,
                ckpt::Error(ckpt::ErrorCode::kInternal, std::string("internal error: ") + error.what()));
  }
  return 2;
}
