// SPDX-License-Identifier: BSD-3-Clause
// One file of a checkpoint: its bytes, its container and the pickles in it.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "ckpt/io/byte_source.h"
#include "ckpt/pickle/value_graph.h"

namespace ckpt {

/// What a format's reader wants to find again when it lays the file out. Each format has its own.
struct ContainerData {
  ContainerData() = default;
  ContainerData(const ContainerData&) = delete;
  ContainerData& operator=(const ContainerData&) = delete;
  virtual ~ContainerData() = default;
};

/// A pickle of the file.
struct Document {
  std::string name;                          ///< record it stands in, for messages: "data.pkl"
  std::shared_ptr<const ByteSource> source;  ///< what the graph's extents refer to
  ValueGraph graph;
};

struct Part {
  std::shared_ptr<const ByteSource> source;
  std::shared_ptr<const ContainerData> container;
  std::vector<std::unique_ptr<Document>> documents;  ///< none in containers without objects
};

}  // namespace ckpt
