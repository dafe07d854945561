// SPDX-License-Identifier: BSD-3-Clause
#include "back_ends.h"

#include "ckpt/base/text.h"
#include "ckpt/compute/torch_module.h"

namespace ckpt::cli {
namespace {

void print_torch(Stream& out) {
  const auto module = TorchModule::open(LibTorchSearch::from_environment(""), TorchUse::kProcessor);
  if (!module.ok()) {
    out.format("torch: none: {}\n", module.error().text());
    return;
  }
  const auto& libtorch = (*module)->libtorch();
  out.format("torch: LibTorch {} in {} ({})\n", (*module)->version(), printable(libtorch.folder),
             libtorch.source);
}

}  // namespace

void print_back_ends(Stream& out) {
  out.print("native: built in\n");
  print_torch(out);
}

}  // namespace ckpt::cli
