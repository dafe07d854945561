// SPDX-License-Identifier: BSD-3-Clause
// What merges have in common that keep a band of the magnitudes of something: passes that find where the band
// ends, and the mask.
#pragma once

#include <algorithm>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "ckpt/compute/float_merge.h"
#include "ckpt/compute/magnitude_order.h"
#include "ckpt/compute/place_order.h"
#include "ckpt/compute/place_search.h"

namespace ckpt {

/// Numbers of the order of magnitudes from `first` on, and before `last`.
template <typename Real>
struct MagnitudeBand {
  std::size_t value = 0;             ///< of what: see `OrderedMerge::values`
  std::optional<std::size_t> first;  ///< a search; nothing: from the greatest on
  std::optional<std::size_t> last;   ///< nothing: to the smallest
  bool is_empty = false;
};

template <typename Real>
class OrderedMerge : public ChangeMerge<Real> {
 public:
  using Key = MagnitudeKey<Real>;

  OrderedMerge(const MergeJob& job, VectorUnit unit)
      : ChangeMerge<Real>(job, unit),
        places_(job.axes.empty() ? PlaceOrder() : PlaceOrder(job.shape, job.axes)) {}

 protected:
  /// What magnitudes are ordered of.
  virtual std::vector<const Real*> values(const MergeBlock<Real>& block) const = 0;

  MagnitudeBand<Real> band(std::size_t value, std::uint64_t first, std::uint64_t last) {
    const auto numbers = this->numbers_;
    MagnitudeBand<Real> out;
    out.value = value;
    out.is_empty = first >= last;
    if (out.is_empty) return out;
    if (first > 0) out.first = search(value, first);
    if (last < numbers) out.last = search(value, last);
    return out;
  }

  /// Parts of the next pass; 0 when every search is done.
  std::uint64_t next_search() {
    if (searches_.empty()) return 0;
    if (is_placing_) return next_placing();
    if (is_sampling_) {
      is_sampling_ = false;
      guess();
    } else if (!round_.empty()) {
      for (const auto i : round_) searches_[i].search->settle();
    } else if (this->numbers_ > kMergeChunk) {
      is_sampling_ = true;
      samples_.resize(kSampleParts);
      return kSampleParts;
    }
    round_.clear();
    std::uint64_t expected = 0;
    for (std::size_t i = 0; i < searches_.size(); ++i) {
      const auto& search = *searches_[i].search;
      if (search.is_found() || (!round_.empty() && expected + search.expected() > kMostExpected)) continue;
      round_.push_back(i);
      expected += search.expected();
    }
    return round_.empty() ? next_placing() : this->chunks();
  }

  Status search_part(std::uint64_t part, MergeScratch& scratch) {
    if (is_sampling_) return sample(part, scratch);
    if (is_placing_) return find_places(part, scratch);
    std::vector<typename CutSearch<Real>::Chunk> chunks(round_.size());
    CKPT_RETURN_IF_ERROR(this->for_chunk(part, scratch, [&](const MergeBlock<Real>& block) {
      const auto values = this->values(block);
      for (std::size_t i = 0; i < round_.size(); ++i) {
        const auto& search = searches_[round_[i]];
        search.search->add(this->kernels_, chunks[i], values[search.value], block.count);
      }
    }));
    for (std::size_t i = 0; i < round_.size(); ++i) searches_[round_[i]].search->end_chunk(part, chunks[i]);
    return {};
  }

  /// Before the first `keep` in a chunk.
  void begin_bands(std::uint64_t chunk, MergeScratch& scratch) const {
    if (!is_in_order()) return;
    scratch.counts.assign(searches_.size(), 0);
    for (std::size_t i = 0; i < searches_.size(); ++i) {
      const auto& cut = searches_[i].search->cut();
      if (cut.splits_equals) scratch.counts[i] = cut.equals_before[chunk];
    }
  }

  /// x = x or 0, where `magnitudes` says; mostly they are the same.
  void keep(const MagnitudeBand<Real>& band, const MergeBlock<Real>& block, Real* x) const {
    if (band.is_empty) {
      std::fill_n(x, padded(block.count), Real{0});
      return;
    }
    if (parts_equals(band.first, block, x) || parts_equals(band.last, block, x))
      return keep_by_place(band, block, x);
    Key least = 0;
    Key upper = ~Key{0};
    bool is_split = false;
    const auto before_last = band.last ? before(*band.last, block, x, is_split) : 0;
    const auto before_first = band.first ? before(*band.first, block, x, is_split) : 0;
    if (is_split) return keep_one_by_one(band, block, x, before_first, before_last);
    if (band.last) {
      const auto& cut = searches_[*band.last].search->cut();
      least = before_last < cut.taken ? cut.key : static_cast<Key>(cut.key + 1);
    }
    if (band.first) {
      const auto& cut = searches_[*band.first].search->cut();
      upper = before_first < cut.taken ? cut.key : static_cast<Key>(cut.key + 1);
    }
    this->kernels_.keep_keys(x, least, upper, block.count);
  }

