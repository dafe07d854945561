// SPDX-License-Identifier: BSD-3-Clause
#include "ckpt/format/torch_legacy.h"

#include <limits>
#include <string>
#include <vector>

#include <fmt/format.h>

#include "support/catch.h"
#include "support/checkpoint_builder.h"
#include "support/pickle_assembler.h"
#include "support/zip_builder.h"

using namespace ckpt;
using namespace ckpt::test;
using std::string_literals::operator""s;

namespace {

constexpr auto kTwo = "w float32 2; b float32 3";

/// A stream whose object is one tensor on storage "0" of `numel` float32.
LegacyPieces one_tensor(const TensorPickle& tensor, std::uint64_t numel = 2) {
  auto pieces = legacy_pieces(fmt::format("0 float32 {}", numel));
  pieces.object = tensor.pickle();
  return pieces;
}

std::string of_tensor(const TensorPickle& tensor, std::uint64_t numel = 2) {
  return outcome(one_tensor(tensor, numel).build());
}

std::string of_object(const std::string& object) {
  auto pieces = legacy_pieces("0 float32 2");
  pieces.object = object;
  return outcome(pieces.build());
}

Bytes count_of(std::int64_t count, std::size_t bytes) {
  Bytes out;
  append_le(out, count);
  out.resize(out.size() + bytes);
  return out;
}

template <typename Edit>
Bytes edited(const Bytes& bytes, Edit edit) {
  auto checkpoint = read_bytes(bytes).value();
  edit(checkpoint);
  const auto layout = format_of(checkpoint.format).lay_out(checkpoint);
  if (!layout) FAIL(layout.error().text());
  return written(*layout, checkpoint);
}

}  // namespace

TEST_CASE("a legacy stream is read", "[format]") {
  const auto checkpoint = read_bytes(build_torch_legacy("a float32 2; b/c int64 scalar; n = 3")).value();
  CHECK(checkpoint.format == FormatId::kTorchLegacy);
  CHECK(checkpoint.has_document());
  REQUIRE(checkpoint.storages.size() == 2);
  CHECK(checkpoint.storages[0].key == "a");
  CHECK(checkpoint.storages[0].bytes == 8);
  CHECK(checkpoint.storages[0].extent.end() + 8 == checkpoint.storages[1].extent.offset);
  CHECK(checkpoint.tensors.size() == 2);
}

TEST_CASE("the magic number is known in every pickle protocol", "[format]") {
  auto pieces = legacy_pieces(kTwo);
  const std::string number = "LONG1 \"\\x6c\\xfc\\x9c\\x46\\xf9\\x20\\x6a\\xa8\\x50\\x19\"; STOP";
  for (const auto& magic : {"PROTO 2; " + number, "PROTO 3; " + number, "PROTO 4; FRAME 13; " + number,
                            "PROTO 5; FRAME 13; " + number, "LONG 119547037146038801333356L; STOP"s,
                            "LONG 119547037146038801333356; STOP"s}) {
    CAPTURE(magic);
    pieces.magic = magic;
    CHECK(outcome(pieces.build()) == "read");
  }
  pieces.magic = "PROTO 2; LONG1 \"\\x6d\\xfc\\x9c\\x46\\xf9\\x20\\x6a\\xa8\\x50\\x19\"; STOP";
  CHECK(outcome(pieces.build()) == "x: this is a plain pickle, not a file of torch.save");
}

TEST_CASE("only protocol version 1001 is read", "[format]") {
  auto pieces = legacy_pieces(kTwo);
  pieces.protocol = "PROTO 2; BININT2 1000; STOP";
  CHECK(outcome(pieces.build()) == "x: record 'protocol': the protocol version is 1000, expected 1001");
  pieces.protocol = "PROTO 2; NONE; STOP";
  CHECK(outcome(pieces.build()) == "x: record 'protocol': the protocol version is no number, expected 1001");
  pieces.protocol = "PROTO 2; BININT 1001; STOP";
  CHECK(outcome(pieces.build()) == "read");
}

