// SPDX-License-Identifier: BSD-3-Clause
// What the code in a TorchScript archive declares: of each class its attributes in order, which of them are
// parameters and buffers, and its methods. Reads the heads of classes and skips everything else; no
// expression is parsed and nothing runs. Source: torch/csrc/jit/serialization/python_print.cpp.
//
//   class Linear(Module):
//     __parameters__ = ["weight", "bias", ]
//     __buffers__ = []                             since PyTorch 1.6
//     weight : Tensor
//     bias : Optional[Tensor]
//     __annotations__["0"] = __torch__.x.Y         names that are no identifiers
//     out_features : Final[int] = 2                a constant: no attribute
//     def forward(self: __torch__.x.Linear,
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "ckpt/base/diagnostics.h"
#include "ckpt/base/result.h"
#include "ckpt/pickle/value_graph.h"
#include "ckpt/zip/directory.h"

namespace ckpt {

struct ScriptAttribute {
  std::string name;
  std::string type;  ///< as the code spells it: "Tensor", "Optional[Tensor]"
  bool is_parameter = false;
  bool is_buffer = false;
};

struct ScriptClass {
  std::string name;                         ///< without its module
  bool is_module = false;                   ///< else a named tuple, an enum, an interface or a plain class
  bool lists_buffers = false;               ///< has `__buffers__`
  std::vector<ScriptAttribute> attributes;  ///< in the order of the code
  std::vector<std::string> methods;

  /// Position among the attributes, or kNoIndex.
  std::uint32_t position(std::string_view attribute) const;

  std::unordered_map<std::string, std::uint32_t> positions;
};

inline constexpr std::size_t kMostDeclarations = 1U << 18U;  ///< in an archive; real ones have some thousands

/// The classes of a file. A class whose head can't be read is left out. Errors: kRefused for more than `most`
/// classes, attributes and methods.
Result<std::vector<ScriptClass>> parse_script_classes(std::string_view code,
                                                      std::size_t most = kMostDeclarations);

/// The classes of an archive's code. A file is read when one of its classes is asked for.
class ScriptClasses {
 public:
  /// `directory` must outlive this.
  ScriptClasses(const ZipDirectory& directory, Diagnostics& diagnostics)
      : directory_(directory), diagnostics_(diagnostics) {}

  /// nullptr for a class that the code does not have, or whose file can't be read (a finding then).
  const ScriptClass* find(const GlobalName& name);

 private:
  using File = std::unordered_map<std::string, ScriptClass>;

  File read(const std::string& module);
  Result<std::vector<ScriptClass>> parse(RecordId record);

  const ZipDirectory& directory_;
  Diagnostics& diagnostics_;
  std::unordered_map<std::string, File> files_;  ///< by module: "__torch__.torch.nn.modules.linear"
  std::uint64_t bytes_left_ = 256U << 20U;       ///< of code, all files together
  std::size_t declarations_left_ = kMostDeclarations;
  bool reported_ = false;
};

/// Is it the name of a class that TorchScript made from Python's? Not one of those that C++ brings along.
bool is_script_class(const GlobalName& name);

}  // namespace ckpt
