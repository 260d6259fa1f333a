#include "base/encoding.hpp"

#include <catch2/catch.hpp>

namespace gatehouse::base {

TEST_CASE("base64 has RFC 4648's test vectors both ways") {
  const auto [plain, encoded] = GENERATE(table<std::string, std::string>({
      {"", ""},
      {"f", "Zg=="},
      {"fo", "Zm8="},
      {"foo", "Zm9v"},
      {"foob", "Zm9vYg=="},
      {"fooba", "Zm9vYmE="},
      {"foobar", "Zm9vYmFy"},
  }));
  CHECK(base64(plain) == encoded);
  CHECK(base64_decode(encoded) == plain);
  std::string unpadded = encoded;
  while (unpadded.ends_with('=')) unpadded.pop_back();
  CHECK(base64url(plain) == unpadded);
  CHECK(base64url_decode(unpadded) == plain);
}

TEST_CASE("the two alphabets differ in two characters and do not take each other's") {
  const std::string bytes("\xfb\xff\xbf", 3);
  CHECK(base64(bytes) == "+/+/");
  CHECK(base64url(bytes) == "-_-_");
  CHECK_FALSE(base64_decode("-_-_"));
  CHECK_FALSE(base64url_decode("+/+/"));
}

TEST_CASE("every byte survives a round trip, at every length") {
  std::string bytes;
  for (int i = 0; i < 300; ++i) {
    CHECK(base64_decode(base64(bytes)) == bytes);
    CHECK(base64url_decode(base64url(bytes)) == bytes);
    bytes += static_cast<char>(i * 7);
  }
}

TEST_CASE("base64url refuses padding, white space, strangers and impossible lengths") {
  const std::string bad =
      GENERATE(as<std::string>{}, "Zg==", "Zm8=", "Z", "Zm9vY", "Zm 9v", "Zm9v\n", " Zm9v", "Zm9*",
               std::string("Zm9\0", 4), "Zm9\xc3\xa4");
  CHECK_FALSE(base64url_decode(bad));
}

TEST_CASE("base64 refuses missing, misplaced and surplus padding") {
  const std::string bad =
      GENERATE("Zg", "Zg=", "Zm8", "Zm9v=", "=", "==", "====", "Zg==Zg==", "Z===", "Zm=v");
  CHECK_FALSE(base64_decode(bad));
}

TEST_CASE("left-over bits must be zero, or two texts would mean the same bytes") {
  CHECK_FALSE(base64url_decode("Zh"));
  CHECK_FALSE(base64url_decode("Zm9"));
  CHECK_FALSE(base64_decode("Zh=="));
  CHECK_FALSE(base64_decode("Zm9="));
}

TEST_CASE("hex is lower case, two digits a byte") {
  CHECK(hex("") == "");
  CHECK(hex(std::string("\x00\x0f\xf0\xff", 4)) == "000ff0ff");
}

}  // namespace gatehouse::base
