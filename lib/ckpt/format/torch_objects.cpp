// SPDX-License-Identifier: BSD-3-Clause
#include "ckpt/format/torch_objects.h"

#include <algorithm>
#include <array>
#include <bit>
#include <functional>
#include <unordered_set>

#include <fmt/format.h>

#include "ckpt/base/checked_math.h"
#include "ckpt/base/text.h"
#include "ckpt/format/module_visits.h"
#include "ckpt/format/script_modules.h"
#include "ckpt/model/anatomy.h"
#include "ckpt/model/state_dicts.h"

namespace ckpt {
namespace {

/// What the items of a frame are to the module they stand in.
enum class Role : std::uint8_t {
  kPlain,
  kModuleState,  ///< what a module's `__dict__` holds
  kParameters,
  kBuffers,
  kChildren,
  kGraphModule,     ///< the arguments of the call that makes it
  kCompiledModule,  ///< the same
  kCompiledChild,
  kScriptState,  ///< the attributes of a TorchScript object
};

struct Context {
  std::uint32_t mapping = kNoIndex;  ///< mapping whose values are visited; kNoIndex inside anything else
  std::uint32_t around = kNoIndex;   ///< nearest mapping around
  std::uint32_t module = kNoIndex;   ///< module whose state or tables are visited
  Role role = Role::kPlain;
  bool by_strings = false;  ///< reached from the root through string keys of mappings alone
  bool in_optimizer = false;
};

struct Item {
  Use value;
  Use key;             ///< node of a key or attribute name; kNoUse for others
  std::uint32_t step;  ///< as in Place
  StepKind kind;
};

Item keyed_item(const MappingItem& item, StepKind kind) {
  return {item.value, item.key, item.key, kind};
}

struct Frame {
  PlaceId place;
  Context context;
  std::vector<Item> items;
  std::size_t next = 0;
};

/// Hashes met so far, for mappings of millions of keys: 16 bytes each, no allocation per key. The table is
/// larger than the cache and asked at random: a slot is on its way while others are looked at.
class HashSet {
 public:
  explicit HashSet(std::size_t count) {
    if (count > 1) slots_.resize(std::bit_ceil(count * 2));
  }

  void add(std::uint64_t hash) {
    if (slots_.empty()) return;
    const auto at = (hash * 0x9E3779B97F4A7C15U) >> 32U;
    __builtin_prefetch(&slots_[at & (slots_.size() - 1)], 1);
    pending_[pending_count_++] = {hash | 1, at};  // 0 marks a free slot
    if (pending_count_ == pending_.size()) insert_pending();
  }

  /// Were two of them equal?
  bool met_twice() {
    insert_pending();
    return met_twice_;
  }

 private:
  struct Pending {
    std::uint64_t hash;
    std::uint64_t at;
  };

  void insert_pending() {
    for (std::size_t i = 0; i < pending_count_; ++i) insert(pending_[i]);
    pending_count_ = 0;
  }

  void insert(Pending pending) {
    const auto mask = slots_.size() - 1;
    auto at = pending.at & mask;
    while (slots_[at] != 0 && slots_[at] != pending.hash) at = (at + 1) & mask;
    met_twice_ = met_twice_ || slots_[at] == pending.hash;
    slots_[at] = pending.hash;
  }

  std::vector<std::uint64_t> slots_;
  std::array<Pending, 32> pending_;
  std::size_t pending_count_ = 0;
  bool met_twice_ = false;
};

class Collector {
 public:
  Collector(Checkpoint& checkpoint, std::uint8_t document, StorageResolver& resolver,
            Diagnostics& diagnostics, ScriptModules* scripts)
      : checkpoint_(checkpoint),
        document_(document),
        resolver_(resolver),
        diagnostics_(diagnostics),
        scripts_(scripts),
        graph_(checkpoint.parts.front().documents[document]->graph),
        reader_(graph_, dialect_of(checkpoint)),
        modules_(checkpoint),
        seen_((graph_.size() + 7) / 8) {}

