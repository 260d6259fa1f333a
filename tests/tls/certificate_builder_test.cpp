#include "tls/certificate_builder.hpp"

#include <catch2/catch.hpp>
#include <openssl/err.h>

#include "tls/certificate.hpp"

using namespace gatehouse;
using namespace gatehouse::tls;
using namespace std::chrono_literals;

namespace {

RequestPtr read_request(const std::string& der) {
  const auto* data = reinterpret_cast<const unsigned char*>(der.data());
  const auto* const end = data + der.size();
  RequestPtr request(d2i_X509_REQ(nullptr, &data, static_cast<long>(der.size())));
  REQUIRE(request);
  CHECK(data == end);
  return request;
}

std::vector<std::string> names_in(X509_REQ* request) {
  std::vector<std::string> names;
  STACK_OF(X509_EXTENSION)* extensions = X509_REQ_get_extensions(request);
  REQUIRE(sk_X509_EXTENSION_num(extensions) == 1);
  const GeneralNamesPtr all(static_cast<GENERAL_NAMES*>(
      X509V3_get_d2i(extensions, NID_subject_alt_name, nullptr, nullptr)));
  REQUIRE(all);
  for (int i = 0; i < sk_GENERAL_NAME_num(all.get()); ++i) {
    const GENERAL_NAME* name = sk_GENERAL_NAME_value(all.get(), i);
    const ASN1_STRING* text = name->type == GEN_DNS ? name->d.dNSName : name->d.iPAddress;
    names.emplace_back(reinterpret_cast<const char*>(ASN1_STRING_get0_data(text)),
                       static_cast<size_t>(ASN1_STRING_length(text)));
  }
  sk_X509_EXTENSION_pop_free(extensions, X509_EXTENSION_free);
  return names;
}

}  // namespace

TEST_CASE("a request has an empty subject, the names as SAN, and a signature of its key") {
  for (const auto type : {config::KeyType::p256, config::KeyType::p384, config::KeyType::rsa2048}) {
    const auto key = PrivateKey::generate(type).value();
    const auto der = make_request_der(key, {"example.com", "*.example.com", "192.0.2.7"}).value();
    const auto request = read_request(der);
    CHECK(X509_NAME_entry_count(X509_REQ_get_subject_name(request.get())) == 0);
    CHECK(X509_REQ_get_version(request.get()) == 0);
    CHECK(X509_REQ_verify(request.get(), key.native()) == 1);
    CHECK(names_in(request.get()) == std::vector<std::string>{"example.com", "*.example.com",
                                                              std::string("\xc0\x00\x02\x07", 4)});
  }
}

TEST_CASE("names that cannot be in a certificate are refused") {
  const auto key = PrivateKey::generate(config::KeyType::p256).value();
  for (const std::string& name :
       {std::string(), std::string("a b"), std::string("UPPER.example"), std::string("a..b"),
        std::string("a."), std::string(".a"), std::string("*."), std::string("a.*.b"),
        std::string("b\xc3\xbc.example"), std::string("a\0b", 3), std::string(254, 'a'),
        std::string("DNS:x,IP:1.2.3.4"), std::string("300.1.1.1:80")}) {
    INFO(name);
    const auto request = make_request_der(key, {"good.example", name});
    REQUIRE_FALSE(request.has_value());
    CHECK(request.error().kind == base::ErrorKind::invalid);
    CHECK_FALSE(make_self_signed({name}, 1h).has_value());
  }
  CHECK_FALSE(make_request_der(key, {}).has_value());
  CHECK_FALSE(make_self_signed({}, 1h).has_value());
  CHECK_FALSE(make_request_der(key, std::vector<std::string>(101, "a.example")).has_value());
  CHECK(make_request_der(key, std::vector<std::string>(100, "a.example")).has_value());
}

TEST_CASE("a self-signed certificate says that it is a server's and no authority") {
  const auto made = make_self_signed({"example.com", "*.example.com"}, 24h * 365).value();
  CHECK(made->problem_for({"example.com", "www.example.com"}, base::WallClock::now(), 0s).empty());
  CHECK(X509_check_ca(made->leaf()) == 0);
  CHECK(X509_check_purpose(made->leaf(), X509_PURPOSE_SSL_SERVER, 0) == 1);
  CHECK(X509_get_version(made->leaf()) == X509_VERSION_3);
  CHECK(X509_verify(made->leaf(), made->key()) == 1);
  CHECK(EVP_PKEY_get_bits(made->key()) == 256);
}

TEST_CASE("serial numbers are positive, long and never the same") {
  const auto one = make_self_signed({"example.com"}, 1h).value();
  const auto other = make_self_signed({"example.com"}, 1h).value();
  CHECK(one->serial() != other->serial());
  CHECK(one->serial().size() >= 20);
  CHECK(one->serial().size() <= 32);
}

TEST_CASE("a first name too long for a subject is in the SAN alone, which is critical then") {
  const std::string name = std::string(60, 'a') + ".example.com";
  const auto made = make_self_signed({name}, 1h).value();
  CHECK(X509_NAME_entry_count(X509_get_subject_name(made->leaf())) == 0);
  CHECK(made->covers(name));
  const int at = X509_get_ext_by_NID(made->leaf(), NID_subject_alt_name, -1);
  CHECK(X509_EXTENSION_get_critical(X509_get_ext(made->leaf(), at)) == 1);
}
