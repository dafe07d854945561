// SPDX-License-Identifier: BSD-3-Clause
// A new archive, record for record where PyTorch 2.7 and later put them, which keeps the promise of
// `.format_version`. Nothing is aligned to pages: storages that lay otherwise could share none of them.
#include <string>
#include <string_view>
#include <utility>

#include "ckpt/base/crc32.h"
#include "ckpt/format/new_records.h"
#include "ckpt/format/tensor_bytes.h"
#include "ckpt/format/torch_document.h"
#include "ckpt/format/torch_object.h"
#include "ckpt/zip/entry_layout.h"
#include "ckpt/zip/records.h"

namespace ckpt {
namespace {

constexpr std::string_view kRoot = "archive/";  // what torch.save takes where the file has no name
constexpr std::uint64_t kChunk = 1U << 20U;

class ZipTarget {
 public:
  ZipTarget(Checkpoint& checkpoint, const TorchObject& object) : checkpoint_(checkpoint), object_(object) {}

  Result<Layout> run() {
    std::vector<DataRef> storages;
    storages.reserve(object_.storages.size());
    TensorBytes bytes(checkpoint_);
    for (const auto id : object_.storages) {
      CKPT_ASSIGN_OR_RETURN(auto data, bytes.storage(id));
      storages.push_back(std::move(data));
    }
    bytes.finish();
    CKPT_RETURN_IF_ERROR(append_object());
    append_small(".format_version", "1");
    append_small(".storage_alignment", std::to_string(kTorchAlignment));
    append_small("byteorder", "little");
    for (std::size_t i = 0; i < storages.size(); ++i)
      records_.append(full_name("data/" + std::to_string(i)), storages[i]);
    append_small("version", "3\n");
    append_directory();
    return std::move(layout_);
  }

 private:
  Status append_object() {
    const auto& pickle = object_.pickle;
    CKPT_ASSIGN_OR_RETURN(const auto sum, checksum());
    records_.begin(full_name("data.pkl"), pickle.size(), sum);
    append_pickle(layout_, pickle, static_cast<std::uint32_t>(checkpoint_.parts.size()));
    if (!pickle.bodies.empty()) checkpoint_.parts.push_back({object_.bodies, {}, {}});
    records_.end();
    return {};
  }

  Result<std::uint32_t> checksum() const {
    if (object_.pickle.bodies.empty()) return crc32(0, object_.pickle.text);
    const auto source = make_pickle_source(object_.pickle, object_.bodies);
    std::uint32_t sum = 0;
    Bytes buffer(kChunk);
    for (std::uint64_t at = 0; at < source->size();) {
      const auto chunk = std::span(buffer).first(std::min(source->size() - at, kChunk));
      CKPT_RETURN_IF_ERROR(source->read_at(at, chunk));
      sum = crc32(sum, chunk);
      at += chunk.size();
    }
    return sum;
  }

  void append_small(std::string_view name, std::string_view text) {
    const auto bytes = as_bytes(text);
    records_.append(full_name(name), DataRef::of_bytes({bytes.begin(), bytes.end()}));
  }

  void append_directory() {
    const auto start = layout_.position();
    records_.append_central_entries();
    layout_.append_literal(
        spell_end_records(records_.count(), {start, layout_.position() - start}, true, {}));
  }

  static std::string full_name(std::string_view name) { return std::string(kRoot) + std::string(name); }

  Checkpoint& checkpoint_;
  const TorchObject& object_;
  Layout layout_;
  NewRecords records_{layout_, kFlagUtf8};
};

}  // namespace

Result<Layout> lay_out_torch_zip(Checkpoint& checkpoint, const TorchObject& object) {
  return ZipTarget(checkpoint, object).run();
}

}  // namespace ckpt
