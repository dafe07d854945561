// SPDX-License-Identifier: BSD-3-Clause
#include "support/zip_builder.h"

#include <algorithm>
#include <map>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "ckpt/base/crc32.h"
#include "ckpt/zip/entry_layout.h"
#include "ckpt/zip/records.h"

namespace ckpt::test {
namespace {

using Keys = std::map<std::string, std::string, std::less<>>;

// torch.save({"a": torch.ones(2)}, …) of every release, protocol 2.
constexpr char kPickle[] =
    "\x80\x02}q\x00X\x01\x00\x00\x00"
    "aq\x01"
    "ctorch._utils\n_rebuild_tensor_v2\nq\x02((X\x07\x00\x00\x00storageq\x03"
    "ctorch\nFloatStorage\nq\x04X\x01\x00\x00\x00"
    "0q\x05X\x03\x00\x00\x00"
    "cpuq\x06K\x02tq\x07QK\x00K\x02\x85q\x08K\x01\x85q\t\x89"
    "ccollections\nOrderedDict\nq\n)Rq\x0btq\x0cRq\rs.";

std::vector<std::string> split(std::string_view text, std::string_view separators) {
  std::vector<std::string> parts(1);
  for (const char c : text) {
    if (separators.find(c) != separators.npos) {
      parts.emplace_back();
    } else {
      parts.back() += c;
    }
  }
  std::erase(parts, "");
  return parts;
}

std::uint64_t number(const std::string& text) {
  std::size_t used = 0;
  const auto value = std::stoull(text, &used, 0);
  if (used != text.size()) throw std::invalid_argument("not a number: " + text);
  return value;
}

std::string unescaped(std::string_view text) {
  std::string out;
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text[i] != '\\' || i + 1 == text.size()) {
      out += text[i];
      continue;
    }
    switch (text[++i]) {
      case '0': out += '\0'; break;
      case 'n': out += '\n'; break;
      case 's': out += ' '; break;
      case 'x':
        out += static_cast<char>(std::stoi(std::string(text.substr(i + 1, 2)), nullptr, 16));
        i += 2;
        break;
      default: out += text[i];
    }
  }
  return out;
}

std::string default_body(std::string_view name) {
  if (name.ends_with("data.pkl") || name.ends_with("DATA.PKL"))
    return std::string(kPickle, sizeof kPickle - 1);
  if (name.ends_with("version")) return "3\n";
  if (name.ends_with("data/0")) return std::string("\0\0\x80\x3f\0\0\x80\x3f", 8);
  return "body of " + std::string(name);
}

/// Overrides `field` if the description has `key`.
template <typename T>
void take(const Keys& keys, std::string_view key, T& field) {
  const auto found = keys.find(key);
  if (found != keys.end()) field = static_cast<T>(number(found->second));
}

struct Record {
  std::string name;
  Keys keys;
  Bytes data;
  std::uint64_t size = 0;
  std::uint32_t crc32 = 0;
  std::uint64_t offset = 0;

  std::string text(std::string_view key, std::string otherwise = {}) const {
    const auto found = keys.find(key);
    return found == keys.end() ? otherwise : unescaped(found->second);
  }

  std::uint64_t value(std::string_view key, std::uint64_t otherwise) const {
    take(keys, key, otherwise);
    return otherwise;
  }
};

class Builder {
 public:
  void add(const std::vector<std::string>& words) {
    static constexpr std::string_view kDirectives[] = {"end", "zip64", "locator"};
    static constexpr std::string_view kTexts[] = {"comment",        "before", "before-all", "between",
                                                  "behind-entries", "after",  "twice"};
    for (const auto& text : kTexts) {
      if (words[0] == text)
        return static_cast<void>(texts_[words[0]] = words.size() > 1 ? unescaped(words[1]) : "");
    }
    Keys keys;
    for (std::size_t i = 1; i < words.size(); ++i) {
      const auto equals = words[i].find('=');
      if (equals == std::string::npos) throw std::invalid_argument("key=value expected: " + words[i]);
      keys[words[i].substr(0, equals)] = words[i].substr(equals + 1);
    }
    for (const auto& directive : kDirectives) {
      if (words[0] == directive) return static_cast<void>(directives_[words[0]] = keys);
    }
    records_.push_back({unescaped(words[0]), std::move(keys), {}, 0, 0, 0});
  }

  Bytes build() {
    append_text(out_, texts_["before"]);
    for (auto& record : records_) write(record);
    const auto central = write_central();
    append_text(out_, texts_["between"]);
    write_end(central);
    Bytes whole;
    append_text(whole, texts_["before-all"]);
    append_bytes(whole, out_);
    append_text(whole, texts_["after"]);
    if (texts_.contains("twice")) append_bytes(whole, Bytes(whole));
    return whole;
  }

 private:
  void write(Record& record);
  void write_entry(const Record& record);
  Extent write_central();
  void write_end(Extent central);

  std::vector<Record> records_;
  std::map<std::string, std::string> texts_;
  std::map<std::string, Keys> directives_;
  std::uint64_t listed_ = 0;
  Bytes out_;
};

