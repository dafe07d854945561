// SPDX-License-Identifier: BSD-3-Clause
// One finding for a fault that may occur a million times: the first one is told, the others are counted.
#pragma once

#include <cstdint>
#include <string>
#include <tuple>
#include <utility>

#include <fmt/format.h>

#include "ckpt/base/diagnostics.h"
#include "ckpt/base/text.h"

namespace ckpt {

class FindingTally {
 public:
  FindingTally(std::string id, Severity severity) : id_(std::move(id)), severity_(severity) {}

  /// Counts one more; `describe` makes {place, message} and is called for the first only.
  template <typename Describe>
  void count(Describe describe) {
    if (count_++ == 0) std::tie(place_, message_) = describe();
  }

  std::uint64_t count() const { return count_; }

  /// Counts what another place found later.
  void append(const FindingTally& later) {
    if (count_ == 0) std::tie(place_, message_) = std::tie(later.place_, later.message_);
    count_ += later.count_;
  }

  /// Adds the finding, if there was any.
  void report(Diagnostics& diagnostics) const {
    if (count_ == 0) return;
    auto message = message_;
    if (count_ > 1) message += fmt::format(" (and {} more like it)", with_separators(count_ - 1));
    diagnostics.add({id_, severity_, place_, std::move(message), {}});
  }

 private:
  std::string id_;
  Severity severity_;
  std::uint64_t count_ = 0;
  std::string place_;
  std::string message_;
};

}  // namespace ckpt
