// SPDX-License-Identifier: BSD-3-Clause
#include "ckpt/inspect/value_json.h"

#include <cmath>
#include <cstring>
#include <optional>
#include <type_traits>
#include <unordered_map>

#include <fmt/format.h>

#include "ckpt/base/text.h"
#include "ckpt/model/anatomy.h"
#include "ckpt/model/key_path.h"

namespace ckpt {
namespace {

constexpr std::size_t kMostValues = 1'000'000;
constexpr std::size_t kDeepest = 200;

std::string json_number(double value) {
  if (std::isnan(value)) return "\"NaN\"";
  if (std::isinf(value)) return value < 0 ? "\"-Infinity\"" : "\"Infinity\"";
  return python_float(value);
}

std::string class_of(const ValueGraph& graph, const Anatomy& anatomy) {
  const auto callable = anatomy.arguments.empty() ? anatomy.made : anatomy.arguments.front();
  const auto name = graph.global(callable);
  if (!name) return "?";
  return fmt::format("{}.{}", printable(name->module), printable(name->name));
}

/// Bytes of a value: a bytes object, or protocol 2's _codecs.encode(text, 'latin1').
std::optional<std::string> bytes_of(const ValueGraph& graph, Use use) {
  const auto node = graph.resolve(use);
  if (graph.is_bytes(node)) return std::string(graph.operand(node));
  if (graph.opcode(node) == Opcode::kShortBinstring || graph.opcode(node) == Opcode::kBinstring)
    return std::string(graph.operand(node));
  Anatomy call;
  dissect(graph, node, call);
  if (call.arguments.size() != 3) return std::nullopt;
  const auto name = graph.global(call.arguments[0]);
  const auto text = graph.string(call.arguments[1]);
  if (!name || name->name != "encode" || !text) return std::nullopt;
  std::string bytes;
  for (std::size_t i = 0; i < text->size(); ++i) {
    unsigned byte = static_cast<unsigned char>((*text)[i]);
    if (byte >= 0x80 && i + 1 < text->size())
      byte = (byte << 6U) | (static_cast<unsigned char>((*text)[++i]) & 0x3FU);
    bytes += static_cast<char>(static_cast<unsigned char>(byte));
  }
  return bytes;
}

template <typename T>
std::string number_text(const std::string& bytes) {
  T value;
  std::memcpy(&value, bytes.data(), sizeof value);
  if constexpr (std::is_floating_point_v<T>) return json_number(static_cast<double>(value));
  return std::to_string(value);
}

/// numpy.core.multiarray.scalar(dtype('f8'), bytes) as the number it is.
std::optional<EntryText> numpy_scalar(const ValueGraph& graph, const Anatomy& anatomy) {
  if (anatomy.arguments.size() != 3) return std::nullopt;
  const auto name = graph.global(anatomy.arguments[0]);
  if (!name || name->name != "scalar" || !name->module.starts_with("numpy.")) return std::nullopt;
  Anatomy dtype;
  dissect(graph, graph.resolve(anatomy.arguments[1]), dtype);
  const auto code = dtype.arguments.size() > 1 ? graph.string(dtype.arguments[1]) : std::nullopt;
  const auto bytes = bytes_of(graph, anatomy.arguments[2]);
  if (!code || !bytes) return std::nullopt;
  auto is = [&](const char* wanted, std::size_t size) { return *code == wanted && bytes->size() == size; };
  if (is("f8", 8)) return EntryText{"float", number_text<double>(*bytes), "numpy.float64"};
  if (is("f4", 4)) return EntryText{"float", number_text<float>(*bytes), "numpy.float32"};
  if (is("i8", 8)) return EntryText{"int", number_text<std::int64_t>(*bytes), "numpy.int64"};
  if (is("i4", 4)) return EntryText{"int", number_text<std::int32_t>(*bytes), "numpy.int32"};
  if (is("b1", 1)) return EntryText{"bool", (*bytes)[0] != 0 ? "true" : "false", "numpy.bool"};
  return std::nullopt;
}

std::string string_json(const ValueGraph& graph, Use use, std::size_t longest) {
  const auto text = graph.string(use);
  if (!text) return fmt::format("\"… {} bytes\"", graph.body_size(use));
  if (text->size() <= longest) return json_string(*text);
  auto cut = longest;
  while (cut > 0 && (static_cast<unsigned char>((*text)[cut]) & 0xC0U) == 0x80U) --cut;
  return json_string(text->substr(0, cut) + "…");
}

EntryText describe(const ValueGraph& graph, Use node, const Anatomy& anatomy, std::size_t longest) {
  EntryText out{value_kind_name(anatomy.kind), "", ""};
  switch (anatomy.kind) {
    case ValueKind::kNone: out.json = "null"; break;
    case ValueKind::kBool: out.json = graph.boolean(node).value_or(false) ? "true" : "false"; break;
    case ValueKind::kInteger:
      if (const auto number = graph.integer(node)) {
        out.json = std::to_string(*number);
      } else {
        out.json = json_string(python_repr(graph, node));
      }
      break;
    case ValueKind::kFloat: out.json = json_number(graph.floating(node).value_or(NAN)); break;
    case ValueKind::kString: out.json = string_json(graph, node, longest); break;
    case ValueKind::kBytes: out.json = fmt::format("\"{} bytes\"", graph.body_size(node)); break;
    case ValueKind::kGlobal: out.class_name = class_of(graph, anatomy); break;
    case ValueKind::kDict:
    case ValueKind::kOrderedDict:
      if (anatomy.items.empty()) out.json = "{}";
      break;
    case ValueKind::kList:
    case ValueKind::kTuple:
    case ValueKind::kSet:
      if (anatomy.elements.empty()) out.json = "[]";
      break;
    case ValueKind::kObject:
      if (auto scalar = numpy_scalar(graph, anatomy)) return *scalar;
      if (const auto bytes = bytes_of(graph, node)) {
        out.kind = "bytes";
        out.json = fmt::format("\"{} bytes\"", bytes->size());
        break;
      }
      out.class_name = class_of(graph, anatomy);
      break;
    case ValueKind::kStorage: break;
  }
  return out;
}

/// Writes values depth first with a stack of its own.
class JsonWalk {
 public:
  explicit JsonWalk(const Checkpoint& checkpoint) : checkpoint_(checkpoint), graph_(checkpoint.graph()) {
    for (TensorId id = 0; id < checkpoint.tensors.size(); ++id) {
      const auto use = checkpoint.tensors[id].use;
      if (use != kNoUse) tensor_of_use_.emplace(graph_.resolve(use), id);
    }
  }

