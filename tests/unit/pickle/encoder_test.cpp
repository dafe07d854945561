// SPDX-License-Identifier: BSD-3-Clause
#include "ckpt/pickle/encoder.h"

#include <functional>
#include <limits>
#include <string>
#include <vector>

#include "support/catch.h"
#include "support/pickle_text.h"

using namespace ckpt;
using namespace ckpt::testing;

namespace {

constexpr auto* kContainsItself =
    "the pickle cannot be edited: a value that contains itself through a tuple or a call would lose its "
    "first use";

std::string dropped(std::string_view assembly, std::initializer_list<Use> uses) {
  GraphEdits edits;
  for (const auto use : uses) edits.drop(use);
  return edited(assembly, edits);
}

std::string renamed(std::string_view assembly, Use use, std::string name) {
  GraphEdits edits;
  edits.replace(use, NewValue::text(std::move(name)));
  return edited(assembly, edits);
}

std::string replaced(std::string_view assembly, Use use, std::int64_t number) {
  GraphEdits edits;
  edits.replace(use, NewValue::number(number));
  return edited(assembly, edits);
}

std::string moved(std::string_view assembly, Use to, Use from, std::initializer_list<Use> drops = {}) {
  GraphEdits edits;
  edits.replace(to, NewValue::move_of(from));
  for (const auto use : drops) edits.drop(use);
  return edited(assembly, edits);
}

std::vector<NewValue> pair(std::string key, std::int64_t number) {
  return {NewValue::text(std::move(key)), NewValue::number(number)};
}

std::string inserted(std::string_view assembly, Use use, std::vector<NewValue> values,
                     std::initializer_list<Use> drops = {}) {
  GraphEdits edits;
  edits.insert_after(use, std::move(values));
  for (const auto drop : drops) edits.drop(drop);
  return edited(assembly, edits);
}

std::string appended(std::string_view assembly, Use container, std::vector<NewValue> values) {
  GraphEdits edits;
  edits.append_to(container, std::move(values));
  return edited(assembly, edits);
}

}  // namespace

TEST_CASE("another maker keeps the slot and what is put into the value", "[pickle]") {
  const auto* const shared =
      "PROTO 2; GLOBAL collections defaultdict; BINPUT 0; GLOBAL __builtin__ int; BINPUT 1; TUPLE1; BINPUT "
      "2; REDUCE; BINPUT 3; "
      "BINUNICODE \"a\"; BINGET 3; SETITEM; BINGET 3; BINGET 1; TUPLE3; STOP";
  GraphEdits edits;
  edits.remake(3, NewValue::empty_dict());
  CHECK(edited(shared, edits) ==
        "PROTO 2; EMPTY_DICT; BINPUT 3; BINUNICODE \"a\"; BINGET 3; SETITEM; BINGET 3; GLOBAL __builtin__ "
        "int; BINPUT 1; TUPLE3; STOP");
  CHECK(edited("PROTO 4; EMPTY_TUPLE; MEMOIZE; GLOBAL a b; MEMOIZE; EMPTY_TUPLE; REDUCE; MEMOIZE; BINGET 2; "
               "BINGET 0; TUPLE3; TUPLE2; STOP",
               [] {
                 GraphEdits remade;
                 remade.remake(3, NewValue::empty_dict());
                 return remade;
               }()) ==
        "PROTO 4; EMPTY_TUPLE; MEMOIZE; EMPTY_DICT; MEMOIZE; BINGET 1; BINGET 0; TUPLE3; TUPLE2; STOP");
}

TEST_CASE("nothing to edit gives the first bytes, irregular ones too", "[pickle]") {
  for (const auto* assembly : {
           "PROTO 2; EMPTY_DICT; BINPUT 0; MARK; SETITEMS; STOP",
           "NONE; DUP; POP; STOP",
           "PROTO 4; FRAME 1000; FRAME 2; NONE; STOP",
           "PROTO 3; BINBYTES \"x\"*65536; BINPUT 5; BINBYTES \"y\"*3000000; TUPLE2; STOP",
       }) {
    CHECK(edited(assembly, {}) == assembly);
  }
}

