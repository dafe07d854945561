// SPDX-License-Identifier: BSD-3-Clause
// A judge without Python: loads files with LibTorch, as programs in C++ do, and prints what it finds.
//
//     libtorch_loads [--script] FILE...      # torch::pickle_load, or with --script torch::jit::load
//
// For each file a line `file PATH`, then one for each value: its path and, of a tensor, dtype, shape and the
// CRC-32 of its values. A file that cannot be loaded has the one line `error TEXT`.
#include <ATen/core/Tensor.h>
#include <ATen/core/ivalue.h>
#include <torch/csrc/jit/api/module.h>
#include <torch/csrc/jit/serialization/import.h>
#include <torch/csrc/jit/serialization/pickle.h>

#include <array>
#include <cstdint>
#include <exception>
#include <fstream>
#include <iostream>
#include <iterator>
#include <sstream>
#include <string>
#include <string_view>
#include <vector>

namespace {

std::uint32_t crc32(const char* data, std::size_t size) {
  static const auto table = [] {
    std::array<std::uint32_t, 256> made{};
    for (std::uint32_t i = 0; i < made.size(); ++i) {
      made[i] = i;
      for (int bit = 0; bit < 8; ++bit) made[i] = (made[i] >> 1U) ^ ((made[i] & 1U) * 0xedb88320U);
    }
    return made;
  }();
  std::uint32_t sum = 0xffffffffU;
  for (std::size_t i = 0; i < size; ++i)
    sum = table[(sum ^ static_cast<unsigned char>(data[i])) & 0xffU] ^ (sum >> 8U);
  return ~sum;
}

void print_tensor(const std::string& path, const at::Tensor& tensor) {
  if (tensor.is_meta() || tensor.layout() != at::kStrided || tensor.is_quantized()) {
    std::cout << path << "\tother " << c10::toString(tensor.scalar_type()) << '\n';
    return;
  }
  const auto dense = tensor.detach().resolve_conj().resolve_neg().contiguous();
  std::cout << path << '\t' << c10::toString(dense.scalar_type()) << '\t' << dense.sizes() << '\t'
            << crc32(static_cast<const char*>(dense.data_ptr()), dense.nbytes()) << '\n';
}

void print(const std::string& path,
           const c10::IValue& value) {  // NOLINT: as deep as the file, which we chose
  if (value.isTensor()) {
    print_tensor(path, value.toTensor());
  } else if (value.isGenericDict()) {
    for (const auto& item : value.toGenericDict()) {
      std::ostringstream key;
      key << (item.key().isString() ? item.key().toStringRef() : c10::str(item.key()));
      print(path + '/' + key.str(), item.value());
    }
  } else if (value.isTuple()) {
    for (std::size_t i = 0; i < value.toTupleRef().elements().size(); ++i)
      print(path + '/' + std::to_string(i), value.toTupleRef().elements()[i]);
  } else if (value.isList()) {
    const auto list = value.toList();
    for (std::size_t i = 0; i < list.size(); ++i) print(path + '/' + std::to_string(i), list.get(i));
  } else if (value.isInt() || value.isBool()) {
    std::cout << path << '\t' << value.toScalar().toLong() << '\n';
  } else {
    std::cout << path << '\t' << value.tagKind() << '\n';
  }
}

void load_pickle(const std::string& file) {
  std::ifstream stream(file, std::ios::binary);
  const std::vector<char> bytes{std::istreambuf_iterator<char>(stream), {}};
  print("", torch::jit::pickle_load(bytes));
}

void load_script(const std::string& file) {
  const auto module = torch::jit::load(file, at::kCPU);
  for (const auto& parameter : module.named_parameters()) print_tensor("/" + parameter.name, parameter.value);
  for (const auto& buffer : module.named_buffers()) print_tensor("/" + buffer.name, buffer.value);
}

}  // namespace

int main(int argc, char** argv) {
  std::vector<std::string> files(argv + 1, argv + argc);
  const bool is_script = !files.empty() && files.front() == "--script";
  if (is_script) files.erase(files.begin());
  for (const auto& file : files) {
    std::cout << "file " << file << '\n';
    try {
      is_script ? load_script(file) : load_pickle(file);
    } catch (const std::exception& error) {
      const std::string_view text = error.what();
      std::cout << "error " << text.substr(0, text.find('\n')) << '\n';
    }
  }
  return 0;
}
