// SPDX-License-Identifier: BSD-3-Clause
#include "ckpt/format/safetensors_header.h"

#include <iterator>
#include <limits>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "ckpt/base/checked_math.h"
#include "ckpt/base/text.h"

namespace ckpt {
namespace {

constexpr std::uint64_t kHeaderAt = 8;  // in the file

/// Characters of the header, counted as the parser takes them: that is how events get positions.
class CountingIterator {
 public:
  using iterator_category = std::input_iterator_tag;
  using value_type = char;
  using difference_type = std::ptrdiff_t;
  using pointer = const char*;
  using reference = const char&;

  CountingIterator(const char* at, const char** seen) : at_(at), seen_(seen) {}

  reference operator*() const { return *at_; }

  CountingIterator& operator++() {
    *seen_ = ++at_;
    return *this;
  }

  friend bool operator==(const CountingIterator& a, const CountingIterator& b) { return a.at_ == b.at_; }

 private:
  const char* at_;
  const char** seen_;
};

/// Receives the events. A function that returns false stops the parser; `error()` then says why.
class HeaderHandler {
 public:
  HeaderHandler(SafetensorsData& data, Checkpoint& checkpoint)
      : data_(data), checkpoint_(checkpoint), seen_(data.header.data()) {}

  const char** seen() { return &seen_; }

  std::optional<Error>& error() { return error_; }

  // ---- events, named by nlohmann::json_sax

  bool null() {
    if (where_ == Where::kTop && ignored_ == 0 && member_.tensor == kNoIndex)
      return close_member();  // as the reference does
    return scalar("null");
  }

  bool boolean(bool /*value*/) { return scalar("a boolean"); }

  bool number_integer(std::int64_t /*value*/) { return scalar("a negative number"); }

  bool number_float(double /*value*/, const std::string& /*text*/) {
    return scalar("no whole number below 2^64");
  }

  bool binary(const std::vector<std::uint8_t>& /*value*/) { return scalar("binary"); }

  bool number_unsigned(std::uint64_t value) {
    if (ignored_ == 0 && where_ == Where::kShape) return add_size(value);
    if (ignored_ == 0 && where_ == Where::kOffsets) {
      offsets_.push_back(value);
      return offsets_.size() <= 2 ||
             fail(fmt::format("the data_offsets of {} hold more than two numbers", subject()));
    }
    return scalar("a number");
  }

  bool string(const std::string& value) {
    if (ignored_ == 0 && where_ == Where::kMetadata) {
      checkpoint_.metadata.back().second = value;
      return true;
    }
    if (ignored_ == 0 && where_ == Where::kEntry && field_ == Field::kDtype) return set_dtype(value);
    return scalar("a string");
  }

  bool start_object(std::size_t /*elements*/) {
    if (ignored_ > 0 || (where_ == Where::kEntry && field_ == Field::kOther)) return ignore_deeper();
    switch (where_) {
      case Where::kOutside: where_ = Where::kTop; return true;
      case Where::kTop: where_ = member_.tensor == kNoIndex ? Where::kMetadata : Where::kEntry; return true;
      default: return scalar("an object");
    }
  }

  bool end_object() {
    if (ignored_ > 0) {
      --ignored_;
      return true;
    }
    if (where_ == Where::kTop) {
      where_ = Where::kOutside;
      return true;
    }
    const bool is_entry = where_ == Where::kEntry;
    where_ = Where::kTop;
    return (!is_entry || add_tensor()) && close_member();
  }

  bool start_array(std::size_t /*elements*/) {
    if (ignored_ > 0 || (where_ == Where::kEntry && field_ == Field::kOther)) return ignore_deeper();
    if (where_ == Where::kEntry && field_ == Field::kShape) {
      where_ = Where::kShape;
      return true;
    }
    if (where_ == Where::kEntry && field_ == Field::kOffsets) {
      where_ = Where::kOffsets;
      member_.offsets_begin = position() - 1;
      return true;
    }
    return scalar("an array");
  }

  bool end_array() {
    if (ignored_ > 0) {
      --ignored_;
      return true;
    }
    if (where_ == Where::kOffsets) member_.offsets_end = position();
    where_ = Where::kEntry;
    return true;
  }

  bool key(const std::string& text) {
    if (ignored_ > 0) return true;
    if (where_ == Where::kTop) return open_member(text);
    if (where_ == Where::kMetadata) {
      checkpoint_.metadata.emplace_back(text, "");
      return true;
    }
    return open_field(text);
  }

