// SPDX-License-Identifier: BSD-3-Clause
#include "ckpt/edit/layer_positions.h"

#include <algorithm>
#include <cstddef>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <utility>

namespace ckpt {
namespace {

bool is_digit(char c) {
  return c >= '0' && c <= '9';
}

/// Its digits without leading zeros, and how many these are: ordered as numbers are.
using Number = std::pair<std::size_t, std::string>;

struct Layer {
  std::string kind;  ///< its name with '#' for each number
  std::vector<Number> numbers;
};

/// The name up to the first segment that is a number.
std::optional<std::string_view> layer_name(std::string_view key) {
  for (std::size_t begin = 0; begin < key.size();) {
    const auto end = std::min(key.find('.', begin), key.size());
    const auto segment = key.substr(begin, end - begin);
    if (!segment.empty() && std::all_of(segment.begin(), segment.end(), is_digit)) return key.substr(0, end);
    begin = end + 1;
  }
  return std::nullopt;
}

std::optional<Layer> layer_of(std::string_view key) {
  const auto name = layer_name(key);
  if (!name) return std::nullopt;
  Layer layer;
  for (std::size_t i = 0; i < name->size();) {
    auto end = i;
    while (end < name->size() && is_digit((*name)[end])) ++end;
    if (end == i) {
      layer.kind += (*name)[i++];
      continue;
    }
    layer.kind += '#';
    while (i + 1 < end && (*name)[i] == '0') ++i;
    layer.numbers.emplace_back(end - i, name->substr(i, end - i));
    i = end;
  }
  return layer;
}

}  // namespace

std::vector<double> layer_positions(std::span<const std::string_view> keys) {
  std::vector<std::optional<Layer>> layers;
  std::map<std::string, std::set<std::vector<Number>>> kinds;
  for (const auto key : keys) {
    layers.push_back(layer_of(key));
    if (layers.back()) kinds[layers.back()->kind].insert(layers.back()->numbers);
  }
  std::map<std::string, std::map<std::vector<Number>, double>> positions;
  for (const auto& [kind, members] : kinds) {
    std::size_t index = 0;
    const auto last = members.size() - 1;
    for (const auto& numbers : members) {
      positions[kind][numbers] = last == 0 ? 1 : static_cast<double>(index) / static_cast<double>(last);
      ++index;
    }
  }
  std::vector<double> result;
  for (const auto& layer : layers) result.push_back(layer ? positions[layer->kind][layer->numbers] : 0);
  return result;
}

std::unordered_map<std::string, double> layer_positions_by_key(std::span<const std::string_view> keys) {
  const auto positions = layer_positions(keys);
  std::unordered_map<std::string, double> result;
  for (std::size_t i = 0; i < keys.size(); ++i) result.emplace(keys[i], positions[i]);
  return result;
}

}  // namespace ckpt
