// SPDX-License-Identifier: BSD-3-Clause
// A document that torch.load(weights_only=True) takes: values of classes that it refuses become plain where a
// plain value says exactly the same; the others go, with the item of a mapping or a list that holds them.
//
// One walk from the root, without recursion, over what holds a refused global; all else is passed over. A
// value that can't go alone (an item of a tuple, an argument of a call) takes along what is made of it.
#include <algorithm>
#include <optional>
#include <string>
#include <unordered_map>
#include <unordered_set>
#include <utility>
#include <vector>

#include <fmt/format.h>

#include "ckpt/base/text.h"
#include "ckpt/compute/convert.h"
#include "ckpt/compute/latin1_source.h"
#include "ckpt/edit/conversions.h"
#include "ckpt/edit/plain_forms.h"
#include "ckpt/model/anatomy.h"
#include "ckpt/model/byte_order.h"
#include "ckpt/model/key_path.h"
#include "ckpt/model/weights_only.h"

namespace ckpt {
namespace {

/// Which values hold something refused.
class Taint {
 public:
  explicit Taint(const ValueGraph& graph) : graph_(graph), before_(graph.size() + 1) {
    std::vector<bool> refused(graph.size());
    for (const auto node : graph.global_uses()) refused[node] = !is_allowed_global(global_name(graph, node));
    for (Use node = 0; node < graph.size(); ++node) {
      bool counts = refused[node] || graph.opcode(node) == Opcode::kFrozenset;
      if (graph.repeats(node)) {
        const auto finished = graph.finished(graph.repeated(node));
        counts = finished >= node || holds(finished);  // of what is not finished yet anything may be true
      }
      before_[node + 1] = before_[node] + (counts ? 1 : 0);
    }
  }

  /// Does the finished value at `node`? May say so where it doesn't.
  bool holds(Use node) const { return before_[node + 1] > before_[graph_.start(node)]; }

 private:
  const ValueGraph& graph_;
  std::vector<std::uint32_t> before_;  ///< by node: how many there are in front of it
};

struct Edge {
  Use value = kNoUse;
  Use key = kNoUse;
  Use pair = kNoUse;
  StepKind kind = StepKind::kPart;
  std::uint32_t index = 0;
  bool droppable = false;
};

struct Frame {
  Use node = kNoUse;
  std::string path;
  bool are_attributes = false;  ///< items of the mapping are attributes of an object
  std::vector<Edge> edges;
  std::size_t next = 0;
  std::size_t reported = 0;  ///< lines of the report when it was opened
  std::string refused;       ///< a global that it can't be without
  std::optional<std::unordered_set<std::string>> keys =
      std::nullopt;  ///< numbers and texts, once a key becomes one
};

/// What becomes of a value wherever it is used.
struct Verdict {
  std::string refused;                ///< a global; then it goes
  std::optional<PlainValue> becomes;  ///< else this, or it stays
};

class PlainRewrite {
 public:
  explicit PlainRewrite(EditContext& context)
      : context_(context),
        checkpoint_(context.checkpoint),
        graph_(checkpoint_.graph()),
        taint_(graph_),
        report_(context.report.conversion->refused) {}

  Status run() {
    for (const auto& row : checkpoint_.tensors) {
      if (row.use != kNoUse) tensors_.insert(graph_.resolve(row.use));
    }
    for (std::uint32_t i = 0; i < checkpoint_.state_dicts.size(); ++i) {
      const auto& dict = checkpoint_.state_dicts[i];
      if (dict.mapping == kNoUse) continue;
      state_dicts_.insert(graph_.resolve(dict.mapping));
      for (std::uint32_t k = 0; k < dict.entries.size(); ++k) {
        if (dict.entries[k].tensor == kNoIndex) keys_.emplace(dict.entries[k].key, std::pair{i, k});
      }
    }
    frames_.push_back(around_root());
    while (true) {
      auto& frame = frames_.back();
      if (frame.next < frame.edges.size()) {
        CKPT_RETURN_IF_ERROR(visit(frame.edges[frame.next++]));
        continue;
      }
      if (frames_.size() == 1) return frame.refused.empty() ? Status() : refused_root(frame.refused);
      CKPT_RETURN_IF_ERROR(close());
    }
  }

 private:
  // ---- the walk

