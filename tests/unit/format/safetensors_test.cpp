// SPDX-License-Identifier: BSD-3-Clause
// What the reference implementation (safetensors 0.8.0) refuses is refused; what it lets pass though readers
// would disagree (equal names, a leading space, an entry that is an array) is refused as well.
#include "ckpt/format/safetensors.h"

#include <string>
#include <vector>

#include <fmt/format.h>

#include "support/catch.h"
#include "support/checkpoint_builder.h"

using namespace ckpt;
using namespace ckpt::test;
using std::string_literals::operator""s;

namespace {

const std::string kTensor = R"("w":{"dtype":"F32","shape":[2],"data_offsets":[0,8]})";

/// Single quotes for double ones, so that headers can be read.
std::string json(std::string text) {
  for (auto& letter : text) {
    if (letter == '\'') letter = '"';
  }
  return text;
}

std::string of_header(const std::string& header, std::size_t buffer = 8) {
  return outcome(safetensors_file(json(header), std::string(buffer, '\0')));
}

std::string of_entry(const std::string& entry, std::size_t buffer = 8) {
  return of_header("{'w':{" + entry + "}}", buffer);
}

Bytes with_length(std::uint64_t length, std::string_view rest) {
  Bytes bytes;
  append_le(bytes, length);
  append_text(bytes, rest);
  return bytes;
}

std::string nested(std::size_t depth) {
  return of_entry("'dtype':'F32','x':" + std::string(depth, '[') + std::string(depth, ']') +
                  ",'shape':[2],'data_offsets':[0,8]");
}

/// The file after an edit, or the error.
template <typename Edit>
std::string edited(const Bytes& bytes, Edit edit) {
  auto checkpoint = read_bytes(bytes);
  REQUIRE(checkpoint);
  edit(*checkpoint);
  const auto layout = format_of(checkpoint->format).lay_out(*checkpoint);
  if (!layout) return layout.error().text();
  return std::string(as_text(written(*layout, *checkpoint)));
}

std::string header_of(const std::string& file) {
  auto header = file.substr(8, load_le<std::uint64_t>(as_bytes(file).data()));
  return header.substr(0, header.find_last_not_of(' ') + 1);
}

std::uint64_t buffer_of(const std::string& file) {
  return 8 + load_le<std::uint64_t>(as_bytes(file).data());
}

}  // namespace

TEST_CASE("valid safetensors are read", "[format]") {
  CHECK(of_header("{" + kTensor + "}") == "read");
  CHECK(of_header("{" + kTensor + "}   \n") == "read");
  CHECK(of_header("{ 'w' : { 'dtype' : 'F32' ,\n 'shape' : [ 2 ] , 'data_offsets' : [ 0 , 8 ] } }") ==
        "read");
  CHECK(of_header("{'__metadata__':{}," + kTensor + "}") == "read");
  CHECK(of_header("{'__metadata__':null," + kTensor + "}") == "read");
  CHECK(of_header("{}", 0) == "read");
  CHECK(of_header("{'__metadata__':{'a':'b'}}", 0) == "read");
  CHECK(of_entry("'dtype':'F64','shape':[],'data_offsets':[0,8]") == "read");
  CHECK(of_entry("'dtype':'F32','shape':[0,5],'data_offsets':[0,0]", 0) == "read");
  CHECK(of_entry("'dtype':'F4','shape':[16],'data_offsets':[0,8]") == "read");
  CHECK(of_entry("'dtype':'F6_E2M3','shape':[4],'data_offsets':[0,3]", 3) == "read");
  CHECK(of_entry("'dtype':'F32','x':{'y':[1,{'shape':null}]},'x':2,'shape':[2],'data_offsets':[0,8]") ==
        "read");
  CHECK(of_header("{'':{'dtype':'F32','shape':[2],'data_offsets':[0,8]}}") == "read");
  CHECK(nested(125) == "read");
}

TEST_CASE("every dtype of safetensors is read", "[format]") {
  for (const auto& info : all_dtypes()) {
    if (info.safetensors.empty()) continue;
    CAPTURE(info.safetensors);
    CHECK(
        of_entry(fmt::format("'dtype':'{}','shape':[4,2],'data_offsets':[0,{}]", info.safetensors, info.bits),
                 info.bits) == "read");
  }
}

