#include "tls/context.hpp"

#include <cstdlib>
#include <filesystem>
#include <fstream>

#include <catch2/catch.hpp>
#include <openssl/err.h>

#include "tests/tls/memory_handshake.hpp"
#include "tls/internal_authority.hpp"
#include "tls/ticket_keys.hpp"

using namespace gatehouse;
using namespace gatehouse::tls;
using namespace std::chrono_literals;
using config::TlsVersion;

namespace {

const CertificatePtr& root() {
  static const CertificatePtr made = InternalAuthority::create("Test Root").value();
  return made;
}

const CertificatePtr& leaf() {
  static const CertificatePtr made = InternalAuthority::issue(*root(), {"a.example"}, 24h).value();
  return made;
}

ContextPtr server_context(TlsVersion minimum = TlsVersion::tls12) {
  return Context::server(minimum).value();
}

/// Sets this thread's ticket keys for the length of a test.
struct UseTicketKeys {
  explicit UseTicketKeys(TicketKeysPtr keys) { use_ticket_keys(std::move(keys)); }
  ~UseTicketKeys() { use_ticket_keys(nullptr); }
};

struct Outcome {
  bool completed = false;
  bool resumed = false;
  std::string version;
  std::string cipher;
  std::string protocol;
  int tickets = 0;
  SslSessionPtr session;
  unsigned long server_error = 0;
};

int count_ticket(SSL* ssl, SSL_SESSION*) {
  ++*static_cast<int*>(SSL_get_app_data(ssl));
  return 0;
}

std::string ticket_of(SSL_SESSION* session) {
  const unsigned char* ticket = nullptr;
  size_t length = 0;
  if (session) SSL_SESSION_get0_ticket(session, &ticket, &length);
  return std::string(reinterpret_cast<const char*>(ticket), length);
}

struct Offer {
  std::string alpn;
  SSL_SESSION* session = nullptr;
};

Outcome connect(const Context& server_side, SSL_CTX* client_side, const Offer& offer = {}) {
  ERR_clear_error();
  Outcome outcome;
  test::End client(client_side, false);
  test::End server(server_side.native(), true);
  server.attach(*leaf());
  SSL_CTX_set_session_cache_mode(client_side, SSL_SESS_CACHE_CLIENT | SSL_SESS_CACHE_NO_INTERNAL);
  SSL_CTX_sess_set_new_cb(client_side, count_ticket);
  SSL_set_app_data(client.ssl.get(), &outcome.tickets);
  SSL_set_tlsext_host_name(client.ssl.get(), "a.example");
  if (offer.session) SSL_set_session(client.ssl.get(), offer.session);
  if (!offer.alpn.empty()) {
    SSL_set_alpn_protos(client.ssl.get(), reinterpret_cast<const unsigned char*>(offer.alpn.data()),
                        static_cast<unsigned>(offer.alpn.size()));
  }
  outcome.completed = test::handshake(client, server);
  outcome.server_error = ERR_peek_error();
  ERR_clear_error();
  if (!outcome.completed) return outcome;
  outcome.resumed = SSL_session_reused(client.ssl.get()) == 1;
  outcome.version = SSL_get_version(client.ssl.get());
  outcome.cipher = SSL_get_cipher_name(client.ssl.get());
  const unsigned char* protocol = nullptr;
  unsigned length = 0;
  SSL_get0_alpn_selected(client.ssl.get(), &protocol, &length);
  outcome.protocol.assign(reinterpret_cast<const char*>(protocol), length);
  outcome.session.reset(SSL_get1_session(client.ssl.get()));
  // OpenSSL tells nobody of a ticket that renews a TLS 1.2 session.
  const std::string ticket = ticket_of(outcome.session.get());
  if (outcome.version == "TLSv1.2") {
    outcome.tickets = !ticket.empty() && ticket != ticket_of(offer.session) ? 1 : 0;
  }
  SSL_shutdown(client.ssl.get());
  return outcome;
}

class Folder {
 public:
  Folder() {
    std::string pattern = (std::filesystem::temp_directory_path() / "context-XXXXXX").string();
    path_ = ::mkdtemp(pattern.data());
  }
  ~Folder() { std::filesystem::remove_all(path_); }
  std::string write(const std::string& name, const std::string& text) const {
    const std::string path = path_ + "/" + name;
    std::ofstream(path) << text;
    return path;
  }
  std::string path(const std::string& name) const { return path_ + "/" + name; }

 private:
  std::string path_;
};

std::string client_error(const config::UpstreamTls& settings) {
  const auto made = Context::client(settings);
  REQUIRE_FALSE(made.has_value());
  CHECK(made.error().context.find('\n') == std::string::npos);
  return made.error().context;
}

}  // namespace