TEST_CASE("an item is dropped with what made it", "[pickle]") {
  const auto* dict =
      "EMPTY_DICT; BINPUT 0; MARK; BINUNICODE a; BINPUT 1; NONE; BINUNICODE b; EMPTY_LIST; NONE; APPEND; "
      "SETITEMS; STOP";
  CHECK(dropped(dict, {2, 3}) ==
        "EMPTY_DICT; BINPUT 0; MARK; BINUNICODE \"b\"; EMPTY_LIST; NONE; APPEND; SETITEMS; STOP");
  CHECK(dropped(dict, {4, 7}) ==
        "EMPTY_DICT; BINPUT 0; MARK; BINUNICODE \"a\"; BINPUT 1; NONE; SETITEMS; STOP");
  CHECK(dropped(dict, {6}) ==
        "EMPTY_DICT; BINPUT 0; MARK; BINUNICODE \"a\"; BINPUT 1; NONE; BINUNICODE \"b\"; EMPTY_LIST; "
        "SETITEMS; STOP");
  CHECK(dropped("MARK; NONE; NEWTRUE; TUPLE; STOP", {1}) == "MARK; NEWTRUE; TUPLE; STOP");
  CHECK(dropped("MARK; NONE; NONE; LIST; STOP", {1, 2}) == "MARK; LIST; STOP");
  CHECK(dropped("MARK; NONE; NONE; DICT; PUT 0; STOP", {1, 2}) == "MARK; DICT; PUT 0; STOP");
}

TEST_CASE("an operator without operands goes, its container stays", "[pickle]") {
  CHECK(dropped("EMPTY_DICT; BINUNICODE a; NONE; SETITEM; STOP", {1, 2}) == "EMPTY_DICT; STOP");
  CHECK(dropped("EMPTY_DICT; MARK; BINUNICODE a; NONE; SETITEMS; STOP", {2, 3}) == "EMPTY_DICT; STOP");
  CHECK(dropped("EMPTY_LIST; MARK; NONE; NONE; APPENDS; STOP", {2, 3}) == "EMPTY_LIST; STOP");
  CHECK(dropped("EMPTY_SET; MARK; NONE; ADDITEMS; STOP", {2}) == "EMPTY_SET; STOP");
  CHECK(dropped("GLOBAL m C; EMPTY_TUPLE; NEWOBJ; EMPTY_DICT; BUILD; STOP", {3}) ==
        "GLOBAL m C; EMPTY_TUPLE; NEWOBJ; STOP");
  // One that was empty before stays.
  CHECK(dropped("EMPTY_LIST; EMPTY_DICT; MARK; SETITEMS; APPEND; MARK; NONE; APPENDS; STOP", {6}) ==
        "EMPTY_LIST; EMPTY_DICT; MARK; SETITEMS; APPEND; STOP");
  // A slot filled behind the operator is the container's.
  CHECK(dropped("EMPTY_LIST; EMPTY_LIST; MARK; NONE; APPENDS; BINPUT 1; APPEND; BINGET 1; APPEND; STOP",
                {3}) == "EMPTY_LIST; EMPTY_LIST; BINPUT 1; APPEND; BINGET 1; APPEND; STOP");
  CHECK(dropped("EMPTY_LIST; EMPTY_LIST; NONE; APPEND; MEMOIZE; APPEND; BINGET 0; APPEND; STOP", {2}) ==
        "EMPTY_LIST; EMPTY_LIST; MEMOIZE; APPEND; BINGET 0; APPEND; STOP");
}

TEST_CASE("the first GET of a dropped value becomes the value", "[pickle]") {
  CHECK(dropped("EMPTY_LIST; MARK; BINUNICODE w; BINPUT 5; BINGET 5; BINGET 5; APPENDS; STOP", {2}) ==
        "EMPTY_LIST; MARK; BINUNICODE \"w\"; BINPUT 5; BINGET 5; APPENDS; STOP");
  CHECK(dropped("EMPTY_LIST; MARK; EMPTY_LIST; BINPUT 1; NONE; APPEND; NEWTRUE; BINGET 1; APPENDS; STOP",
                {4}) == "EMPTY_LIST; MARK; NEWTRUE; EMPTY_LIST; BINPUT 1; NONE; APPEND; APPENDS; STOP");
}