TEST_CASE("what the system pickle says is ignored, as by every PyTorch", "[format]") {
  auto pieces = legacy_pieces(kTwo);
  const auto plain = table(read_bytes(pieces.build()).value());
  pieces.system = "PROTO 2; EMPTY_DICT; BINUNICODE little_endian; NEWFALSE; SETITEM; STOP";
  CHECK(table(read_bytes(pieces.build()).value()) == plain);
  pieces.system = "PROTO 2; BINPUT 0";
  CHECK(outcome(pieces.build()).starts_with("x: record 'system', byte "));
}

TEST_CASE("a storage's size follows from its first use", "[format]") {
  auto pieces = legacy_pieces(kTwo);
  for (const std::int64_t count : {0, 2, 1 << 30}) {
    pieces.storages[0] = count_of(count, 12);
    CHECK(outcome(pieces.build()) == fmt::format("x: storage 'b' has {} elements, expected 3", count));
  }
  pieces.storages[0] = count_of(-1, 12);
  CHECK(outcome(pieces.build()) == "x: storage 'b' has -1 elements, expected 3");
  pieces.storages[0] = count_of(std::numeric_limits<std::int64_t>::max(), 12);
  CHECK(outcome(pieces.build()) == "x: storage 'b' has 9223372036854775807 elements, expected 3");
}

TEST_CASE("a legacy file that is cut off tells how much is missing", "[format]") {
  auto pieces = legacy_pieces(kTwo);  // storages b (8 + 12 bytes) and w (8 + 8)
  pieces.storages[1].resize(15);
  CHECK(outcome(pieces.build()) == "x: the file is cut off in storage 'w' (2 of 2): 1 byte missing");
  pieces.storages[1].resize(7);
  CHECK(outcome(pieces.build()) == "x: the file is cut off in storage 'w' (2 of 2): 9 bytes missing");
  pieces.storages[1].clear();
  pieces.storages[0].resize(10);
  CHECK(outcome(pieces.build()) == "x: the file is cut off in storage 'b' (1 of 2): 26 bytes missing");
  pieces.storages[0].clear();
  CHECK(outcome(pieces.build()) == "x: the file is cut off in storage 'b' (1 of 2): 36 bytes missing");
  const auto magic = testing::assemble(pieces.magic);
  CHECK(outcome(Bytes(magic.begin(), magic.begin() + 8)) ==
        "x: the file ends inside the magic number, after 8 bytes");
}

TEST_CASE("every prefix of a legacy file is refused without harm", "[format]") {
  const auto file = build_torch_legacy("w float32 2; s uint8 5 storage=t; b float32 0");
  for (std::size_t size = 0; size < file.size(); ++size) {
    const auto prefix = outcome(Bytes(file.begin(), file.begin() + static_cast<std::ptrdiff_t>(size)));
    CAPTURE(size);
    CHECK(prefix.starts_with("x: "));
  }
}

TEST_CASE("the list of keys is the truth about the storages", "[format]") {
  auto pieces = legacy_pieces(kTwo);
  pieces.keys = "PROTO 2; EMPTY_LIST; MARK; BINUNICODE \"b\"; APPENDS; STOP";
  CHECK(outcome(pieces.build()) == "x: record 'object': at 'w': storage 'w' is not in the list of storages");
  pieces.keys = "PROTO 2; EMPTY_LIST; MARK; BINUNICODE b; BINUNICODE w; BINUNICODE v; APPENDS; STOP";
  CHECK(outcome(pieces.build()) ==
        "x: storage 'v' is listed but nothing uses it: its size is unknown, and every PyTorch refuses the "
        "file");
  pieces.keys = "PROTO 2; EMPTY_LIST; MARK; BINUNICODE b; BININT1 7; APPENDS; STOP";
  CHECK(outcome(pieces.build()) == "x: record 'keys', byte 10: a storage's key is no string");
  pieces.keys = "PROTO 2; EMPTY_DICT; STOP";
  CHECK(outcome(pieces.build()) == "x: record 'keys': the list of storages is no list");
  pieces.keys = "PROTO 2; MARK; BINSTRING b; SHORT_BINSTRING w; LIST; STOP";
  CHECK(outcome(pieces.build()) == "read");
}

