// SPDX-License-Identifier: BSD-3-Clause
// How NumPy spells its values in pickles: scalars and arrays, by the calls of numpy.core and numpy._core.
// Reads the calls' arguments; calls nothing.
#pragma once

#include <complex>
#include <cstdint>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "ckpt/base/export.h"
#include "ckpt/model/dtype.h"
#include "ckpt/pickle/value_graph.h"

namespace ckpt {

/// The bytes that a value is: they stand in the text, or are a body outside it.
struct BytesValue {
  std::string bytes;
  std::optional<Extent> outside;  ///< in the source of the document; then `bytes` is empty
  bool is_latin1 = false;         ///< what lies outside is a text whose letters stand for the bytes
};

/// Of a bytes object, a bytearray, a string of Python 2, or protocol 2's _codecs.encode(text, 'latin1').
/// Nothing for other values.
CKPT_EXPORT std::optional<BytesValue> bytes_value(const ValueGraph& graph, Use use);

/// numpy.dtype('f8'): a letter for the kind of number and the bytes of one.
struct NumpyDtype {
  char kind = 0;  ///< of numpy: b, i, u, f, c, U, …
  std::uint32_t size = 0;
  bool big_endian = false;

  /// PyTorch's dtype of the same values, as torch.from_numpy has it.
  std::optional<Dtype> torch_dtype() const;
};

using NumpyScalar = std::variant<std::int64_t, double, bool, std::complex<double>, std::string>;

/// The number or text that the scalar at `node` is, exactly. Nothing for other values, and for scalars that
/// no Python value is exactly: times, long doubles, integers past int64.
CKPT_EXPORT std::optional<NumpyScalar> numpy_scalar(const ValueGraph& graph, Use node);

struct NumpyArray {
  NumpyDtype dtype;
  std::vector<std::int64_t> shape;
  bool fortran = false;  ///< the first dimension is the fastest
  Use bytes = kNoUse;    ///< what `bytes_value` takes
};

/// The array at `node`. Nothing for other values, subclasses of ndarray, arrays of objects and of records.
CKPT_EXPORT std::optional<NumpyArray> numpy_array(const ValueGraph& graph, Use node);

}  // namespace ckpt