  Status run() {
    CKPT_RETURN_IF_ERROR(walk());
    auto module_dicts = modules_.take_state_dicts();
    if (scripts_ != nullptr && scripts_->has_root(checkpoint_)) {
      CKPT_ASSIGN_OR_RETURN(auto dict, scripts_->make_state_dict(checkpoint_));
      tensor_mapping_.assign(checkpoint_.tensors.size(), kNoIndex);  // no mapping of a module is a state dict
      module_dicts.push_back(std::move(dict));
    }
    select_state_dicts(checkpoint_, std::move(extra_states_), std::move(module_dicts), tensor_mapping_);
    modules_.list_modules();
    if (scripts_ != nullptr)  // whose code has all the tensors
      std::erase_if(checkpoint_.state_dicts, [](const StateDict& dict) { return dict.entries.empty(); });
    return {};
  }

  Status walk() {
    reserve_tables();
    const auto root = add_place(kNoIndex, StepKind::kRoot, 0);
    Context context;
    context.by_strings = !is_aside();
    CKPT_RETURN_IF_ERROR(visit(graph_.root(), kNoUse, root, context));
    while (!frames_.empty()) {
      auto& frame = frames_.back();
      if (frame.next == frame.items.size()) {
        frames_.pop_back();
        continue;
      }
      CKPT_RETURN_IF_ERROR(visit_item(frame.items[frame.next++]));
    }
    return {};
  }

 private:
  /// Every tensor has a persistent id, and takes about a hundred bytes of text: an upper bound for streams
  /// that repeat one id over and over.
  void reserve_tables() {
    constexpr std::size_t kTextOfTensor = 64;
    const auto tensors =
        std::min<std::size_t>(graph_.count(Opcode::kBinpersid), graph_.text().size() / kTextOfTensor);
    checkpoint_.tensors.reserve(tensors);
    checkpoint_.storages.reserve(tensors);
    checkpoint_.places.reserve(tensors);
    checkpoint_.dimensions.reserve(2 * tensors);
    tensor_mapping_.reserve(tensors);
  }

  /// Is it a document beside the object's? What it has besides tensors is in no table.
  bool is_aside() const { return document_ > 0; }

  PlaceId add_place(PlaceId parent, StepKind kind, std::uint32_t step) {
    checkpoint_.places.push_back({parent, step, kind, document_});
    return static_cast<PlaceId>(checkpoint_.places.size() - 1);
  }

  /// The frame may move while its items are visited: everything needed is copied first.
  Status visit_item(Item item) {
    const auto& frame = frames_.back();
    const auto context = item_context(frame.context, item);
    const auto place = add_place(frame.place, item.kind, item.step);
    return visit(item.value, item.key, place, context);
  }

  /// What an item inherits from the frame it stands in.
  Context item_context(Context context, const Item& item) const {
    context.by_strings = context.by_strings && item.kind == StepKind::kItem && graph_.is_string(item.key);
    if (item.kind != StepKind::kItem) context.mapping = kNoIndex;  // an attribute is no value of it
    const bool first_argument =
        item.kind == StepKind::kPart && item.step == static_cast<std::uint32_t>(PartName::kArguments);
    switch (context.role) {
      case Role::kPlain:
      case Role::kScriptState: break;
      case Role::kModuleState: context.role = table_role(graph_.string_view(item.key)); break;
      case Role::kGraphModule: context.role = first_argument ? Role::kModuleState : Role::kPlain; break;
      case Role::kCompiledModule: context.role = first_argument ? Role::kCompiledChild : Role::kPlain; break;
      case Role::kParameters:
      case Role::kBuffers:
      case Role::kChildren:
      case Role::kCompiledChild:
        if (item.kind != StepKind::kItem) context.role = Role::kPlain;
        break;
    }
    return context;
  }

  static Role table_role(std::optional<std::string_view> name) {
    return name == "_parameters" ? Role::kParameters
           : name == "_buffers"  ? Role::kBuffers
           : name == "_modules"  ? Role::kChildren
                                 : Role::kPlain;
  }

  /// Was the object taken apart before? Leaves never are.
  bool was_visited(Use node) const { return (seen_[node / 8] & bit_of(node)) != 0; }

  void mark_visited(Use node) { seen_[node / 8] = static_cast<std::uint8_t>(seen_[node / 8] | bit_of(node)); }

  static std::uint8_t bit_of(Use node) { return static_cast<std::uint8_t>(1U << (node % 8)); }

