// SPDX-License-Identifier: BSD-3-Clause
#include "ckpt/format/safetensors_buffer.h"

#include <algorithm>
#include <array>
#include <utility>

#include <fmt/format.h>

#include "ckpt/base/checked_math.h"
#include "ckpt/format/safetensors.h"

namespace ckpt {
namespace {

constexpr std::uint64_t kLengthSize = 8;
constexpr std::uint64_t kAlignment = 8;  // of the buffer, as the reference writes it
constexpr std::uint64_t kPage = 4096;    // what reflinks can share

}  // namespace

std::uint64_t SafetensorsBuffer::append(const DataRef& data) {
  const auto at = size_;
  if (data.size() == 0) return at;
  size_ += data.size();
  auto* last = runs_.empty() ? nullptr : &runs_.back().data;
  const bool goes_on = last != nullptr && !last->in_memory && !data.in_memory && last->part == data.part &&
                       last->extent.end() == data.extent.offset;
  if (goes_on) {
    last->extent.size += data.extent.size;
  } else {
    runs_.push_back({data, at});
  }
  return at;
}

Result<Layout> SafetensorsBuffer::lay_out(std::string header) const {
  pad(header);
  if (header.size() > kLargestSafetensorsHeader) {
    return Error(ErrorCode::kUnsupported, fmt::format("the new header needs {} bytes, safetensors allows {}",
                                                      header.size(), kLargestSafetensorsHeader));
  }
  Layout layout;
  Bytes length;
  append_le<std::uint64_t>(length, header.size());
  layout.append_literal(length);
  layout.append_literal(as_bytes(header));
  for (const auto& run : runs_) layout.append_data(run.data);
  return layout;
}

void SafetensorsBuffer::pad(std::string& header) const {
  const auto least = kLengthSize + header.size();
  auto start = align_up(least, kAlignment);
  const auto wanted = best_start_in_page();
  if (wanted) {
    const auto in_page = least + (*wanted + kPage - least % kPage) % kPage;
    if (in_page - kLengthSize <= kLargestSafetensorsHeader) start = in_page;
  }
  if (start - kLengthSize <= kLargestSafetensorsHeader) header.resize(start - kLengthSize, ' ');
}

/// The buffer's start modulo a page that leaves the most bytes where they are in their pages. Nothing where
/// the buffer could then not be aligned.
std::optional<std::uint64_t> SafetensorsBuffer::best_start_in_page() const {
  std::array<std::uint64_t, kPage / kAlignment> votes{};
  for (const auto& run : runs_) {
    if (run.data.part != 0 || run.data.in_memory) continue;
    const auto start =
        (run.data.extent.offset - run.at) % kPage;  // modulo 2^64, of which a page is a divisor
    if (start % kAlignment == 0) votes[start / kAlignment] += run.data.extent.size;
  }
  const auto* best = std::max_element(votes.begin(), votes.end());
  if (*best == 0) return std::nullopt;
  return static_cast<std::uint64_t>(best - votes.begin()) * kAlignment;
}

}  // namespace ckpt
