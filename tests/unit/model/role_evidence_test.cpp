// SPDX-License-Identifier: BSD-3-Clause
// What `_metadata`, neighbours and optimizers tell about the kinds of tensors.
#include "ckpt/model/role_evidence.h"

#include <string>
#include <vector>

#include "ckpt/model/parameter_roles.h"
#include "support/pickle_checkpoint.h"

using namespace ckpt;
using namespace ckpt::test;

namespace {

using Lines = std::vector<std::string>;

/// "key parameter by name" for each tensor of a state dict.
Lines roles(Checkpoint checkpoint) {
  note_roles(checkpoint);
  Lines out;
  for (const auto& tensor : checkpoint.tensors) {
    if (tensor.state_dict == kNoIndex) continue;
    const auto role = role_of(checkpoint, tensor);
    out.push_back(
        fmt::format("{} {} by {}", tensor.name, role_name(role.kind), evidence_name(role.evidence)));
  }
  return out;
}

/// An OrderedDict of keys whose values are tensors of two values, with this `_metadata`.
std::string with_metadata(const std::vector<std::string>& keys, const std::string& metadata) {
  std::string text = "GLOBAL collections OrderedDict; EMPTY_TUPLE; REDUCE; MARK; ";
  for (const auto& key : keys) text += fmt::format("BINUNICODE \"{}\"; $; ", key);
  return text + "SETITEMS; EMPTY_DICT; MARK; BINUNICODE \"_metadata\"; EMPTY_DICT; MARK; " + metadata +
         "SETITEMS; SETITEMS; BUILD";
}

std::string module_of_version(const std::string& name, int version) {
  return fmt::format("BINUNICODE \"{}\"; EMPTY_DICT; MARK; BINUNICODE \"version\"; BININT {}; SETITEMS; ",
                     name, version);
}

}  // namespace

TEST_CASE("_metadata has version 2 for norm layers", "[model]") {
  const Lines keys = {"bn.weight", "bn.running_mean", "other.weight", "other.running_mean"};
  CHECK(roles(pickled(with_metadata(keys, module_of_version("bn", 2) + module_of_version("other", 1)))) ==
        Lines{"bn.weight parameter by metadata", "bn.running_mean buffer by metadata",
              "other.weight parameter by name", "other.running_mean buffer by name"});
}

TEST_CASE("_metadata lists what spectral_norm registered", "[model]") {
  const Lines keys = {"conv.kernel_orig", "conv.kernel_u", "conv.kernel_v", "conv.other_v"};
  const std::string spectral =
      "BINUNICODE \"conv\"; EMPTY_DICT; MARK; BINUNICODE \"version\"; BININT 1; BINUNICODE "
      "\"spectral_norm\"; "
      "EMPTY_DICT; MARK; BINUNICODE \"kernel.version\"; BININT 1; SETITEMS; SETITEMS; ";
  CHECK(roles(pickled(with_metadata(keys, spectral))) ==
        Lines{"conv.kernel_orig parameter by metadata", "conv.kernel_u buffer by metadata",
              "conv.kernel_v buffer by metadata", "conv.other_v unknown by nothing"});
}

TEST_CASE("names beside each other tell of spectral_norm, weight_norm and prune", "[model]") {
  CHECK(roles(described("a.weight_orig float32 2; a.weight_u float32 2; a.weight_v float32 2")) ==
        Lines{"a.weight_orig parameter by name", "a.weight_u buffer by name", "a.weight_v buffer by name"});
  CHECK(roles(described("a.weight_g float32 2; a.weight_v float32 2")) ==
        Lines{"a.weight_g parameter by name", "a.weight_v parameter by name"});
  CHECK(roles(described("a.weight_orig float32 2; a.weight_mask float32 2")) ==
        Lines{"a.weight_orig parameter by name", "a.weight_mask buffer by name"});
}

TEST_CASE("positions near a class token are learned", "[model]") {
  CHECK(roles(described("class_token float32 2; encoder.pos_embedding float32 2")) ==
        Lines{"class_token parameter by name", "encoder.pos_embedding parameter by name"});
  CHECK(roles(described("vit.cls_token float32 2; vit.pos_embed float32 2; decoder.pos_embed float32 2")) ==
        Lines{"vit.cls_token parameter by name", "vit.pos_embed parameter by name",
              "decoder.pos_embed unknown by nothing"});
  CHECK(roles(described("encoding.pos_embedding float32 2")) ==
        Lines{"encoding.pos_embedding unknown by nothing"});
}

