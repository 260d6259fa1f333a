// One TOML file as a plain tree that remembers where each key and value was written.
//
// Not the meaning of any key (reader.hpp, parse_*). document.cpp is the only file that knows
// toml++: the rest of the floor sees these values. Control thread.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include <boost/system/result.hpp>

namespace gatehouse::config {

/// A place in one of the files that were read, small enough to keep one for each of 100,000 hosts.
struct Mark {
  uint32_t file = 0;  // an index into Draft::files
  uint32_t line = 0;
  uint32_t column = 0;
};

enum class ValueKind : uint8_t { string, integer, number, boolean, date, array, table };

struct Member;

/// A value. Only the field that belongs to `kind` is set.
struct Value {
  ValueKind kind = ValueKind::table;
  Mark mark;
  bool boolean = false;
  int64_t integer = 0;
  double number = 0;
  std::string string;
  std::vector<Value> items;     // array
  std::vector<Member> members;  // table, in the order they were written

  /// The member of that name, or nullptr.
  const Value* find(std::string_view name) const;
};

struct Member {
  std::string name;
  Mark mark;  // of the key
  Value value;
};

struct SyntaxError {
  Mark mark;
  std::string text;
};

/// The root table of `text`. `file` becomes the mark's file. Nesting is bounded, by toml++ for
/// arrays and inline tables (256), here for dotted keys (64 parts).
boost::system::result<Value, SyntaxError> parse_document(std::string_view text, uint32_t file);

/// "a string", "a list": how messages name the kind.
std::string_view describe(ValueKind kind);

}  // namespace gatehouse::config
