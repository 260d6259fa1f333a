#include "tls/openssl.hpp"

#include <catch2/catch.hpp>
#include <openssl/err.h>

using namespace gatehouse;
using namespace gatehouse::tls;

TEST_CASE("the error queue becomes one sentence and is emptied") {
  ERR_clear_error();
  ERR_raise(ERR_LIB_SSL, SSL_R_CERTIFICATE_VERIFY_FAILED);
  ERR_raise_data(ERR_LIB_SSL, SSL_R_BAD_LENGTH, "more");
  const auto error = openssl_error(base::ErrorKind::tls, "origin:443");
  CHECK(error.context == "origin:443: certificate verify failed");
  CHECK(error.kind == base::ErrorKind::tls);
  CHECK(ERR_GET_REASON(static_cast<unsigned long>(error.cause)) == SSL_R_CERTIFICATE_VERIFY_FAILED);
  CHECK(ERR_peek_error() == 0);
}

TEST_CASE("what OpenSSL adds to a reason is told, an empty queue admitted") {
  ERR_raise_data(ERR_LIB_SSL, SSL_R_BAD_LENGTH, "length %d", 7);
  CHECK(openssl_reason() == "bad length (length 7)");
  CHECK(openssl_reason() == "unknown reason");
}

TEST_CASE("a secret is emptied when cleansed") {
  std::string secret = "hidden";
  cleanse(secret);
  CHECK(secret.empty());
  cleanse(secret);
}
