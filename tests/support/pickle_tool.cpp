// SPDX-License-Identifier: BSD-3-Clause
// Decoder and encoder for judges that are not written in C++: commands on standard input, one answer line
// each on standard output. Not a tool for people.
//
//   load HEX                the pickle to work on            → ok NODES | error TEXT
//   file PATH OFFSET SIZE   the same, from a file            → ok NODES | error TEXT
//   dump                    position:opcode:start:repeats:finished of every node, separated by blanks
//   drop NODE, text NODE HEX, integer NODE VALUE, none NODE, move NODE FROM
//   behind NODE ITEM..., append NODE ITEM...
//                           new operands behind one, new items at the end of a container
//   new NODE ITEM           edits, collected                → ok
//                           ITEM is tHEX, iNUMBER, b0, b1, n, gMODULE:NAME, or in front of its operands
//                           (COUNT for a tuple, R for a call and P for a persistent id
//   encode                  applies and forgets them         → ok HEX | error CODE TEXT
//   repeat                  encodes without edits            → ok same | error TEXT
//   restrict                spells it for the restricted loader → ok HEX | error CODE TEXT
#include <fstream>
#include <iostream>
#include <sstream>

#include <fmt/format.h>

#include "ckpt/base/text.h"
#include "ckpt/io/byte_source.h"
#include "ckpt/pickle/decoder.h"
#include "ckpt/pickle/encoder.h"
#include "ckpt/pickle/restricted_spelling.h"

namespace ckpt {
namespace {

Bytes from_hex(const std::string& digits) {
  Bytes bytes(digits.size() / 2);
  auto nibble = [](char digit) { return digit <= '9' ? digit - '0' : digit - 'a' + 10; };
  for (std::size_t i = 0; i < bytes.size(); ++i) {
    bytes[i] = static_cast<std::byte>(nibble(digits[2 * i]) * 16 + nibble(digits[2 * i + 1]));
  }
  return bytes;
}

std::string to_hex(ByteView bytes) {
  constexpr std::string_view kDigits = "0123456789abcdef";
  std::string digits;
  digits.reserve(2 * bytes.size());
  for (const auto byte : bytes) {
    digits += kDigits[static_cast<std::size_t>(byte) >> 4U];
    digits += kDigits[static_cast<std::size_t>(byte) & 15U];
  }
  return digits;
}

class Session {
 public:
  std::string answer(const std::string& line) {
    std::istringstream words(line);
    std::string command;
    words >> command;
    if (command == "load") return load(line.substr(std::min<std::size_t>(5, line.size())));
    if (command == "file") return file(words);
    if (!graph_) return "error no pickle is loaded";
    if (command == "dump") return dump();
    if (command == "encode") return encode();
    if (command == "repeat") return repeat();
    if (command == "restrict") return restrict();
    return edit(command, words);
  }

 private:
  std::string load(const std::string& digits) {
    auto bytes = from_hex(digits);
    const auto size = bytes.size();
    source_ = std::make_unique<MemorySource>("pickle", std::move(bytes));
    return decode({0, size});
  }

  std::string file(std::istringstream& words) {
    std::string path;
    Extent extent;
    words >> path >> extent.offset >> extent.size;
    std::ifstream in(path, std::ios::binary);
    in.seekg(static_cast<std::streamoff>(extent.offset));
    Bytes bytes(extent.size);
    in.read(reinterpret_cast<char*>(bytes.data()), static_cast<std::streamsize>(bytes.size()));
    source_ = std::make_unique<MemorySource>(path, std::move(bytes));
    return decode({0, extent.size});
  }

  std::string decode(Extent extent) {
    edits_ = {};
    auto graph = decode_pickle(*source_, extent);
    if (!graph) {
      graph_.reset();
      return "error " + graph.error().text();
    }
    graph_.emplace(std::move(*graph));
    return fmt::format("ok {} {}", graph_->size(), graph_->irregular());
  }