  /// The frame around the root, which can't go.
  Frame around_root() const {
    Frame frame;
    const auto root = Edge{graph_.root(), kNoUse, kNoUse, StepKind::kRoot, 0, false};
    if (!checkpoint_.has_new_root()) {
      frame.edges.push_back(root);
      return frame;
    }
    const auto& dict = checkpoint_.state_dicts[checkpoint_.new_root()];
    if (!dict.of_module) {
      frame.edges.push_back(root);
      frame.edges.back().value = dict.mapping;
      return frame;
    }
    for (std::uint32_t i = 0; i < dict.entries.size(); ++i) {
      if (!checkpoint_.is_dropped(checkpoint_.new_root(), i))
        frame.edges.push_back(
            {dict.entries[i].value, dict.entries[i].key, kNoUse, StepKind::kItem, 0, false});
    }
    return frame;
  }

  /// The frame may move.
  Status visit(const Edge& edge) {
    const Edge visited = edge;
    if (visited.key != kNoUse && taint_.holds(graph_.resolve(visited.key))) {
      auto global = plain_key(visited);
      if (!global.empty()) return refuse(visited, std::move(global));
    }
    const auto node = graph_.resolve(visited.value);
    if (!taint_.holds(node)) return {};
    const auto known = verdicts_.find(node);
    if (known != verdicts_.end()) {
      if (!known->second.refused.empty()) return refuse(visited, known->second.refused);
      if (known->second.becomes) checkpoint_.replace_value(visited.value, *known->second.becomes);
      return {};
    }
    verdicts_.emplace(node, Verdict());
    return open(visited, node);
  }

  Status open(const Edge& edge, Use node) {
    Anatomy anatomy;
    dissect(graph_, node, anatomy);
    Frame frame{node, path_of(edge), false, {}, 0, report_.size(), {}};
    if (graph_.opcode(anatomy.made) == Opcode::kFrozenset) return give_up(edge, node, "builtins.frozenset");
    if (anatomy.kind == ValueKind::kGlobal) return give_up(edge, node, global_name(graph_, node));
    if (!anatomy.arguments.empty()) {
      const auto global = global_name(graph_, anatomy.arguments.front());
      if (!is_allowed_global(global)) {
        const auto form = plain_form(graph_, node, anatomy, global);
        if (!form) return refuse_object(edge, node, anatomy, global);
        CKPT_ASSIGN_OR_RETURN(const bool done, make_plain(edge, node, *form));
        if (!done) return give_up(edge, node, global);
        report_.push_back({frame.path, class_of(anatomy, global), std::string(plain_form_name(*form))});
        if (const auto* attributes = std::get_if<PlainAttributes>(&*form)) {
          dissect(graph_, graph_.resolve(attributes->state), anatomy);
          frame.are_attributes = true;
        } else if (!std::holds_alternative<PlainDict>(*form)) {
          return {};
        }
        anatomy.arguments.clear();  // they are gone
      }
    }
    add_edges(frame, anatomy);
    frames_.push_back(std::move(frame));
    return {};
  }

  static void add_edges(Frame& frame, const Anatomy& anatomy) {
    for (std::size_t i = 1; i < anatomy.arguments.size(); ++i)
      frame.edges.push_back({anatomy.arguments[i], kNoUse, kNoUse, StepKind::kPart, 0, false});
    const auto kind = frame.are_attributes ? StepKind::kAttribute : StepKind::kItem;
    for (const auto& item : anatomy.items)
      frame.edges.push_back({item.value, item.key, item.pair, kind, 0, true});
    const bool droppable = anatomy.kind != ValueKind::kTuple;
    std::uint32_t index = 0;
    for (const auto element : anatomy.elements)
      frame.edges.push_back({element, kNoUse, kNoUse, StepKind::kIndex, index++, droppable});
    for (const auto state : anatomy.states)
      frame.edges.push_back({state, kNoUse, kNoUse, StepKind::kPart, 1, false});
  }

  Status close() {
    auto frame = std::move(frames_.back());
    frames_.pop_back();
    if (frame.refused.empty()) return {};
    const auto edge = frames_.back().edges[frames_.back().next - 1];
    report_.resize(frame.reported);  // what was said about its parts says nothing now
    return give_up(edge, frame.node, std::move(frame.refused));
  }

  // ---- what is refused

  /// The value can't stay, wherever it is used. Errors: kUnsupported where it can't go.
  Status give_up(const Edge& edge, Use node, std::string global) {
    const auto path = path_of(edge);
    const auto refused = global.empty() ? std::string("something made at run time") : quoted(global);
    if (tensors_.contains(node)) {
      return Error(ErrorCode::kUnsupported,
                   fmt::format("the tensor at {} is made by {}, which weights_only=True refuses",
                               quoted_path(path), refused));
    }
    if (state_dicts_.contains(node)) {
      return Error(ErrorCode::kUnsupported,
                   fmt::format("the state dict at {} is made by {}, which weights_only=True refuses",
                               quoted_path(path), refused));
    }
    verdicts_[node].refused = global.empty() ? "?" : global;
    return refuse(edge, verdicts_[node].refused);
  }

