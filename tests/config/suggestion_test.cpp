#include "config/suggestion.hpp"

#include <array>
#include <string>
#include <vector>

#include <catch2/catch.hpp>

namespace gatehouse::config {

namespace {

TEST_CASE("the edit distance counts insertions, deletions, changes and swaps") {
  CHECK(edit_distance("", "", 3) == 0);
  CHECK(edit_distance("upstream", "upstream", 3) == 0);
  CHECK(edit_distance("upsteam", "upstream", 3) == 1);
  CHECK(edit_distance("upstreams", "upstream", 3) == 1);
  CHECK(edit_distance("upstraem", "upstream", 3) == 1);
  CHECK(edit_distance("kitten", "sitting", 5) == 3);
  CHECK(edit_distance("sitting", "kitten", 5) == 3);
  CHECK(edit_distance("abc", "xyz", 1) == 2);
  CHECK(edit_distance("a", "abcdef", 2) == 3);
}

TEST_CASE("the nearest word is suggested only if it is near") {
  static constexpr std::array<std::string_view, 4> words = {"hosts", "upstream", "certificate",
                                                            "key"};
  CHECK(nearest("host", words) == "hosts");
  CHECK(nearest("upsteam", words) == "upstream");
  CHECK(nearest("certifcates", words) == "certificate");
  CHECK(nearest("kei", words) == "key");
  CHECK(nearest("", words).empty());
  CHECK(nearest("zzz", words).empty());
  CHECK(nearest("timeout", words).empty());
  CHECK(nearest(std::string(100'000, 'k'), words).empty());
  CHECK(nearest("key", {}).empty());
}

TEST_CASE("only the first thousand candidates are looked at") {
  std::vector<std::string_view> words(1000, "nothing-near");
  words.push_back("shop");
  CHECK(nearest("shpo", words).empty());
  words.front() = "shop";
  CHECK(nearest("shpo", words) == "shop");
}

}  // namespace

}  // namespace gatehouse::config