TEST_CASE("a value that moved brings what it needs", "[pickle]") {
  // The dropped tuple holds 'w'; the later GET of the tuple needs 'w' again, then a GET of 'w' finds it
  // there.
  CHECK(dropped("EMPTY_LIST; MARK; BINUNICODE w; BINPUT 1; BINGET 1; TUPLE1; BINPUT 2; BINGET 2; BINGET 1; "
                "APPENDS; STOP",
                {2, 4}) ==
        "EMPTY_LIST; MARK; BINUNICODE \"w\"; BINPUT 1; TUPLE1; BINPUT 2; BINGET 1; APPENDS; STOP");
  // A list that holds itself through a dict: written once, around the corner.
  CHECK(dropped(
            "EMPTY_LIST; MARK; EMPTY_LIST; BINPUT 1; EMPTY_DICT; BINPUT 2; BINUNICODE up; BINGET 1; SETITEM; "
            "APPEND; BINGET 2; APPENDS; STOP",
            {7}) ==
        "EMPTY_LIST; MARK; EMPTY_DICT; BINPUT 2; BINUNICODE \"up\"; EMPTY_LIST; BINPUT 1; BINGET 2; APPEND; "
        "SETITEM; APPENDS; STOP");
}

TEST_CASE("edits follow into a value that moves", "[pickle]") {
  GraphEdits edits;
  edits.drop(5);
  edits.replace(3, NewValue::text("new"));
  CHECK(edited("EMPTY_LIST; MARK; EMPTY_DICT; BINPUT 1; BINUNICODE old; NONE; SETITEM; NEWTRUE; BINGET 1; "
               "APPENDS; STOP",
               edits) ==
        "EMPTY_LIST; MARK; NEWTRUE; EMPTY_DICT; BINPUT 1; BINUNICODE \"new\"; NONE; SETITEM; APPENDS; STOP");
}

TEST_CASE("of two values that begin alike and were moved, the outer one counts", "[pickle]") {
  // The tuple (GLOBAL, NONE) and its GLOBAL both have slots; a list ahead of them takes both first.
  const auto* assembly =
      "EMPTY_LIST; MARK; NONE; GLOBAL m f; BINPUT 1; NONE; TUPLE2; BINPUT 2; MARK; BINGET 1; BINGET 2; "
      "TUPLE; APPENDS; STOP";
  CHECK(moved(assembly, 2, 9, {9}) ==
        "EMPTY_LIST; MARK; MARK; GLOBAL m f; BINPUT 1; BINGET 1; NONE; TUPLE2; BINPUT 2; TUPLE; BINGET 2; "
        "APPENDS; "
        "STOP");
}

TEST_CASE("an edit inside a value that moved is made there, once", "[pickle]") {
  // The first item of the tuple is edited, and the tuple is wanted ahead of its place.
  GraphEdits edits;
  edits.replace(2, NewValue::move_of(5));
  edits.replace(3, NewValue::text("new"));
  CHECK(edited("EMPTY_LIST; MARK; NONE; BINUNICODE old; NONE; TUPLE2; BINPUT 2; APPENDS; STOP", edits) ==
        "EMPTY_LIST; MARK; BINUNICODE \"new\"; NONE; TUPLE2; BINPUT 2; BINGET 2; APPENDS; STOP");
}

TEST_CASE("a renamed key keeps its slot for the others", "[pickle]") {
  CHECK(renamed("PROTO 2; EMPTY_DICT; MARK; BINUNICODE w; BINPUT 1; BINGET 1; BINUNICODE v; BINGET 1; "
                "SETITEMS; STOP",
                2, "new") ==
        "PROTO 2; EMPTY_DICT; MARK; BINUNICODE \"new\"; BINUNICODE \"w\"; BINPUT 1; BINUNICODE \"v\"; BINGET "
        "1; SETITEMS; STOP");
  CHECK(renamed("PROTO 2; EMPTY_DICT; MARK; BINUNICODE w; BINPUT 1; BINGET 1; BINUNICODE v; BINGET 1; "
                "SETITEMS; STOP",
                5, "new") ==
        "PROTO 2; EMPTY_DICT; MARK; BINUNICODE \"w\"; BINPUT 1; BINGET 1; BINUNICODE \"v\"; BINUNICODE "
        "\"new\"; SETITEMS; STOP");
}