TEST_CASE("a safetensors model is its header", "[format]") {
  const auto file = safetensors_file(
      json(
          R"({'b':{'dtype':'F16','shape':[2,2],'data_offsets':[4,12]},'__metadata__':{'format':'pt','note':'\n'},)"
          R"('a\u0062':{'dtype':'I8','shape':[4],'data_offsets':[0,4]}})"),
      "abcdefghijkl");
  const auto checkpoint = read_bytes(file).value();
  CHECK_FALSE(checkpoint.has_document());
  CHECK(table(checkpoint) ==
        std::vector<std::string>{"b float16 [2, 2] 65666768696a6b6c", "ab int8 [4] 61626364"});
  CHECK(checkpoint.metadata ==
        std::vector<std::pair<std::string, std::string>>{{"format", "pt"}, {"note", "\n"}});
  REQUIRE(checkpoint.state_dicts.size() == 1);
  CHECK(checkpoint.path(checkpoint.state_dicts[0].place).empty());
  CHECK(checkpoint.name(0, 1) == "ab");
  CHECK(checkpoint.storages[1].key == "ab");
  CHECK(checkpoint.devices == std::vector<std::string>{"cpu"});
}

TEST_CASE("the length of a safetensors header is checked first", "[format]") {
  CHECK(outcome(with_length(100'000'001, "{\"a\"")) ==
        "x: the header's length is 100000001, expected at most 100000000");
  CHECK(outcome(with_length(~0ULL, "{\"a\"")) ==
        "x: the header's length is 18446744073709551615, expected at most 100000000");
  CHECK(outcome(with_length(1000, "{\"a\"")) ==
        "x: the header needs 1000 bytes but 4 are left: the file is cut off");
  CHECK(outcome(with_length(0, "{\"a\"")) == "x: the header is empty, expected a JSON object");
  CHECK(outcome(with_length(20, "{" + kTensor + "}")) == "x: byte 28: the header is no well-formed JSON");
}