  /// A whole module has a way out of its own.
  Status refuse_object(const Edge& edge, Use node, const Anatomy& anatomy, const std::string& global) {
    int tables = 0;
    for (const auto& item : attributes(graph_, anatomy.states)) {
      const auto name = graph_.string_view(item.key);
      if (name == "_parameters" || name == "_buffers" || name == "_modules") ++tables;
    }
    const auto name = class_of(anatomy, global);
    if (tables < 3) return give_up(edge, node, name);
    return Error(ErrorCode::kUnsupported,
                 fmt::format("a whole module{} stands at {}, which weights_only=True refuses",
                             name.empty() ? std::string() : " of class " + quoted(name),
                             quoted_path(path_of(edge))))
        .with_hint("take its weights alone: --state-dict --weights-only");
  }

  std::string class_of(const Anatomy& anatomy, const std::string& global) const {
    if (global == "copyreg._reconstructor" && anatomy.arguments.size() > 1)
      return global_name(graph_, anatomy.arguments[1]);
    return global;
  }

  static Error refused_root(const std::string& global) {
    return Error(ErrorCode::kUnsupported,
                 fmt::format("the root of the file is made of {}, which weights_only=True refuses",
                             global == "?" ? std::string("something made at run time") : quoted(global)));
  }

  /// The item that `edge` leads to goes, or else what it is a part of.
  Status refuse(const Edge& edge, std::string global) {
    if (edge.kind == StepKind::kRoot) return refused_root(global);
    auto& frame = frames_.back();
    if (!edge.droppable) {
      if (frame.refused.empty()) frame.refused = std::move(global);
      return {};
    }
    drop_key(edge.key);
    checkpoint_.drop_value(edge.pair == kNoUse ? edge.key : kNoUse,
                           edge.pair == kNoUse ? edge.value : edge.pair);
    report_.push_back({path_of(edge), std::move(global), ""});
    return {};
  }

  /// An `_extra_state` is a key of its state dict.
  void drop_key(Use use) {
    const auto found = keys_.find(use);
    if (found == keys_.end()) return;
    const auto [index, entry] = found->second;
    for (auto& dict : context_.dicts) {
      if (dict.index != index) continue;
      for (auto& key : dict.keys) key.dropped = key.dropped || key.entry == entry;
      return;
    }
    checkpoint_.drop(index, entry);
  }

  // ---- what becomes plain

  Result<bool> make_plain(const Edge& edge, Use node, const PlainForm& form) {
    if (const auto* dict = std::get_if<PlainDict>(&form)) {
      checkpoint_.make_dict(dict->maker);
      return true;
    }
    std::optional<PlainValue> value;
    if (const auto* scalar = std::get_if<PlainScalar>(&form)) value = plain_value(scalar->value);
    if (const auto* object = std::get_if<PlainAttributes>(&form)) value = KeptValue{object->state};
    if (const auto* array = std::get_if<PlainTensor>(&form)) {
      CKPT_ASSIGN_OR_RETURN(value, tensor_of(array->array));
    }
    if (!value) return false;
    checkpoint_.replace_value(edge.value, *value);
    verdicts_[node].becomes = std::move(value);
    return true;
  }

  static PlainValue plain_value(const NumpyScalar& scalar) {
    return std::visit([](const auto& value) { return PlainValue(value); }, scalar);
  }

  /// Gives the key another spelling. Returns the global that it can't be without, or "".
  std::string plain_key(const Edge& edge) {
    const auto node = graph_.resolve(edge.key);
    Anatomy anatomy;
    dissect(graph_, node, anatomy);
    if (anatomy.arguments.empty()) return "?";
    const auto global = global_name(graph_, anatomy.arguments.front());
    const auto form = plain_form(graph_, node, anatomy, global);
    const auto* scalar = form ? std::get_if<PlainScalar>(&*form) : nullptr;
    if (scalar == nullptr) return global.empty() ? "?" : global;
    auto value = plain_value(scalar->value);
    if (!frames_.back().keys) frames_.back().keys = plain_keys(frames_.back());
    const auto* number = std::get_if<std::int64_t>(&value);
    const auto* text = std::get_if<std::string>(&value);
    const auto name = number != nullptr ? std::to_string(*number) : text != nullptr ? "'" + *text : "";
    if (!name.empty() && !frames_.back().keys->insert(name).second)
      return global;  // a member of an enumeration and its value are two keys
    checkpoint_.replace_value(edge.key, std::move(value));
    report_.push_back({path_of(edge), global, std::string(plain_form_name(*form))});
    return "";
  }