TEST_CASE("a TLS 1.3 client gets AES-128-GCM first") {
  const auto client = test::plain_client();
  const auto outcome = connect(*server_context(), client.get());
  REQUIRE(outcome.completed);
  CHECK(outcome.version == "TLSv1.3");
  CHECK(outcome.cipher == "TLS_AES_128_GCM_SHA256");
}

TEST_CASE("a client that prefers ChaCha20 gets it, one that merely has it does not") {
  const auto phone = test::plain_client();
  SSL_CTX_set_ciphersuites(phone.get(), "TLS_CHACHA20_POLY1305_SHA256:TLS_AES_128_GCM_SHA256");
  CHECK(connect(*server_context(), phone.get()).cipher == "TLS_CHACHA20_POLY1305_SHA256");
  const auto other = test::plain_client();
  SSL_CTX_set_ciphersuites(other.get(),
                           "TLS_AES_256_GCM_SHA384:TLS_CHACHA20_POLY1305_SHA256:"
                           "TLS_AES_128_GCM_SHA256");
  CHECK(connect(*server_context(), other.get()).cipher == "TLS_AES_128_GCM_SHA256");
}

TEST_CASE("a TLS 1.2 client gets forward secrecy and an AEAD, or nothing") {
  const auto client = test::plain_client(TLS1_2_VERSION);
  const auto outcome = connect(*server_context(), client.get());
  REQUIRE(outcome.completed);
  CHECK(outcome.version == "TLSv1.2");
  CHECK(outcome.cipher == "ECDHE-ECDSA-AES128-GCM-SHA256");
  for (const auto* refused : {"ECDHE-ECDSA-AES128-SHA256", "ECDHE-ECDSA-AES256-SHA",
                              "AES128-GCM-SHA256", "DHE-RSA-AES128-GCM-SHA256"}) {
    INFO(refused);
    const auto old = test::plain_client(TLS1_2_VERSION);
    REQUIRE(SSL_CTX_set_cipher_list(old.get(), refused) == 1);
    CHECK_FALSE(connect(*server_context(), old.get()).completed);
  }
}

TEST_CASE("versions below the policy's minimum are refused") {
  const auto tls12 = test::plain_client(TLS1_2_VERSION);
  CHECK_FALSE(connect(*server_context(TlsVersion::tls13), tls12.get()).completed);
  const auto tls11 = test::plain_client(TLS1_1_VERSION);
  SSL_CTX_set_security_level(tls11.get(), 0);
  SSL_CTX_set_min_proto_version(tls11.get(), TLS1_VERSION);
  CHECK_FALSE(connect(*server_context(TlsVersion::tls12), tls11.get()).completed);
}

TEST_CASE("ALPN chooses h2, then http/1.1, and refuses a client that speaks something else only") {
  const auto client = test::plain_client();
  const auto server = server_context();
  CHECK(connect(*server, client.get(), {"\x08http/1.1\x02h2"}).protocol == "h2");
  CHECK(connect(*server, client.get(), {"\x08http/1.1"}).protocol == "http/1.1");
  CHECK(connect(*server, client.get(), {}).protocol.empty());
  const auto refused = connect(*server, client.get(), {"\x06spdy/1"});
  CHECK_FALSE(refused.completed);
  const int reason = ERR_GET_REASON(refused.server_error);
  CHECK((reason == SSL_R_NO_APPLICATION_PROTOCOL ||
         reason == SSL_R_TLSV1_ALERT_NO_APPLICATION_PROTOCOL));
}

TEST_CASE("challenges are answered under acme-tls/1 alone, with TLS 1.2 and 1.3 and no ticket") {
  const std::string acme =
      "\x0a"
      "acme-tls/1";
  const auto made = Context::challenge();
  REQUIRE(made.has_value());
  const int version = GENERATE(TLS1_2_VERSION, TLS1_3_VERSION);
  const auto client = test::plain_client(version);
  const auto proven = connect(**made, client.get(), {acme});
  CHECK(proven.completed);
  CHECK(proven.protocol == "acme-tls/1");
  CHECK(proven.version == (version == TLS1_2_VERSION ? "TLSv1.2" : "TLSv1.3"));
  CHECK(proven.tickets == 0);
  CHECK(connect(**made, client.get(), {"\x02h2" + acme}).protocol == "acme-tls/1");
  CHECK_FALSE(connect(**made, client.get(), {"\x02h2\x08http/1.1"}).completed);
  // And nowhere else.
  CHECK_FALSE(connect(*server_context(), client.get(), {acme}).completed);
  const auto old = test::plain_client(TLS1_1_VERSION);
  SSL_CTX_set_security_level(old.get(), 0);
  SSL_CTX_set_min_proto_version(old.get(), TLS1_VERSION);
  CHECK_FALSE(connect(**made, old.get(), {acme}).completed);
}