  /// The same for another back end; nothing where equal magnitudes are told apart by their places.
  std::optional<CkptMask> mask_of(const MagnitudeBand<Real>& band) const {
    if (band.is_empty) return CkptMask{CKPT_KEEP_RANDOM, 0, 0, 1};
    const auto end = [&](std::size_t search) -> std::optional<std::uint64_t> {
      const auto& cut = searches_[search].search->cut();
      if (cut.splits_equals) return std::nullopt;
      return cut.taken > 0 ? cut.key : std::uint64_t{cut.key} + 1;
    };
    CkptMask mask{CKPT_KEEP_KEYS, 0, ~std::uint64_t{0}, 1};
    if (band.last) {
      const auto least = end(*band.last);
      if (!least) return std::nullopt;
      mask.first = *least;
    }
    if (band.first) {
      const auto upper = end(*band.first);
      if (!upper) return std::nullopt;
      mask.second = *upper;
    }
    return mask;
  }

  bool is_in_order() const { return places_.is_plain(); }

  /// `use(at, run)` for the runs of places of a block, each from number `at` of it on.
  template <typename Use>
  void for_runs(const MergeBlock<Real>& block, const Use& use) const {
    for (std::size_t at = 0; at < block.count;) {
      const auto run = places_.run_at(block.first + at, block.count - at);
      use(at, run);
      at += static_cast<std::size_t>(run.count);
    }
  }

 private:
  static constexpr std::uint64_t kSampleParts = 16;
  static constexpr std::uint64_t kSampleStrip = 64;
  static constexpr std::uint64_t kMostStrips = std::uint64_t{1} << 14U;
  static constexpr std::uint64_t kMostExpected = std::uint64_t{10} << 20U;

  static constexpr std::size_t kMostPlacings = 8;  ///< at once: each has some megabytes

  struct Search {
    std::unique_ptr<CutSearch<Real>> search;
    std::size_t value;
    std::unique_ptr<PlaceSearch> place = nullptr;  ///< where places are not in order: parts equal keys
  };

  std::size_t search(std::size_t value, std::uint64_t place) {
    searches_.push_back(
        {std::make_unique<CutSearch<Real>>(this->numbers_, place, this->chunks()), value, nullptr});
    return searches_.size() - 1;
  }

  /// Strips here and there, one in each of so many equal parts of the tensor.
  Status sample(std::uint64_t part, MergeScratch& scratch) {
    scratch.reserve_blocks(this->blocks());
    const auto strips = std::clamp<std::uint64_t>(this->numbers_ / 4096, kSampleParts, kMostStrips);
    const auto step = this->numbers_ / strips;
    auto& keys = samples_[part];
    for (auto strip = part; strip < strips; strip += kSampleParts) {
      const auto first = strip * step + merge_random(0, strip) % (step - kSampleStrip + 1);
      CKPT_RETURN_IF_ERROR(this->read_strip(first, kSampleStrip, scratch));
      this->for_blocks(first, kSampleStrip, scratch, [&](const MergeBlock<Real>& block) {
        const auto values = this->values(block);
        keys.resize(values.size());
        for (std::size_t i = 0; i < values.size(); ++i) {
          for (std::size_t j = 0; j < block.count; ++j) keys[i].push_back(magnitude_key(values[i][j]));
        }
      });
    }
    return {};
  }

  void guess() {
    std::vector<std::vector<Key>> keys(samples_[0].size());
    for (auto& part : samples_) {
      for (std::size_t i = 0; i < keys.size(); ++i)
        keys[i].insert(keys[i].end(), part[i].begin(), part[i].end());
      part = {};
    }
    samples_ = {};
    for (auto& search : searches_) search.search->guess(keys[search.value]);
  }

