// SPDX-License-Identifier: BSD-3-Clause
#include "support/checkpoint_builder.h"

#include <algorithm>
#include <map>
#include <sstream>
#include <stdexcept>
#include <utility>

#include <fmt/format.h>

#include "ckpt/base/text.h"
#include "ckpt/format/torch_zip.h"
#include "ckpt/rewrite/execute.h"
#include "support/pickle_assembler.h"
#include "support/zip_builder.h"

namespace ckpt::test {
namespace {

using testing::assemble;

struct Line {
  std::string path;
  std::string literal;  ///< of an item that is no tensor
  Dtype dtype = Dtype::kFloat32;
  std::vector<std::uint64_t> sizes;
  std::vector<std::uint64_t> strides;
  std::uint64_t offset = 0;
  std::string storage;
  std::string device = "cpu";
  bool parameter = false;
};

struct StorageLine {
  std::string key;
  Dtype dtype = Dtype::kFloat32;
  std::uint64_t numel = 0;

  /// Any bytes, but the same ones in every format.
  std::string bytes() const {
    std::string out(numel * dtype_info(dtype).item_size, '\0');
    std::size_t seed = 17;
    for (const char c : key) seed = seed * 31 + static_cast<unsigned char>(c);
    for (std::size_t i = 0; i < out.size(); ++i) out[i] = static_cast<char>(seed + i * 7);
    return out;
  }
};

std::vector<std::uint64_t> numbers(std::string_view text) {
  std::vector<std::uint64_t> out;
  if (text == "scalar") return out;
  std::istringstream parts{std::string(text)};
  for (std::string part; std::getline(parts, part, 'x');) out.push_back(std::stoull(part));
  return out;
}

std::vector<std::uint64_t> c_strides(const std::vector<std::uint64_t>& sizes) {
  std::vector<std::uint64_t> strides(sizes.size(), 1);
  for (std::size_t i = sizes.size(); i-- > 1;)
    strides[i - 1] = strides[i] * std::max<std::uint64_t>(1, sizes[i]);
  return strides;
}

class Description {
 public:
  explicit Description(std::string_view text) {
    std::string normal(text);
    std::replace(normal.begin(), normal.end(), ';', '\n');
    std::istringstream input(normal);
    for (std::string line; std::getline(input, line);) add(line);
  }

  const std::vector<Line>& lines() const { return lines_; }

  const std::map<std::string, StorageLine>& storages() const { return storages_; }

 private:
  void add(const std::string& text) {
    std::istringstream words(text);
    Line line;
    std::string dtype;
    if (!(words >> line.path >> dtype)) return;
    if (dtype == "=") {
      words >> line.literal;
      lines_.push_back(line);
      return;
    }
    const auto known = dtype_by_name(dtype);
    if (!known) throw std::invalid_argument("no dtype: " + dtype);
    line.dtype = *known;
    std::string shape;
    words >> shape;
    line.sizes = numbers(shape);
    line.storage = line.path;
    std::uint64_t numel = 0;
    for (std::string option; words >> option;) {
      const auto value = option.substr(std::min(option.size(), option.find('=') + 1));
      if (option == "parameter") {
        line.parameter = true;
      } else if (option.starts_with("storage=")) {
        line.storage = value;
      } else if (option.starts_with("offset=")) {
        line.offset = std::stoull(value);
      } else if (option.starts_with("strides=")) {
        line.strides = numbers(value);
      } else if (option.starts_with("numel=")) {
        numel = std::stoull(value);
      } else if (option.starts_with("device=")) {
        line.device = value;
      } else {
        throw std::invalid_argument("no option: " + option);
      }
    }
    if (line.strides.empty()) line.strides = c_strides(line.sizes);
    auto& storage =
        storages_.try_emplace(line.storage, StorageLine{line.storage, line.dtype, 0}).first->second;
    storage.numel = std::max({storage.numel, numel, reach(line)});
    lines_.push_back(std::move(line));
  }

  static std::uint64_t reach(const Line& line) {
    std::uint64_t last = line.offset;
    for (std::size_t i = 0; i < line.sizes.size(); ++i) {
      if (line.sizes[i] == 0) return 0;
      last += (line.sizes[i] - 1) * line.strides[i];
    }
    return last + 1;
  }

