// SPDX-License-Identifier: BSD-3-Clause
// Composing the one line that an Error prints.
#include <fmt/format.h>

#include "ckpt/base/result.h"
#include "ckpt/base/text.h"

namespace ckpt {

std::string_view error_code_name(ErrorCode code) {
  switch (code) {
    case ErrorCode::kUsage: return "usage";
    case ErrorCode::kNotFound: return "not-found";
    case ErrorCode::kExists: return "exists";
    case ErrorCode::kIo: return "io";
    case ErrorCode::kCorrupt: return "corrupt";
    case ErrorCode::kUnsupported: return "unsupported";
    case ErrorCode::kRefused: return "refused";
    case ErrorCode::kBackend: return "backend";
    case ErrorCode::kInternal: return "internal";
  }
  return "internal";
}

Error&& Error::at(std::uint64_t offset) && {
  if (!offset_) offset_ = offset;
  return std::move(*this);
}

Error&& Error::in_record(std::string_view record) && {
  if (record_.empty()) record_ = record;
  return std::move(*this);
}

Error&& Error::in_file(std::string_view file) && {
  if (file_.empty()) file_ = file;
  return std::move(*this);
}

Error&& Error::with_hint(std::string_view hint) && {
  if (hint_.empty()) hint_ = hint;
  return std::move(*this);
}

std::string Error::text() const {
  std::string line;
  if (!file_.empty()) line += printable(file_) + ": ";
  if (!record_.empty()) {
    line += "record " + quoted(record_);
    line += offset_ ? ", " : ": ";
  }
  if (offset_) line += fmt::format("byte {}: ", *offset_);
  return line + message_;
}

}  // namespace ckpt
