// SPDX-License-Identifier: BSD-3-Clause
// What the other files of a merge have for the state dicts of the base.
#pragma once

#include <cstdint>
#include <string>
#include <unordered_map>
#include <vector>

#include "ckpt/base/result.h"
#include "ckpt/edit/edits.h"
#include "ckpt/edit/plan.h"
#include "ckpt/model/checkpoint.h"

namespace ckpt {

/// A state dict of a source, by name.
struct Offer {
  const MergeSource* source = nullptr;
  std::uint32_t number = 0;  ///< of the source
  std::uint32_t dict = 0;    ///< in the source's checkpoint
  std::unordered_map<std::string, std::uint32_t> entries;
  std::uint64_t taken = 0;  ///< tensors

  const Checkpoint& checkpoint() const { return *source->checkpoint; }

  TensorId tensor(std::uint32_t entry) const { return checkpoint().state_dicts[dict].entries[entry].tensor; }
};

/// A key of an offer.
struct Offered {
  Offer* offer = nullptr;
  std::uint32_t entry = 0;

  explicit operator bool() const { return offer != nullptr; }

  const Checkpoint& checkpoint() const { return offer->checkpoint(); }

  const TensorInfo& tensor() const { return checkpoint().tensors[offer->tensor(entry)]; }
};

/// The offers of one state dict of the base, in the order of the files.
using Offers = std::vector<Offer>;

/// Pairs the state dicts of the sources with the chosen ones of the base, whose order the result has: by
/// path, or the only one with the only one. Errors: kUsage where that can't be done.
Result<std::vector<Offers>> pair_sources(const MergeTensors& edit, const EditContext& context);

/// All keys of `offer` that are tensors, in their order.
std::vector<std::string> keys_of(const Offer& offer);

/// What `offer` has under `name`; false where it has nothing.
Offered offered_by(Offer& offer, const std::string& name);
/// The last file that has `name` decides.
Offered last_with(Offers& offers, const std::string& name);

/// The dict in messages: "the root", or its path in quotes.
std::string at(const EditedStateDict& dict);

/// kNotFound for an offer of which no key is one of the dict's, with the prefix that would help.
Error nothing_fits(const Offer& offer, const EditedStateDict& dict, const std::vector<std::string>& ours);

}  // namespace ckpt
