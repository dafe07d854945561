// SPDX-License-Identifier: BSD-3-Clause
#include "ckpt/zip/name_index.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>
#include <random>

namespace ckpt {
namespace {

__extension__ using Wide = unsigned __int128;

/// A-Z to a-z in each of eight bytes. With the high bits cleared no addition carries into the next byte.
std::uint64_t fold8(std::uint64_t bytes) {
  constexpr std::uint64_t kOnes = 0x0101010101010101;
  const auto low = bytes & (0x7F * kOnes);
  const auto at_least_a = low + (0x80 - 'A') * kOnes;
  const auto above_z = low + (0x80 - 'Z' - 1) * kOnes;
  const auto capital = at_least_a & ~above_z & ~bytes & (0x80 * kOnes);
  return bytes | (capital >> 2);
}

/// Eight bytes of `text` at `at`, folded; where fewer are left the last eight, or all there are.
std::uint64_t folded8(std::string_view text, std::size_t at) {
  std::uint64_t bytes = 0;
  if (text.size() >= sizeof bytes) {
    std::memcpy(&bytes, text.data() + std::min(at, text.size() - sizeof bytes), sizeof bytes);
  } else {
    std::memcpy(&bytes, text.data(), text.size());
  }
  return fold8(bytes);
}

struct HashKey {
  std::uint64_t a = 0;
  std::uint64_t b = 0;
};

HashKey random_key() {
  std::random_device device;
  const auto draw = [&] { return std::uint64_t{device()} << 32 | device(); };
  return {draw(), draw() | 1};
}

std::uint64_t mix(std::uint64_t a, std::uint64_t b) {
  const auto product = Wide{a} * b;
  return static_cast<std::uint64_t>(product) ^ static_cast<std::uint64_t>(product >> 64);
}

std::uint64_t hash(NameKey key) {
  static const auto secret = random_key();
  auto state = secret.a ^ key.name.size() ^ (std::uint64_t{key.below_root} << 32);
  for (std::size_t at = 0; at < key.name.size(); at += 8)
    state = mix(state ^ folded8(key.name, at), secret.b) + secret.a;
  return mix(state, secret.b);
}

}  // namespace

std::string folded(std::string_view text) {
  std::string result(text);
  for (auto& c : result) {
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
  }
  return result;
}

bool equal_folded(std::string_view a, std::string_view b) {
  if (a.size() != b.size()) return false;
  for (std::size_t at = 0; at < a.size(); at += 8) {
    if (folded8(a, at) != folded8(b, at)) return false;
  }
  return true;
}

NameKey name_key(const EntryTable& table, RecordId record) {
  const auto& entry = table.entries[record];
  const auto name = table.name(entry);
  if (entry.below_root || !table.has_root) return {name, entry.below_root};
  const auto& root = table.root;
  const bool loosely = name.size() > root.size() && name[root.size()] == '/' &&
                       equal_folded(name.substr(0, root.size()), root);
  return loosely ? NameKey{name.substr(root.size() + 1), true} : NameKey{name, false};
}

NameIndex::NameIndex(const EntryTable& table)
    : table_(table), slots_(std::bit_ceil(table.entries.size() + table.entries.size() / 2 + 1)) {}

/// The slot that holds `key`, or the free one where it belongs.
std::size_t NameIndex::slot_of(NameKey key, std::uint64_t hash) const {
  const auto mask = slots_.size() - 1;
  const auto tag = static_cast<std::uint32_t>(hash >> 32);
  for (auto at = static_cast<std::size_t>(hash) & mask;; at = (at + 1) & mask) {
    const auto& slot = slots_[at];
    if (slot.record_plus_1 == 0) return at;
    if (slot.tag == tag && name_key(table_, slot.record_plus_1 - 1) == key) return at;
  }
}

/// The table is larger than the cache and asked at random: a slot is on its way while others are looked at.
void NameIndex::insert_all(Keep keep, const std::function<void(RecordId, RecordId)>& on_equal) {
  struct Pending {
    NameKey key;
    std::uint64_t hash = 0;
  };

  std::array<Pending, 32> pending;
  const auto count = static_cast<RecordId>(table_.entries.size());
  for (RecordId start = 0; start < count; start += static_cast<RecordId>(pending.size())) {
    const auto block = std::min<std::size_t>(pending.size(), count - start);
    for (std::size_t i = 0; i < block; ++i) {
      const auto key = name_key(table_, static_cast<RecordId>(start + i));
      pending[i] = {key, hash(key)};
      __builtin_prefetch(&slots_[static_cast<std::size_t>(pending[i].hash) & (slots_.size() - 1)], 1);
    }
    for (std::size_t i = 0; i < block; ++i) {
      const auto record = static_cast<RecordId>(start + i);
      auto& slot = slots_[slot_of(pending[i].key, pending[i].hash)];
      const bool free = slot.record_plus_1 == 0;
      if (!free && on_equal) on_equal(slot.record_plus_1 - 1, record);
      if (free || keep == Keep::kLast) slot = {static_cast<std::uint32_t>(pending[i].hash >> 32), record + 1};
    }
  }
}

std::optional<RecordId> NameIndex::find(NameKey key) const {
  const auto& slot = slots_[slot_of(key, hash(key))];
  if (slot.record_plus_1 == 0) return std::nullopt;
  return slot.record_plus_1 - 1;
}

}  // namespace ckpt