TEST_CASE("new values are spelled as the protocol does", "[pickle]") {
  CHECK(renamed("PROTO 4; SHORT_BINUNICODE a; TUPLE1; STOP", 0, "größe") ==
        "PROTO 4; SHORT_BINUNICODE \"gr\\xc3\\xb6\\xc3\\x9fe\"; TUPLE1; STOP");
  CHECK(renamed("PROTO 5; SHORT_BINUNICODE a; TUPLE1; STOP", 0, std::string(256, 'x')) ==
        "PROTO 5; BINUNICODE \"x\"*256; TUPLE1; STOP");
  CHECK(renamed("PROTO 3; NONE; TUPLE1; STOP", 0, "b") == "PROTO 3; BINUNICODE \"b\"; TUPLE1; STOP");
  CHECK(renamed("EMPTY_LIST; NONE; APPEND; STOP", 1, "b") == "EMPTY_LIST; BINUNICODE \"b\"; APPEND; STOP");
  CHECK(renamed("MARK; NONE; LIST; STOP", 1, "b\nc") == "MARK; UNICODE \"b\\\\u000ac\"; LIST; STOP");
  const std::pair<std::int64_t, const char*> numbers[] = {
      {0, "BININT1 0"},
      {255, "BININT1 255"},
      {256, "BININT2 256"},
      {65536, "BININT 65536"},
      {-1, "BININT -1"},
      {2147483648, "LONG1 \"\\x00\\x00\\x00\\x80\\x00\""},
      {-2147483649, "LONG1 \"\\xff\\xff\\xff\\x7f\\xff\""},
      {std::numeric_limits<std::int64_t>::min(), "LONG1 \"\\x00\\x00\\x00\\x00\\x00\\x00\\x00\\x80\""},
  };
  for (const auto& [number, spelled] : numbers) {
    CHECK(replaced("PROTO 2; NONE; TUPLE1; STOP", 0, number) ==
          std::string("PROTO 2; ") + spelled + "; TUPLE1; STOP");
  }
  CHECK(replaced("MARK; NONE; LIST; STOP", 1, 1) == "MARK; INT 1; LIST; STOP");
  CHECK(replaced("MARK; NONE; LIST; STOP", 1, 2147483648) == "MARK; LONG 2147483648L; LIST; STOP");
  CHECK(replaced("EMPTY_LIST; NONE; APPEND; STOP", 1, 2147483648) ==
        "EMPTY_LIST; LONG 2147483648L; APPEND; STOP");
}

TEST_CASE("slots that MEMOIZE counts are counted anew", "[pickle]") {
  CHECK(dropped("PROTO 4; EMPTY_LIST; MEMOIZE; MARK; SHORT_BINUNICODE a; MEMOIZE; SHORT_BINUNICODE b; "
                "MEMOIZE; BINGET 2; BINGET 1; BINGET 1; APPENDS; STOP",
                {2}) ==
        "PROTO 4; EMPTY_LIST; MEMOIZE; MARK; SHORT_BINUNICODE \"b\"; MEMOIZE; BINGET 1; SHORT_BINUNICODE "
        "\"a\"; MEMOIZE; BINGET 2; APPENDS; STOP");
}

TEST_CASE("frames close where they closed and count what is left", "[pickle]") {
  const auto* two =
      "PROTO 4; FRAME 4; EMPTY_LIST; MEMOIZE; MARK; NONE; FRAME 4; SHORT_BINUNICODE a; NEWTRUE; FRAME 3; "
      "NEWFALSE; APPENDS; STOP";
  // The MARK waits for its first operand, and so gets into the second frame.
  CHECK(dropped(two, {2}) ==
        "PROTO 4; FRAME 2; EMPTY_LIST; MEMOIZE; FRAME 5; MARK; SHORT_BINUNICODE \"a\"; NEWTRUE; FRAME 3; "
        "NEWFALSE; "
        "APPENDS; STOP");
  CHECK(dropped(two, {3}) ==
        "PROTO 4; FRAME 4; EMPTY_LIST; MEMOIZE; MARK; NONE; FRAME 1; NEWTRUE; FRAME 3; NEWFALSE; APPENDS; "
        "STOP");
  CHECK(dropped(two, {3, 4}) ==
        "PROTO 4; FRAME 4; EMPTY_LIST; MEMOIZE; MARK; NONE; FRAME 3; NEWFALSE; APPENDS; STOP");
  CHECK(dropped(
            "PROTO 4; FRAME 2; EMPTY_LIST; MARK; BINBYTES \"x\"*70000; FRAME 8; BINUNICODE w; APPENDS; STOP",
            {2}) == "PROTO 4; FRAME 1; EMPTY_LIST; FRAME 9; MARK; BINUNICODE \"w\"; APPENDS; STOP");
}