  std::vector<Line> lines_;
  std::map<std::string, StorageLine> storages_;
};

std::string tuple(const std::vector<std::uint64_t>& values) {
  std::string out = "MARK";
  for (const auto value : values) out += fmt::format("; BININT {}", value);
  return out + "; TUPLE";
}

std::string text_of(std::string_view text) {
  return fmt::format("BINUNICODE \"{}\"", text);
}

std::string tensor_assembly(const Line& line, std::uint64_t numel, bool legacy, std::string_view key) {
  TensorPickle pickle;
  pickle.storage_class = fmt::format("GLOBAL torch {}", dtype_info(line.dtype).storage_class);
  pickle.key = text_of(key);
  pickle.numel = fmt::format("BININT {}", numel);
  pickle.view = legacy ? "NONE" : "";
  pickle.offset = fmt::format("BININT {}", line.offset);
  pickle.sizes = tuple(line.sizes);
  pickle.strides = tuple(line.strides);
  auto out = pickle.value();
  if (const auto at = out.find("\"cpu\""); line.device != "cpu") out.replace(at, 5, '"' + line.device + '"');
  if (!line.parameter) return out;
  return "GLOBAL torch._utils _rebuild_parameter; MARK; " + out +
         "; NEWTRUE; GLOBAL collections OrderedDict; EMPTY_TUPLE; REDUCE; TUPLE; REDUCE";
}

std::string key_assembly(std::string_view key) {
  return key.starts_with('#') ? fmt::format("BININT {}", key.substr(1)) : text_of(key);
}

/// Takes a literal from the front of `text`: 7, 'text', [7,8], {'key':7}.
std::string literal_assembly(std::string_view& text) {
  const char first = text.front();
  if (first == '\'') {
    const auto end = text.find('\'', 1);
    auto out = text_of(text.substr(1, end - 1));
    text.remove_prefix(end + 1);
    return out;
  }
  if (first != '[' && first != '{') {
    const auto end = std::min(text.find_first_of(",:]}"), text.size());
    auto out = fmt::format("BININT {}", text.substr(0, end));
    text.remove_prefix(end);
    return out;
  }
  std::string items;
  text.remove_prefix(1);
  while (text.front() != ']' && text.front() != '}') {
    items += "; " + literal_assembly(text);
    if (text.front() == ',' || text.front() == ':') text.remove_prefix(1);
  }
  text.remove_prefix(1);
  const bool list = first == '[';
  std::string out = list ? "EMPTY_LIST" : "EMPTY_DICT";
  if (!items.empty()) out += "; MARK" + items + (list ? "; APPENDS" : "; SETITEMS");
  return out;
}

/// Items whose paths begin alike stand next to each other: one dict.
std::string dict_assembly(const Description& description, std::size_t first, std::size_t last,
                          std::size_t depth, bool legacy) {
  const auto& lines = description.lines();
  std::string out = "EMPTY_DICT; MARK";
  for (auto i = first; i < last;) {
    const auto rest = std::string_view(lines[i].path).substr(depth);
    const auto slash = rest.find('/');
    out += "; " + key_assembly(rest.substr(0, slash)) + "; ";
    if (slash != std::string_view::npos) {
      const auto prefix = lines[i].path.substr(0, depth + slash + 1);
      auto end = i;
      while (end < last && lines[end].path.starts_with(prefix)) ++end;
      out += dict_assembly(description, i, end, prefix.size(), legacy);
      i = end;
      continue;
    }
    const auto& line = lines[i++];
    if (!line.literal.empty()) {
      std::string_view literal = line.literal;
      out += literal_assembly(literal);
    } else {
      out += tensor_assembly(line, description.storages().at(line.storage).numel, legacy, line.storage);
    }
  }
  return out + "; SETITEMS";
}

std::string object_assembly(const Description& description, bool legacy) {
  return "PROTO 2; " + dict_assembly(description, 0, description.lines().size(), 0, legacy) + "; STOP";
}

Extent storage_extent(const Checkpoint& checkpoint, const Storage& storage) {
  if (checkpoint.format != FormatId::kTorchZip) return storage.extent;
  const auto& data = static_cast<const TorchZipData&>(*checkpoint.parts.front().container);
  return data.directory.locate(storage.record).value().data;
}

std::string hex(ByteView bytes) {
  std::string out;
  for (const auto byte : bytes) out += fmt::format("{:02x}", static_cast<unsigned>(byte));
  return out;
}

}  // namespace

std::string TensorPickle::arguments() const {
  return "MARK; MARK; BINUNICODE storage; " + storage_class + "; " + key + "; BINUNICODE \"cpu\"; " + numel +
         (view.empty() ? "" : "; " + view) + "; TUPLE; BINPERSID; " + offset + "; " + sizes + "; " + strides +
         "; NEWFALSE; GLOBAL collections OrderedDict; EMPTY_TUPLE; REDUCE" +
         (more.empty() ? "" : "; " + more) + "; TUPLE";
}

std::string TensorPickle::value() const {
  return "GLOBAL torch._utils _rebuild_tensor_v2; " + arguments() + "; REDUCE";
}

std::string escaped(std::string_view bytes) {
  std::string out;
  for (const char c : bytes) out += fmt::format("\\x{:02x}", static_cast<unsigned char>(c));
  return out;
}

Bytes build_torch_zip(std::string_view text) {
  const Description description(text);
  auto archive =
      "archive/data.pkl body=" + escaped(as_text(assemble(object_assembly(description, false)))) + ";";
  archive += "archive/byteorder body=little;";
  for (const auto& [key, storage] : description.storages()) {
    archive += fmt::format("archive/data/{} body={};", key, escaped(storage.bytes()));
  }
  return build_zip(archive + "archive/version body=3\\n");
}

LegacyPieces legacy_pieces(std::string_view text) {
  const Description description(text);
  LegacyPieces pieces;
  pieces.magic = "PROTO 2; LONG1 \"\\x6c\\xfc\\x9c\\x46\\xf9\\x20\\x6a\\xa8\\x50\\x19\"; STOP";
  pieces.protocol = "PROTO 2; BININT2 1001; STOP";
  pieces.system =
      "PROTO 2; EMPTY_DICT; MARK; BINUNICODE protocol_version; BININT2 1001; "
      "BINUNICODE little_endian; NEWTRUE; SETITEMS; STOP";
  pieces.object = object_assembly(description, true);
  pieces.keys = "PROTO 2; EMPTY_LIST; MARK";
  for (const auto& [key, storage] : description.storages()) {
    pieces.keys += "; " + text_of(key);
    Bytes bytes;
    append_le<std::uint64_t>(bytes, storage.numel);
    append_text(bytes, storage.bytes());
    pieces.storages.push_back(std::move(bytes));
  }
  pieces.keys += "; APPENDS; STOP";
  return pieces;
}

Bytes LegacyPieces::build() const {
  Bytes out;
  for (const auto* pickle : {&magic, &protocol, &system, &object, &keys})
    append_bytes(out, assemble(*pickle));
  for (const auto& storage : storages) append_bytes(out, storage);
  append_text(out, trailing);
  return out;
}

Bytes build_torch_legacy(std::string_view text) {
  return legacy_pieces(text).build();
}

Bytes build_safetensors(std::string_view text) {
  const Description description(text);
  std::string header = "{\"__metadata__\":{\"format\":\"pt\"}";
  std::string buffer;
  for (const auto& line : description.lines()) {
    const auto bytes = description.storages().at(line.storage).bytes();
    header += fmt::format(",{}:{{\"dtype\":\"{}\",\"shape\":[{}],\"data_offsets\":[{},{}]}}",
                          json_string(line.path), dtype_info(line.dtype).safetensors,
                          fmt::join(line.sizes, ","), buffer.size(), buffer.size() + bytes.size());
    buffer += bytes;
  }
  header += '}';
  header.append((8 - header.size() % 8) % 8, ' ');
  return safetensors_file(header, buffer);
}

Bytes safetensors_file(std::string_view header, std::string_view buffer) {
  Bytes out;
  append_le<std::uint64_t>(out, header.size());
  append_text(out, header);
  append_text(out, buffer);
  return out;
}

std::shared_ptr<const ByteSource> source_of(Bytes bytes) {
  return std::make_shared<MemorySource>("x", std::move(bytes));
}

Result<Checkpoint> read_bytes(Bytes bytes, std::vector<std::string>* findings) {
  Diagnostics diagnostics;
  auto checkpoint = read_checkpoint(source_of(std::move(bytes)), diagnostics);
  for (const auto& finding : diagnostics.findings()) {
    if (findings) findings->push_back(fmt::format("{} {}", severity_name(finding.severity), finding.id));
  }
  return checkpoint;
}

std::string outcome(Bytes bytes) {
  std::vector<std::string> findings;
  const auto checkpoint = read_bytes(std::move(bytes), &findings);
  if (!checkpoint) return checkpoint.error().text();
  std::string out = "read";
  for (const auto& finding : findings) out += ", " + finding;
  return out;
}

Bytes written(const Layout& layout, const Checkpoint& checkpoint) {
  MemorySink sink;
  if (!execute(layout, 0, checkpoint, sink, nullptr).ok()) return {};
  return sink.bytes();
}

std::vector<std::string> table(const Checkpoint& checkpoint) {
  std::vector<std::string> lines;
  for (const auto& tensor : checkpoint.tensors) {
    auto line = fmt::format("{} {} [{}]", checkpoint.path(tensor.place), dtype_info(tensor.dtype).name,
                            fmt::join(checkpoint.shape(tensor), ", "));
    if (!tensor.has(kContiguous))
      line += fmt::format(" strides [{}]", fmt::join(checkpoint.strides(tensor), ", "));
    if (tensor.has(kIsParameter)) line += " parameter";
    if (tensor.storage != kNoIndex) {
      const auto& storage = checkpoint.storages[tensor.storage];
      const auto view = checkpoint.view_extent(tensor);
      const auto at = storage_extent(checkpoint, storage).offset + view.offset;
      line += " " + hex(checkpoint.parts.front().source->read({at, view.size}).value());
    }
    lines.push_back(std::move(line));
  }
  return lines;
}

}  // namespace ckpt::test