TEST_CASE("the order of the list is the order of the storages", "[format]") {
  auto pieces = legacy_pieces(kTwo);
  const auto plain = table(read_bytes(pieces.build()).value());
  pieces.keys = "PROTO 2; EMPTY_LIST; MARK; BINUNICODE w; BINUNICODE b; APPENDS; STOP";
  std::swap(pieces.storages[0], pieces.storages[1]);
  CHECK(table(read_bytes(pieces.build()).value()) == plain);
}

TEST_CASE("a key listed twice holds what its last copy says", "[format]") {
  auto pieces = legacy_pieces("w uint8 2");
  pieces.keys = "PROTO 2; EMPTY_LIST; MARK; BINUNICODE w; BINUNICODE w; APPENDS; STOP";
  pieces.storages.push_back(count_of(2, 2));
  CHECK(outcome(pieces.build()) == "read, warning legacy-key-listed-twice");
  CHECK(table(read_bytes(pieces.build()).value()) == std::vector<std::string>{"w uint8 [2] 0000"});
}

TEST_CASE("what follows the last storage is reported and carried", "[format]") {
  auto pieces = legacy_pieces(kTwo);
  pieces.trailing = "junk";
  CHECK(outcome(pieces.build()) == "read, warning legacy-trailing-bytes");
  const auto renamed = edited(pieces.build(), [](Checkpoint& checkpoint) { checkpoint.rename(0, 0, "v"); });
  CHECK(as_text(renamed).ends_with("junk"));
  pieces.trailing = as_text(build_torch_legacy(kTwo));
  CHECK(outcome(pieces.build()) == "read, warning legacy-trailing-bytes");
  pieces.trailing = as_text(build_torch_zip(kTwo));
  CHECK(outcome(pieces.build()) == "read, error legacy-and-zip");
}

TEST_CASE("tensors stay inside their storages", "[format]") {
  CHECK(of_tensor({}) == "read");
  CHECK(of_tensor({.offset = "BININT 1"}) ==
        "x: record 'object': tensor '' needs 12 bytes but storage '0' has 8");
  CHECK(of_tensor({.strides = "MARK; BININT 2; TUPLE"}) ==
        "x: record 'object': tensor '' needs 12 bytes but storage '0' has 8");
  CHECK(of_tensor({.offset = "BININT -1"}).ends_with("a tensor's storage offset is no number from 0 on"));
  CHECK(of_tensor({.strides = "MARK; BININT -1; TUPLE"})
            .ends_with("a tensor's stride holds something that is no size"));
  CHECK(of_tensor({.sizes = "MARK; BININT -1; TUPLE"})
            .ends_with("a tensor's size holds something that is no size"));
  CHECK(of_tensor({.sizes = "MARK; INT 8589934592; INT 8589934592; TUPLE",
                   .strides = "MARK; INT 8589934592; INT 1; TUPLE"}) ==
        "x: record 'object': tensor '' needs more than 2^64 bytes but storage '0' has 8");
  CHECK(of_tensor({.sizes = "MARK; BININT 2; BININT 2; TUPLE"})
            .ends_with("a tensor has 2 sizes but 1 strides"));
}

TEST_CASE("an expanded tensor may have more elements than its storage", "[format]") {
  const auto pieces =
      one_tensor({.sizes = "MARK; INT 1099511627776; TUPLE", .strides = "MARK; BININT 0; TUPLE"});
  const auto checkpoint = read_bytes(pieces.build()).value();
  CHECK(checkpoint.numel(checkpoint.tensors[0]) == 1ULL << 40U);
  CHECK(checkpoint.view_extent(checkpoint.tensors[0]) == Extent{0, 4});
}