TEST_CASE("a moved value goes where it is wanted", "[pickle]") {
  // {'': A, 'module': B} → {'': B}
  const auto* metadata =
      "PROTO 2; EMPTY_DICT; BINPUT 0; MARK; BINUNICODE \"\"; EMPTY_DICT; BINPUT 1; BINUNICODE module; "
      "EMPTY_DICT; BINPUT 2; "
      "BINUNICODE version; BININT1 1; SETITEM; SETITEMS; STOP";
  CHECK(moved(metadata, 3, 8, {4, 8}) ==
        "PROTO 2; EMPTY_DICT; BINPUT 0; MARK; BINUNICODE \"\"; EMPTY_DICT; BINPUT 2; BINUNICODE \"version\"; "
        "BININT1 1; SETITEM; SETITEMS; STOP");
  // It stays and has a slot: the first occurrence is the value, the other one a GET.
  CHECK(moved("EMPTY_LIST; MARK; NONE; EMPTY_DICT; BINPUT 7; APPENDS; STOP", 2, 3) ==
        "EMPTY_LIST; MARK; EMPTY_DICT; BINPUT 7; BINGET 7; APPENDS; STOP");
  CHECK(moved("EMPTY_LIST; MARK; EMPTY_DICT; BINPUT 7; NONE; APPENDS; STOP", 3, 2) ==
        "EMPTY_LIST; MARK; EMPTY_DICT; BINPUT 7; BINGET 7; APPENDS; STOP");
  // The use of a GET is the object.
  CHECK(moved("EMPTY_LIST; MARK; NONE; EMPTY_DICT; BINPUT 7; BINGET 7; APPENDS; STOP", 2, 4) ==
        "EMPTY_LIST; MARK; EMPTY_DICT; BINPUT 7; BINGET 7; BINGET 7; APPENDS; STOP");
  // Leaves without identity may be written twice.
  CHECK(moved("EMPTY_LIST; MARK; NONE; BININT1 7; APPENDS; STOP", 2, 3) ==
        "EMPTY_LIST; MARK; BININT1 7; BININT1 7; APPENDS; STOP");
  // The result itself.
  CHECK(moved("PROTO 2; EMPTY_DICT; BINUNICODE state; EMPTY_LIST; NONE; APPEND; SETITEM; STOP", 5, 4) ==
        "PROTO 2; EMPTY_LIST; NONE; APPEND; STOP");
}

TEST_CASE("new items stand behind the one they are named after", "[pickle]") {
  const auto* dict = "EMPTY_DICT; MARK; BINUNICODE a; NONE; BINPUT 1; BINUNICODE b; BINGET 1; SETITEMS; STOP";
  CHECK(inserted(dict, 3, pair("n", 7)) ==
        "EMPTY_DICT; MARK; BINUNICODE \"a\"; NONE; BINPUT 1; BINUNICODE \"n\"; BININT1 7; BINUNICODE \"b\"; "
        "BINGET 1; SETITEMS; STOP");
  CHECK(inserted(dict, 5, pair("n", 7), {4, 5}) ==
        "EMPTY_DICT; MARK; BINUNICODE \"a\"; NONE; BINPUT 1; BINUNICODE \"n\"; BININT1 7; SETITEMS; STOP");
  CHECK(inserted("EMPTY_DICT; MARK; BINUNICODE a; NONE; SETITEMS; STOP", 3, pair("n", 7), {2, 3}) ==
        "EMPTY_DICT; MARK; BINUNICODE \"n\"; BININT1 7; SETITEMS; STOP");
  CHECK(inserted("EMPTY_DICT; BINUNICODE a; NONE; SETITEM; BINPUT 3; STOP", 2, pair("n", 7)) ==
        "EMPTY_DICT; BINUNICODE \"a\"; NONE; SETITEM; BINPUT 3; BINUNICODE \"n\"; BININT1 7; SETITEM; STOP");
  CHECK(inserted("EMPTY_DICT; BINUNICODE a; NONE; SETITEM; STOP", 2, pair("n", 7), {1, 2}) ==
        "EMPTY_DICT; BINUNICODE \"n\"; BININT1 7; SETITEM; STOP");
  CHECK(inserted("PROTO 2; MARK; NONE; TUPLE; STOP", 1, {NewValue::text("x")}) ==
        "PROTO 2; MARK; NONE; BINUNICODE \"x\"; TUPLE; STOP");
}

