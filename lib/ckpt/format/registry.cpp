// SPDX-License-Identifier: BSD-3-Clause
// The list of formats, and reading a file with the right one.
#include "ckpt/format/detect.h"
#include "ckpt/format/format.h"
#include "ckpt/format/old_torchscript.h"
#include "ckpt/format/safetensors.h"
#include "ckpt/format/torch_legacy.h"
#include "ckpt/format/torch_zip.h"
#include "ckpt/format/torchscript.h"

namespace ckpt {

const std::vector<const Format*>& all_formats() {
  static const TorchZipFormat torch_zip;
  static const TorchScriptFormat torchscript;
  static const OldTorchScriptFormat old_torchscript;
  static const SafetensorsFormat safetensors;  // before pickles: its first byte may look like PROTO
  static const TorchLegacyFormat torch_legacy;
  static const std::vector<const Format*> formats = {&torch_zip, &torchscript, &old_torchscript, &safetensors,
                                                     &torch_legacy};
  return formats;
}

const Format& format_of(FormatId id) {
  for (const auto* format : all_formats()) {
    if (format->id() == id) return *format;
  }
  return *all_formats().front();
}

Result<const Format*> detect_format(const ByteSource& source) {
  Bytes prefix(std::min<std::uint64_t>(source.size(), kProbeSize));
  CKPT_RETURN_IF_ERROR(source.read_at(0, prefix));
  const Probe probe{source, prefix};
  for (const auto* format : all_formats()) {
    if (format->probe(probe)) return format;
  }
  return Error(ErrorCode::kUnsupported, "this is " + describe_foreign(probe));
}

Result<Checkpoint> read_checkpoint(std::shared_ptr<const ByteSource> source, Diagnostics& diagnostics,
                                   Intent intent) {
  auto format = detect_format(*source);
  if (!format.ok()) return std::move(format).error().in_file(source->name());
  auto checkpoint = (*format)->read(source, diagnostics, intent);
  if (!checkpoint.ok()) return std::move(checkpoint).error().in_file(source->name());
  return checkpoint;
}

}  // namespace ckpt