TEST_CASE("tensors without elements need no storage bytes", "[format]") {
  auto pieces = one_tensor({.numel = "BININT 0",
                            .sizes = "MARK; BININT 0; BININT 5; TUPLE",
                            .strides = "MARK; BININT 5; BININT 1; TUPLE"},
                           0);
  CHECK(outcome(pieces.build()) == "read");
  const auto renamed =
      edited(build_torch_legacy("e float32 0x5; s int64 scalar"), [](Checkpoint& c) { c.rename(0, 0, "f"); });
  CHECK(table(read_bytes(renamed).value())[0] == "f float32 [0, 5] ");
}

TEST_CASE("a storage's size in its persistent id is the one that counts", "[format]") {
  CHECK(of_tensor({.numel = "BININT 3"}) == "x: storage '0' has 2 elements, expected 3");
  CHECK(of_tensor({.numel = "BININT 1"}) == "x: storage '0' has 2 elements, expected 1");
  CHECK(of_tensor({.numel = "BININT -1"}).ends_with("a storage's size is no number from 0 on"));
  CHECK(of_tensor({.numel = "INT 9223372036854775807"}) ==
        "x: storage '0' has an impossible size: 9223372036854775807 elements");
  CHECK(of_tensor({.storage_class = "GLOBAL torch DoubleStorage"}) ==
        "x: the file is cut off in storage '0' (1 of 1): 8 bytes missing");
  CHECK(
      of_tensor({.storage_class = "GLOBAL torch NoStorage"}).ends_with("unknown storage class 'NoStorage'"));
}

TEST_CASE("one storage with two element types is kept from being edited", "[format]") {
  TensorPickle first;
  TensorPickle second{.storage_class = "GLOBAL torch IntStorage"};
  CHECK(of_object("PROTO 2; EMPTY_LIST; MARK; " + first.value() + "; " + second.value() +
                  "; APPENDS; STOP") == "read, error storage-retyped");
  second = {.numel = "BININT 1", .sizes = "MARK; BININT 1; TUPLE"};
  CHECK(of_object("PROTO 2; EMPTY_LIST; MARK; " + first.value() + "; " + second.value() +
                  "; APPENDS; STOP") == "read, error storage-retyped");
}

TEST_CASE("a view of a storage is where its offset says", "[format]") {
  auto view = [](std::string_view offset, std::string_view size) {
    return fmt::format("BINUNICODE v; BININT {}; BININT {}; TUPLE3", offset, size);
  };
  TensorPickle tensor{.numel = "BININT 8", .view = view("3", "4"), .offset = "BININT 1"};
  const auto checkpoint = read_bytes(one_tensor(tensor, 8).build()).value();
  CHECK(checkpoint.tensors[0].offset == 4);
  CHECK(checkpoint.view_extent(checkpoint.tensors[0]) == Extent{16, 8});
  tensor.offset = "BININT 3";
  CHECK(of_tensor(tensor, 8) ==
        "x: record 'object': tensor '' needs more than the 4 elements of its view of storage '0'");
  tensor.view = view("3", "6");
  CHECK(of_tensor(tensor, 8) ==
        "x: record 'object': view 'v' needs 6 elements from 3 on but storage '0' has 8");
  tensor.view = view("9", "0");
  CHECK(of_tensor(tensor, 8) ==
        "x: record 'object': view 'v' needs 0 elements from 9 on but storage '0' has 8");
  tensor.view = view("-1", "4");
  CHECK(of_tensor(tensor, 8).ends_with("a view of a storage has no offset"));
  tensor.view = view("1", "-4");
  CHECK(of_tensor(tensor, 8).ends_with("a view of a storage has no size"));
  tensor.view = "BININT1 1";
  CHECK(of_tensor(tensor, 8).ends_with("a view of a storage has no offset"));
}

