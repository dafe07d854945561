// SPDX-License-Identifier: BSD-3-Clause
// Manuals of the commands, embedded by the build from commands/*.md.
#pragma once

#include <string_view>

namespace ckpt::cli {

std::string_view manual_inspect();
std::string_view manual_strip_dataparallel();
std::string_view manual_filter_keys();
std::string_view manual_freeze_report();
std::string_view manual_convert();
std::string_view manual_rename_keys();
std::string_view manual_merge();
std::string_view manual_replace_head();
std::string_view manual_apply();

}  // namespace ckpt::cli