TEST_CASE("the groups that every OpenSSL has are all offered, weaker ones are not") {
  for (const auto* group : {"X25519", "P-256", "P-384"}) {
    const auto client = test::plain_client();
    REQUIRE(SSL_CTX_set1_groups_list(client.get(), group) == 1);
    CHECK(connect(*server_context(), client.get()).completed);
  }
  const auto client = test::plain_client();
  REQUIRE(SSL_CTX_set1_groups_list(client.get(), "P-521") == 1);
  CHECK_FALSE(connect(*server_context(), client.get()).completed);
}

TEST_CASE("a context's settings are those of the policy") {
  const auto server = server_context();
  SSL_CTX* context = server->native();
  const uint64_t options = SSL_CTX_get_options(context);
  CHECK((options & SSL_OP_NO_RENEGOTIATION) != 0);
  CHECK((options & SSL_OP_NO_COMPRESSION) != 0);
  CHECK((options & SSL_OP_CIPHER_SERVER_PREFERENCE) != 0);
  CHECK(SSL_CTX_get_num_tickets(context) == 1);
  CHECK(SSL_CTX_get_max_early_data(context) == 0);
  CHECK(SSL_CTX_get_recv_max_early_data(context) == 0);
  CHECK(SSL_CTX_get_session_cache_mode(context) == SSL_SESS_CACHE_OFF);
  CHECK(SSL_CTX_get_security_level(context) == 2);
  CHECK(SSL_CTX_get_read_ahead(context) == 0);
  const long mode = SSL_CTX_get_mode(context);
  CHECK((mode & SSL_MODE_RELEASE_BUFFERS) != 0);
  CHECK((mode & SSL_MODE_ENABLE_PARTIAL_WRITE) != 0);
  CHECK((mode & SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER) != 0);
}

TEST_CASE("a client that renegotiates is refused") {
  const auto context = test::plain_client(TLS1_2_VERSION);
  const auto policy = server_context();
  test::End client(context.get(), false);
  test::End server(policy->native(), true);
  server.attach(*leaf());
  REQUIRE(test::handshake(client, server));
  SSL_renegotiate(client.ssl.get());
  CHECK_FALSE(test::handshake(client, server));
  ERR_clear_error();
}

TEST_CASE("one ticket is given in each version, and resumes the session") {
  const UseTicketKeys keys(TicketKeys::create());
  const auto server = server_context();
  for (const int version : {TLS1_2_VERSION, TLS1_3_VERSION}) {
    const auto client = test::plain_client(version);
    const auto first = connect(*server, client.get());
    REQUIRE(first.completed);
    CHECK_FALSE(first.resumed);
    CHECK(first.tickets == 1);
    const auto second = connect(*server, client.get(), {"", first.session.get()});
    REQUIRE(second.completed);
    CHECK(second.resumed);
  }
}

TEST_CASE(
    "a TLS 1.3 client gets a new ticket with each resumption, a TLS 1.2 client keeps its own") {
  const UseTicketKeys keys(TicketKeys::create());
  const auto server = server_context();
  const auto modern = test::plain_client();
  const auto first = connect(*server, modern.get());
  CHECK(connect(*server, modern.get(), {"", first.session.get()}).tickets == 1);
  const auto old = test::plain_client(TLS1_2_VERSION);
  const auto first_old = connect(*server, old.get());
  CHECK(connect(*server, old.get(), {"", first_old.session.get()}).tickets == 0);
}

TEST_CASE("without ticket keys no ticket is given and handshakes complete") {
  use_ticket_keys(nullptr);
  const auto server = server_context();
  for (const int version : {TLS1_2_VERSION, TLS1_3_VERSION}) {
    const auto client = test::plain_client(version);
    const auto first = connect(*server, client.get());
    REQUIRE(first.completed);
    CHECK(first.tickets == 0);
    const auto second = connect(*server, client.get(), {"", first.session.get()});
    CHECK(second.completed);
    // A TLS 1.2 session could be kept by its id, were there a cache.
    CHECK_FALSE(second.resumed);
  }
}

