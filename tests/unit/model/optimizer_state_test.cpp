// SPDX-License-Identifier: BSD-3-Clause
// What is read of an optimizer's state, what is refused as somebody else's, and whose parameters it counts.
#include "ckpt/model/optimizer_state.h"

#include <string>
#include <utility>
#include <vector>

#include "ckpt/model/key_path.h"
#include "support/pickle_checkpoint.h"

using namespace ckpt;
using namespace ckpt::test;

namespace {

std::string shape_of(const OptimizerSlot& slot) {
  return slot.shape ? fmt::format("[{}]", fmt::join(*slot.shape, ",")) : "?";
}

/// "0[2,3] 1? | 2[4]" for two groups, with a name in front of each index where there are names; the error
/// where the layout is refused.
std::string read(const std::string& description) {
  const auto checkpoint = described(description);
  const auto optimizers = optimizers_of(checkpoint);
  REQUIRE(optimizers.size() == 1);
  const auto state = read_optimizer_state(checkpoint, optimizers.front());
  if (!state.ok()) return outcome_of(state);
  std::string text;
  std::uint32_t group = 0;
  for (const auto& slot : state->slots) {
    for (; group < slot.group; ++group) text += "| ";
    if (slot.name != kNoUse) text += checkpoint.graph().string(slot.name).value() + "=";
    text += fmt::format("{}{}{} ", slot.index, shape_of(slot), slot.state_key == kNoUse ? "-" : "");
  }
  if (state->has_names) text += "named ";
  return text + (state->counts_up ? "counts" : "scattered");
}

/// Paths of the state dicts that the file's only optimizer may train.
std::string beside(const std::string& description) {
  const auto checkpoint = described(description);
  const auto optimizers = optimizers_of(checkpoint);
  REQUIRE(optimizers.size() == 1);
  std::vector<std::string> paths;
  for (const auto dict : state_dicts_beside(checkpoint, checkpoint.mappings[optimizers.front()].place))
    paths.push_back(quoted_path(checkpoint.path(checkpoint.state_dicts[dict].place)));
  return fmt::format("{}", fmt::join(paths, " "));
}

constexpr const char* kOptimizer = "opt/state/#0/exp_avg float32 2; opt/param_groups = [{'params':[0]}]";

}  // namespace

TEST_CASE("an index has the shape of what is kept for it", "[model]") {
  const std::vector<std::pair<std::string, std::string>> cases = {
      {"o/state/#0/exp_avg float32 2x3; o/state/#0/exp_avg_sq float32 2x3; o/param_groups = [{'params':[0]}]",
       "0[2,3] counts"},
      {"o/state/#0/exp_avg_sq_row float32 5; o/state/#0/exp_avg_sq_col float32 5; o/param_groups = "
       "[{'params':[0]}]",
       "0? counts"},  // of a square matrix
      {"o/state/#0/step float32 scalar; o/state/#0/exp_avg float32 4; o/param_groups = [{'params':[0]}]",
       "0[4] counts"},
      {"o/state/#0/step = 7; o/state/#0/momentum_buffer float32 4; o/param_groups = [{'params':[0]}]",
       "0[4] counts"},
      // a counter says nothing, but a parameter without dimensions has averages without dimensions
      {"o/state/#0/step float32 scalar; o/param_groups = [{'params':[0]}]", "0? counts"},
      {"o/state/#0/mu_product float32 scalar; o/state/#0/eta float32 scalar; o/param_groups = "
       "[{'params':[0]}]",
       "0? counts"},
      {"o/state/#0/step float32 scalar; o/state/#0/exp_avg float32 scalar; o/param_groups = [{'params':[0]}]",
       "0[] counts"},
      {"o/state/#0/scale float32 scalar; o/state/#0/exp_avg float32 3; o/param_groups = [{'params':[0]}]",
       "0[3] counts"},
      // two shapes tell none
      {"o/state/#0/row_var float32 2x1; o/state/#0/col_var float32 1x3; o/param_groups = [{'params':[0]}]",
       "0? counts"},
      // no state
      {"o/state = {}; o/param_groups = [{'params':[0,1]}]", "0?- 1?- counts"},
      {"o/state = {}; o/param_groups = []", "counts"},
  };
  for (const auto& [description, expected] : cases) {
    CAPTURE(description);
    CHECK(read(description) == expected);
  }
}

TEST_CASE("groups are read one after the other, and indices may be any numbers", "[model]") {
  CHECK(read("o/state/#2/m float32 4; o/state/#0/m float32 2; "
             "o/param_groups = [{'lr':1,'params':[0,1]},{'params':[]},{'params':[2]}]") ==
        "0[2] 1?- | | 2[4] counts");
  CHECK(read("o/state/#70000/m float32 4; o/param_groups = [{'params':[70000,5]}]") ==
        "70000[4] 5?- scattered");
  CHECK(read("o/state = {}; o/param_groups = [{'params':[1]},{'params':[0]}]") == "1?- | 0?- scattered");
}