  Result<std::string> run(Use use) {
    CKPT_RETURN_IF_ERROR(visit(use));
    while (!frames_.empty()) {
      auto& frame = frames_.back();
      if (frame.next == frame.items.size()) {
        out_ += frame.close;
        frames_.pop_back();
        continue;
      }
      if (frame.next > 0) out_ += ',';
      const auto item = frame.items[frame.next++];
      if (frame.close == '}') {
        append_json_string(out_, key_text(item.key));
        out_ += ':';
      }
      CKPT_RETURN_IF_ERROR(visit(item.value));
    }
    return std::move(out_);
  }

 private:
  struct Frame {
    Use node;
    char close;
    std::vector<MappingItem> items;
    std::size_t next = 0;
  };

  std::string key_text(Use key) const {
    if (auto text = graph_.string(key)) return *text;
    return python_repr(graph_, key);
  }

  bool on_the_way_down(Use node) const {
    for (const auto& frame : frames_) {
      if (frame.node == node) return true;
    }
    return false;
  }

  Status visit(Use use) {
    if (++visited_ > kMostValues) {
      return Error(ErrorCode::kUnsupported, fmt::format("more than {} values to print", kMostValues))
          .with_hint("name a path further in");
    }
    const auto node = graph_.resolve(use);
    if (const auto tensor = tensor_of_use_.find(node); tensor != tensor_of_use_.end()) {
      const auto& row = checkpoint_.tensors[tensor->second];
      out_ += fmt::format(R"({{"@tensor":"{}","shape":[{}]}})", dtype_info(row.dtype).name,
                          fmt::join(checkpoint_.shape(row), ","));
      return {};
    }
    Anatomy anatomy;
    dissect(graph_, node, anatomy);
    const auto text = describe(graph_, node, anatomy, static_cast<std::size_t>(-1));
    if (!text.json.empty()) {
      out_ += text.json;
      return {};
    }
    if (on_the_way_down(node) || frames_.size() >= kDeepest) {
      out_ += "\"…\"";
      return {};
    }
    open(node, anatomy, text);
    return {};
  }

  void open(Use node, const Anatomy& anatomy, const EntryText& text) {
    Frame frame{node, '}', {}, 0};
    if (anatomy.kind == ValueKind::kList || anatomy.kind == ValueKind::kTuple ||
        anatomy.kind == ValueKind::kSet) {
      frame.close = ']';
      out_ += '[';
      for (const auto element : anatomy.elements) frame.items.push_back({kNoUse, element, kNoUse});
    } else {
      out_ += '{';
      frame.items = anatomy.items;
      const auto more = attributes(graph_, anatomy.states);
      if (!anatomy.is_mapping()) {
        out_ += "\"@class\":" + json_string(text.class_name);
        frame.items.insert(frame.items.end(), more.begin(), more.end());
        if (!frame.items.empty()) out_ += ',';
      }
    }
    frames_.push_back(std::move(frame));
  }

  const Checkpoint& checkpoint_;
  const ValueGraph& graph_;
  std::unordered_map<Use, TensorId> tensor_of_use_;
  std::string out_;
  std::vector<Frame> frames_;
  std::size_t visited_ = 0;
};

}  // namespace

EntryText describe_entry(const ValueGraph& graph, Use use, std::size_t longest) {
  const auto node = graph.resolve(use);
  Anatomy anatomy;
  dissect(graph, node, anatomy);
  return describe(graph, node, anatomy, longest);
}

Result<std::string> value_as_json(const Checkpoint& checkpoint, Use use) {
  return JsonWalk(checkpoint).run(use);
}

}  // namespace ckpt
