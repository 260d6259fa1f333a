#include "config/document.hpp"

#include <catch2/catch.hpp>

namespace gatehouse::config {

namespace {

std::string refusal(std::string_view text) {
  const auto document = parse_document(text, 0);
  if (document) return "(well)";
  const auto& error = document.error();
  return std::to_string(error.mark.line) + ":" + std::to_string(error.mark.column) + " " +
         error.text;
}

TEST_CASE("a document keeps the order and the places of what was written") {
  const auto document = parse_document("z = 'a'\n[table]\n  b = [1, 'x']\n  a = true\n", 7);
  REQUIRE(document.has_value());
  REQUIRE(document->members.size() == 2);
  CHECK(document->members[0].name == "z");
  CHECK(document->members[0].mark.line == 1);
  CHECK(document->members[0].value.mark.column == 5);
  CHECK(document->members[0].value.mark.file == 7);
  const auto* table = document->find("table");
  REQUIRE(table != nullptr);
  CHECK(table->members[0].name == "b");
  CHECK(table->members[1].name == "a");
  CHECK(table->members[1].mark.line == 4);
  CHECK(table->members[1].mark.column == 3);
  CHECK(table->members[0].value.items[1].string == "x");
  CHECK(table->members[0].value.items[1].mark.column == 11);
  CHECK(document->find("y") == nullptr);
}

TEST_CASE("text that is no TOML is refused at its place") {
  for (const auto* text : {"a = ", "a = 'x", "= 1", "[a", "a = 1\na = 2", "a 1", "a = \"\\q\"",
                           "a = 1 b = 2", "[a]\n[a]", "a = \xff", "\x01", "[[a]]\n[a]",
                           "a = 99999999999999999999", "a = {b = 1", "a = [1"}) {
    INFO(text);
    const auto refused = refusal(text);
    CHECK(refused.find("not valid TOML: ") != std::string::npos);
  }
  CHECK(refusal("a = 1\nb = ?\n").substr(0, 4) == "2:5 ");
}

TEST_CASE("nesting is bounded, whichever way it is written") {
  std::string dotted = "a";
  for (int i = 0; i < 1'000'000; ++i) dotted += ".a";
  CHECK(refusal(dotted + " = 1") == "1:128 a key has more than 64 parts: use fewer dots");
  CHECK(refusal("[" + dotted + "]").find("64 parts") != std::string::npos);
  CHECK(refusal("x = { " + dotted + " = 1 }").find("64 parts") != std::string::npos);
  CHECK(refusal("s = \"\"\"\n'\"\"\"\n" + dotted + " = 1").find("64 parts") != std::string::npos);
  CHECK(refusal("a = " + std::string(100'000, '[')).find("not valid TOML") != std::string::npos);
  std::string tables = "a = ";
  for (int i = 0; i < 10'000; ++i) tables += "{a=";
  CHECK(refusal(tables).find("not valid TOML") != std::string::npos);
}

TEST_CASE("dots in strings, comments and long lists are not parts of a key") {
  const std::string dots(1000, '.');
  std::string list = "a = [";
  for (int i = 0; i < 1000; ++i) list += "1.5, ";
  CHECK(refusal("a = '" + dots + "'") == "(well)");
  CHECK(refusal("a = \"" + dots + "\\\"" + dots + "\"") == "(well)");
  CHECK(refusal("a = 1 # " + dots) == "(well)");
  CHECK(refusal("a = '''\n" + dots + "'\n" + dots + "''''") == "(well)");
  CHECK(refusal("a = \"\"\"\n" + dots + "\"\"" + dots + "\\\"\"\"\"\"") == "(well)");
  CHECK(refusal(list + "]") == "(well)");
}

}  // namespace

}  // namespace gatehouse::config
