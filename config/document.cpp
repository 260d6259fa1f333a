#include "config/document.hpp"

#include <algorithm>
#include <optional>

#include <toml++/toml.h>

namespace gatehouse::config {

namespace {

constexpr size_t key_parts_max = 64;

/// Follows strings and comments only as far as needed to count the parts of dotted keys: toml++
/// builds and frees one nested table a part, by recursion, and would run out of stack.
class KeyDepth {
 public:
  explicit KeyDepth(std::string_view text) : text_(text) {}

  std::optional<SyntaxError> check(uint32_t file) {
    size_t dots = 0;
    while (at_ < text_.size()) {
      const char c = text_[at_];
      if (c == '"' || c == '\'') {
        skip_string(c);
        continue;
      }
      if (c == '#') {
        while (at_ < text_.size() && text_[at_] != '\n') step();
        continue;
      }
      if (c == '\n' || c == '=' || c == ',' || c == '{' || c == '[') dots = 0;
      if (c == '.' && ++dots >= key_parts_max) {
        return SyntaxError{{file, line_, column_}, "a key has more than 64 parts: use fewer dots"};
      }
      step();
    }
    return std::nullopt;
  }

 private:
  void step() {
    if (text_[at_] == '\n') {
      ++line_;
      column_ = 0;
    }
    ++at_;
    ++column_;
  }

  void step(size_t bytes) {
    for (size_t i = 0; i < bytes && at_ < text_.size(); ++i) step();
  }

  void skip_string(char quote) {
    const std::string triple(3, quote);
    const bool long_form = text_.substr(at_, 3) == triple;
    step(long_form ? 3 : 1);
    while (at_ < text_.size()) {
      if (quote == '"' && text_[at_] == '\\') {
        step(2);
      } else if (long_form && text_.substr(at_, 3) == triple) {
        step(3);
        while (at_ < text_.size() && text_[at_] == quote) step();  // up to two may precede the end
        return;
      } else if (!long_form && (text_[at_] == quote || text_[at_] == '\n')) {
        step();
        return;
      } else {
        step();
      }
    }
  }

  std::string_view text_;
  size_t at_ = 0;
  uint32_t line_ = 1;
  uint32_t column_ = 1;
};

Mark mark_of(const toml::source_region& source, uint32_t file) {
  return Mark{file, source.begin.line, source.begin.column};
}

Value convert(const toml::node& node, uint32_t file) {
  Value value;
  value.mark = mark_of(node.source(), file);
  switch (node.type()) {
    case toml::node_type::table: {
      value.kind = ValueKind::table;
      const auto& table = *node.as_table();
      value.members.reserve(table.size());
      for (const auto& [key, child] : table) {
        value.members.push_back(
            {std::string(key.str()), mark_of(key.source(), file), convert(child, file)});
      }
      // toml++ sorts by name; messages and field changes follow the file.
      std::stable_sort(
          value.members.begin(), value.members.end(), [](const Member& a, const Member& b) {
            return std::pair(a.mark.line, a.mark.column) < std::pair(b.mark.line, b.mark.column);
          });
      break;
    }
    case toml::node_type::array:
      value.kind = ValueKind::array;
      value.items.reserve(node.as_array()->size());
      for (const auto& item : *node.as_array()) value.items.push_back(convert(item, file));
      break;
    case toml::node_type::string:
      value.kind = ValueKind::string;
      value.string = node.as_string()->get();
      break;
    case toml::node_type::integer:
      value.kind = ValueKind::integer;
      value.integer = node.as_integer()->get();
      break;
    case toml::node_type::floating_point:
      value.kind = ValueKind::number;
      value.number = node.as_floating_point()->get();
      break;
    case toml::node_type::boolean:
      value.kind = ValueKind::boolean;
      value.boolean = node.as_boolean()->get();
      break;
    default:
      value.kind = ValueKind::date;
      break;
  }
  return value;
}

}  // namespace

boost::system::result<Value, SyntaxError> parse_document(std::string_view text, uint32_t file) {
  if (auto error = KeyDepth(text).check(file)) return *error;
  try {
    return convert(toml::parse(text), file);
  } catch (const toml::parse_error& error) {  // how Debian's library reports
    std::string sentence = "not valid TOML: " + std::string(error.description());
    return SyntaxError{mark_of(error.source(), file), std::move(sentence)};
  }
}

const Value* Value::find(std::string_view name) const {
  for (const auto& member : members) {
    if (member.name == name) return &member.value;
  }
  return nullptr;
}

std::string_view describe(ValueKind kind) {
  switch (kind) {
    case ValueKind::string:
      return "a string";
    case ValueKind::integer:
      return "a whole number";
    case ValueKind::number:
      return "a number";
    case ValueKind::boolean:
      return "true or false";
    case ValueKind::date:
      return "a date";
    case ValueKind::array:
      return "a list";
    case ValueKind::table:
      return "a table";
  }
  return "a value";
}

}  // namespace gatehouse::config
