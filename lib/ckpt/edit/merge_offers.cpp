// SPDX-License-Identifier: BSD-3-Clause
#include "ckpt/edit/merge_offers.h"

#include <utility>

#include <fmt/format.h>

#include "ckpt/base/text.h"
#include "ckpt/edit/key_alignment.h"
#include "ckpt/edit/state_dict_keys.h"
#include "ckpt/model/key_path.h"
#include "ckpt/model/state_dicts.h"

namespace ckpt {
namespace {

std::vector<std::string> roots_of(const Checkpoint& checkpoint, const std::vector<std::uint32_t>& dicts) {
  std::vector<std::string> roots;
  for (const auto dict : dicts)
    roots.push_back(quoted_path(checkpoint.path(checkpoint.state_dicts[dict].place)));
  return roots;
}

Offer make_offer(const MergeSource& source, std::uint32_t number, std::uint32_t dict) {
  add_tied_keys(*source.checkpoint, dict);
  Offer offer{&source, number, dict, {}};
  const auto count = static_cast<std::uint32_t>(source.checkpoint->state_dicts[dict].entries.size());
  offer.entries.reserve(count);
  for (std::uint32_t i = 0; i < count; ++i) {
    if (offer.tensor(i) != kNoIndex) offer.entries.emplace(source.checkpoint->original_name(dict, i), i);
  }
  return offer;
}

/// Pairs the state dicts of a source with those of the base: by path, or the only one with the only one.
Status pair(const MergeSource& source, std::uint32_t number, const EditContext& context,
            std::vector<Offers>& offers) {
  std::vector<std::string> wanted;
  if (source.root) wanted.push_back(*source.root);
  auto found = choose_state_dicts(*source.checkpoint, wanted);
  if (!found.ok()) return std::move(found).error().in_file(source.file);
  const auto& theirs = *found;
  const auto& ours = context.dicts;
  bool any = false;
  for (std::size_t i = 0; i < ours.size() && !source.root; ++i) {
    const auto& checkpoint = *source.checkpoint;
    const auto path = first_path_of(checkpoint, ours[i].root);
    for (const auto dict : theirs) {
      if (checkpoint.path(checkpoint.state_dicts[dict].place) != path) continue;
      offers[i].push_back(make_offer(source, number, dict));
      any = true;
    }
  }
  if (any) return {};
  if (theirs.size() == 1 && ours.size() == 1) {
    offers.front().push_back(make_offer(source, number, theirs.front()));
    return {};
  }
  std::vector<std::string> roots;
  for (const auto& dict : ours) roots.push_back(quoted_path(dict.root));
  return Error(ErrorCode::kUsage,
               fmt::format("its state dicts ({}) don't pair with those of the base ({})",
                           fmt::join(roots_of(*source.checkpoint, theirs), ", "), fmt::join(roots, ", ")))
      .in_file(source.file)
      .with_hint("name one of the base's with --root PATH, one of the others' with --other-root PATH");
}

}  // namespace

Result<std::vector<Offers>> pair_sources(const MergeTensors& edit, const EditContext& context) {
  std::vector<Offers> offers(context.dicts.size());
  for (std::uint32_t i = 0; i < edit.sources.size(); ++i)
    CKPT_RETURN_IF_ERROR(pair(edit.sources[i], i, context, offers));
  return offers;
}

std::vector<std::string> keys_of(const Offer& offer) {
  std::vector<std::string> keys;
  const auto& checkpoint = offer.checkpoint();
  const auto count = static_cast<std::uint32_t>(checkpoint.state_dicts[offer.dict].entries.size());
  for (std::uint32_t i = 0; i < count; ++i) {
    if (offer.tensor(i) != kNoIndex) keys.push_back(checkpoint.original_name(offer.dict, i));
  }
  return keys;
}

Offered offered_by(Offer& offer, const std::string& name) {
  const auto found = offer.entries.find(name);
  if (found == offer.entries.end()) return {};
  return {&offer, found->second};
}

Offered last_with(Offers& offers, const std::string& name) {
  for (auto offer = offers.rbegin(); offer != offers.rend(); ++offer) {
    if (const auto offered = offered_by(*offer, name)) return offered;
  }
  return {};
}

std::string at(const EditedStateDict& dict) {
  return dict.root.empty() ? std::string("the root") : quoted_path(dict.root);
}

Error nothing_fits(const Offer& offer, const EditedStateDict& dict, const std::vector<std::string>& ours) {
  std::vector<std::string> theirs;
  for (const auto& [name, entry] : offer.entries) theirs.push_back(name);
  Error error(ErrorCode::kNotFound,
              fmt::format("none of its {} is in the base at {}", counted(theirs.size(), "key"), at(dict)));
  const auto alignment = align_keys(theirs, ours);
  if (alignment.matches == 0) return std::move(error).in_file(offer.source->file);
  const auto command = alignment.strip.empty() ? "--add-prefix " + alignment.add
                       : alignment.add.empty()
                           ? "--strip-prefix " + alignment.strip
                           : fmt::format("--strip-prefix {} --add-prefix {}", alignment.strip, alignment.add);
  return std::move(error)
      .in_file(offer.source->file)
      .with_hint(fmt::format("{} would match after: ckpt rename-keys {} {}",
                             with_separators(alignment.matches), offer.source->file, command));
}

}  // namespace ckpt
