#include "config/environment.hpp"

#include <catch2/catch.hpp>

#include "tests/config/loaded.hpp"

namespace gatehouse::config {

namespace {

std::string expanded(std::string_view text) {
  const auto result = expand_environment(text);
  return result ? *result : "refused: " + result.error().text;
}

TEST_CASE("a reference takes the variable's value once") {
  const Variable name("GATEHOUSE_TEST_NAME", "shop");
  const Variable nested("GATEHOUSE_TEST_NESTED", "${GATEHOUSE_TEST_NAME}");
  CHECK(expanded("${GATEHOUSE_TEST_NAME}") == "shop");
  CHECK(expanded("a ${GATEHOUSE_TEST_NAME} b ${GATEHOUSE_TEST_NAME}") == "a shop b shop");
  CHECK(expanded("${GATEHOUSE_TEST_NESTED}") == "${GATEHOUSE_TEST_NAME}");
  CHECK(expanded("no reference, $HOME, $, {}") == "no reference, $HOME, $, {}");
}

TEST_CASE("the default stands in for an unset and for an empty variable") {
  const Variable unset("GATEHOUSE_TEST_NAME", nullptr);
  CHECK(expanded("${GATEHOUSE_TEST_NAME:-a default}") == "a default");
  CHECK(expanded("${GATEHOUSE_TEST_NAME:-}") == "");
  CHECK(expanded("[${GATEHOUSE_TEST_NAME:-:443}]") == "[:443]");
  const Variable empty("GATEHOUSE_TEST_NAME", "");
  CHECK(expanded("${GATEHOUSE_TEST_NAME:-a}") == "a");
  CHECK(expanded("${GATEHOUSE_TEST_NAME}") == "");
}

TEST_CASE("two dollars before a brace stand for the text itself") {
  const Variable name("GATEHOUSE_TEST_NAME", "shop");
  CHECK(expanded("$${GATEHOUSE_TEST_NAME}") == "${GATEHOUSE_TEST_NAME}");
  CHECK(expanded("$${") == "${");
  CHECK(expanded("$${a}${GATEHOUSE_TEST_NAME}") == "${a}shop");
}

TEST_CASE("an unset variable, a bad name and an open reference are refused") {
  const Variable unset("GATEHOUSE_TEST_NAME", nullptr);
  CHECK(expanded("${GATEHOUSE_TEST_NAME}") ==
        "refused: the environment variable GATEHOUSE_TEST_NAME is not set: set it, or write "
        "${GATEHOUSE_TEST_NAME:-default}");
  for (const auto* text :
       {"${}", "${:-x}", "${1A}", "${A B}", "${A-x}", "${${A}}", "${", "a ${A"}) {
    INFO(text);
    CHECK_FALSE(expand_environment(text).has_value());
  }
}

TEST_CASE("what variables grow to is bounded") {
  const std::string large(100'000, 'x');
  const Variable name("GATEHOUSE_TEST_NAME", large.c_str());
  std::string text;
  for (int i = 0; i < 12; ++i) text += "${GATEHOUSE_TEST_NAME}";
  CHECK_FALSE(expand_environment(text).has_value());
}

TEST_CASE("variables work in every string and are refused with key and place") {
  const Variable unset("GATEHOUSE_TEST_NAME", nullptr);
  CHECK(mistakes("[[site]]\nhosts = ['${GATEHOUSE_TEST_NAME}']\nupstream = 'a:1'\n") ==
        Lines{"t.toml:2:10: site[0].hosts[0]: the environment variable GATEHOUSE_TEST_NAME is not "
              "set: set it, or write ${GATEHOUSE_TEST_NAME:-default}"});
  const auto snapshot =
      loaded("[[site]]\nhosts = ['${GATEHOUSE_TEST_NAME:-a.example.com}']\nupstream = 'a:1'\n");
  CHECK(snapshot->sites[0].hosts[0].text == "a.example.com");
}

}  // namespace

}  // namespace gatehouse::config
