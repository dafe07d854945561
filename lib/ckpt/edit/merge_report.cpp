// SPDX-License-Identifier: BSD-3-Clause
#include "ckpt/edit/merge_report.h"

#include <cmath>

#include "ckpt/compute/merged_source.h"

namespace ckpt {

std::optional<double> total_cosine(const MergeReport& report, std::size_t file) {
  const auto cosine = report.source->total_cosine(0, file);
  if (std::isnan(cosine)) return std::nullopt;
  return cosine;
}

std::vector<TensorMeasure> measures_of(const MergeReport& report, const MergedTensor& tensor) {
  const auto& measures = report.source->measures();
  if (tensor.job >= measures.size() || !measures[tensor.job].known) return {};
  const auto& known = measures[tensor.job];
  std::vector<TensorMeasure> out;
  for (std::size_t input = 0; input < known.inputs; ++input)
    out.push_back({known.norm(input), input == 0 ? 1.0 : known.cosine(0, input)});
  return out;
}

std::optional<std::uint64_t> not_finite(const MergeReport& report, const MergedTensor& tensor) {
  const auto& measures = report.source->measures();
  return tensor.job < measures.size() ? measures[tensor.job].not_finite : std::nullopt;
}

}  // namespace ckpt