TEST_CASE("new items at the end go with their container", "[pickle]") {
  CHECK(appended("EMPTY_LIST; BINPUT 0; STOP", 0, {NewValue::text("x"), NewValue{}}) ==
        "EMPTY_LIST; BINPUT 0; BINUNICODE \"x\"; APPEND; NONE; APPEND; STOP");
  CHECK(appended("MARK; DICT; STOP", 1, pair("n", 7)) == "MARK; DICT; UNICODE n; INT 7; SETITEM; STOP");
  CHECK(appended("GLOBAL m c; EMPTY_TUPLE; REDUCE; EMPTY_DICT; BUILD; STOP", 4, pair("n", 7)) ==
        "GLOBAL m c; EMPTY_TUPLE; REDUCE; EMPTY_DICT; BUILD; BINUNICODE \"n\"; BININT1 7; SETITEM; STOP");
  GraphEdits edits;  // the list is dropped where it was made, so it comes to where it is used next
  edits.append_to(2, {NewValue{}});
  edits.drop(2);
  CHECK(edited("EMPTY_LIST; MARK; EMPTY_LIST; BINPUT 1; BINGET 1; APPENDS; STOP", edits) ==
        "EMPTY_LIST; MARK; EMPTY_LIST; BINPUT 1; NONE; APPEND; APPENDS; STOP");
}

TEST_CASE("a new value is spelled as the protocol spells it", "[pickle]") {
  const auto value =
      NewValue::call(NewValue::global("torch._utils", "_rebuild"),
                     {NewValue::persistent_id(NewValue::tuple({NewValue::text("storage"), NewValue::number(3),
                                                               NewValue{}, NewValue::number(300)})),
                      NewValue::tuple({}), NewValue::tuple({NewValue::boolean(true)}),
                      NewValue::tuple({NewValue::boolean(false), NewValue{}})});
  const auto replaced = [&](const char* stream, Use use) {
    GraphEdits edits;
    edits.replace(use, value);
    return edited(stream, edits);
  };
  CHECK(replaced("PROTO 2; EMPTY_LIST; NONE; APPEND; STOP", 1) ==
        "PROTO 2; EMPTY_LIST; GLOBAL torch._utils _rebuild; MARK; MARK; BINUNICODE \"storage\"; BININT1 3; "
        "NONE; "
        "BININT2 300; TUPLE; BINPERSID; EMPTY_TUPLE; NEWTRUE; TUPLE1; NEWFALSE; NONE; TUPLE2; TUPLE; REDUCE; "
        "APPEND; STOP");
  CHECK(
      replaced("MARK; LIST; NONE; APPEND; STOP", 2) ==
      "MARK; LIST; GLOBAL torch._utils _rebuild; MARK; MARK; UNICODE storage; INT 3; NONE; INT 300; TUPLE; "
      "BINPERSID; MARK; TUPLE; MARK; INT 01; TUPLE; MARK; INT 00; NONE; TUPLE; TUPLE; REDUCE; APPEND; STOP");
  CHECK(replaced("PROTO 4; FRAME 5; EMPTY_LIST; MEMOIZE; NONE; APPEND; STOP", 1)
            .starts_with("PROTO 4; FRAME 54; EMPTY_LIST; MEMOIZE; GLOBAL torch._utils _rebuild; MARK; MARK; "
                         "SHORT_BINUNICODE "));
}

TEST_CASE("bodies outside the text go along", "[pickle]") {
  CHECK(dropped("PROTO 3; EMPTY_LIST; MARK; BINBYTES \"x\"*70000; BINPUT 1; BINBYTES \"y\"*80000; BINGET 1; "
                "APPENDS; STOP",
                {2}) ==
        "PROTO 3; EMPTY_LIST; MARK; BINBYTES \"y\"*80000; BINBYTES \"x\"*70000; BINPUT 1; APPENDS; STOP");
}

TEST_CASE("a frame counts the bodies inside it", "[pickle]") {
  CHECK(
      dropped("PROTO 4; FRAME 70009; EMPTY_LIST; MARK; NONE; BINBYTES \"x\"*70000; NEWTRUE; FRAME 3; NONE; "
              "APPENDS; STOP",
              {2}) ==
      "PROTO 4; FRAME 70008; EMPTY_LIST; MARK; BINBYTES \"x\"*70000; NEWTRUE; FRAME 3; NONE; APPENDS; STOP");
}

TEST_CASE("an edit of a hostile pickle takes as long as the pickle", "[pickle]") {
  // Tuples around tuples, all of which begin at the same place, then a GET of each from the inside out.
  constexpr std::uint32_t kDepth = 300'000;
  auto text = assemble("EMPTY_LIST; MARK; NONE");
  for (std::uint32_t i = 0; i < kDepth; ++i) {
    text.push_back(static_cast<std::byte>(Opcode::kTuple1));
    text.push_back(static_cast<std::byte>(Opcode::kLongBinput));
    append_le(text, i);
  }
  for (std::uint32_t i = 0; i < kDepth; ++i) {
    text.push_back(static_cast<std::byte>(Opcode::kLongBinget));
    append_le(text, i);
  }
  append_bytes(text, assemble("APPENDS; STOP"));
  const auto graph = decode_bytes(text);
  REQUIRE(graph);
  GraphEdits edits;
  edits.drop(2 + kDepth);
  const auto pickle = encode_pickle(*graph, edits);
  REQUIRE(pickle);
  // Each GET has become a GET of the tuple inside, and a tuple around it.
  CHECK(pickle->size() == 3 + 1 + kDepth * 6 + (kDepth - 1) * 2 + (kDepth - 1 - 256) * 3 + 1);
  CHECK(decode_bytes(pickle->text));
}