  template <typename Exception>
  bool parse_error(std::size_t byte, const std::string& /*last_token*/, const Exception& /*exception*/) {
    if (!is_utf8(data_.header)) {
      error_ = Error(ErrorCode::kCorrupt, "the header is not UTF-8").at(kHeaderAt + byte - 1);
    } else {
      error_ = Error(ErrorCode::kCorrupt, "the header is no well-formed JSON").at(kHeaderAt + byte - 1);
    }
    return false;
  }

 private:
  enum class Where : std::uint8_t { kOutside, kTop, kMetadata, kEntry, kShape, kOffsets };
  enum class Field : std::uint8_t { kDtype, kShape, kOffsets, kOther };

  std::uint32_t position() const { return static_cast<std::uint32_t>(seen_ - data_.header.data()); }

  std::string subject() const { return "tensor " + ckpt::quoted(name_); }

  bool fail(std::string message) {
    error_ = Error(ErrorCode::kCorrupt, std::move(message));
    return false;
  }

  /// A value that is not what its place asks for; inside unknown fields everything is allowed.
  bool scalar(const char* found) {
    if (ignored_ > 0) return true;
    switch (where_) {
      case Where::kOutside: return fail("the header is no JSON object");
      case Where::kTop:
        return fail(fmt::format("{} is {}, expected an object",
                                member_.tensor == kNoIndex ? ckpt::quoted(kSafetensorsMetadata) : subject(),
                                found));
      case Where::kMetadata:
        return fail(fmt::format("the value of {} in '__metadata__' is {}, expected a string",
                                ckpt::quoted(checkpoint_.metadata.back().first), found));
      case Where::kShape:
        return fail(fmt::format("the shape of {} holds {}, expected sizes", subject(), found));
      case Where::kOffsets:
        return fail(
            fmt::format("the data_offsets of {} hold {}, expected two byte positions", subject(), found));
      case Where::kEntry: break;
    }
    switch (field_) {
      case Field::kDtype:
        return fail(fmt::format("the dtype of {} is {}, expected a string", subject(), found));
      case Field::kShape:
        return fail(fmt::format("the shape of {} is {}, expected an array", subject(), found));
      case Field::kOffsets:
        return fail(fmt::format("the data_offsets of {} are {}, expected an array", subject(), found));
      case Field::kOther: return true;
    }
    return true;
  }

  bool ignore_deeper() {
    constexpr std::uint32_t kDeepest = 125;  // with the two levels around: the reference's parser takes 127
    if (++ignored_ <= kDeepest) return true;
    return fail(fmt::format("the header is nested deeper than {} levels at {}", kDeepest + 2, subject()));
  }

  // ---- members of the top-level object

  /// The opening quote is the first one behind the member before: only a comma and spaces stand between.
  bool open_member(const std::string& text) {
    const auto& header = data_.header;
    const auto after = data_.members.empty() ? 1 : data_.members.back().end;
    member_ = {};
    member_.begin = static_cast<std::uint32_t>(header.find('"', after));
    member_.name_end = position();
    const std::string_view raw =
        std::string_view(header).substr(member_.begin + 1, member_.name_end - member_.begin - 2);
    if (text == kSafetensorsMetadata) {
      if (has_metadata_) return fail("'__metadata__' stands twice in the header");
      has_metadata_ = true;
      return true;
    }
    name_ = raw.size() == text.size()
                ? raw
                : std::string_view(checkpoint_.strings.emplace_back(text));  // escapes shorten
    member_.tensor = static_cast<TensorId>(checkpoint_.tensors.size());
    has_dtype_ = has_shape_ = has_offsets_ = false;
    sizes_.clear();
    offsets_.clear();
    return true;
  }

  bool close_member() {
    member_.end = position();
    data_.members.push_back(member_);
    return true;
  }

  bool open_field(const std::string& text) {
    field_ = Field::kOther;
    bool* seen = nullptr;
    if (text == "dtype") {
      field_ = Field::kDtype;
      seen = &has_dtype_;
    } else if (text == "shape") {
      field_ = Field::kShape;
      seen = &has_shape_;
    } else if (text == "data_offsets") {
      field_ = Field::kOffsets;
      seen = &has_offsets_;
    }
    if (seen == nullptr) return true;
    if (*seen) return fail(fmt::format("{} has two fields {}", subject(), ckpt::quoted(text)));
    *seen = true;
    return true;
  }

  bool set_dtype(const std::string& text) {
    if (const auto dtype = dtype_by_safetensors(text)) {
      dtype_ = *dtype;
      return true;
    }
    error_ = Error(ErrorCode::kUnsupported,
                   fmt::format("{} has the unknown dtype {}", subject(), ckpt::quoted(text)));
    return false;
  }

