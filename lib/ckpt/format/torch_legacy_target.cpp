// SPDX-License-Identifier: BSD-3-Clause
#include <algorithm>
#include <string>
#include <string_view>
#include <unordered_set>
#include <utility>

#include <fmt/format.h>

#include "ckpt/base/text.h"
#include "ckpt/format/tensor_bytes.h"
#include "ckpt/format/torch_document.h"
#include "ckpt/format/torch_object.h"
#include "ckpt/pickle/pickler.h"

namespace ckpt {
namespace {

using std::string_view_literals::operator""sv;

// Magic number and protocol version, both in protocol 2.
constexpr std::string_view kMagic =
    "\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.\x80\x02M\xe9\x03."sv;

// Protocol version, byte order and sizes of C's types: what nobody asks for, as PyTorch writes it.
constexpr std::string_view kSystem =
    "\x80\x02}q\x00(X\x10\x00\x00\x00protocol_versionq\x01M\xe9\x03X\x0d\x00\x00\x00little_endianq\x02\x88"
    "X\x0a\x00\x00\x00type_sizesq\x03}q\x04(X\x05\x00\x00\x00shortq\x05K\x02X\x03\x00\x00\x00intq\x06K\x04"
    "X\x04\x00\x00\x00longq\x07K\x04uu."sv;

Bytes keys_pickle(std::size_t count) {
  Pickler pickler;
  pickler.empty_list();
  for (std::size_t i = 0; i < count; ++i) {
    pickler.begin_item(i, count);
    pickler.string(std::to_string(i));
    pickler.end_item(i, count, false);
  }
  return std::move(pickler).finish();
}

std::string name_of(const Checkpoint& checkpoint, const TensorInfo& row) {
  return row.name.data() != nullptr ? std::string(row.name) : checkpoint.path(row.place);
}

Error unreadable(std::string_view what, std::string_view why) {
  return Error(ErrorCode::kUnsupported,
               fmt::format("{} {}, which no PyTorch reads from a legacy stream", what, why));
}

/// Storages that are counted in bytes can be written, but no PyTorch reads them.
Status check_dtypes(const Checkpoint& checkpoint, const TorchObject& object) {
  for (const auto id : object.storages) {
    const auto& storage = checkpoint.storages[id];
    if (!storage.untyped && !dtype_info(storage.dtype).storage_class.empty()) continue;
    const auto& rows = checkpoint.tensors;
    const auto row =
        std::find_if(rows.begin(), rows.end(), [&](const auto& info) { return info.storage == id; });
    if (row == rows.end())
      return unreadable(fmt::format("storage {}", quoted(storage.key)), "has no element type");
    return unreadable(fmt::format("tensor {}", quoted(name_of(checkpoint, *row))),
                      fmt::format("is of dtype {}", dtype_info(row->dtype).name));
  }
  return {};
}

/// The sizes of a nested tensor are wanted when the object is made, and their bytes come after it.
Status check_nested(const Checkpoint& checkpoint, const TorchObject& object) {
  const std::unordered_set<StorageId> live(object.storages.begin(), object.storages.end());
  for (TensorId id = 0; id < checkpoint.tensors.size(); ++id) {
    const auto& row = checkpoint.tensors[id];
    if (row.layout != TensorLayout::kNested || row.parts == 0) continue;
    if (live.contains(checkpoint.tensors[id + 1].storage))
      return unreadable(fmt::format("tensor {}", quoted(name_of(checkpoint, row))), "is nested");
  }
  return {};
}

}  // namespace

Result<Layout> lay_out_torch_legacy(Checkpoint& checkpoint, const TorchObject& object) {
  CKPT_RETURN_IF_ERROR(check_dtypes(checkpoint, object));
  CKPT_RETURN_IF_ERROR(check_nested(checkpoint, object));
  Layout layout;
  layout.append_literal(as_bytes(kMagic));
  layout.append_literal(as_bytes(kSystem));
  TensorBytes bytes(checkpoint);
  std::vector<DataRef> storages;
  storages.reserve(object.storages.size());
  for (const auto id : object.storages) {
    CKPT_ASSIGN_OR_RETURN(auto data, bytes.storage(id));
    storages.push_back(std::move(data));
  }
  bytes.finish();
  append_pickle(layout, object.pickle, static_cast<std::uint32_t>(checkpoint.parts.size()));
  if (!object.pickle.bodies.empty()) checkpoint.parts.push_back({object.bodies, {}, {}});
  layout.append_literal(keys_pickle(object.storages.size()));
  for (std::size_t i = 0; i < storages.size(); ++i) {
    Bytes count;
    append_le<std::uint64_t>(
        count, storages[i].size() / dtype_info(checkpoint.storages[object.storages[i]].dtype).item_size);
    layout.append_literal(count);
    layout.append_data(storages[i]);
  }
  return layout;
}

}  // namespace ckpt