  Status visit(Use value, Use key, PlaceId place, const Context& context) {
    auto node = graph_.resolve(value);
    auto is_tensor = reader_.read(node, call_);
    if (!is_tensor.ok()) return describe(std::move(is_tensor).error(), place);
    if (*is_tensor) {
      count_tensor(context);
      return add_tensor(value, key, place, context, 0);
    }
    if (const auto inner = untagged(graph_, node); inner != node) value = node = inner;
    const auto opcode = graph_.opcode(node);
    const bool is_made = opcode == Opcode::kBuild || opcode == Opcode::kNewobj || opcode == Opcode::kReduce;
    if (context.role == Role::kScriptState && is_made && opcode != Opcode::kReduce)
      scripts_->add_object(context.module, key, node, place, graph_);
    count_other(key, value, context);
    const bool is_table = scripts_ == nullptr && context.module != kNoIndex && context.role != Role::kPlain;
    const bool is_first = !was_visited(node);
    if (!is_first && !is_made && !is_table) {  // however large it is, it is not taken apart again
      add_entry(place, node);
      return {};
    }
    dissect(graph_, node, anatomy_);
    const bool is_object = anatomy_.kind == ValueKind::kObject;
    if (is_object && (context.role == Role::kParameters || context.role == Role::kBuffers) && key != kNoUse)
      modules_.add_value(context.module, context.role == Role::kBuffers, graph_.string(key).value_or(""), key,
                         value, kNoIndex);
    if (context.role == Role::kChildren && is_object && !read_module(graph_, anatomy_))
      modules_.add_unknown_child(context.module);
    switch (anatomy_.kind) {
      case ValueKind::kDict:
      case ValueKind::kOrderedDict:
      case ValueKind::kList:
      case ValueKind::kTuple:
      case ValueKind::kSet:
      case ValueKind::kObject: break;
      case ValueKind::kStorage: return add_storage_value(node, place);
      default: add_entry(place, node); return {};
    }
    if (is_plain_value() || (!is_first && !opens_again(node, context))) {
      add_entry(place, node);
      return {};
    }
    mark_visited(node);
    return open(value, place, context, is_first);
  }

  /// Is a value that was met before walked again? A module gives its keys wherever it stands among other
  /// modules' children, and it is a state dict of its own where it stands in none.
  bool opens_again(Use node, const Context& context) {
    if (scripts_ != nullptr || is_aside()) return false;
    if (context.module != kNoIndex && context.role != Role::kPlain && anatomy_.is_mapping())
      return modules_.is_again(context.module);
    if (anatomy_.kind != ValueKind::kObject) return false;
    const bool child = context.role == Role::kChildren || context.role == Role::kCompiledChild;
    if (!child && (!context.by_strings || context.in_optimizer)) return false;
    if (!read_module(graph_, anatomy_)) return false;
    return child ? modules_.may_open_again_in(context.module, node) : modules_.may_open_again_as_root(node);
  }

  void add_entry(PlaceId place, Use node) {
    if (!is_aside()) checkpoint_.entries.push_back({place, node});
  }

  Status add_storage_value(Use node, PlaceId place) {
    add_entry(place, node);
    auto use = reader_.read_storage(node);
    if (!use.ok()) return {};  // a class of a legacy stream, or an id nobody knows: carried
    auto storage = resolver_.resolve(*use, checkpoint_);
    if (!storage.ok()) return describe(std::move(storage).error(), place);
    return {};
  }

  void count_tensor(const Context& context) {
    if (context.mapping != kNoIndex) ++checkpoint_.mappings[context.mapping].tensors;
  }

  void count_other(Use key, Use value, const Context& context) {
    if (context.mapping == kNoIndex) return;
    auto& mapping = checkpoint_.mappings[context.mapping];
    const auto name = key == kNoUse ? std::nullopt : graph_.string(key);
    if (name && (name->ends_with("_extra_state"))) {
      ++mapping.extra_states;
      extra_states_.push_back({context.mapping, key, value});
    } else {
      ++mapping.others;
    }
  }

