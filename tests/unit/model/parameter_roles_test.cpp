// SPDX-License-Identifier: BSD-3-Clause
// Parameter or buffer, and of what part of a training run.
#include "ckpt/model/parameter_roles.h"

#include <string>
#include <vector>

#include "support/pickle_checkpoint.h"

using namespace ckpt;
using namespace ckpt::test;

namespace {

const TensorInfo& first(const Checkpoint& checkpoint) {
  REQUIRE_FALSE(checkpoint.tensors.empty());
  return checkpoint.tensors.front();
}

/// "parameter, by name" of the file's first tensor.
std::string role(const std::string& description) {
  const auto checkpoint = described(description);
  const auto found = role_of(checkpoint, first(checkpoint));
  return fmt::format("{}, by {}", role_name(found.kind), evidence_name(found.evidence));
}

std::string section(const Checkpoint& checkpoint) {
  return std::string(section_name(section_of(checkpoint, first(checkpoint))));
}

}  // namespace

TEST_CASE("a tensor's role comes from the strongest evidence that the file has", "[model]") {
  const std::vector<std::pair<std::string, std::string>> cases = {
      {"weight float32 2", "parameter, by name"},
      {"layer.bias float32 2", "parameter, by name"},
      {"lstm.weight_ih_l0 float32 2", "parameter, by name"},
      {"lstm.bias_hh_l0 float32 2", "parameter, by name"},
      {"attention.in_proj_weight float32 2", "parameter, by name"},
      {"attention.in_proj_bias float16 2", "parameter, by name"},
      {"class_token float32 1x1x2", "parameter, by name"},
      {"vit.cls_token float32 1x1x2", "parameter, by name"},
      {"block.attn.relative_position_bias_table float32 9x2", "parameter, by name"},
      {"fc.parametrizations.weight.original float32 2", "parameter, by name"},
      {"fc.parametrizations.weight.original1 float32 2", "parameter, by name"},
      {"fc.parametrizations.mean.original float32 2", "unknown, by nothing"},
      {"fc.parametrizations.weight.0._u float32 2", "buffer, by name"},
      {"fc.parametrizations.weight.0.base float32 2", "buffer, by name"},
      {"fc.parametrizations.weight.0.gain float32 2", "unknown, by nothing"},
      {"parametrizations.original float32 2", "unknown, by nothing"},
      {"fc.base float32 2", "unknown, by nothing"},
      {"weight_u float32 2", "buffer, by name"},
      {"weights float32 2", "unknown, by nothing"},
      {"weight.g float32 2", "unknown, by nothing"},
      {"unbias float32 2", "unknown, by nothing"},
      {"bn.running_mean float32 2", "buffer, by name"},
      {"bn.running_var float32 2", "buffer, by name"},
      {"bn.num_batches_tracked int64 scalar", "buffer, by name"},
      {"running_mean.weight float32 2", "parameter, by name"},
      {"position_ids int64 2", "buffer, by dtype"},
      {"mask bool 2", "buffer, by dtype"},
      {"q.weight int8 2", "buffer, by dtype"},
      {"scale complex64 2", "unknown, by nothing"},
      {"scale float32 2 parameter", "parameter, by object"},
      {"running_mean float32 2 parameter", "parameter, by object"},
      {"ids int64 2 parameter", "parameter, by object"},
      // outside state dicts names say nothing
      {"history/weight float32 2; history/epoch = 1", "other, by place"},
      {"o/state/weight float32 2; o/param_groups = 1", "optimizer, by place"},
      {"o/state/p float32 2 parameter; o/param_groups = 1", "optimizer, by place"},
  };
  for (const auto& [description, expected] : cases) {
    CAPTURE(description);
    CHECK(role(description) == expected);
  }
}

TEST_CASE("a tensor belongs to the part of a training run that its path names", "[model]") {
  const std::vector<std::pair<std::string, std::string>> cases = {
      {"w float32 2", "model"},
      {"state_dict/w float32 2", "model"},
      {"ema/w float32 2", "ema"},
      {"EMA/w float32 2", "ema"},
      {"model_ema/w float32 2", "ema"},
      {"ema2/w float32 2", "ema"},
      {"a-ema-b/w float32 2", "ema"},
      {"ema_model/net/w float32 2", "ema"},
      {"schema/w float32 2", "model"},
      {"emanation/w float32 2", "model"},
      {"schema_ema/w float32 2", "ema"},
      {"ema.w float32 2", "model"},  // the key of a tensor, not the name of a part
      {"o/state/w float32 2; o/param_groups = 1", "optimizer"},
      {"ema/o/state/w float32 2; ema/o/param_groups = 1", "optimizer"},
      {"o/ema/w float32 2; o/state = 1; o/param_groups = 1", "ema"},
      {"history/w float32 2; history/epoch = 1", "other"},
  };
  for (const auto& [description, expected] : cases) {
    CAPTURE(description);
    CHECK(section(described(description)) == expected);
  }
  CHECK(section(pickled("EMPTY_LIST; $; APPEND")) == "other");
  CHECK(section(checkpoint_of(build_safetensors("ema.w float32 2"))) == "model");
}