  /// As `next_search`, for cuts through equal keys when all are known.
  std::uint64_t next_placing() {
    if (is_in_order()) return 0;
    for (const auto i : round_) searches_[i].place->settle();
    round_.clear();
    for (std::size_t i = 0; i < searches_.size(); ++i) {
      auto& place = searches_[i].place;
      const auto& cut = searches_[i].search->cut();
      if (!cut.splits_equals || round_.size() >= kMostPlacings) continue;
      if (place == nullptr) place = std::make_unique<PlaceSearch>(this->numbers_, cut.taken, cut.equals);
      if (!place->is_found()) round_.push_back(i);
    }
    is_placing_ = true;
    return round_.empty() ? 0 : this->chunks();
  }

  Status find_places(std::uint64_t part, MergeScratch& scratch) {
    std::vector<PlaceSearch::Chunk> chunks(round_.size());
    CKPT_RETURN_IF_ERROR(this->for_chunk(part, scratch, [&](const MergeBlock<Real>& block) {
      const auto values = this->values(block);
      for (std::size_t i = 0; i < round_.size(); ++i) {
        const auto& search = searches_[round_[i]];
        const auto* const x = values[search.value];
        const auto key = search.search->cut().key;
        if (this->kernels_.count_key(x, key, block.count) == 0) continue;
        for_runs(block, [&](std::size_t at, const PlaceRun& run) {
          for (std::uint64_t j = 0; j < run.count; ++j) {
            if (magnitude_key(x[at + j]) == key) search.place->add(chunks[i], run.place + j * run.step);
          }
        });
      }
    }));
    for (std::size_t i = 0; i < round_.size(); ++i) searches_[round_[i]].place->end_chunk(chunks[i]);
    return {};
  }

  /// Does a place part equal keys of this block?
  bool parts_equals(std::optional<std::size_t> search, const MergeBlock<Real>& block, const Real* x) const {
    return search && searches_[*search].place != nullptr &&
           this->kernels_.count_key(x, searches_[*search].search->cut().key, block.count) > 0;
  }

  /// In a run, what has the key of a cut stands before it up to a place.
  void keep_by_place(const MagnitudeBand<Real>& band, const MergeBlock<Real>& block, Real* x) const {
    for_runs(block, [&](std::size_t at, const PlaceRun& run) {
      for (std::uint64_t done = 0, end = 0; done < run.count; done = end) {
        end = run.count;
        const auto least_before = [&](std::size_t i) {  // until `end`
          const auto& cut = searches_[i].search->cut();
          const auto& place = searches_[i].place;
          const auto taken = place == nullptr ? (cut.taken > 0 ? run.count : 0) : run.before(place->end());
          if (done >= taken) return static_cast<Key>(cut.key + 1);
          end = std::min(end, taken);
          return cut.key;
        };
        const auto least = band.last ? least_before(*band.last) : Key{0};
        const auto upper = band.first ? least_before(*band.first) : ~Key{0};
        this->kernels_.keep_keys(x + at + done, least, upper, static_cast<std::size_t>(end - done));
      }
    });
  }

  /// Of the key of a cut, before this block; with those in it if the cut does not go through them.
  std::uint64_t before(std::size_t search, const MergeBlock<Real>& block, const Real* x,
                       bool& is_split) const {
    const auto& cut = searches_[search].search->cut();
    if (!cut.splits_equals || !is_in_order()) return 0;
    auto& seen = block.scratch->counts[search];
    const auto out = seen;
    seen += this->kernels_.count_key(x, cut.key, block.count);
    is_split = is_split || (out < cut.taken && seen > cut.taken);
    return out;
  }

  void keep_one_by_one(const MagnitudeBand<Real>& band, const MergeBlock<Real>& block, Real* x,
                       std::uint64_t before_first, std::uint64_t before_last) const {
    const auto stands_before = [](const MagnitudeCut<Real>& cut, Key key, std::uint64_t& equals) {
      return key > cut.key || (key == cut.key && equals++ < cut.taken);
    };
    for (std::size_t i = 0; i < block.count; ++i) {
      const auto key = magnitude_key(x[i]);
      const bool in_last = !band.last || stands_before(searches_[*band.last].search->cut(), key, before_last);
      const bool in_first =
          band.first && stands_before(searches_[*band.first].search->cut(), key, before_first);
      if (!in_last || in_first) x[i] = 0;
    }
  }

  PlaceOrder places_;
  std::vector<Search> searches_;
  std::vector<std::size_t> round_;  ///< searches of the pass
  bool is_sampling_ = false;
  bool is_placing_ = false;
  std::vector<std::vector<std::vector<Key>>> samples_;  ///< by part and value
};

}  // namespace ckpt
