// SPDX-License-Identifier: BSD-3-Clause
// What a merge by a method did, and what it learned of the files while it computed.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "ckpt/base/export.h"
#include "ckpt/edit/merge_recipe.h"

namespace ckpt {

class MergedSource;

/// Floating-point tensors of two files, all of them as one vector, with a smaller cosine are of models that
/// have nothing to do with each other. Those of one training have more than 0.9, those of different random
/// beginnings nearly none.
inline constexpr double kLeastRelatedCosine = 0.3;

/// A tensor of the result, and the files that it is made of: 0 is the base, the sources count from 1.
struct MergedTensor {
  std::string root;  ///< of its state dict
  std::string name;
  std::size_t job = 0;  ///< of the source
  std::vector<std::size_t> files;
};

struct MergeReport {
  MergeRecipe recipe;
  std::vector<std::string> sources;            ///< files, without the base
  std::vector<MergedTensor> tensors;           ///< tied ones once each
  std::uint64_t computed = 0;                  ///< tensors of floats and complex numbers
  std::uint64_t integers = 0;                  ///< tensors by rule
  std::vector<std::string> kept;               ///< stay the base's, as not every file has them
  std::vector<std::string> fewer;              ///< merged from the files that have them
  std::shared_ptr<const MergedSource> source;  ///< has the measures, once it was computed
};

/// Cosine of a file with the base (file 0), all floating-point tensors as one vector; none where there are
/// none.
CKPT_EXPORT std::optional<double> total_cosine(const MergeReport& report, std::size_t file);

/// What a tensor's merge told: for each of its files the norm, and the cosine with the first of them. Empty
/// where it holds no floats or was not computed.
struct TensorMeasure {
  double norm = 0;
  double cosine = 1;
};

CKPT_EXPORT std::vector<TensorMeasure> measures_of(const MergeReport& report, const MergedTensor& tensor);

/// Numbers of a result that are NaN or infinite, once it was computed; none where it holds no floats.
CKPT_EXPORT std::optional<std::uint64_t> not_finite(const MergeReport& report, const MergedTensor& tensor);

}  // namespace ckpt
