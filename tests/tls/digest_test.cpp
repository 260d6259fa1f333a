#include "tls/digest.hpp"

#include <catch2/catch.hpp>

#include "base/encoding.hpp"

namespace gatehouse::tls {

TEST_CASE("digests of the standard's vectors") {
  CHECK(base::hex(sha256("abc")) ==
        "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  CHECK(base::hex(sha1("abc")) == "a9993e364706816aba3e25717850c26c9cd0d89d");
  CHECK(base::hex(sha1("")) == "da39a3ee5e6b4b0d3255bfef95601890afd80709");
}

}  // namespace gatehouse::tls
