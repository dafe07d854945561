// SPDX-License-Identifier: BSD-3-Clause
// Initial values by commands, one a line, for golden tables and the tool of the judge:
//
//   seed NUMBER                              a new stream
//   layer METHOD DTYPE SHAPE BIAS GROUPS     weight and bias; BIAS is 0 or 1, GROUPS is 0 unless transposed
//   uniform DTYPE COUNT FROM TO
//   normal DTYPE COUNT STD
//
// SHAPE is like 2x3.
#pragma once

#include <sstream>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "ckpt/compute/layer_init.h"

namespace ckpt::test {

class InitCommands {
 public:
  explicit InitCommands(TorchVersion version) : version_(version) {}

  /// The bytes that a command asks for. Throws std::runtime_error where it can't be done.
  Bytes run(const std::string& line) {
    std::istringstream words(line);
    std::string command;
    words >> command;
    if (command == "layer") return layer(words);
    if (command == "uniform" || command == "normal") return tensor(command, words);
    std::uint64_t seed = 0;
    words >> seed;
    random_ = TorchRandom(seed);
    return {};
  }

 private:
  static constexpr auto kAllInMemory = ~std::uint64_t{0};

  template <typename T>
  static T need(Result<T> result) {
    if (!result.ok()) throw std::runtime_error(result.error().text());
    return std::move(result).value();
  }

  static std::vector<std::int64_t> numbers(const std::string& text) {
    std::vector<std::int64_t> out;
    std::istringstream parts(text);
    for (std::string part; std::getline(parts, part, 'x');) out.push_back(std::stoll(part));
    return out;
  }

  Bytes layer(std::istringstream& words) {
    std::string method;
    std::string dtype;
    std::string shape;
    bool has_bias = false;
    std::int64_t groups = 0;
    words >> method >> dtype >> shape >> has_bias >> groups;
    auto values =
        need(initial_layer(random_, need(parse_init_method(method)), version_, dtype_by_name(dtype).value(),
                           numbers(shape), has_bias, groups > 0, groups, kAllInMemory));
    append_bytes(values.weight, values.bias);
    return std::move(values.weight);
  }

  Bytes tensor(const std::string& command, std::istringstream& words) {
    std::string dtype;
    std::uint64_t count = 0;
    double first = 0;
    double second = 0;
    words >> dtype >> count >> first;
    const auto element = dtype_by_name(dtype).value();
    if (command == "normal") return random_.normal(version_, element, count, first);
    words >> second;
    return random_.uniform(version_, element, count, first, second);
  }

  TorchVersion version_;
  TorchRandom random_{0};
};

}  // namespace ckpt::test
