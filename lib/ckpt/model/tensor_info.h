// SPDX-License-Identifier: BSD-3-Clause
// A tensor as checkpoints describe it: a view of a storage, with a name if a state dict names it. No bytes.
#pragma once

#include <cstdint>
#include <string_view>

#include "ckpt/base/export.h"
#include "ckpt/model/dtype.h"
#include "ckpt/pickle/value_graph.h"

namespace ckpt {

using TensorId = std::uint32_t;   ///< row of the tensor table
using StorageId = std::uint32_t;  ///< row of the storage table
using PlaceId = std::uint32_t;    ///< where in the file a value sits; see Place

inline constexpr std::uint32_t kNoIndex = 0xFFFFFFFFU;  ///< no tensor, no storage, no place

/// What a tensor says about itself beyond its view; bits.
enum TensorFlag : std::uint16_t {
  kRequiresGrad = 1,
  kIsParameter = 2,      ///< wrapped as an nn.Parameter
  kContiguous = 4,       ///< strides are those of C order and are not stored
  kConjugate = 8,        ///< lazy conjugation: values are the conjugates of the bytes
  kNegative = 16,        ///< lazy negation
  kBufferByModule = 32,  ///< found among a module's buffers
  kIsPart = 64,          ///< a component of the composite tensor before it, not an entry of its own
  kReplaced = 128,       ///< an edit gave the row another view; the document still spells the old one
  kInserted = 256,       ///< an edit added the row: no document has it
  kMadeAnew = 512,       ///< an edit gave it values that have nothing to do with the old ones
  kRelocated = 1024,     ///< an edit laid the same values elsewhere; the document still spells the old place
};

enum class TensorLayout : std::uint8_t {
  kStrided,
  kSparseCoo,
  kSparseCompressed,  ///< CSR, CSC, BSR, BSC
  kQuantized,
  kNested,
  kMeta,     ///< no data in the file
  kWrapper,  ///< a subclass that keeps its tensors in its state
};

CKPT_EXPORT std::string_view tensor_layout_name(TensorLayout layout);

/// What a tensor is to the model; see parameter_roles.h.
enum class RoleKind : std::uint8_t { kParameter, kBuffer, kUnknown, kOptimizer, kOther };

/// What says so, from strong to weak.
enum class RoleEvidence : std::uint8_t {
  kModule,     ///< it lies among a module's parameters or buffers
  kObject,     ///< it is an nn.Parameter, or requires a gradient
  kOption,     ///< the user says so
  kOptimizer,  ///< an optimizer of the file has a state for it
  kMetadata,   ///< `_metadata` tells what its module is
  kDtype,      ///< integers and booleans can't be trained
  kName,       ///< names that PyTorch's own layers give
  kPlace,      ///< it lies in an optimizer's state, or in no state dict
  kNothing,
};

struct TensorRole {
  RoleKind kind = RoleKind::kUnknown;
  RoleEvidence evidence = RoleEvidence::kNothing;
};

/// One row. Sizes and strides lie in the checkpoint's pool: `rank` sizes, then `rank` strides unless
/// kContiguous.
struct TensorInfo {
  std::string_view name;            ///< key in its state dict; empty data() outside state dicts
  std::uint64_t offset = 0;         ///< first element, in elements of dtype from the start of the storage
  std::uint64_t dimensions_at = 0;  ///< into the pool
  Use use = kNoUse;  ///< where in the document, perhaps a GET; kNoUse in containers without one
  PlaceId place = kNoIndex;
  StorageId storage = kNoIndex;         ///< kNoIndex for composites and meta tensors
  std::uint32_t state_dict = kNoIndex;  ///< index of the state dict whose key it is
  std::uint16_t flags = 0;
  Dtype dtype = Dtype::kUint8;
  TensorLayout layout = TensorLayout::kStrided;
  std::uint8_t rank = 0;
  std::uint8_t parts = 0;  ///< rows that follow and belong to this composite
  TensorRole noted;        ///< what the rest of the file tells about it, after `note_roles`

  bool has(TensorFlag flag) const { return (flags & flag) != 0; }

  /// Do its bytes stand for other values?
  bool is_lazy() const { return has(kConjugate) || has(kNegative); }
};

}  // namespace ckpt
