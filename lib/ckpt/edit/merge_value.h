// SPDX-License-Identifier: BSD-3-Clause
// What a parameter of a merge method is set to, as the command line and plans write it:
//
//   0.5          for all files and layers
//   0.5,0.2      for the first file that counts, and the second
//   [0,0.5,1]    from the first layer to the last: values in between lie on the lines from one to the next
//   [0,1],0.3    both
//
// Yes, no, true and false are 1 and 0, and a word of a parameter is its number among them.
#pragma once

#include <cstddef>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "ckpt/base/export.h"
#include "ckpt/base/result.h"

namespace ckpt {

struct CKPT_EXPORT MergeValue {
  /// By file, then by depth; one for all files, one for all depths. Neither is empty.
  std::vector<std::vector<double>> files;

  /// For a file, at a depth from 0 to 1. As mergekit's gradients: numbers lie on a line between neighbours;
  /// `steps`: the value before holds until the next one.
  double at(std::size_t file, double depth, bool steps) const;

  friend bool operator==(const MergeValue&, const MergeValue&) = default;
};

/// Errors: kUsage for what is no number and none of `words`, for brackets that don't match, for nothing.
CKPT_EXPORT Result<MergeValue> parse_merge_value(std::string_view text,
                                                 std::span<const std::string_view> words = {});

/// The same for a parameter that is yes or no, whose errors say so. Other numbers are for the caller to
/// refuse.
CKPT_EXPORT Result<MergeValue> parse_merge_flag(std::string_view text);

/// The same value in words that `parse_merge_value` takes.
CKPT_EXPORT std::string merge_value_text(const MergeValue& value,
                                         std::span<const std::string_view> words = {});

}  // namespace ckpt
