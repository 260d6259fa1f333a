#include "tls/internal_authority.hpp"

#include <catch2/catch.hpp>
#include <openssl/err.h>

#include "tls/openssl.hpp"

using namespace gatehouse;
using namespace gatehouse::tls;
using namespace std::chrono_literals;
using base::WallClock;

namespace {

using StorePtr = std::unique_ptr<X509_STORE, Release<X509_STORE_free>>;
using StoreContextPtr = std::unique_ptr<X509_STORE_CTX, Release<X509_STORE_CTX_free>>;

/// What a client that trusts `root` says of `certificate`.
int verify(const Certificate& root, const Certificate& certificate, const char* host) {
  const StorePtr store(X509_STORE_new());
  X509_STORE_add_cert(store.get(), root.leaf());
  const StoreContextPtr context(X509_STORE_CTX_new());
  X509_STORE_CTX_init(context.get(), store.get(), certificate.leaf(), certificate.chain());
  X509_STORE_CTX_set_purpose(context.get(), X509_PURPOSE_SSL_SERVER);
  X509_VERIFY_PARAM* rules = X509_STORE_CTX_get0_param(context.get());
  X509_VERIFY_PARAM_set_flags(rules, X509_V_FLAG_X509_STRICT);
  X509_VERIFY_PARAM_set1_host(rules, host, 0);
  X509_verify_cert(context.get());
  ERR_clear_error();
  return X509_STORE_CTX_get_error(context.get());
}

}  // namespace

TEST_CASE("a client that trusts the root trusts what it issued, by the strict rules") {
  const auto root = InternalAuthority::create("Gatehouse Local Authority").value();
  const auto leaf =
      InternalAuthority::issue(*root, {"localhost", "*.home.arpa", "127.0.0.1", "::1"}, 24h)
          .value();
  CHECK(verify(*root, *leaf, "localhost") == X509_V_OK);
  CHECK(verify(*root, *leaf, "nas.home.arpa") == X509_V_OK);
  CHECK(verify(*root, *leaf, "example.com") == X509_V_ERR_HOSTNAME_MISMATCH);
  CHECK(leaf->names() == std::vector<std::string>{"localhost", "*.home.arpa", "127.0.0.1", "::1"});
  CHECK(leaf->issuer() == "Gatehouse Local Authority");
  CHECK_FALSE(leaf->self_signed());
  CHECK(leaf->problem_for({"localhost"}, WallClock::now(), 0s).empty());
}

TEST_CASE("a root lasts ten years, signs certificates and serves none") {
  const auto root = InternalAuthority::create("Authority").value();
  CHECK(root->self_signed());
  CHECK(root->not_after() > WallClock::now() + std::chrono::hours(24 * 3650));
  CHECK(X509_check_ca(root->leaf()) == 1);
  CHECK_FALSE(root->problem_for({}, WallClock::now(), 0s).empty());
}

TEST_CASE("a root survives storage and goes on issuing") {
  const auto root = InternalAuthority::create("Authority").value();
  const auto stored = Certificate::from_pem(root->chain_pem(), root->key_pem(), "storage").value();
  const auto leaf = InternalAuthority::issue(*stored, {"a.example"}, 1h).value();
  CHECK(verify(*root, *leaf, "a.example") == X509_V_OK);
}

TEST_CASE("another root of the same name does not vouch") {
  const auto root = InternalAuthority::create("Authority").value();
  const auto namesake = InternalAuthority::create("Authority").value();
  const auto leaf = InternalAuthority::issue(*root, {"a.example"}, 1h).value();
  CHECK(verify(*namesake, *leaf, "a.example") != X509_V_OK);
}

TEST_CASE("a certificate has the lifetime asked for and never outlives its root") {
  const auto root = InternalAuthority::create("Authority").value();
  const auto brief = InternalAuthority::issue(*root, {"a.example"}, 1h).value();
  CHECK(brief->not_after() <= WallClock::now() + 1h);
  CHECK(brief->not_after() > WallClock::now() + 59min);
  const auto longest = InternalAuthority::issue(*root, {"a.example"}, 24h * 10'000).value();
  CHECK(longest->not_after() == root->not_after());
}

TEST_CASE("only a root may issue, and only for names") {
  const auto root = InternalAuthority::create("Authority").value();
  const auto leaf = InternalAuthority::issue(*root, {"a.example"}, 1h).value();
  const auto by_leaf = InternalAuthority::issue(*leaf, {"b.example"}, 1h);
  REQUIRE_FALSE(by_leaf.has_value());
  CHECK(by_leaf.error().context.find("no authority") != std::string::npos);
  CHECK_FALSE(InternalAuthority::issue(*root, {}, 1h).has_value());
  CHECK_FALSE(InternalAuthority::issue(*root, {"not a name"}, 1h).has_value());
}