  /// Opens a frame over what the value in `anatomy_` holds.
  Status open(Use value, PlaceId place, const Context& outer, bool is_first) {
    const auto node = graph_.resolve(value);
    Frame frame{place, {}, {}, 0};
    frame.context.around = outer.around;
    frame.context.in_optimizer = outer.in_optimizer;
    if (scripts_ != nullptr && anatomy_.kind == ValueKind::kObject) {
      open_script_object(frame, node, place);
    } else if (const auto module = is_aside() ? std::nullopt : read_module(graph_, anatomy_)) {
      open_module(frame, value, place, outer, *module, is_first);
    } else {
      if (!is_aside() && anatomy_.is_mapping()) open_mapping(frame, node, place, outer);
      add_items(frame, attributes(graph_, anatomy_.states));
    }
    if (frame.items.empty()) {
      add_entry(place, node);
      return {};
    }
    frames_.push_back(std::move(frame));
    return {};
  }

  void add_items(Frame& frame, const std::vector<MappingItem>& attribute_items) {
    const auto& anatomy = anatomy_;
    frame.items.reserve(anatomy.items.size() + anatomy.elements.size());
    if (anatomy.kind == ValueKind::kObject || anatomy.kind == ValueKind::kOrderedDict) {
      for (std::size_t i = 1; i < anatomy.arguments.size(); ++i) {
        add_part(frame, anatomy.arguments[i], PartName::kArguments, static_cast<std::uint32_t>(i - 1));
      }
    }
    for (const auto& item : anatomy.items) frame.items.push_back(keyed_item(item, StepKind::kItem));
    std::uint32_t index = 0;
    for (const auto element : anatomy.elements)
      frame.items.push_back({element, kNoUse, index++, StepKind::kIndex});
    for (const auto& item : attribute_items) frame.items.push_back(keyed_item(item, StepKind::kAttribute));
    if (attribute_items.empty()) {
      for (const auto state : anatomy.states) add_part(frame, state, PartName::kState);
    }
  }

  /// Arguments and opaque states: only worth a place when they are more than a leaf, or the object's only
  /// content.
  void add_part(Frame& frame, Use use, PartName part, std::uint32_t index = 0) {
    frame.items.push_back({use, kNoUse, static_cast<std::uint32_t>(part) | index << 8U, StepKind::kPart});
  }

  /// Calls whose arguments are only the spelling of one plain value: NumPy scalars, bytes, dtypes, devices.
  bool is_plain_value() const {
    if (anatomy_.kind != ValueKind::kObject || anatomy_.arguments.empty()) return false;
    const auto name = graph_.global(anatomy_.arguments.front());
    if (!name) return false;
    return (name->name == "scalar" && name->module.starts_with("numpy.")) ||
           (name->name == "encode" && name->module == "_codecs") ||
           (name->name == "dtype" && name->module == "numpy") ||
           (name->name == "device" && name->module == "torch");
  }

  void open_mapping(Frame& frame, Use node, PlaceId place, const Context& outer) {
    Mapping mapping;
    mapping.place = place;
    mapping.use = node;
    mapping.parent_mapping = outer.around;
    mapping.reached_by_strings = outer.by_strings;
    mapping.in_optimizer = outer.in_optimizer;
    bool has_state = false;
    bool has_groups = false;
    HashSet hashes(anatomy_.items.size());
    for (const auto& item : anatomy_.items) {
      const auto key = graph_.string_view(item.key);
      if (!key) {
        if (!graph_.string(item.key)) mapping.string_keys = false;  // nor is one too long to be kept
        continue;
      }
      has_state = has_state || *key == "state";
      has_groups = has_groups || *key == "param_groups";
      hashes.add(std::hash<std::string_view>()(*key));
    }
    mapping.is_optimizer = has_state && has_groups;
    if (hashes.met_twice()) report_duplicates(place);
    const auto index = static_cast<std::uint32_t>(checkpoint_.mappings.size());
    frame.context.mapping = index;
    frame.context.around = index;
    frame.context.by_strings = outer.by_strings;
    frame.context.in_optimizer = outer.in_optimizer || mapping.is_optimizer;
    checkpoint_.mappings.push_back(mapping);
    if (outer.module != kNoIndex && outer.role != Role::kPlain) {
      // one of a module's tables: its tensors belong to the module, not to a mapping
      frame.context.mapping = kNoIndex;
      frame.context.module = outer.module;
      frame.context.role = outer.role;
    }
  }