void Builder::write(Record& record) {
  auto body = record.text("body", default_body(record.name));
  if (record.keys.contains("zeros")) body.assign(static_cast<std::size_t>(record.value("zeros", 0)), '\0');
  record.size = body.size();
  record.crc32 = crc32(0, as_bytes(body));
  const bool deflated = record.value("deflate", 0) != 0;
  record.data = deflated ? deflate(as_bytes(body)) : Bytes(as_bytes(body).begin(), as_bytes(body).end());
  if (record.value("written", 1) == 0) return;

  append_text(out_, record.text("gap"));
  record.offset = out_.size();
  const auto name = record.text("local-name", record.name);
  const auto extra = record.text("local-extra");
  const auto descriptor = record.text("descriptor", "none");
  const bool later = descriptor != "none";
  LocalHeader header;
  header.flags = static_cast<std::uint16_t>(record.value("flags", later ? 0x0808 : 0x0800));
  header.method = deflated ? kMethodDeflated : kMethodStored;
  header.crc32 = later ? 0 : record.crc32;
  header.size = later ? 0 : static_cast<std::uint32_t>(record.size);
  header.stored_size = later ? 0 : static_cast<std::uint32_t>(record.data.size());
  take(record.keys, "local-flags", header.flags);
  take(record.keys, "local-method", header.method);
  take(record.keys, "local-crc", header.crc32);
  take(record.keys, "local-size", header.size);
  take(record.keys, "local-stored", header.stored_size);
  header.name_size = static_cast<std::uint16_t>(name.size());
  header.extra_size = static_cast<std::uint16_t>(extra.size());
  append_local_header(out_, header);
  append_text(out_, name);
  append_text(out_, extra);
  append_bytes(out_, record.data);
  if (later) append_descriptor(out_, {record.crc32, record.data.size(), record.size, descriptor == "24"});
}

void Builder::write_entry(const Record& record) {
  const auto& model = record.keys.contains("like") ? records_.at(record.value("like", 0)) : record;
  const auto name = record.text("name", record.name);
  const auto extra = record.text("extra");
  const auto comment = record.text("entry-comment");
  const bool later = record.text("descriptor", "none") != "none";
  CentralEntry entry;
  entry.flags = static_cast<std::uint16_t>(later ? 0x0808 : 0x0800);
  entry.method = record.value("deflate", 0) != 0 ? kMethodDeflated : kMethodStored;
  entry.date = 0x21;  // 1980-01-01, the first that exists
  entry.crc32 = model.crc32;
  entry.size = static_cast<std::uint32_t>(model.size);
  entry.stored_size = static_cast<std::uint32_t>(model.data.size());
  entry.local_header_offset = static_cast<std::uint32_t>(model.offset);
  take(record.keys, "flags", entry.flags);
  take(record.keys, "method", entry.method);
  take(record.keys, "crc", entry.crc32);
  take(record.keys, "size", entry.size);
  take(record.keys, "stored", entry.stored_size);
  take(record.keys, "offset", entry.local_header_offset);
  take(record.keys, "disk", entry.disk);
  take(record.keys, "needs", entry.version_needed);
  take(record.keys, "time", entry.time);
  entry.name_size = static_cast<std::uint16_t>(name.size());
  entry.extra_size = static_cast<std::uint16_t>(extra.size());
  entry.comment_size = static_cast<std::uint16_t>(comment.size());
  append_central_entry(out_, entry);
  for (const auto* text : {&name, &extra, &comment}) append_text(out_, *text);
}

Extent Builder::write_central() {
  Extent central{out_.size(), 0};
  for (const auto& record : records_) {
    if (record.value("listed", 1) == 0) continue;
    write_entry(record);
    ++listed_;
  }
  append_text(out_, texts_["behind-entries"]);
  central.size = out_.size() - central.offset;
  return central;
}

void Builder::write_end(Extent central) {
  EndRecord end;
  end.entries = end.entries_on_disk =
      static_cast<std::uint16_t>(std::min<std::uint64_t>(listed_, kSaturated16));
  end.central_size = static_cast<std::uint32_t>(central.size);
  end.central_offset = static_cast<std::uint32_t>(central.offset);
  end.comment_size = static_cast<std::uint16_t>(texts_["comment"].size());
  if (directives_.contains("zip64") || directives_.contains("locator") || listed_ >= kSaturated16) {
    Zip64End wide;
    wide.entries = wide.entries_on_disk = listed_;
    wide.central_size = central.size;
    wide.central_offset = central.offset;
    const auto& keys = directives_["zip64"];
    take(keys, "entries", wide.entries);
    take(keys, "entries", wide.entries_on_disk);
    take(keys, "entries-here", wide.entries_on_disk);
    take(keys, "disk", wide.disk);
    take(keys, "central-disk", wide.central_disk);
    take(keys, "central-size", wide.central_size);
    take(keys, "central-offset", wide.central_offset);
    take(keys, "record-size", wide.record_size);
    Zip64Locator locator{0, out_.size(), 1};
    take(directives_["locator"], "at", locator.end_offset);
    take(directives_["locator"], "disks", locator.disks);
    append_zip64_end(out_, wide);
    append_zip64_locator(out_, locator);
  }
  const auto& keys = directives_["end"];
  take(keys, "entries", end.entries);
  take(keys, "entries", end.entries_on_disk);
  take(keys, "entries-here", end.entries_on_disk);
  take(keys, "disk", end.disk);
  take(keys, "central-disk", end.central_disk);
  take(keys, "central-size", end.central_size);
  take(keys, "central-offset", end.central_offset);
  take(keys, "comment-size", end.comment_size);
  append_end_record(out_, end);
  append_text(out_, texts_["comment"]);
}

}  // namespace

Bytes build_zip(std::string_view description) {
  Builder builder;
  for (const auto& line : split(description, "\n;")) {
    const auto words = split(line, " ");
    if (!words.empty()) builder.add(words);
  }
  return builder.build();
}

std::shared_ptr<const ByteSource> zip_source(Bytes bytes) {
  return std::make_shared<MemorySource>("test.pt", std::move(bytes));
}

}  // namespace ckpt::test