TEST_CASE("a safetensors header is strict JSON", "[format]") {
  CHECK(of_header(" {" + kTensor + "}") == "x: byte 8: the header begins with ' ', expected '{'");
  CHECK(of_header("{" + kTensor + ",}") == "x: byte 62: the header is no well-formed JSON");
  CHECK(of_header("{" + kTensor + "}x") == "x: byte 62: the header is no well-formed JSON");
  CHECK(of_header("{" + kTensor + "}\0"s) == "x: byte 62: the header is no well-formed JSON");
  CHECK(of_header("{" + kTensor + "/**/}") == "x: byte 61: the header is no well-formed JSON");
  CHECK(of_entry("'dtype':'F32','x':NaN") == "x: byte 32: the header is no well-formed JSON");
  CHECK(of_header("{'a\x01'") == "x: byte 11: the header is no well-formed JSON");
  CHECK(of_header("{'\xff':{}}") == "x: byte 10: the header is not UTF-8");
  CHECK(of_header("{'\xed\xa0\x80':{}}") == "x: byte 11: the header is not UTF-8");
  CHECK(of_header(R"({'\ud800':{}})") == "x: byte 16: the header is no well-formed JSON");
  CHECK(nested(126) == "x: the header is nested deeper than 127 levels at tensor 'w'");
  CHECK(nested(100'000) == "x: the header is nested deeper than 127 levels at tensor 'w'");
}

TEST_CASE("names in a safetensors header stand once", "[format]") {
  CHECK(of_header("{" + kTensor + "," + kTensor + "}") == "x: tensor 'w' stands twice in the header");
  CHECK(of_header("{" + kTensor + R"(,'\u0077':{'dtype':'F32','shape':[0],'data_offsets':[8,8]}})") ==
        "x: tensor 'w' stands twice in the header");
  CHECK(of_entry("'dtype':'F32','dtype':'F32'") == "x: tensor 'w' has two fields 'dtype'");
  CHECK(of_header("{'__metadata__':{},'__metadata__':{}," + kTensor + "}") ==
        "x: '__metadata__' stands twice in the header");
  CHECK(of_header("{'__metadata__':{'a':'1','a':'2'}," + kTensor + "}") ==
        "x: 'a' stands twice in '__metadata__'");
}

TEST_CASE("__metadata__ is strings", "[format]") {
  CHECK(of_header("{'__metadata__':[]}") == "x: '__metadata__' is an array, expected an object");
  CHECK(of_header("{'__metadata__':{'a':1}}") ==
        "x: the value of 'a' in '__metadata__' is a number, expected a string");
  CHECK(of_header("{'__metadata__':{'a':null}}") ==
        "x: the value of 'a' in '__metadata__' is null, expected a string");
  CHECK(of_header("{'__metadata__':{'dtype':'F32','shape':[2],'data_offsets':[0,8]}}") ==
        "x: the value of 'shape' in '__metadata__' is an array, expected a string");
}

TEST_CASE("an entry of a safetensors header has three fields of the right kinds", "[format]") {
  CHECK(of_header("{'w':null}") == "x: tensor 'w' is null, expected an object");
  CHECK(of_header("{'w':['F32',[2],[0,8]]}") == "x: tensor 'w' is an array, expected an object");
  CHECK(of_entry("'shape':[2],'data_offsets':[0,8]") == "x: tensor 'w' has no dtype");
  CHECK(of_entry("'dtype':'F32','data_offsets':[0,8]") == "x: tensor 'w' has no shape");
  CHECK(of_entry("'dtype':'F32','shape':[2]") == "x: tensor 'w' has no data_offsets");
  CHECK(of_entry("'dtype':1") == "x: the dtype of tensor 'w' is a number, expected a string");
  CHECK(of_entry("'dtype':'F128'") == "x: tensor 'w' has the unknown dtype 'F128'");
  CHECK(of_entry("'shape':'2'") == "x: the shape of tensor 'w' is a string, expected an array");
  CHECK(of_entry("'shape':[[2]]") == "x: the shape of tensor 'w' holds an array, expected sizes");
  CHECK(of_entry("'shape':[-2]") == "x: the shape of tensor 'w' holds a negative number, expected sizes");
  CHECK(of_entry("'shape':[2.0]") ==
        "x: the shape of tensor 'w' holds no whole number below 2^64, expected sizes");
  CHECK(of_entry("'shape':[18446744073709551616]") ==
        "x: the shape of tensor 'w' holds no whole number below 2^64, expected sizes");
  CHECK(of_entry("'shape':[9223372036854775808]") ==
        "x: the shape of tensor 'w' holds 9223372036854775808, which no tensor can have");
  CHECK(of_entry("'data_offsets':{}") ==
        "x: the data_offsets of tensor 'w' are an object, expected an array");
  CHECK(of_entry("'data_offsets':[-1,7]") ==
        "x: the data_offsets of tensor 'w' hold a negative number, expected two byte positions");
  CHECK(of_entry("'data_offsets':[0,8,9]") == "x: the data_offsets of tensor 'w' hold more than two numbers");
  CHECK(of_entry("'dtype':'F32','shape':[2],'data_offsets':[0]") ==
        "x: the data_offsets of tensor 'w' hold 1 number, expected two");
}

TEST_CASE("a tensor's bytes are those its shape needs", "[format]") {
  CHECK(of_entry("'dtype':'F32','shape':[3],'data_offsets':[0,8]") ==
        "x: tensor 'w' of F32 [3] needs 12 bytes, its data_offsets give 8");
  CHECK(of_entry("'dtype':'F32','shape':[2],'data_offsets':[8,0]") ==
        "x: tensor 'w' begins at byte 8 of the buffer, behind its end at byte 0");
  CHECK(of_entry("'dtype':'F4','shape':[15],'data_offsets':[0,8]") ==
        "x: tensor 'w' of F4 [15] has 60 bits, which are no whole bytes");
  CHECK(of_entry("'dtype':'F32','shape':[4294967296,4294967296],'data_offsets':[0,0]") ==
        "x: tensor 'w' of F32 [4294967296, 4294967296] needs more than 2^64 bits");
  CHECK(of_entry("'dtype':'F32','shape':[4611686018427387904],'data_offsets':[0,0]") ==
        "x: tensor 'w' of F32 [4611686018427387904] needs more than 2^64 bits");
}

TEST_CASE("a safetensors buffer is tensors to the last byte", "[format]") {
  auto two = [](const std::string& a, const std::string& b) {
    return of_header("{'a':{'dtype':'U8','shape':[4],'data_offsets':" + a +
                     "},'b':{'dtype':'U8','shape':[4],'data_offsets':" + b + "}}");
  };
  CHECK(two("[0,4]", "[4,8]") == "read");
  CHECK(two("[4,8]", "[0,4]") == "read");
  CHECK(two("[0,4]", "[2,6]") == "x: tensor 'b' begins at byte 2 of the buffer, expected 4: it overlaps 'a'");
  CHECK(two("[0,4]", "[0,4]") == "x: tensor 'b' begins at byte 0 of the buffer, expected 4: it overlaps 'a'");
  CHECK(
      two("[0,4]", "[5,9]") ==
      "x: tensor 'b' begins at byte 5 of the buffer, expected 4: 1 byte in front of it belong to no tensor");
  CHECK(
      two("[4,8]", "[8,12]") ==
      "x: tensor 'a' begins at byte 4 of the buffer, expected 0: 4 bytes in front of it belong to no tensor");
  CHECK(of_header("{" + kTensor + "}", 7) ==
        "x: the tensors need 8 bytes but the buffer has 7: 1 byte missing at the end of the file");
  CHECK(of_header("{" + kTensor + "}", 9) ==
        "x: the tensors need 8 bytes but the buffer has 9: 1 byte too many at the end of the file");
  CHECK(of_header("{}", 1) ==
        "x: the tensors need 0 bytes but the buffer has 1: 1 byte too many at the end of the file");
  CHECK(of_entry("'dtype':'F32','shape':[2305843009213693951],'data_offsets':[0,9223372036854775804]") ==
        "x: tensor 'w' of F32 [2305843009213693951] needs more than 2^64 bits");
}

TEST_CASE("an edit of safetensors spells names and positions anew and nothing else", "[format]") {
  const auto file = safetensors_file(
      json(
          R"({ 'b' : {'data_offsets': [ 4, 12 ], 'x': [1.50, 'é'], 'dtype':'F16','shape':[2,2]},)"
          R"('__metadata__':{'format':'pt', 'k':'\u0041'} , 'a\u0062':{'dtype':'I8','shape':[4],'data_offsets':[0,4]},)"
          R"('z':{'dtype':'U8','shape':[0],'data_offsets':[12,12]} }     )"),
      "abcdefghijkl");
  CHECK(edited(file, [](Checkpoint&) {}) == as_text(file));
  const auto renamed = edited(file, [](Checkpoint& checkpoint) { checkpoint.rename(0, 0, "b\"\n"); });
  CHECK(
      header_of(renamed) ==
      json(
          R"({ 'b\'\n' : {'data_offsets': [ 4, 12 ], 'x': [1.50, 'é'], 'dtype':'F16','shape':[2,2]},)"
          R"('__metadata__':{'format':'pt', 'k':'\u0041'} , 'a\u0062':{'dtype':'I8','shape':[4],'data_offsets':[0,4]},)"
          R"('z':{'dtype':'U8','shape':[0],'data_offsets':[12,12]} })"));
  CHECK(renamed.substr(buffer_of(renamed)) == "abcdefghijkl");
  CHECK(buffer_of(renamed) % 8 == 0);
  const auto dropped = edited(file, [](Checkpoint& checkpoint) { checkpoint.drop(0, 1); });
  CHECK(
      header_of(dropped) ==
      json(
          R"({ 'b' : {'data_offsets': [ 0, 8 ], 'x': [1.50, 'é'], 'dtype':'F16','shape':[2,2]},)"
          R"('__metadata__':{'format':'pt', 'k':'\u0041'},'z':{'dtype':'U8','shape':[0],'data_offsets':[8,8]} })"));
  CHECK(dropped.substr(buffer_of(dropped)) == "efghijkl");
  const auto first = edited(file, [](Checkpoint& checkpoint) { checkpoint.drop(0, 0); });
  CHECK(
      header_of(first) ==
      json(
          R"({ '__metadata__':{'format':'pt', 'k':'\u0041'} , 'a\u0062':{'dtype':'I8','shape':[4],'data_offsets':[0,4]},)"
          R"('z':{'dtype':'U8','shape':[0],'data_offsets':[4,4]} })"));
  const auto none = edited(file, [](Checkpoint& checkpoint) {
    for (std::uint32_t i = 0; i < 3; ++i) checkpoint.drop(0, i);
  });
  CHECK(header_of(none) == json(R"({ '__metadata__':{'format':'pt', 'k':'\u0041'} })"));
  CHECK(outcome(Bytes(as_bytes(none).begin(), as_bytes(none).end())) == "read");
}

TEST_CASE("names that safetensors can't spell are refused", "[format]") {
  const auto file = safetensors_file("{" + kTensor + "}", std::string(8, '\0'));
  CHECK(edited(file, [](Checkpoint& checkpoint) { checkpoint.rename(0, 0, "\xff"); }) ==
        "the name '\\xff' is not UTF-8, which safetensors asks for");
  CHECK(edited(file, [](Checkpoint& checkpoint) { checkpoint.rename(0, 0, "__metadata__"); }) ==
        "a tensor can't be named '__metadata__' in safetensors");
}

TEST_CASE("a safetensors header that would grow too long is refused", "[format]") {
  const auto file = safetensors_file("{" + kTensor + "}", std::string(8, '\0'));
  CHECK(edited(file, [](Checkpoint& checkpoint) {
          checkpoint.rename(0, 0, std::string(100'000'000, 'a'));
        }) == "the new header needs 100000053 bytes, safetensors allows 100000000");
}

TEST_CASE("what stays keeps its place within a page, or is aligned at least", "[format]") {
  constexpr std::size_t kLarge = 1U << 20U;
  const auto entry = [](const char* name, std::size_t begin, std::size_t end) {
    return fmt::format("\"{}\":{{\"dtype\":\"U8\",\"shape\":[{}],\"data_offsets\":[{},{}]}}", name,
                       end - begin, begin, end);
  };
  auto header = "{" + entry("module.a", 0, 16) + "," + entry("module.b", 16, 16 + kLarge) + "," +
                entry("module.c", 16 + kLarge, 24 + kLarge) + "}";
  header.append((8 - header.size() % 8) % 8, ' ');
  const auto file = safetensors_file(header, std::string(24 + kLarge, 'x'));
  const auto buffer = 8 + header.size();

  const auto renamed = edited(file, [](Checkpoint& checkpoint) { checkpoint.rename(0, 1, "b"); });
  CHECK(buffer_of(renamed) == buffer);
  const auto grown =
      edited(file, [](Checkpoint& checkpoint) { checkpoint.rename(0, 1, std::string(300, 'b')); });
  CHECK(buffer_of(grown) == buffer + 4096);
  const auto dropped = edited(file, [](Checkpoint& checkpoint) { checkpoint.drop(0, 0); });
  CHECK(buffer_of(dropped) % 4096 == buffer + 16);

  const auto tiny = edited(file, [](Checkpoint& checkpoint) { checkpoint.drop(0, 1); });
  CHECK(buffer_of(tiny) == buffer);

  const auto odd = edited(safetensors_file(header + "   ", std::string(24 + kLarge, 'x')),
                          [](Checkpoint& checkpoint) { checkpoint.rename(0, 1, "b"); });
  CHECK(buffer_of(odd) % 8 == 0);
  CHECK(buffer_of(odd) - 8 - header_of(odd).size() < 8);
}

TEST_CASE("neighbours that stay are one copy", "[format]") {
  const auto file = build_safetensors("a float32 4; b float32 2; c float32 1; d float32 3");
  auto checkpoint = read_bytes(file).value();
  checkpoint.drop(0, 1);
  const auto layout = format_of(FormatId::kSafetensors).lay_out(checkpoint).value();
  std::size_t copies = 0;
  for (const auto& segment : layout.parts[0].segments)
    copies += segment.kind == Segment::Kind::kCopy ? 1U : 0U;
  CHECK(copies == 2);
  CHECK(layout.totals().copied == 32);
}

TEST_CASE("every prefix of a safetensors file is refused without harm", "[format]") {
  const auto file = build_safetensors("a float32 4; b int8 3");
  for (std::size_t size = 0; size < file.size(); ++size) {
    const auto prefix = outcome(Bytes(file.begin(), file.begin() + static_cast<std::ptrdiff_t>(size)));
    CAPTURE(size);
    CHECK(prefix.starts_with("x: "));
  }
}