TEST_CASE("a new value holds what moves into it", "[pickle]") {
  const auto replaced_root = [](std::string_view assembly, Use root, NewValue value) {
    GraphEdits edits;
    edits.replace(root, std::move(value));
    return edited(assembly, edits);
  };
  const auto dict = [](std::vector<NewValue> items) { return NewValue::dict(std::move(items)); };
  const auto* list =
      "PROTO 2; EMPTY_LIST; BINPUT 0; MARK; EMPTY_DICT; BINPUT 1; BINUNICODE w; BINPUT 2; NONE; SETITEM; "
      "BINGET 2; APPENDS; STOP";
  CHECK(
      replaced_root(list, 7, dict({NewValue::text("a"), NewValue::move_of(5)})) ==
      "PROTO 2; EMPTY_DICT; MARK; BINUNICODE \"a\"; EMPTY_DICT; BINPUT 1; BINUNICODE \"w\"; BINPUT 2; NONE; "
      "SETITEM; SETITEMS; STOP");
  // twice: the second one is a GET; what only a later part defines is brought along
  CHECK(replaced_root(list, 7,
                      dict({NewValue::text("a"), NewValue::move_of(6), NewValue::text("b"),
                            NewValue::move_of(5), NewValue::text("c"), NewValue::move_of(5)})) ==
        "PROTO 2; EMPTY_DICT; MARK; BINUNICODE \"a\"; BINUNICODE \"w\"; BINPUT 2; BINUNICODE \"b\"; "
        "EMPTY_DICT; "
        "BINPUT 1; BINGET 2; NONE; SETITEM; BINUNICODE \"c\"; BINGET 1; SETITEMS; STOP");
  // objects with items and a state
  CHECK(replaced_root("PROTO 2; NONE; TUPLE1; STOP", 1,
                      NewValue::built(NewValue::filled(NewValue::call(NewValue::global("m", "f"), {}),
                                                       {NewValue::number(1), NewValue::move_of(0)}),
                                      dict({}))) ==
        "PROTO 2; GLOBAL m f; EMPTY_TUPLE; REDUCE; MARK; BININT1 1; NONE; SETITEMS; EMPTY_DICT; BUILD; STOP");
  CHECK(replaced_root("MARK; NONE; TUPLE; STOP", 2, dict({NewValue::number(1), NewValue::move_of(1)})) ==
        "MARK; DICT; INT 1; NONE; SETITEM; STOP");
  // what moves has no slot and would be needed twice
  CHECK(replaced_root(
            "EMPTY_LIST; TUPLE1; STOP", 1,
            dict({NewValue::number(1), NewValue::move_of(0), NewValue::number(2), NewValue::move_of(0)})) ==
        "edit of pickle node 0: it is moved and stays, without a memo slot");
}