  std::string dump() const {
    std::string out;
    for (Use node = 0; node < graph_->size(); ++node) {
      out += fmt::format("{}{}:{}:{}:{}:{}", node == 0 ? "" : " ",
                         graph_->source_position(graph_->at(node)) - graph_->extent().offset,
                         opcode_info(graph_->opcode(node)).name, graph_->start(node),
                         graph_->repeats(node) ? static_cast<std::int64_t>(graph_->repeated(node)) : -1,
                         graph_->finished(node));
    }
    return out;
  }

  std::string edit(const std::string& command, std::istringstream& words) {
    Use node = 0;
    words >> node;
    if (command == "drop") {
      edits_.drop(node);
    } else if (command == "text") {
      std::string digits;
      words >> digits;
      edits_.replace(node, NewValue::text(std::string(as_text(from_hex(digits)))));
    } else if (command == "integer") {
      std::int64_t number = 0;
      words >> number;
      edits_.replace(node, NewValue::number(number));
    } else if (command == "none") {
      edits_.replace(node, NewValue{});
    } else if (command == "move") {
      Use from = 0;
      words >> from;
      edits_.replace(node, NewValue::move_of(from));
    } else if (command == "new") {
      edits_.replace(node, item(words));
    } else if (command == "behind") {
      edits_.insert_after(node, items(words));
    } else if (command == "append") {
      edits_.append_to(node, items(words));
    } else {
      return "error unknown command";
    }
    return "ok";
  }

  static std::vector<NewValue> items(std::istringstream& words) {
    std::vector<NewValue> values;
    while (words >> std::ws, words.good()) values.push_back(item(words));
    return values;
  }

  static NewValue item(std::istringstream& words) {
    std::string word;
    words >> word;
    const auto rest = word.substr(1);
    switch (word[0]) {
      case 't': return NewValue::text(std::string(as_text(from_hex(rest))));
      case 'i': return NewValue::number(std::stoll(rest));
      case 'b': return NewValue::boolean(rest == "1");
      case 'g': return NewValue::global(rest.substr(0, rest.find(':')), rest.substr(rest.find(':') + 1));
      case '(': {
        std::vector<NewValue> values;
        for (auto count = std::stoi(rest); count > 0; --count) values.push_back(item(words));
        return NewValue::tuple(std::move(values));
      }
      case 'R': {
        auto function = item(words);
        return NewValue::call(std::move(function), item(words).operands);
      }
      case 'P': return NewValue::persistent_id(item(words));
      default: return {};
    }
  }

  std::string encode() {
    const auto edits = std::exchange(edits_, {});
    const auto encoded = encode_pickle(*graph_, edits);
    if (!encoded)
      return fmt::format("error {} {}", error_code_name(encoded.error().code()), encoded.error().text());
    return "ok " + to_hex(bytes_of(*encoded));
  }

  std::string restrict() const {
    const auto restricted = spell_restricted(*graph_);
    if (!restricted)
      return fmt::format("error {} {}", error_code_name(restricted.error().code()),
                         restricted.error().text());
    return "ok " + to_hex(bytes_of(*restricted));
  }

  std::string repeat() const {
    const auto encoded = encode_pickle(*graph_, {});
    if (!encoded) return "error " + encoded.error().text();
    const auto original = source_->read(graph_->extent());
    return bytes_of(*encoded) == *original ? "ok same" : "error the bytes differ";
  }

  Bytes bytes_of(const EncodedPickle& pickle) const {
    Bytes bytes;
    std::uint64_t done = 0;
    for (const auto& body : pickle.bodies) {
      append_bytes(bytes, ByteView(pickle.text).subspan(done, body.at - done));
      append_bytes(bytes, *source_->read(body.extent));
      done = body.at;
    }
    append_bytes(bytes, ByteView(pickle.text).subspan(done));
    return bytes;
  }

  std::unique_ptr<MemorySource> source_;
  std::optional<ValueGraph> graph_;
  GraphEdits edits_;
};

}  // namespace
}  // namespace ckpt

int main() {
  std::ios::sync_with_stdio(false);
  ckpt::Session session;
  for (std::string line; std::getline(std::cin, line);)
    std::cout << session.answer(line) << '\n' << std::flush;
}
