// SPDX-License-Identifier: BSD-3-Clause
// TorchScript archives in pieces, each of which a test can replace: the object as pickle assembly, the code
// as it stands in the file.
#pragma once

#include <map>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "ckpt/base/bytes.h"

namespace ckpt::test {

/// Assembly of a float32 tensor of one dimension on storage `key`.
std::string script_tensor(std::string_view key, int numel, bool requires_grad = false);

/// Assembly of an object of class `module name` ("__torch__ Net") with attributes: name and assembly of each.
std::string script_object(std::string_view class_name,
                          const std::vector<std::pair<std::string, std::string>>& attributes);

struct ScriptPieces {
  std::string object = "PROTO 2; NONE; STOP";
  std::string constants = "PROTO 2; EMPTY_TUPLE; STOP";
  std::map<std::string, std::string> records;  ///< by name below the root: code, storages, …
  std::vector<std::string> leave_out;          ///< names of records that are not written

  /// `numel` float32 as the record `name`, counting from 0.
  void add_storage(const std::string& name, int numel);
  Bytes build() const;
};

/// A module `Net` with a child `fc`: parameters fc.weight and fc.bias, a buffer `scale`, a plain tensor.
ScriptPieces small_script();

}  // namespace ckpt::test
