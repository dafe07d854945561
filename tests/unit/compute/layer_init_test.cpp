// SPDX-License-Identifier: BSD-3-Clause
// Initial values of layers: PyTorch's, by the checksums that it gave itself.
#include "ckpt/compute/layer_init.h"

#include <fstream>
#include <limits>
#include <sstream>
#include <string>
#include <utility>
#include <vector>

#include "ckpt/base/crc32.h"
#include "ckpt/compute/drawn_source.h"
#include "support/catch.h"
#include "support/init_commands.h"

using namespace ckpt;
using namespace ckpt::test;

namespace {

/// Processors with it use other functions of the C library, which differ in few last bits.
bool has_fma() {
#ifdef __x86_64__
  return __builtin_cpu_supports("fma");
#else
  return false;
#endif
}

std::uint32_t checksum(TorchVersion version, const std::string& seed, std::istringstream line) {
  InitCommands commands(version);
  commands.run("seed " + seed);
  std::uint32_t crc = 0;
  for (std::string command; std::getline(line, command, ';');) crc = crc32(crc, commands.run(command));
  return crc;
}

TEST_CASE("initial values have the bits of PyTorch", "[compute]") {
  const auto* release = GENERATE("1.13", "2.0", "2.6", "2.12", "2.15");
  const auto version = parse_torch_version(release);
  REQUIRE(version.ok());
  std::ifstream table(std::string(CKPT_TEST_DATA) + "/torch-" + release + "-initial-values.tsv");
  int rows = 0;
  for (std::string line; std::getline(table, line); ++rows) {
    std::istringstream columns(line);
    std::string seed;
    std::string commands;
    std::uint32_t expected = 0;
    std::getline(columns, seed, '\t');
    std::getline(columns, commands, '\t');
    columns >> std::hex >> expected;
    if (commands.find("normal") != std::string::npos && !has_fma()) continue;
    CAPTURE(release, seed, commands);
    CHECK(checksum(*version, seed, std::istringstream(commands)) == expected);
  }
  CHECK(rows > 100);
}

using Shape = std::vector<std::int64_t>;

Result<InitialValues> layer(const std::string& method, Dtype dtype, const Shape& shape, bool has_bias = true,
                            bool transposed = false, std::int64_t groups = 1) {
  TorchRandom random(0);
  return initial_layer(random, parse_init_method(method).value(), kNewestComputedTorch, dtype, shape,
                       has_bias, transposed, groups);
}

TEST_CASE("a layer has a weight of its shape, and a bias of its outputs if it has one", "[compute]") {
  CHECK(layer("default", Dtype::kFloat32, {3, 5})->weight.size() == 60);
  CHECK(layer("default", Dtype::kFloat32, {3, 5})->bias.size() == 12);
  CHECK(layer("default", Dtype::kFloat32, {3, 5}, false)->bias.empty());
  CHECK(layer("zeros", Dtype::kFloat64, {3, 5, 2, 2})->bias.size() == 24);
  CHECK(layer("default", Dtype::kFloat16, {6, 2, 3}, true, true, 3)->bias.size() == 12);
}

TEST_CASE("a weight drawn while it is read is the one drawn at once", "[compute]") {
  constexpr auto kNeverLarge = std::numeric_limits<std::uint64_t>::max();
  const Shape shape = {613, 1001};  // nine pieces, and a rest that is no multiple of 16
  for (const auto* method : {"default", "zeros", "normal:0.02", "xavier-uniform", "kaiming-normal"}) {
    for (const auto dtype : {Dtype::kFloat16, Dtype::kBfloat16, Dtype::kFloat32, Dtype::kFloat64}) {
      for (const TorchVersion version : {TorchVersion{1, 13}, kNewestComputedTorch}) {
        CAPTURE(method, dtype_info(dtype).name, torch_version_text(version));
        TorchRandom at_once(3);
        TorchRandom while_read(3);
        const auto how = parse_init_method(method).value();
        const auto whole =
            initial_layer(at_once, how, version, dtype, shape, true, false, 1, kNeverLarge).value();
        const auto drawn = initial_layer(while_read, how, version, dtype, shape, true, false, 1, 0).value();
        REQUIRE(whole.large_weight == nullptr);
        REQUIRE(drawn.large_weight != nullptr);
        CHECK(drawn.weight.empty());
        CHECK(drawn.bias == whole.bias);
        const auto& source = *drawn.large_weight;
        const auto size = whole.weight.size();
        REQUIRE(source.size() == size);
        CHECK(source.read({0, size}).value() == whole.weight);
        const auto middle = size / 3 + 1;  // back, into the middle of an element
        CHECK(source.read({middle, size - middle}).value() ==
              Bytes(whole.weight.begin() + static_cast<std::ptrdiff_t>(middle), whole.weight.end()));
        CHECK_FALSE(source.read({size, 1}).ok());
      }
    }
  }
}

TEST_CASE("all methods but the default leave the bias zero", "[compute]") {
  for (const auto* method : {"zeros", "normal:0.02", "trunc-normal:0.02", "xavier-uniform", "xavier-normal",
                             "kaiming-uniform", "kaiming-normal:fan-out"}) {
    CAPTURE(method);
    const auto values = layer(method, Dtype::kFloat32, {3, 5});
    REQUIRE(values.ok());
    CHECK(values->bias == Bytes(12));
    CHECK((values->weight == Bytes(60)) == (std::string_view(method) == "zeros"));
  }
}

TEST_CASE("without an argument torch.nn.init's own is taken", "[compute]") {
  for (const auto& [method, same] :
       std::vector<std::pair<std::string, std::string>>{{"normal", "normal:1"},
                                                        {"trunc-normal", "trunc-normal:1"},
                                                        {"xavier-uniform", "xavier-uniform:1"},
                                                        {"kaiming-normal", "kaiming-normal:fan-in"}}) {
    CAPTURE(method);
    CHECK(layer(method, Dtype::kFloat32, {9, 7})->weight == layer(same, Dtype::kFloat32, {9, 7})->weight);
  }
}

TEST_CASE("a layer without inputs has a bias of zeros", "[compute]") {
  const auto values = layer("default", Dtype::kFloat32, {3, 0});
  REQUIRE(values.ok());
  CHECK(values->weight.empty());
  CHECK(values->bias == Bytes(12));
}

TEST_CASE("what can't be initialised is refused by name", "[compute]") {
  const std::vector<std::pair<Result<InitialValues>, std::string>> cases = {
      {layer("default", Dtype::kInt8, {3, 5}),
       "initial values of dtype int8 can't be computed: expected float16, bfloat16, float32 or float64"},
      {layer("zeros", Dtype::kFloat8E4m3fn, {3, 5}),
       "initial values of dtype float8_e4m3fn can't be computed: expected float16, bfloat16, float32 or "
       "float64"},
      {layer("default", Dtype::kFloat32, {3}),
       "a weight of shape [3] is not one of a linear or convolutional layer, which has two or more "
       "dimensions"},
      {layer("default", Dtype::kFloat32, {std::int64_t{1} << 40, std::int64_t{1} << 40}),
       "a weight of shape [1099511627776, 1099511627776] has more bytes than can be counted"},
  };
  for (const auto& [values, message] : cases) {
    REQUIRE(!values.ok());
    CHECK(values.error().code() == ErrorCode::kUnsupported);
    CHECK(values.error().text() == message);
  }
}

TEST_CASE("values too large for the dtype are refused", "[compute]") {
  const auto values = layer("normal:30000", Dtype::kFloat16, {3, 5});
  REQUIRE(!values.ok());
  CHECK(values.error().code() == ErrorCode::kUsage);
  CHECK(values.error().text() == "values with a standard deviation of 30000 are too large for float16");
  CHECK(layer("normal:30000", Dtype::kBfloat16, {3, 5}).ok());
}

}  // namespace