  /// Two items under one key: Python keeps the last value at the first one's place.
  void report_duplicates(PlaceId place) {
    std::unordered_set<std::string_view> keys;
    keys.reserve(anatomy_.items.size());
    for (const auto& item : anatomy_.items) {
      const auto key = graph_.string_view(item.key);
      if (!key || keys.insert(*key).second) continue;
      diagnostics_.add(
          {"duplicate-key", Severity::kError, checkpoint_.path(place),
           fmt::format("the key {} is set twice in one mapping; only the last value is loaded", quoted(*key)),
           ""});
      return;
    }
  }

  void open_module(Frame& frame, Use value, PlaceId place, const Context& outer, const ModuleObject& module,
                   bool is_first) {
    bool child = outer.role == Role::kChildren || outer.role == Role::kCompiledChild;
    std::string name;
    if (outer.role == Role::kCompiledChild) name = kCompiledChild;
    if (outer.role == Role::kChildren) name = graph_.string(checkpoint_.places[place].step).value_or("");
    if (child && modules_.is_too_deep(outer.module, name)) {
      modules_.add_unknown_child(outer.module);
      child = false;
    }
    if (child) {
      frame.context.module = modules_.add_child(module, value, place, outer.module, name, !is_first);
    } else {
      const bool counts = outer.by_strings && !outer.in_optimizer;
      frame.context.module = modules_.add_root(module, value, place, counts, !is_first);
    }
    if (module.form == ModuleForm::kObject) {
      frame.context.role = Role::kModuleState;
      add_state(frame, module, is_first);
      return;
    }
    if (module.form == ModuleForm::kPackedConvolution) {
      if (is_first) {
        add_items(frame, {});
      } else {
        add_packed_tensors(frame, module);
      }
      return;
    }
    frame.context.role = module.form == ModuleForm::kGraph ? Role::kGraphModule : Role::kCompiledModule;
    const auto arguments = is_first ? anatomy_.arguments.size() : 2;
    for (std::size_t i = 1; i < arguments; ++i)
      add_part(frame, anatomy_.arguments[i], PartName::kArguments, static_cast<std::uint32_t>(i - 1));
  }

  /// What a convolution that was walked before gives once more.
  void add_packed_tensors(Frame& frame, const ModuleObject& module) {
    std::uint32_t index = 0;
    for (const auto& key : packed_keys(graph_, module).keys)
      frame.items.push_back({key.value, kNoUse, index++, StepKind::kIndex});
  }

  /// All attributes, or the tables alone. These in the order in which `state_dict()` goes over them, whatever
  /// the file's.
  void add_state(Frame& frame, const ModuleObject& module, bool is_first) {
    std::vector<std::size_t> tables;
    for (const auto& item : module.state) {
      const bool is_table = table_role(graph_.string_view(item.key)) != Role::kPlain;
      if (!is_first && !is_table) continue;
      if (is_table) tables.push_back(frame.items.size());
      frame.items.push_back(keyed_item(item, StepKind::kAttribute));
    }
    std::vector<Item> sorted;
    for (const auto at : tables) sorted.push_back(frame.items[at]);
    std::stable_sort(sorted.begin(), sorted.end(), [&](const Item& a, const Item& b) {
      return table_role(graph_.string_view(a.key)) < table_role(graph_.string_view(b.key));
    });
    for (std::size_t i = 0; i < tables.size(); ++i) frame.items[tables[i]] = sorted[i];
  }

  void open_script_object(Frame& frame, Use node, PlaceId place) {
    const auto attribute_items = attributes(graph_, anatomy_.states);
    const auto name = graph_.global(anatomy_.arguments.front());
    const auto module = name ? scripts_->add(node, *name, place, checkpoint_) : kNoIndex;
    if (module != kNoIndex && has_empty_states()) return;
    if (module != kNoIndex) {
      frame.context.module = module;
      frame.context.role = Role::kScriptState;
    }
    add_items(frame, attribute_items);
  }

  /// Frozen modules are built with empty dicts.
  bool has_empty_states() const {
    Anatomy state;
    return std::all_of(anatomy_.states.begin(), anatomy_.states.end(), [&](Use use) {
      dissect(graph_, graph_.resolve(use), state);
      return state.is_mapping() && state.items.empty();
    });
  }

  // ---- tensors

