// SPDX-License-Identifier: BSD-3-Clause
// What was noticed and did not stop us. Readers collect findings here; commands decide what they mean
// and print them. Nothing in the library prints.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "ckpt/base/export.h"

namespace ckpt {

enum class Severity : std::uint8_t { kInfo, kWarning, kError };

CKPT_EXPORT std::string_view severity_name(Severity severity);

/// One remark about a file. `id` is stable and listed in docs/reference/findings.md.
/// Severity kError means that loaders disagree about the file: it can be looked at, not edited.
struct Finding {
  std::string id;
  Severity severity = Severity::kInfo;
  std::string place;    ///< record, path or key it is about; may be empty
  std::string message;  ///< a sentence without a full stop
  std::string fix;      ///< the command that removes the cause, with FILE for the input; may be empty
};

/// Findings in the order in which they were made.
class CKPT_EXPORT Diagnostics {
 public:
  void add(Finding finding) { findings_.push_back(std::move(finding)); }

  const std::vector<Finding>& findings() const { return findings_; }

  /// The first finding of severity kError, or null: such a file must not be rewritten.
  const Finding* first_error() const;

 private:
  std::vector<Finding> findings_;
};

}  // namespace ckpt