TEST_CASE("a storage's persistent id has six items in a legacy stream, five in a zip", "[format]") {
  const TensorPickle five{.view = ""};
  const TensorPickle six;
  const auto zip = [](const TensorPickle& tensor) {
    const auto pickle = testing::assemble(tensor.pickle());
    return outcome(build_zip("a/data.pkl body=" + escaped(as_text(pickle)) + "; a/version; a/data/0"));
  };
  CHECK(zip(five) == "read");
  CHECK(zip(six) == "x: record 'data.pkl', byte 90: the persistent id of a storage has 6 items, expected 5");
  CHECK(of_object(six.pickle()) == "read");
  CHECK(of_object(five.pickle()) ==
        "x: record 'object', byte 89: the persistent id of a storage has 5 items, expected 6");
}

TEST_CASE("a view described in two ways is refused", "[format]") {
  TensorPickle a{.numel = "BININT 8", .view = "BINUNICODE v; BININT 0; BININT 2; TUPLE3"};
  TensorPickle b{.numel = "BININT 8", .view = "BINUNICODE v; BININT 2; BININT 2; TUPLE3"};
  auto pieces = legacy_pieces("0 float32 8");
  pieces.object = "PROTO 2; EMPTY_LIST; MARK; " + a.value() + "; " + b.value() + "; APPENDS; STOP";
  CHECK(outcome(pieces.build()) == "x: record 'object': view 'v' is described in two ways");
}

TEST_CASE("a dtype that PyTorch writes but can't load is reported", "[format]") {
  auto pieces = legacy_pieces("0 uint8 2");
  pieces.object =
      "PROTO 2; GLOBAL torch._utils _rebuild_tensor_v3; MARK; MARK; BINUNICODE storage; "
      "GLOBAL torch.storage UntypedStorage; BINUNICODE \"0\"; BINUNICODE cpu; BININT 2; NONE; TUPLE; "
      "BINPERSID; "
      "BININT1 0; BININT1 1; TUPLE1; BININT1 1; TUPLE1; NEWFALSE; GLOBAL collections OrderedDict; "
      "EMPTY_TUPLE; "
      "REDUCE; GLOBAL torch uint16; TUPLE; REDUCE; STOP";
  CHECK(outcome(pieces.build()) == "read, warning legacy-unloadable-dtype");
  CHECK(read_bytes(pieces.build()).value().tensors[0].dtype == Dtype::kUint16);
}

TEST_CASE("the class of a module travels with its source", "[format]") {
  const std::string module =
      "MARK; BINUNICODE module; GLOBAL net Net; BINUNICODE \"net.py\"; BINUNICODE \"class Net: pass\"; "
      "TUPLE; BINPERSID";
  const auto object = "PROTO 2; EMPTY_DICT; MARK; BINUNICODE cls; " + module + "; BINUNICODE w; " +
                      TensorPickle().value() + "; SETITEMS; STOP";
  CHECK(of_object(object) == "read");
  auto pieces = legacy_pieces("0 float32 2");
  pieces.object = object;
  const auto renamed = edited(pieces.build(), [](Checkpoint& checkpoint) { checkpoint.rename(0, 0, "v"); });
  CHECK(as_text(renamed).find("class Net: pass") != std::string_view::npos);
}

