// SPDX-License-Identifier: BSD-3-Clause
#include "ckpt/inspect/findings.h"

#include <algorithm>
#include <limits>

#include <fmt/format.h>

#include "ckpt/base/text.h"
#include "ckpt/model/key_path.h"
#include "ckpt/model/module_names.h"
#include "ckpt/model/wrappers.h"

namespace ckpt {
namespace {

constexpr std::size_t kNamed = 3;  // examples in a message

std::string examples(const std::vector<std::string>& names) {
  std::string out;
  for (std::size_t i = 0; i < std::min(kNamed, names.size()); ++i)
    out += (i > 0 ? ", " : "") + quoted(names[i]);
  if (names.size() > kNamed) out += fmt::format(" and {} more", names.size() - kNamed);
  return out;
}

bool may_have_wrapper(const Checkpoint& checkpoint, const StateDict& dict) {
  return std::any_of(dict.entries.begin(), dict.entries.end(), [&](const StateDictEntry& entry) {
    if (entry.tensor == kNoIndex) return false;
    const auto name = checkpoint.tensors[entry.tensor].name;
    return std::any_of(known_wrappers().begin(), known_wrappers().end(), [&](std::string_view wrapper) {
      for (auto at = name.find(wrapper); at != name.npos; at = name.find(wrapper, at + 1)) {
        const bool starts = at == 0 || name[at - 1] == '.';
        const auto end = at + wrapper.size();
        if (starts && end < name.size() && name[end] == '.') return true;
      }
      return false;
    });
  });
}

void find_wrappers(const Checkpoint& checkpoint, std::vector<Finding>& out) {
  for (std::uint32_t i = 0; i < checkpoint.state_dicts.size(); ++i) {
    const auto& dict = checkpoint.state_dicts[i];
    if (!may_have_wrapper(checkpoint, dict)) continue;
    std::vector<std::string> keys;
    for (std::uint32_t k = 0; k < dict.entries.size(); ++k) keys.push_back(checkpoint.original_name(i, k));
    const auto removed = strip_wrappers(keys, {});
    if (removed.empty()) continue;
    const auto path = checkpoint.path(dict.place);
    // a module that averages another one keeps a key of its own, so it can't be unwrapped
    const bool is_fixed =
        !dict.of_module || std::none_of(keys.begin(), keys.end(),
                                        [](const std::string& key) { return leaf_of(key) == "n_averaged"; });
    out.push_back({"wrapper-prefix", Severity::kWarning, path,
                   fmt::format("the keys{} carry the name of a wrapper: {}",
                               path.empty() ? "" : " of " + quoted(path), examples(removed)),
                   is_fixed ? "ckpt strip-dataparallel FILE -o OUT" : ""});
  }
}

void find_opaque_modules(const Checkpoint& checkpoint, std::vector<Finding>& out) {
  std::vector<std::string> paths;
  for (const auto& dict : checkpoint.state_dicts) {
    if (dict.is_opaque) paths.push_back(quoted_path(checkpoint.path(dict.place)));
  }
  if (paths.empty()) return;
  out.push_back({"module-keys-unknown", Severity::kWarning, "",
                 fmt::format("the module at {} gives keys that no file shows: it holds weights packed in an "
                             "unknown way, or objects that are no plain modules",
                             fmt::join(paths, ", ")),
                 ""});
}

/// Two rows that show the same values of one storage under two keys of one state dict.
bool tied(const Checkpoint& checkpoint, const TensorInfo& a, const TensorInfo& b) {
  return a.state_dict == b.state_dict && a.state_dict != kNoIndex && a.offset == b.offset &&
         a.dtype == b.dtype && std::ranges::equal(checkpoint.shape(a), checkpoint.shape(b)) &&
         checkpoint.numel(a) > 0;
}

void find_ties(const Checkpoint& checkpoint, const TensorsByStorage& by_storage, std::vector<Finding>& out) {
  std::vector<std::string> groups;
  std::uint64_t count = 0;
  for (StorageId storage = 0; storage < checkpoint.storages.size(); ++storage) {
    const auto begin = by_storage.first[storage];
    const auto end = by_storage.first[storage + 1];
    if (end - begin < 2) continue;
    const auto& first = checkpoint.tensors[by_storage.order[begin]];
    const auto& second = checkpoint.tensors[by_storage.order[begin + 1]];
    if (!tied(checkpoint, first, second)) continue;
    if (++count <= kNamed)
      groups.push_back(fmt::format("{} = {}", printable(first.name), printable(second.name)));
  }
  if (count == 0) return;
  out.push_back({"tied-tensors", Severity::kInfo, "",
                 fmt::format("{} under several keys: {}{}", counted(count, "tensor"), fmt::join(groups, ", "),
                             count > kNamed ? ", …" : ""),
                 ""});
}

void find_large_storages(const Checkpoint& checkpoint, const TensorsByStorage& by_storage,
                         std::vector<Finding>& out) {
  std::uint64_t recoverable = 0;
  std::vector<std::string> names;
  for (StorageId storage = 0; storage < checkpoint.storages.size(); ++storage) {
    std::uint64_t low = std::numeric_limits<std::uint64_t>::max();
    std::uint64_t high = 0;
    for (auto i = by_storage.first[storage]; i < by_storage.first[storage + 1]; ++i) {
      const auto view = checkpoint.view_extent(checkpoint.tensors[by_storage.order[i]]);
      if (view.size == 0) continue;
      low = std::min(low, view.offset);
      high = std::max(high, view.end());
    }
    const auto bytes = checkpoint.storages[storage].bytes;
    const auto used = high > low ? high - low : 0;
    if (used >= bytes || by_storage.first[storage] == by_storage.first[storage + 1]) continue;
    recoverable += bytes - used;
    names.push_back(checkpoint.path(checkpoint.tensors[by_storage.order[by_storage.first[storage]]].place));
  }
  if (names.empty()) return;
  out.push_back(
      {"large-storage", Severity::kWarning, "",
       fmt::format("{} {} larger than what {}; {} recoverable: {}", counted(names.size(), "view"),
                   names.size() == 1 ? "keeps a storage" : "keep storages",
                   names.size() == 1 ? "it shows" : "they show", human_bytes(recoverable), examples(names)),
       checkpoint.format == FormatId::kSafetensors ? "" : "ckpt convert --compact FILE -o OUT"});
}

void find_unreferenced(const Checkpoint& checkpoint, std::vector<Finding>& out) {
  if (checkpoint.unreferenced_storages.empty()) return;
  std::uint64_t bytes = 0;
  std::vector<std::string> names;
  for (const auto& [name, size] : checkpoint.unreferenced_storages) {
    bytes += size;
    names.push_back(name);
  }
  out.push_back({"unreferenced-storage", Severity::kWarning, "",
                 fmt::format("{} that nothing refers to ({}): {}", counted(names.size(), "storage"),
                             human_bytes(bytes), examples(names)),
                 ""});
}

void find_device_tags(const Checkpoint& checkpoint, std::vector<Finding>& out) {
  std::vector<std::string> tags;
  for (const auto& tag : checkpoint.devices) {
    if (tag != "cpu") tags.push_back(tag);
  }
  if (tags.empty()) return;
  out.push_back(
      {"device-tags", Severity::kInfo, "",
       fmt::format("storages are tagged {}: loading without map_location needs that device", examples(tags)),
       "ckpt convert --device-tag cpu FILE -o OUT"});
}

/// What becomes plain or can go; empty where tensors are made of what is refused.
std::string_view weights_only_fix(const Checkpoint& checkpoint, const std::vector<std::string>& refused) {
  const auto makes_tensors = [](const std::string& name) {
    return name.starts_with("torch._") || name.starts_with("torch.distributed.");
  };
  if (std::any_of(refused.begin(), refused.end(), makes_tensors)) return "";
  const auto& dicts = checkpoint.state_dicts;
  if (std::none_of(dicts.begin(), dicts.end(), [](const StateDict& dict) { return dict.of_module; }))
    return "ckpt convert --weights-only FILE -o OUT";
  return dicts.size() == 1 ? "ckpt convert --state-dict --weights-only FILE -o OUT" : "";
}

void find_refused_globals(const Checkpoint& checkpoint, const std::vector<GlobalUse>& globals,
                          std::vector<Finding>& out) {
  if (!checkpoint.has_document()) return;
  if (checkpoint.format == FormatId::kTorchScript) {
    out.push_back({"weights-only", Severity::kInfo, "",
                   "torch.load(weights_only=True) refuses TorchScript archives; torch.jit.load reads them",
                   ""});
    return;
  }
  std::vector<std::string> names;
  for (const auto& global : globals) {
    if (!global.weights_only) names.push_back(global.name);
  }
  const auto opcodes = refused_opcodes(checkpoint.graph());
  if (names.empty() && opcodes.empty()) return;
  const auto what = !names.empty()
                        ? fmt::format("{}: {}", counted(names.size(), "global"), examples(names))
                        : fmt::format("{}: {}", counted(opcodes.size(), "pickle opcode"), examples(opcodes));
  out.push_back({"weights-only", Severity::kWarning, "",
                 fmt::format("torch.load(weights_only=True) of PyTorch {} refuses {}", kNewestTorch, what),
                 std::string(weights_only_fix(checkpoint, names))});
}

void find_checksums(const Checkpoint& checkpoint, std::vector<Finding>& out) {
  const bool in_records =
      checkpoint.format == FormatId::kTorchZip || checkpoint.format == FormatId::kTorchScript;
  if (!in_records || checkpoint.storages.empty()) return;
  const auto with =
      std::count_if(checkpoint.storages.begin(), checkpoint.storages.end(),
                    [](const Storage& storage) { return storage.has_crc32 || storage.bytes == 0; });
  if (static_cast<std::size_t>(with) == checkpoint.storages.size()) return;
  out.push_back(
      {"crc-missing", Severity::kInfo, "",
       fmt::format("{} of {} storages have no checksum on record",
                   checkpoint.storages.size() - static_cast<std::size_t>(with), checkpoint.storages.size()),
       ""});
}

}  // namespace

std::vector<Finding> find_remarks(const Checkpoint& checkpoint, const TensorsByStorage& by_storage,
                                  const std::vector<GlobalUse>& globals) {
  std::vector<Finding> out;
  find_wrappers(checkpoint, out);
  find_opaque_modules(checkpoint, out);
  find_ties(checkpoint, by_storage, out);
  find_large_storages(checkpoint, by_storage, out);
  find_unreferenced(checkpoint, out);
  find_device_tags(checkpoint, out);
  find_refused_globals(checkpoint, globals, out);
  find_checksums(checkpoint, out);
  return out;
}

std::optional<Finding> find_odd_values(const Checkpoint& checkpoint, const std::vector<TensorId>& tensors,
                                       const std::vector<TensorStatistics>& statistics) {
  std::vector<std::string> names;
  for (std::size_t i = 0; i < tensors.size(); ++i) {
    const auto& values = statistics[i].values;
    if (values.nans + values.infinities == 0) continue;
    const auto& tensor = checkpoint.tensors[tensors[i]];
    names.push_back(tensor.state_dict == kNoIndex ? checkpoint.path(tensor.place) : std::string(tensor.name));
  }
  if (names.empty()) return std::nullopt;
  return Finding{"values-not-finite", Severity::kWarning, "",
                 fmt::format("{} {} NaN or infinite values: {}", counted(names.size(), "tensor"),
                             names.size() == 1 ? "has" : "have", examples(names)),
                 ""};
}

}  // namespace ckpt
