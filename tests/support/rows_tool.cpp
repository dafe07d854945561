// SPDX-License-Identifier: BSD-3-Clause
// Replaces and inserts rows of a checkpoint, for judges that are not written in C++. Not a tool for people.
//
//   ckpt_rows_tool INPUT OUTPUT BYTES <commands
//
//   storage DTYPE OFFSET SIZE memory|file  a storage of these bytes of the file BYTES; storages count from 0
//   replace DICT KEY STORAGE DTYPE OFFSET SHAPE [STRIDES]
//   insert DICT KEY STORAGE DTYPE OFFSET SHAPE [STRIDES]
//   settle                                 optimizers follow, as at the end of a plan
//
// DICT is the index of a state dict. KEY is x and hexadecimal digits. STORAGE is a number, or =KEY for that
// of a tensor of the same dict. SHAPE and STRIDES are like 2x3, or `scalar`. Ends with 2 and a message where
// it can't be done.
#include <fstream>
#include <iostream>
#include <sstream>
#include <stdexcept>

#include "ckpt/edit/apply.h"
#include "ckpt/format/format.h"
#include "ckpt/io/byte_sink.h"
#include "ckpt/io/byte_source.h"
#include "ckpt/rewrite/execute.h"
#include "ckpt/rewrite/verify.h"

namespace ckpt {
namespace {

template <typename T>
T need(Result<T> result) {
  if (!result.ok()) throw std::runtime_error(result.error().text());
  return std::move(result).value();
}

void need(const Status& status) {
  if (!status.ok()) throw std::runtime_error(status.error().text());
}

std::string from_hex(const std::string& digits) {
  std::string text;
  for (std::size_t i = 0; i + 1 < digits.size(); i += 2)
    text += static_cast<char>(std::stoi(digits.substr(i, 2), nullptr, 16));
  return text;
}

std::vector<std::int64_t> numbers(const std::string& text) {
  std::vector<std::int64_t> out;
  if (text == "scalar") return out;
  std::istringstream parts(text);
  for (std::string part; std::getline(parts, part, 'x');) out.push_back(std::stoll(part));
  return out;
}

class Session {
 public:
  Session(Checkpoint checkpoint, std::shared_ptr<const ByteSource> bytes)
      : checkpoint_(std::move(checkpoint)), part_(static_cast<std::uint32_t>(checkpoint_.parts.size())) {
    checkpoint_.parts.push_back({std::move(bytes), nullptr, {}});
  }

  void run(std::istringstream& words) {
    std::string command;
    words >> command;
    if (command == "storage") return add_storage(words);
    if (command == "settle") {
      need(apply_plan(Plan{}, checkpoint_));
      return;
    }
    std::uint32_t dict = 0;
    std::string key;
    std::string storage;
    std::string dtype;
    std::string shape;
    std::string strides;
    TensorView view;
    words >> dict >> key >> storage >> dtype >> view.offset >> shape >> strides;
    key = from_hex(key.substr(1));
    view.dtype = dtype_by_name(dtype).value();
    view.shape = numbers(shape);
    view.strides = numbers(strides);
    view.storage = storage[0] == '=' ? storage_of(dict, from_hex(storage.substr(2)))
                                     : added_.at(static_cast<std::size_t>(std::stoi(storage)));
    if (command == "insert") {
      checkpoint_.insert(dict, key, view);
    } else {
      checkpoint_.replace(dict, entry_of(dict, key), view);
    }
  }

  void write(const std::string& path) {
    const auto layout = need(format_of(checkpoint_.format).lay_out(checkpoint_));
    MemorySink sink;
    need(execute(layout, 0, checkpoint_, sink, nullptr));
    const auto written = std::make_shared<MemorySource>(path, sink.bytes());
    need(verify(layout, 0, checkpoint_, written));
    std::ofstream out(path, std::ios::binary);
    out << as_text(sink.bytes());
    if (!out.flush()) throw std::runtime_error("the output can't be written");
  }

 private:
  void add_storage(std::istringstream& words) {
    std::string dtype;
    std::string where;
    Extent extent;
    words >> dtype >> extent.offset >> extent.size >> where;
    DataRef data{part_, extent, {}, nullptr};
    if (where == "memory") data = DataRef::of_bytes(need(checkpoint_.parts[part_].source->read(extent)));
    added_.push_back(checkpoint_.add_storage(std::move(data), dtype_by_name(dtype).value()));
  }

  std::uint32_t entry_of(std::uint32_t dict, const std::string& key) const {
    const auto count = static_cast<std::uint32_t>(checkpoint_.state_dicts.at(dict).entries.size());
    for (std::uint32_t i = 0; i < count; ++i) {
      if (checkpoint_.name(dict, i) == key) return i;
    }
    throw std::runtime_error("no such key: " + key);
  }

  StorageId storage_of(std::uint32_t dict, const std::string& key) const {
    const auto& entry = checkpoint_.state_dicts.at(dict).entries[entry_of(dict, key)];
    return checkpoint_.tensors.at(entry.tensor).storage;
  }

  Checkpoint checkpoint_;
  std::uint32_t part_;  ///< the file BYTES
  std::vector<StorageId> added_;
};

}  // namespace
}  // namespace ckpt

int main(int count, char** arguments) {
  if (count != 4) return 2;
  try {
    ckpt::Diagnostics diagnostics;
    auto input = ckpt::need(ckpt::open_file_source(arguments[1]));
    auto bytes = ckpt::need(ckpt::open_file_source(arguments[3]));
    ckpt::Session session(ckpt::need(ckpt::read_checkpoint(input, diagnostics)), bytes);
    for (std::string line; std::getline(std::cin, line);) {
      std::istringstream words(line);
      session.run(words);
    }
    session.write(arguments[2]);
  } catch (const std::exception& error) {
    std::cerr << error.what() << '\n';
    return 2;
  }
  return 0;
}
