// SPDX-License-Identifier: BSD-3-Clause
#include "support/script_builder.h"

#include <algorithm>
#include <bit>
#include <cstdint>

#include <fmt/format.h>

#include "support/checkpoint_builder.h"
#include "support/pickle_assembler.h"
#include "support/zip_builder.h"

namespace ckpt::test {

std::string script_tensor(std::string_view key, int numel, bool requires_grad) {
  return fmt::format(
      "GLOBAL torch._utils _rebuild_tensor_v2; MARK; MARK; BINUNICODE storage; GLOBAL torch FloatStorage; "
      "BINUNICODE \"{0}\"; BINUNICODE cpu; BININT1 {1}; TUPLE; BINPERSID; BININT1 0; MARK; BININT1 {1}; "
      "TUPLE; "
      "MARK; BININT1 1; TUPLE; {2}; GLOBAL collections OrderedDict; EMPTY_TUPLE; REDUCE; TUPLE; REDUCE",
      key, numel, requires_grad ? "NEWTRUE" : "NEWFALSE");
}

std::string script_object(std::string_view class_name,
                          const std::vector<std::pair<std::string, std::string>>& attributes) {
  std::string out = fmt::format("GLOBAL {}; EMPTY_TUPLE; NEWOBJ; EMPTY_DICT; MARK", class_name);
  for (const auto& [name, value] : attributes) out += fmt::format("; BINUNICODE \"{}\"; {}", name, value);
  return out + "; SETITEMS; BUILD";
}

void ScriptPieces::add_storage(const std::string& name, int numel) {
  Bytes bytes;
  for (int i = 0; i < numel; ++i) append_le(bytes, std::bit_cast<std::uint32_t>(static_cast<float>(i)));
  records[name] = as_text(bytes);
}

Bytes ScriptPieces::build() const {
  auto all = records;
  all.emplace("data.pkl", as_text(testing::assemble(object)));
  all.emplace("constants.pkl", as_text(testing::assemble(constants)));
  all.emplace("version", "3\n");
  std::string archive;
  for (const auto& [name, bytes] : all) {
    if (std::find(leave_out.begin(), leave_out.end(), name) == leave_out.end())
      archive += fmt::format("archive/{} body={};", name, escaped(bytes));
  }
  return build_zip(archive);
}

ScriptPieces small_script() {
  ScriptPieces pieces;
  const auto fc = script_object("__torch__.layers Linear", {{"weight", script_tensor("1", 6, true)},
                                                            {"bias", script_tensor("2", 2, true)},
                                                            {"training", "NEWFALSE"}});
  pieces.object = "PROTO 2; " +
                  script_object("__torch__ Net", {{"scale", script_tensor("0", 1)},
                                                  {"training", "NEWFALSE"},
                                                  {"plain", script_tensor("3", 3)},
                                                  {"fc", fc}}) +
                  "; STOP";
  pieces.records["code/__torch__.py"] =
      "class Net(Module):\n"
      "  __parameters__ = []\n"
      "  __buffers__ = [\"scale\", ]\n"
      "  scale : Tensor\n"
      "  training : bool\n"
      "  plain : Tensor\n"
      "  fc : __torch__.layers.Linear\n"
      "  def forward(self: __torch__.Net,\n"
      "    x: Tensor) -> Tensor:\n"
      "    return x\n";
  pieces.records["code/__torch__/layers.py"] =
      "class Linear(Module):\n"
      "  __parameters__ = [\"weight\", \"bias\", ]\n"
      "  __buffers__ = []\n"
      "  weight : Tensor\n"
      "  bias : Optional[Tensor]\n"
      "  training : bool\n"
      "  out_features : Final[int] = 2\n";
  for (const auto& [key, numel] : {std::pair{"0", 1}, {"1", 6}, {"2", 2}, {"3", 3}})
    pieces.add_storage(std::string("data/") + key, numel);
  return pieces;
}

}  // namespace ckpt::test
