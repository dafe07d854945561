// SPDX-License-Identifier: BSD-3-Clause
#include "check_format.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  ckpt::fuzz::check_format(ckpt::FormatId::kOldTorchScript, {data, size});
  return 0;
}