  bool add_size(std::uint64_t value) {
    constexpr std::size_t kLargestRank = 255;  // PyTorch stops at 64
    if (value > static_cast<std::uint64_t>(std::numeric_limits<std::int64_t>::max())) {
      return fail(fmt::format("the shape of {} holds {}, which no tensor can have", subject(), value));
    }
    sizes_.push_back(value);
    return sizes_.size() <= kLargestRank ||
           fail(fmt::format("{} has more than {} dimensions", subject(), kLargestRank));
  }

  bool add_tensor() {
    if (!has_dtype_) return fail(fmt::format("{} has no dtype", subject()));
    if (!has_shape_) return fail(fmt::format("{} has no shape", subject()));
    if (!has_offsets_) return fail(fmt::format("{} has no data_offsets", subject()));
    if (offsets_.size() != 2) {
      return fail(fmt::format("the data_offsets of {} hold {}, expected two", subject(),
                              counted(offsets_.size(), "number")));
    }
    if (offsets_[0] > offsets_[1]) {
      return fail(fmt::format("{} begins at byte {} of the buffer, behind its end at byte {}", subject(),
                              offsets_[0], offsets_[1]));
    }
    return check_size() && add_rows();
  }

  bool check_size() {
    const auto& info = dtype_info(dtype_);
    std::optional<std::uint64_t> bits = 1;
    for (const auto size : sizes_) bits = bits ? checked_multiply(*bits, size) : std::nullopt;
    if (bits) bits = checked_multiply(*bits, info.bits);
    const auto given = offsets_[1] - offsets_[0];
    if (bits && *bits % 8 == 0 && *bits / 8 == given) return true;
    const auto what = fmt::format("{} of {} [{}]", subject(), info.safetensors, fmt::join(sizes_, ", "));
    if (!bits) return fail(what + " needs more than 2^64 bits");
    if (*bits % 8 != 0) return fail(fmt::format("{} has {} bits, which are no whole bytes", what, *bits));
    return fail(fmt::format("{} needs {} bytes, its data_offsets give {}", what, *bits / 8, given));
  }

  bool add_rows() {
    const auto id = member_.tensor;
    Storage storage;
    storage.key = name_;
    storage.bytes = offsets_[1] - offsets_[0];
    storage.extent = {offsets_[0], storage.bytes};  // in the buffer, until its place in the file is known
    storage.dtype = dtype_;
    checkpoint_.storages.push_back(storage);
    TensorInfo row;
    row.name = name_;
    row.dimensions_at = checkpoint_.dimensions.size();
    row.place = static_cast<PlaceId>(checkpoint_.places.size());
    row.storage = id;
    row.state_dict = 0;
    row.flags = kContiguous;
    row.dtype = dtype_;
    row.rank = static_cast<std::uint8_t>(sizes_.size());
    for (const auto size : sizes_) checkpoint_.dimensions.push_back(static_cast<std::int64_t>(size));
    checkpoint_.places.push_back({0, id, StepKind::kName});
    checkpoint_.tensors.push_back(row);
    return true;
  }

  SafetensorsData& data_;
  Checkpoint& checkpoint_;
  const char* seen_;
  std::optional<Error> error_;
  Where where_ = Where::kOutside;
  Field field_ = Field::kOther;
  std::uint32_t ignored_ = 0;  ///< levels inside an unknown field
  SafetensorsData::Member member_;
  std::string_view name_;
  Dtype dtype_ = Dtype::kUint8;
  std::vector<std::uint64_t> sizes_;
  std::vector<std::uint64_t> offsets_;
  bool has_metadata_ = false;
  bool has_dtype_ = false;
  bool has_shape_ = false;
  bool has_offsets_ = false;
};

}  // namespace

Status parse_safetensors_header(SafetensorsData& data, Checkpoint& checkpoint) {
  // The parser would take a NUL for the end of its input.
  if (const auto nul = data.header.find('\0'); nul != std::string::npos) {
    return Error(ErrorCode::kCorrupt, "the header is no well-formed JSON").at(kHeaderAt + nul);
  }
  HeaderHandler handler(data, checkpoint);
  const auto* begin = data.header.data();
  const CountingIterator first(begin, handler.seen());
  const CountingIterator last(begin + data.header.size(), handler.seen());
  if (nlohmann::json::sax_parse(first, last, &handler)) return {};
  if (handler.error()) return *std::move(handler.error());
  return Error(ErrorCode::kInternal, "the header's parser stopped without a reason");
}

}  // namespace ckpt