TEST_CASE("an edit that makes no sense is refused", "[pickle]") {
  CHECK(dropped("NONE; DUP; TUPLE2; STOP", {0}) ==
        "the pickle cannot be edited: DUP repeats a value without a memo slot");
  CHECK(dropped("PROTO 4; FRAME 3; NONE; TUPLE1; STOP; RAW \"\"", {0}) ==
        "edit of pickle node 0: an operand of TUPLE1 cannot be dropped");
  CHECK(dropped("PROTO 4; FRAME 9; NONE; TUPLE1; STOP", {0}) ==
        "the pickle cannot be edited: its frames do not hold whole instructions, see byte 2");
  CHECK(dropped("PROTO 4; FRAME 12; NONE; FRAME 2; TUPLE1; STOP", {0}) ==
        "the pickle cannot be edited: its frames do not hold whole instructions, see byte 12");
  CHECK(dropped("GLOBAL m f; EMPTY_TUPLE; REDUCE; STOP", {1}) ==
        "edit of pickle node 1: an operand of REDUCE cannot be dropped");
  CHECK(dropped("NONE; STOP", {0}) == "edit of pickle node 0: the result of the pickle is dropped");
  CHECK(dropped("NONE; STOP", {1}) == "edit of pickle node 1: the graph has 1 nodes");
  CHECK(dropped("EMPTY_DICT; BINUNICODE a; NONE; SETITEM; STOP", {1}) ==
        "edit of pickle node 1: key and value must be dropped together");
  CHECK(dropped("EMPTY_DICT; MARK; BINUNICODE a; NONE; SETITEMS; STOP", {2}) ==
        "edit of pickle node 2: key and value must be dropped together");
  CHECK(dropped("EMPTY_DICT; MARK; BINUNICODE a; NONE; SETITEMS; STOP", {1}) ==
        "edit of pickle node 1: a MARK is no value");
  CHECK(dropped("EMPTY_LIST; NONE; APPEND; TUPLE1; STOP", {0}) ==
        "edit of pickle node 0: the value is used at node 2, which changes it last");
  CHECK(moved("EMPTY_LIST; MARK; NONE; EMPTY_DICT; APPENDS; STOP", 2, 3) ==
        "edit of pickle node 3: it is moved and stays, without a memo slot");
  CHECK(inserted("EMPTY_DICT; BINUNICODE a; NONE; SETITEM; STOP", 1, pair("n", 7)) ==
        "edit of pickle node 1: keys and values are inserted together, behind a value");
  CHECK(inserted("EMPTY_DICT; BINUNICODE a; NONE; SETITEM; STOP", 2, {NewValue{}}) ==
        "edit of pickle node 2: keys and values are inserted together, behind a value");
  CHECK(inserted("EMPTY_LIST; NONE; APPEND; STOP", 0, {NewValue{}}) ==
        "edit of pickle node 0: the value is used at node 2, which changes it last");
  CHECK(inserted("NONE; TUPLE1; STOP", 0, {NewValue{}}) ==
        "edit of pickle node 0: TUPLE1 has a fixed number of operands");
  CHECK(inserted("NONE; STOP", 0, {NewValue{}}) ==
        "edit of pickle node 0: nothing follows the result of the pickle");
  CHECK(inserted("EMPTY_LIST; NONE; APPEND; STOP", 1, {NewValue::move_of(1)}) ==
        "edit of pickle node 1: nothing can be moved into new operands");
  CHECK(appended("NONE; STOP", 0, {NewValue{}}) == "edit of pickle node 0: it is no list and no mapping");
  CHECK(appended("EMPTY_DICT; STOP", 0, {NewValue{}}) ==
        "edit of pickle node 0: keys and values are appended together");
  // A list moves into itself, and no slot can name it.
  CHECK(moved("EMPTY_LIST; EMPTY_LIST; NONE; APPEND; APPEND; STOP", 2, 3) ==
        "edit of pickle node 3: it is moved and stays, without a memo slot");
  CHECK(dropped("EMPTY_LIST; MARK; EMPTY_LIST; BINPUT 1; BINGET 1; TUPLE1; BINPUT 2; APPEND; BINGET 2; "
                "APPENDS; STOP",
                {5}) == kContainsItself);
}

TEST_CASE("nothing is called with what is not filled yet", "[pickle]") {
  const std::string dict = "EMPTY_LIST; MARK; EMPTY_DICT; BINPUT 1; BINUNICODE k; NONE; SETITEM; ";
  // The object becomes an item of the keywords it is made of, and of its own attributes.
  CHECK(moved(dict + "GLOBAL m C; EMPTY_TUPLE; BINGET 1; NEWOBJ_EX; BINPUT 2; APPENDS; STOP", 4, 9) ==
        kContainsItself);
  CHECK(moved(dict + "GLOBAL m C; EMPTY_TUPLE; NEWOBJ; BINPUT 2; BINGET 1; BUILD; APPENDS; STOP", 4, 10) ==
        kContainsItself);
  // A list in the attributes may be filled later.
  CHECK(moved(dict + "GLOBAL m C; EMPTY_TUPLE; NEWOBJ; BINPUT 2; EMPTY_LIST; BINGET 1; APPEND; BUILD; "
                     "APPENDS; STOP",
              4, 12) ==
        "EMPTY_LIST; MARK; EMPTY_DICT; BINPUT 1; BINUNICODE \"k\"; GLOBAL m C; EMPTY_TUPLE; NEWOBJ; "
        "BINPUT 2; EMPTY_LIST; BINGET 1; APPEND; BUILD; SETITEM; BINGET 2; APPENDS; STOP");
}
