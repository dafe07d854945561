// SPDX-License-Identifier: BSD-3-Clause
#include "logging.h"

#include <spdlog/sinks/stdout_sinks.h>
#include <spdlog/spdlog.h>

namespace ckpt::cli {
namespace {

bool& logging() {
  static bool on = false;
  return on;
}

}  // namespace

void start_logging() {
  if (logging()) return;
  auto logger = spdlog::stderr_logger_st("ckpt");
  logger->set_pattern("ckpt: [%H:%M:%S.%e] %v");
  spdlog::set_default_logger(std::move(logger));
  logging() = true;
}

void log_step(std::string_view message) {
  if (logging()) spdlog::info("{}", message);
}

}  // namespace ckpt::cli
