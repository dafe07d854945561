// SPDX-License-Identifier: BSD-3-Clause
#include "ckpt/edit/layer_positions.h"

#include "support/catch.h"

using namespace ckpt;

namespace {

using Keys = std::vector<std::string_view>;
using Positions = std::vector<double>;

}  // namespace

TEST_CASE("a transformer's layers go from 0 to 1, what is around them keeps its end", "[edit]") {
  CHECK(layer_positions(Keys{"embed.weight", "model.layers.0.mlp.weight", "model.layers.2.mlp.weight",
                             "model.layers.1.mlp.weight", "model.norm.weight"}) ==
        Positions{0, 0, 1, 0.5, 1});
}

TEST_CASE("numbers are ordered as numbers", "[edit]") {
  CHECK(layer_positions(Keys{"h.10.w", "h.9.w", "h.2.w"}) == Positions{1, 0.5, 0});
  CHECK(layer_positions(Keys{"h.00.w", "h.18446744073709551617.w", "h.3.w"}) == Positions{0, 1, 0.5});
}

TEST_CASE("stages with numbers in their names are one row of layers", "[edit]") {
  CHECK(layer_positions(Keys{"conv1.weight", "layer1.0.w", "layer1.1.w", "layer2.0.w", "fc.weight"}) ==
        Positions{0, 0, 0.5, 1, 1});
}

TEST_CASE("an encoder and a decoder are counted apart", "[edit]") {
  CHECK(layer_positions(Keys{"encoder.layers.0.w", "encoder.layers.1.w", "decoder.layers.0.w",
                             "decoder.layers.2.w", "decoder.layers.5.w"}) == Positions{0, 1, 0, 0.5, 1});
}

TEST_CASE("a lone layer stands at the end, and without layers everything at the beginning", "[edit]") {
  CHECK(layer_positions(Keys{"a", "h.3.w"}) == Positions{0, 1});
  CHECK(layer_positions(Keys{"a", "b.c", "d.", ""}) == Positions{0, 0, 0, 0});
  CHECK(layer_positions(Keys{}).empty());
}