TEST_CASE("names count where every group has them", "[model]") {
  CHECK(read("o/state = {}; o/param_groups = [{'param_names':['w','b'],'params':[0,1]}]") ==
        "w=0?- b=1?- named counts");
  CHECK(read("o/state = {}; o/param_groups = [{'param_names':['w'],'params':[0]},{'params':[1]}]") ==
        "w=0?- | 1?- counts");
}

TEST_CASE("names may stand in the place of indices", "[model]") {
  CHECK(read("o/state/b/m float32 4; o/param_groups = [{'params':['w','b']}]") ==
        "w=0?- b=1[4] named scattered");
  CHECK(read("o/state = {}; o/param_groups = [{'params':['w']},{'params':[0]}]") == "w=0?- | 0?- scattered");
}

TEST_CASE("a layout that keeps more than one state for each parameter is refused", "[model]") {
  const std::string groups = "; o/param_groups = [{'params':[0]}]";
  const std::vector<std::pair<std::string, std::string>> cases = {
      {"o/state/#0/d float32 9; o/state/#0/old_dirs = [1]" + groups,
       "the state of index 0 holds a list: 'old_dirs'"},
      {"o/state/#0/old_dirs = []" + groups, "the state of index 0 holds a list: 'old_dirs'"},
      {"o/state/#0/inner/m float32 2" + groups, "the state of index 0 holds a dict: 'inner'"},
      {"o/state/#0 = 7" + groups, "the state of index 0 is no mapping"},
      {"o/state/#1/m float32 2" + groups, "its state has the key 1, which is in no group"},
      {"o/state/w/m float32 2" + groups, "its state has the key 'w', which is in no group"},
      {"o/state = [1]" + groups, "'state' is no mapping"},
      {"o/state = {}; o/param_groups = 7", "'param_groups' is no list"},
      {"o/state = {}; o/param_groups = [7]", "group 0 has no list 'params'"},
      {"o/state = {}; o/param_groups = [{'params':[0]},{'params':7}]", "group 1 has no list 'params'"},
      {"o/state = {}; o/param_groups = [{'params':[0,'w']}]", "'params' of group 0 counts with 'w'"},
      {"o/state = {}; o/param_groups = [{'params':['w',0]}]", "'params' of group 0 counts with 0"},
      {"o/state = {}; o/param_groups = [{'params':['w']},{'params':['w']}]", "'w' is in its groups twice"},
      {"o/state = {}; o/param_groups = [{'params':[0]},{'params':[0]}]", "0 is in its groups twice"},
      {"o/state = {}; o/param_groups = [{'param_names':['w'],'params':[0,1]}]",
       "'param_names' of group 0 does not name 2 parameters"},
      {"o/state = {}; o/slow/w float32 2" + groups, "it holds a tensor at 'o.slow.w' as well"},
      // master weights of a wrapper, which are counted by position, too
      {"model/w float32 2; o/opt/state/#0/m float32 2; o/opt/param_groups = [{'params':[0]}]; o/fp32/#0 "
       "float32 2",
       "a tensor stands beside it at 'o.fp32{0}'"},
  };
  for (const auto& [description, reason] : cases) {
    CAPTURE(description);
    CHECK(read(description) == "refused: " + reason);
  }
}

TEST_CASE("a learning rate that is a tensor is no parameter's state", "[model]") {
  CHECK(read("o/state/#0/m float32 2; o/param_groups = [{'params':[0]}]; w float32 3") == "0[2] counts");
  auto checkpoint = pickled(
      "EMPTY_DICT; MARK; BINUNICODE state; EMPTY_DICT; BINUNICODE param_groups; EMPTY_LIST; EMPTY_DICT; "
      "MARK; "
      "BINUNICODE lr; $; BINUNICODE params; EMPTY_LIST; BININT1 0; APPEND; SETITEMS; APPEND; SETITEMS");
  const auto state = read_optimizer_state(checkpoint, 0);
  REQUIRE(state.ok());
  CHECK_FALSE(state->slots.front().shape.has_value());
}

TEST_CASE("an optimizer belongs to the state dict that stands nearest to it", "[model]") {
  const std::string optimizer = kOptimizer;
  CHECK(beside("model/w float32 2; " + optimizer) == "'model'");
  CHECK(beside("model/net/w float32 2; " + optimizer) == "'model.net'");
  CHECK(beside("a/w float32 2; b/w float32 2; " + optimizer) == "'a' 'b'");
  CHECK(beside("a/w float32 2; train/w float32 2; train/epoch = 1; " + optimizer) == "'a'");
  CHECK(beside("gen/model/w float32 2; gen/opt/state = {}; gen/opt/param_groups = []; disc/w float32 2") ==
        "'gen.model'");
  CHECK(beside("model/w float32 2; loop/opts/first/state = {}; loop/opts/first/param_groups = []") ==
        "'model'");
  CHECK(beside("w float32 2; " + optimizer) == "the root");
}

TEST_CASE("an average is no model that an optimizer trains", "[model]") {
  const std::string optimizer = kOptimizer;
  CHECK(beside("model/w float32 2; ema/w float32 2; " + optimizer) == "'model'");
  CHECK(beside("model_ema/w float32 2; " + optimizer) == "");
  CHECK(beside("shadow/ema/w float32 2; run/model/w float32 2; " + optimizer) == "'run.model'");
}