  Status add_tensor(Use use, Use key, PlaceId place, const Context& context, std::uint16_t extra_flags) {
    TensorInfo row;
    row.use = is_aside() ? kNoUse : use;
    row.place = place;
    row.dtype = call_.dtype;
    row.layout = call_.layout;
    row.flags = static_cast<std::uint16_t>(call_.flags | extra_flags);
    row.offset = call_.offset;
    if (call_.storage) {
      row.offset += call_.storage->view_offset;
      auto storage = resolver_.resolve(*call_.storage, checkpoint_);
      if (!storage.ok()) return describe(std::move(storage).error(), place);
      row.storage = *storage;
    }
    add_dimensions(row);
    if (row.storage != kNoIndex) CKPT_RETURN_IF_ERROR(check_view(row));
    if (!(extra_flags & kIsPart)) name_tensor(row, key, context);
    const auto index = checkpoint_.tensors.size();
    checkpoint_.tensors.push_back(row);
    tensor_mapping_.push_back(row.has(kIsPart) ? kNoIndex : context.mapping);
    return add_parts(index, place, context);
  }

  void add_dimensions(TensorInfo& row) {
    auto& pool = checkpoint_.dimensions;
    row.rank = static_cast<std::uint8_t>(call_.sizes.size());
    row.dimensions_at = pool.size();
    pool.insert(pool.end(), call_.sizes.begin(), call_.sizes.end());
    if (call_.strides.empty() || contiguous()) {
      row.flags |= kContiguous;
    } else {
      pool.insert(pool.end(), call_.strides.begin(), call_.strides.end());
    }
  }

  bool contiguous() const {
    std::uint64_t step = 1;
    for (std::size_t i = call_.sizes.size(); i-- > 0;) {
      if (static_cast<std::uint64_t>(call_.strides[i]) != step) return false;
      const auto product =
          checked_multiply(step, std::max<std::uint64_t>(1, static_cast<std::uint64_t>(call_.sizes[i])));
      if (!product) return false;
      step = *product;
    }
    return true;
  }

  /// Elements the view needs, from the start of its storage; nothing where the product overflows.
  static std::optional<std::uint64_t> elements_needed(const TensorCall& call, std::uint64_t offset) {
    std::uint64_t last = offset;
    for (std::size_t i = 0; i < call.sizes.size(); ++i) {
      if (call.sizes[i] == 0) return 0;
      const auto reach = checked_multiply(static_cast<std::uint64_t>(call.sizes[i] - 1),
                                          static_cast<std::uint64_t>(call.strides[i]));
      const auto sum = reach ? checked_add(last, *reach) : std::nullopt;
      if (!sum) return std::nullopt;
      last = *sum;
    }
    return checked_add(last, 1);
  }

  /// Legacy streams can hand a tensor a part of a storage; what lies behind the part is not the tensor's.
  Status check_part(const TensorInfo& row, std::optional<std::uint64_t> needed) const {
    const auto& use = *call_.storage;
    if (!use.view || (needed && *needed <= use.view_offset + use.view->elements)) return {};
    return Error(ErrorCode::kCorrupt,
                 fmt::format("tensor {} needs more than the {} elements of its view of storage {}",
                             quoted(checkpoint_.path(row.place)), use.view->elements,
                             quoted(checkpoint_.storages[row.storage].key)));
  }

  Status check_view(const TensorInfo& row) {
    const auto& storage = checkpoint_.storages[row.storage];
    const auto& info = dtype_info(row.dtype);
    auto needed = elements_needed(call_, row.offset);
    if (info.values_per_item > 1 && needed != 0) {
      needed = checked_add(row.offset, checkpoint_.storage_bytes_of_packed(row));
    }
    CKPT_RETURN_IF_ERROR(check_part(row, needed));
    const auto bytes = needed ? checked_multiply(*needed, info.item_size) : std::nullopt;
    if (bytes && *bytes <= storage.bytes) return {};
    const auto path = checkpoint_.path(row.place);
    return Error(
        ErrorCode::kCorrupt,
        fmt::format("tensor {} needs {} bytes but storage {} has {}", quoted(path),
                    bytes ? std::to_string(*bytes) : "more than 2^64", quoted(storage.key), storage.bytes));
  }