TEST_CASE("hostile argument lists of tensors are refused", "[format]") {
  auto refused = [](const std::string& call) {
    auto pieces = legacy_pieces("");
    pieces.object = "PROTO 2; GLOBAL torch._utils " + call + "; REDUCE; STOP";
    const auto text = outcome(pieces.build());
    return text.substr(text.rfind("byte") == std::string::npos ? 0 : text.find(": ", text.rfind("byte")) + 2);
  };
  auto arguments = [](int found, const char* expected) {
    return fmt::format("a tensor is rebuilt from {} arguments, expected {}", found, expected);
  };
  CHECK(refused("_rebuild_tensor; EMPTY_TUPLE") == arguments(0, "4 to 4"));
  CHECK(refused("_rebuild_tensor_v2; NONE; TUPLE1") == arguments(1, "6 to 7"));
  CHECK(refused("_rebuild_tensor_v3; NONE; NONE; TUPLE2") == arguments(2, "7 to 8"));
  CHECK(refused("_rebuild_parameter; EMPTY_TUPLE") == arguments(0, "3 to 3"));
  CHECK(refused("_rebuild_parameter; NONE; NEWTRUE; NONE; TUPLE3") ==
        "a Parameter is made of something that is no tensor");
  CHECK(refused("_rebuild_parameter_with_state; NONE; TUPLE1") == arguments(1, "4 to 4"));
  CHECK(refused("_rebuild_qtensor; NONE; TUPLE1") == arguments(1, "7 to 7"));
  CHECK(refused("_rebuild_sparse_tensor; NONE; TUPLE1") == arguments(1, "2 to 2"));
  CHECK(refused("_rebuild_sparse_tensor; NONE; EMPTY_TUPLE; TUPLE2") ==
        "a sparse tensor has 0 components, expected 3 or 4");
  CHECK(refused("_rebuild_nested_tensor; NONE; TUPLE1") == arguments(1, "4 to 4"));
  CHECK(refused("_rebuild_meta_tensor_no_storage; NONE; TUPLE1") == arguments(1, "4 to 4"));
  CHECK(refused("_rebuild_wrapper_subclass; NONE; TUPLE1") == arguments(1, "8 to 8"));
  CHECK(refused("_rebuild_tensor; MARK; NONE; NONE; NONE; NONE; TUPLE") == "a tensor has no storage");
}

TEST_CASE("items set on a tensor don't make it a mapping", "[format]") {
  const auto object = "PROTO 2; " + TensorPickle().value() + "; MARK; BINUNICODE a; NONE; SETITEMS; STOP";
  CHECK_FALSE(of_object(object).empty());
}

TEST_CASE("a legacy stream is edited in place of its object and its keys", "[format]") {
  const auto file =
      build_torch_legacy("module.a float32 2; module.b int8 3; module.c float32 2 storage=module.a");
  CHECK(edited(file, [](Checkpoint&) {}) == file);
  const auto dropped = edited(file, [](Checkpoint& checkpoint) {
    checkpoint.rename(0, 0, "a");
    checkpoint.drop(0, 1);
  });
  const auto checkpoint = read_bytes(dropped).value();
  CHECK(checkpoint.storages.size() == 1);
  const auto lines = table(read_bytes(file).value());
  CHECK(table(checkpoint) == std::vector<std::string>{"a" + lines[0].substr(lines[0].find(' ')), lines[2]});
  const auto one_use_left = edited(file, [](Checkpoint& c) { c.drop(0, 0); });
  CHECK(read_bytes(one_use_left).value().storages.size() == 2);
  const auto nothing_left = edited(file, [](Checkpoint& c) {
    for (std::uint32_t i = 0; i < 3; ++i) c.drop(0, i);
  });
  CHECK(outcome(nothing_left) == "read");
}

TEST_CASE("storages that stay neighbours are one copy with their counts", "[format]") {
  auto checkpoint =
      read_bytes(build_torch_legacy("a float32 4; b float32 2; c float32 1; d float32 3")).value();
  checkpoint.drop(0, 1);
  const auto layout = format_of(FormatId::kTorchLegacy).lay_out(checkpoint).value();
  std::vector<std::uint64_t> copies;
  for (const auto& segment : layout.parts[0].segments) {
    if (segment.kind == Segment::Kind::kCopy) copies.push_back(segment.size);
  }
  REQUIRE(copies.size() == 3);  // the head, a, c and d
  CHECK(copies[1] == 24);
  CHECK(copies[2] == 8 + 4 + 8 + 12);
}
