// SPDX-License-Identifier: BSD-3-Clause
#include "ckpt/format/new_records.h"

#include <utility>

#include "ckpt/base/crc32.h"

namespace ckpt {

void NewRecords::append(std::string name, const DataRef& data, DataAlignment alignment) {
  begin(std::move(name), data.size(), data.in_memory ? crc32(0, *data.in_memory) : data.crc32, alignment);
  auto& record = records_.back();
  if (record.crc32) {
    layout_.append_data(data);
  } else {
    record.summed_copy = layout_.append_summed_copy(data.part, data.extent);
  }
  end();
}

void NewRecords::begin(std::string name, std::uint64_t size, std::optional<std::uint32_t> crc32,
                       DataAlignment alignment) {
  if (size == 0) crc32 = 0;
  const auto offset = layout_.position();
  auto spelled = respell_record(new_local_header(name, flags_, size != 0), offset, alignment, size, size,
                                crc32.value_or(0));
  layout_.append_literal(spelled.header);
  descriptor_ = std::move(spelled.descriptor);
  records_.push_back({std::move(name), offset, size, crc32});
}

void NewRecords::end() {
  append_with_crc(descriptor_, kCrcInDescriptor, records_.back());
}

void NewRecords::append_central_entries() {
  for (const auto& record : records_) {
    const auto original = new_central_entry(record.name, flags_, record.size != 0);
    const auto entry = respell_central_entry(original, record.header_offset, record.size, record.size,
                                             record.crc32.value_or(0));
    append_with_crc(entry, kCrcInCentralEntry, record);
  }
}

/// `bytes` have the CRC at `at`, if it is known.
void NewRecords::append_with_crc(ByteView bytes, std::size_t at, const Record& record) {
  if (record.crc32) return layout_.append_literal(bytes);
  layout_.append_literal(bytes.first(at));
  layout_.append_checksum(record.summed_copy);
  layout_.append_literal(bytes.subspan(at + Layout::kChecksumSize));
}

}  // namespace ckpt