  void name_tensor(TensorInfo& row, Use key, const Context& context) {
    if (context.role == Role::kScriptState) {
      const auto id = static_cast<TensorId>(checkpoint_.tensors.size());
      row.flags |= scripts_->add_tensor(context.module, key, id, graph_);
      return;
    }
    if (context.role == Role::kParameters || context.role == Role::kBuffers) {
      name_module_tensor(row, key, context);
      return;
    }
    if (context.mapping == kNoIndex || key == kNoUse) return;
    if (const auto view = graph_.string_view(key)) {
      row.name = *view;
    } else if (auto text = graph_.string(key)) {
      row.name = keep(std::move(*text));
    }
  }

  void name_module_tensor(TensorInfo& row, Use key, const Context& context) {
    const bool is_buffer = context.role == Role::kBuffers;
    row.flags |= is_buffer ? kBufferByModule : kIsParameter;
    row.name = modules_.add_value(context.module, is_buffer, graph_.string(key).value_or(""), key, row.use,
                                  static_cast<TensorId>(checkpoint_.tensors.size()));
  }

  std::string_view keep(std::string text) { return checkpoint_.strings.emplace_back(std::move(text)); }

  Status add_parts(std::size_t index, PlaceId place, const Context& context) {
    const auto parts = call_.parts;
    const auto others = call_.others;
    const bool dtype_from_values = call_.dtype_from_values;
    for (const auto& [part, use] : parts) {
      const auto part_place = add_place(place, StepKind::kPart, static_cast<std::uint32_t>(part));
      const auto node = graph_.resolve(use);
      auto is_tensor = reader_.read(node, call_);
      if (!is_tensor.ok()) return describe(std::move(is_tensor).error(), part_place);
      if (!*is_tensor)
        return describe(Error(ErrorCode::kCorrupt, "a part of a tensor is no tensor"), part_place);
      if (!call_.parts.empty())
        return describe(Error(ErrorCode::kUnsupported, "a tensor is nested in parts of parts"), part_place);
      if (dtype_from_values && (part == PartName::kValues || part == PartName::kBuffer)) {
        checkpoint_.tensors[index].dtype = call_.dtype;
      }
      CKPT_RETURN_IF_ERROR(add_tensor(use, kNoUse, part_place, {}, kIsPart));
      ++checkpoint_.tensors[index].parts;
    }
    Frame frame{place, {}, {}, 0};
    frame.context.around = context.around;
    frame.context.in_optimizer = context.in_optimizer;
    for (const auto& [part, use] : others) {
      const auto named = part == PartName::kState ? attributes(graph_, {use}) : std::vector<MappingItem>();
      for (const auto& item : named) frame.items.push_back(keyed_item(item, StepKind::kAttribute));
      if (named.empty()) add_part(frame, use, part);
    }
    if (!frame.items.empty()) frames_.push_back(std::move(frame));
    return {};
  }

  /// Adds the path to an error that a tensor at `place` caused.
  Error describe(Error error, PlaceId place) const {
    const auto path = checkpoint_.path(place);
    if (path.empty() || error.message().starts_with("tensor ")) return error;
    Error described(error.code(), fmt::format("at {}: {}", quoted(path), error.message()));
    if (error.offset()) return std::move(described).at(*error.offset());
    return described;
  }

  Checkpoint& checkpoint_;
  std::uint8_t document_;
  StorageResolver& resolver_;
  Diagnostics& diagnostics_;
  ScriptModules* scripts_;
  const ValueGraph& graph_;
  TensorReader reader_;
  TensorCall call_;
  Anatomy anatomy_;
  ModuleVisits modules_;
  std::vector<std::uint8_t> seen_;  ///< one bit a node
  std::vector<Frame> frames_;
  std::vector<ExtraState> extra_states_;
  std::vector<std::uint32_t> tensor_mapping_;  ///< by tensor: the mapping it is a value of
};

}  // namespace

Status collect_objects(Checkpoint& checkpoint, StorageResolver& resolver, Diagnostics& diagnostics,
                       ScriptModules* scripts) {
  return Collector(checkpoint, 0, resolver, diagnostics, scripts).run();
}

Status collect_constants(Checkpoint& checkpoint, StorageResolver& resolver, Diagnostics& diagnostics) {
  return Collector(checkpoint, 1, resolver, diagnostics, nullptr).walk();
}

}  // namespace ckpt
