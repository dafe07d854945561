// SPDX-License-Identifier: BSD-3-Clause
// A new archive, record for record where PyTorch 2.7 and later put them, which keeps the promise of
// `.format_version`. Nothing is aligned to pages: storages that lay otherwise could share none of them.
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "ckpt/base/crc32.h"
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
      append_storage("data/" + std::to_string(i), storages[i]);
    append_small("version", "3\n");
    append_directory();
    return std::move(layout_);
  }

 private:
  struct Record {
    std::string name;  ///< full
    std::uint64_t header_offset = 0;
    std::uint64_t size = 0;
    std::optional<std::uint32_t> crc32;
    std::size_t summed_copy = 0;  ///< segment that gives the CRC where it is not known
  };

  /// Appends the local header. Returns the descriptor.
  Bytes open(const Record& record) {
    auto spelled =
        respell_record(new_local_header(record.name, kFlagUtf8, record.size != 0), record.header_offset,
                       {kTorchAlignment}, record.size, record.size, record.crc32.value_or(0));
    layout_.append_literal(spelled.header);
    return std::move(spelled.descriptor);
  }

  Record make_record(std::string_view name, std::uint64_t size, std::optional<std::uint32_t> crc) const {
    return {std::string(kRoot) + std::string(name), layout_.position(), size, size == 0 ? 0 : crc};
  }

  Status append_object() {
    const auto& pickle = object_.pickle;
    CKPT_ASSIGN_OR_RETURN(const auto sum, checksum());
    auto record = make_record("data.pkl", pickle.size(), sum);
    const auto descriptor = open(record);
    append_pickle(layout_, pickle, static_cast<std::uint32_t>(checkpoint_.parts.size()));
    if (!pickle.bodies.empty()) checkpoint_.parts.push_back({object_.bodies, {}, {}});
    layout_.append_literal(descriptor);
    records_.push_back(std::move(record));
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
    auto record = make_record(name, bytes.size(), crc32(0, bytes));
    const auto descriptor = open(record);
    layout_.append_literal(bytes);
    layout_.append_literal(descriptor);
    records_.push_back(std::move(record));
  }

  void append_storage(std::string_view name, const DataRef& data) {
    auto record = make_record(name, data.size(), data.in_memory ? crc32(0, *data.in_memory) : data.crc32);
    const auto descriptor = open(record);
    if (record.crc32) {
      layout_.append_data(data);
    } else {
      record.summed_copy = layout_.append_summed_copy(data.part, data.extent);
    }
    append_with_crc(descriptor, kCrcInDescriptor, record);
    records_.push_back(std::move(record));
  }

  /// `bytes` have the CRC at `at`, if it is known.
  void append_with_crc(ByteView bytes, std::size_t at, const Record& record) {
    if (record.crc32) return layout_.append_literal(bytes);
    layout_.append_literal(bytes.first(at));
    layout_.append_checksum(record.summed_copy);
    layout_.append_literal(bytes.subspan(at + Layout::kChecksumSize));
  }

  void append_directory() {
    const auto start = layout_.position();
    for (const auto& record : records_) {
      const auto original = new_central_entry(record.name, kFlagUtf8, record.size != 0);
      const auto entry = respell_central_entry(original, record.header_offset, record.size, record.size,
                                               record.crc32.value_or(0));
      append_with_crc(entry, kCrcInCentralEntry, record);
    }
    layout_.append_literal(spell_end_records(records_.size(), {start, layout_.position() - start}, true, {}));
  }

  Checkpoint& checkpoint_;
  const TorchObject& object_;
  Layout layout_;
  std::vector<Record> records_;
};

}  // namespace

Result<Layout> lay_out_torch_zip(Checkpoint& checkpoint, const TorchObject& object) {
  return ZipTarget(checkpoint, object).run();
}

}  // namespace ckpt