TEST_CASE("a ticket outlives two rotations and no third, and is renewed meanwhile") {
  const auto server = server_context();
  for (const int version : {TLS1_2_VERSION, TLS1_3_VERSION}) {
    auto keys = TicketKeys::create();
    const UseTicketKeys used(keys);
    const auto client = test::plain_client(version);
    const auto first = connect(*server, client.get());
    for (int rotation = 1; rotation <= 3; ++rotation) {
      keys = keys->rotated();
      use_ticket_keys(keys);
      // Its own copy: OpenSSL marks a TLS 1.3 session that was offered once.
      const SslSessionPtr copy(SSL_SESSION_dup(first.session.get()));
      const auto again = connect(*server, client.get(), {"", copy.get()});
      INFO("rotation " << rotation);
      REQUIRE(again.completed);
      CHECK(again.resumed == (rotation < 3));
      CHECK(again.tickets == 1);
    }
  }
}

TEST_CASE("a ticket sealed by other keys means a full handshake") {
  const auto server = server_context();
  const auto client = test::plain_client();
  SslSessionPtr session;
  {
    const UseTicketKeys keys(TicketKeys::create());
    session = connect(*server, client.get()).session;
  }
  const UseTicketKeys keys(TicketKeys::create());
  const auto again = connect(*server, client.get(), {"", session.get()});
  CHECK(again.completed);
  CHECK_FALSE(again.resumed);
}

TEST_CASE("a ticket of one policy is not accepted by another") {
  const UseTicketKeys keys(TicketKeys::create());
  const auto client = test::plain_client();
  const auto lenient = server_context(TlsVersion::tls12);
  const auto strict = server_context(TlsVersion::tls13);
  const auto first = connect(*lenient, client.get());
  const auto crossed = connect(*strict, client.get(), {"", first.session.get()});
  CHECK(crossed.completed);
  CHECK_FALSE(crossed.resumed);
}

TEST_CASE("a context made again accepts the tickets of the one before") {
  const UseTicketKeys keys(TicketKeys::create());
  const auto client = test::plain_client();
  const auto first = connect(*server_context(), client.get());
  CHECK(connect(*server_context(), client.get(), {"", first.session.get()}).resumed);
}

TEST_CASE("an upstream's certificate is verified against its own root") {
  const Folder folder;
  config::UpstreamTls settings;
  settings.ca = folder.write("root.pem", root()->chain_pem());
  const auto trusting = Context::client(settings).value();
  CHECK(connect(*server_context(), trusting->native()).completed);

  const auto stranger = InternalAuthority::create("Somebody Else").value();
  settings.ca = folder.write("stranger.pem", stranger->chain_pem());
  const auto doubting = Context::client(settings).value();
  CHECK_FALSE(connect(*server_context(), doubting->native()).completed);

  const auto system = Context::client({}).value();
  CHECK_FALSE(connect(*server_context(), system->native()).completed);

  settings.verify = false;
  const auto careless = Context::client(settings).value();
  CHECK(connect(*server_context(), careless->native()).completed);
}

TEST_CASE("an upstream is offered http/1.1 only") {
  config::UpstreamTls settings;
  settings.verify = false;
  const auto client = Context::client(settings).value();
  CHECK(connect(*server_context(), client->native()).protocol == "http/1.1");
}

TEST_CASE("a client certificate is shown to the upstream that asks for one") {
  const Folder folder;
  config::UpstreamTls settings;
  settings.verify = false;
  settings.certificate = folder.write("client.pem", leaf()->chain_pem());
  settings.key = folder.write("client.key", leaf()->key_pem());
  const auto client_side = Context::client(settings).value();
  const auto server_side = server_context();
  test::End client(client_side->native(), false);
  test::End server(server_side->native(), true);
  server.attach(*leaf());
  const auto accept_any = [](int, X509_STORE_CTX*) { return 1; };
  SSL_set_verify(server.ssl.get(), SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, accept_any);
  REQUIRE(test::handshake(client, server));
  CHECK(X509_cmp(SSL_get0_peer_certificate(server.ssl.get()), leaf()->leaf()) == 0);
}

TEST_CASE("an upstream's missing or wrong file is named in the error") {
  const Folder folder;
  const std::string gone = folder.path("gone.pem");
  const std::string words = folder.write("words.pem", "no certificate");
  config::UpstreamTls settings;
  settings.ca = gone;
  CHECK(client_error(settings).starts_with(gone + ": no such file"));
  settings.ca = words;
  CHECK(client_error(settings).starts_with(words + ": no trusted root"));
  settings.ca = folder.path("");
  CHECK(client_error(settings).find("not a regular file") != std::string::npos);
  settings.ca.clear();
  settings.certificate = folder.write("client.pem", leaf()->chain_pem());
  CHECK(client_error(settings).find("name both") != std::string::npos);
  settings.key = gone;
  CHECK(client_error(settings).starts_with(gone + ": no such file"));
  settings.key = folder.write("other.key", root()->key_pem());
  CHECK(client_error(settings).find("does not belong") != std::string::npos);
}