  /// Numbers, and texts behind a quote.
  std::unordered_set<std::string> plain_keys(const Frame& frame) const {
    std::unordered_set<std::string> keys;
    for (const auto& edge : frame.edges) {
      if (edge.key == kNoUse) continue;
      if (const auto number = graph_.integer(edge.key)) {
        keys.insert(std::to_string(*number));
      } else if (const auto text = graph_.string(edge.key)) {
        keys.insert("'" + *text);
      }
    }
    return keys;
  }

  // ---- arrays

  /// Nothing where the bytes are not as many as the shape wants.
  Result<std::optional<PlainValue>> tensor_of(const NumpyArray& array) {
    const auto dtype = *array.dtype.torch_dtype();
    TensorView view{dtype, kNoIndex, 0, array.shape, {}};
    std::uint64_t size = array.dtype.size;
    std::int64_t step = 1;
    for (const auto length : array.shape) {
      if (__builtin_mul_overflow(size, static_cast<std::uint64_t>(length), &size)) return {std::nullopt};
      if (!array.fortran) continue;
      view.strides.push_back(step);
      step *= std::max<std::int64_t>(length, 1);
    }
    const bool turned =
        array.dtype.size > 1 && array.dtype.big_endian != takes_turned_bytes(checkpoint_, dtype);
    CKPT_ASSIGN_OR_RETURN(const auto data, data_of_array(array, turned));
    if (!data || data->size() != size) return {std::nullopt};
    if (checkpoint_.format == FormatId::kTorchLegacy && dtype_info(dtype).storage_class.empty())
      return {std::nullopt};  // PyTorch can't load them from there
    view.storage = checkpoint_.add_storage(*data, dtype);
    return {PlainValue(MadeTensor{checkpoint_.add_tensor(view)})};
  }

  Result<std::optional<DataRef>> data_of_array(const NumpyArray& array, bool turned) {
    const auto value = bytes_value(graph_, array.bytes);
    if (!value) return {std::nullopt};
    if (!value->outside) {
      const auto view = as_bytes(value->bytes);
      Bytes bytes(view.begin(), view.end());
      if (turned && bytes.size() % array.dtype.size == 0) swap_byte_order(*array.dtype.torch_dtype(), bytes);
      return {DataRef::of_bytes(std::move(bytes))};
    }
    if (turned) return {std::nullopt};
    const auto part = static_cast<std::uint32_t>(checkpoint_.parts.size());
    const auto& source = checkpoint_.document().source;
    if (!value->is_latin1) {
      checkpoint_.parts.push_back({source, {}, {}});
      return {DataRef{part, *value->outside, {}, {}}};
    }
    CKPT_ASSIGN_OR_RETURN(const auto decoded, Latin1Source::open(source, *value->outside));
    checkpoint_.parts.push_back({decoded, {}, {}});
    return {DataRef{part, {0, decoded->size()}, {}, {}}};
  }

  // ---- paths

  std::string path_of(const Edge& edge) const {
    auto path = frames_.back().path;
    switch (edge.kind) {
      case StepKind::kItem:
        if (const auto text = graph_.string(edge.key)) {
          append_key_step(path, *text);
        } else {
          path += '{' + python_repr(graph_, edge.key) + '}';
        }
        break;
      case StepKind::kAttribute: {
        std::string step;
        append_key_step(step, graph_.string(edge.key).value_or("?"));
        path += '@' + step;
        break;
      }
      case StepKind::kIndex: path += fmt::format("[{}]", edge.index); break;
      default: break;
    }
    return path;
  }

  EditContext& context_;
  Checkpoint& checkpoint_;
  const ValueGraph& graph_;
  Taint taint_;
  std::vector<RefusedValue>& report_;
  std::unordered_set<Use> tensors_;      ///< nodes
  std::unordered_set<Use> state_dicts_;  ///< nodes
  /// State dict and entry of keys whose values are no tensors.
  std::unordered_map<Use, std::pair<std::uint32_t, std::uint32_t>> keys_;
  std::unordered_map<Use, Verdict> verdicts_;
  std::vector<Frame> frames_;
};

}  // namespace

Status make_weights_only(EditContext& context) {
  auto& checkpoint = context.checkpoint;
  if (!checkpoint.has_document()) return {};
  const auto& graph = checkpoint.graph();
  context.report.conversion->respelled = !refused_opcodes(graph).empty();
  const auto globals = globals_of(graph);
  const bool refused =
      graph.count(Opcode::kFrozenset) > 0 ||
      std::any_of(globals.begin(), globals.end(), [](const auto& global) { return !global.weights_only; });
  if (!refused && !context.report.conversion->respelled) return {};
  checkpoint.require_weights_only();
  return refused ? PlainRewrite(context).run() : Status();
}

}  // namespace ckpt
