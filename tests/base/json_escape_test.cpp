#include "base/json_escape.hpp"

#include <random>

#include <boost/json.hpp>
#include <catch2/catch.hpp>

using gatehouse::base::append_json_escaped;

namespace {

std::string escaped(std::string_view text) {
  std::string out;
  append_json_escaped(out, text);
  return out;
}

}  // namespace

TEST_CASE("Printable ASCII stands for itself") {
  std::string text;
  for (char c = 0x20; c < 0x7f; ++c)
    if (c != '"' && c != '\\') text += c;
  CHECK(escaped(text) == text);
  CHECK(escaped("") == "");
}

TEST_CASE("Every ASCII byte that JSON or a terminal would mind is escaped, at every offset") {
  for (size_t offset = 0; offset < 17; ++offset) {
    const std::string before(offset, 'x');
    CHECK(escaped(before + "\"") == before + "\\\"");
    CHECK(escaped(before + "\\") == before + "\\\\");
    CHECK(escaped(before + "\n") == before + "\\n");
    CHECK(escaped(before + "\x1b[31m") == before + "\\u001b[31m");
    CHECK(escaped(before + "\x7f") == before + "\\u007f");
    CHECK(escaped(before + std::string(1, '\0') + "z") == before + "\\u0000z");
  }
}

TEST_CASE("Well-formed UTF-8 passes") {
  for (const std::string_view text : {"é", "ß", "日本語", "😀", "\xc2\xa0", "\xf4\x8f\xbf\xbf"})
    CHECK(escaped(text) == text);
}

TEST_CASE("C1 control characters are escaped though they are well-formed UTF-8") {
  CHECK(escaped("\xc2\x9b") == "\\u009b");
  CHECK(escaped("\xc2\x80") == "\\u0080");
}

TEST_CASE("Each byte outside well-formed UTF-8 becomes the replacement character") {
  const std::string r = "\\ufffd";
  CHECK(escaped("\xff") == r);
  CHECK(escaped("\x80") == r);
  CHECK(escaped("\xc0\xaf") == r + r);                  // overlong slash
  CHECK(escaped("\xe0\x80\x80") == r + r + r);          // overlong
  CHECK(escaped("\xed\xa0\x80") == r + r + r);          // a surrogate
  CHECK(escaped("\xf4\x90\x80\x80") == r + r + r + r);  // past U+10FFFF
  CHECK(escaped("\xe2\x82") == r + r);                  // cut short by the end
  CHECK(escaped("\xc3(") == r + "(");
}

TEST_CASE("Any bytes make a string that a JSON parser accepts") {
  std::mt19937 random(7);
  for (int round = 0; round < 2000; ++round) {
    std::string text(random() % 64, '\0');
    for (char& c : text) c = static_cast<char>(random());
    boost::system::error_code code;
    boost::json::parse("\"" + escaped(text) + "\"", code);
    REQUIRE(!code);
  }
}

TEST_CASE("For people quotes stand, and nothing else that a terminal or a line would mind") {
  std::string out = "> ";
  gatehouse::base::append_harmless(out, "a \"b\" \\ \x1b[31m\n\xc2\x9b ä \xff\"");
  CHECK(out == "> a \"b\" \\ \\u001b[31m\\n\\u009b ä \\ufffd\"");
}
