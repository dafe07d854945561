// SPDX-License-Identifier: BSD-3-Clause
#include "ckpt/base/diagnostics.h"

#include <algorithm>

namespace ckpt {

std::string_view severity_name(Severity severity) {
  switch (severity) {
    case Severity::kInfo: return "info";
    case Severity::kWarning: return "warning";
    case Severity::kError: return "error";
  }
  return "error";
}

const Finding* Diagnostics::first_error() const {
  auto found = std::find_if(findings_.begin(), findings_.end(),
                            [](const Finding& finding) { return finding.severity == Severity::kError; });
  return found == findings_.end() ? nullptr : &*found;
}

}  // namespace ckpt