namespace {

/// Assembly of a tensor of this size; any size fits, and different offsets make different tensors.
std::string tensor(int size, int offset = 0) {
  TensorPickle pickle;
  pickle.view = "";
  pickle.offset = fmt::format("BININT {}", offset);
  pickle.sizes = fmt::format("MARK; BININT {}; TUPLE", size);
  pickle.strides = "MARK; BININT 0; TUPLE";
  return pickle.value() + "; ";
}

std::string key(const std::string& name, int size, int offset = 0) {
  return fmt::format("BINUNICODE \"{}\"; {}", name, tensor(size, offset));
}

/// A model of these keys, and an optimizer with states of these sizes, in so many groups.
std::string kinds(const std::string& keys, const std::vector<int>& sizes, std::size_t groups = 1) {
  auto text =
      "EMPTY_DICT; MARK; BINUNICODE \"model\"; EMPTY_DICT; MARK; " + keys +
      "SETITEMS; BINUNICODE \"optimizer\"; EMPTY_DICT; MARK; BINUNICODE \"state\"; EMPTY_DICT; MARK; ";
  for (std::size_t i = 0; i < sizes.size(); ++i)
    text +=
        fmt::format("BININT {}; EMPTY_DICT; MARK; BINUNICODE \"exp_avg\"; {}SETITEMS; ", i, tensor(sizes[i]));
  text += "SETITEMS; BINUNICODE \"param_groups\"; EMPTY_LIST; MARK; ";
  for (std::size_t group = 0, index = 0; group < groups; ++group) {
    text += "EMPTY_DICT; MARK; BINUNICODE \"params\"; EMPTY_LIST; MARK; ";
    for (const auto end = sizes.size() * (group + 1) / groups; index < end; ++index)
      text += fmt::format("BININT {}; ", index);
    text += "APPENDS; SETITEMS; ";
  }
  auto checkpoint = pickled(text + "APPENDS; SETITEMS; SETITEMS");
  note_roles(checkpoint);
  std::string out;
  for (const auto& row : checkpoint.tensors) {
    if (row.state_dict == kNoIndex) continue;
    const auto role = role_of(checkpoint, row);
    out += role.evidence == RoleEvidence::kOptimizer ? 'o' : role.kind == RoleKind::kUnknown ? '?' : 'n';
  }
  return out;
}

}  // namespace

TEST_CASE("states of an optimizer that fit the keys in one way alone are parameters'", "[model]") {
  const auto three = key("token", 1) + key("a.weight", 2) + key("pe", 3);
  CHECK(kinds(three, {1, 2, 3}) == "ooo");
  CHECK(kinds(three, {1, 2}) == "oo?");  // it proves no buffer
  CHECK(kinds(three, {2, 1}) == "?n?");
  CHECK(kinds(three, {1, 2, 3}, 2) == "ooo");
  CHECK(kinds(three, {1, 3}, 2) == "?n?");  // groups need not follow each other
  CHECK(kinds(three, {1, 2, 3, 4}) == "?n?");
  CHECK(kinds(key("token", 2) + key("a.weight", 2, 1), {2}) == "?n");
  CHECK(kinds(key("token", 2) + key("a.weight", 2, 1), {2, 2}) == "oo");
}

TEST_CASE("an optimizer that names its parameters tells of each", "[model]") {
  auto checkpoint = checkpoint_of(zip_of_pickle(
      "EMPTY_DICT; MARK; BINUNICODE \"model\"; EMPTY_DICT; MARK; BINUNICODE \"token\"; $; BINUNICODE \"pe\"; "
      "$; "
      "SETITEMS; BINUNICODE \"optimizer\"; EMPTY_DICT; MARK; BINUNICODE \"state\"; EMPTY_DICT; BINUNICODE "
      "\"param_groups\"; EMPTY_LIST; MARK; EMPTY_DICT; MARK; BINUNICODE \"params\"; EMPTY_LIST; MARK; BININT "
      "0; "
      "APPENDS; BINUNICODE \"param_names\"; EMPTY_LIST; MARK; BINUNICODE \"token\"; APPENDS; SETITEMS; "
      "APPENDS; "
      "SETITEMS; SETITEMS"));
  CHECK(roles(std::move(checkpoint)) == Lines{"token parameter by optimizer", "pe unknown by nothing"});
}
