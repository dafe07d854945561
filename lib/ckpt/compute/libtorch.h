// SPDX-License-Identifier: BSD-3-Clause
// Where LibTorch is, on this machine and for this user. Nothing is opened here.
#pragma once

#include <string>
#include <vector>

#include "ckpt/base/export.h"
#include "ckpt/base/result.h"

namespace ckpt {

/// The places that are looked at, in this order; empty ones are not. The first with a LibTorch is taken, and
/// what was named but has none is an error. The working directory is none of them.
struct LibTorchSearch {
  std::string option;                     ///< --libtorch
  std::string variable;                   ///< CKPT_LIBTORCH
  std::vector<std::string> environments;  ///< Python's: VIRTUAL_ENV, CONDA_PREFIX
  std::string configured;                 ///< the one that the build found

  /// `option` with what the process's environment says.
  CKPT_EXPORT static LibTorchSearch from_environment(const std::string& option);
};

struct LibTorch {
  std::string folder;  ///< the one that holds libtorch_cpu.so, absolute
  std::string source;  ///< who named it: "--libtorch", "CKPT_LIBTORCH", "VIRTUAL_ENV", …
};

/// A folder may be named itself, or the one whose `lib`, `torch/lib` or site-packages it is. Errors:
/// kBackend.
CKPT_EXPORT Result<LibTorch> find_libtorch(const LibTorchSearch& search);

}  // namespace ckpt
