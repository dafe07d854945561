// SPDX-License-Identifier: BSD-3-Clause
// Values made of classes that the restricted loader refuses, as plain values that say exactly the same.
#pragma once

#include <optional>
#include <string_view>
#include <variant>

#include "ckpt/model/anatomy.h"
#include "ckpt/model/checkpoint.h"
#include "ckpt/model/numpy_values.h"

namespace ckpt {

/// A number or a text in its place.
struct PlainScalar {
  NumpyScalar value;
};

/// A tensor of the same values in its place.
struct PlainTensor {
  NumpyArray array;
};

/// A mapping that only has to be made as a dict.
struct PlainDict {
  Use maker = kNoUse;
};

/// The dict of its attributes in its place.
struct PlainAttributes {
  Use state = kNoUse;
};

using PlainForm = std::variant<PlainScalar, PlainTensor, PlainDict, PlainAttributes>;

/// The plain form of the finished value at `node`, which was taken apart into `anatomy`: NumPy's scalars and
/// arrays, Namespaces, members of enumerations, paths, defaultdicts. `global`: the class or function that
/// makes it, as `global_name` spells it. Nothing for a value that has none.
std::optional<PlainForm> plain_form(const ValueGraph& graph, Use node, const Anatomy& anatomy,
                                    std::string_view global);

/// What the form is called in reports: "float", "tensor", "dict".
std::string_view plain_form_name(const PlainForm& form);

}  // namespace ckpt
