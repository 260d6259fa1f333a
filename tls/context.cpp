#include "tls/context.hpp"

#include <chrono>
#include <cstring>
#include <string_view>

#include <openssl/core_names.h>
#include <openssl/err.h>
#include <openssl/params.h>
#include <openssl/rand.h>

#include "tls/certificate.hpp"
#include "tls/key_schedule.hpp"
#include "tls/openssl.hpp"
#include "tls/pem_file.hpp"
#include "tls/ticket_keys.hpp"

namespace gatehouse::tls {

namespace {

using base::ErrorKind;

constexpr int security_level = 2;  // 112 bits: RSA from 2048, no SHA-1
constexpr std::chrono::seconds session_lifetime = std::chrono::hours(24);

constexpr const char* cipher_suites =
    "TLS_AES_128_GCM_SHA256:TLS_CHACHA20_POLY1305_SHA256:TLS_AES_256_GCM_SHA384";
constexpr const char* tls12_ciphers =
    "ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-RSA-AES128-GCM-SHA256:"
    "ECDHE-ECDSA-CHACHA20-POLY1305:ECDHE-RSA-CHACHA20-POLY1305:"
    "ECDHE-ECDSA-AES256-GCM-SHA384:ECDHE-RSA-AES256-GCM-SHA384";
constexpr const char* groups_with_pq = "X25519MLKEM768:X25519:P-256:P-384";
constexpr const char* groups_without_pq = "X25519:P-256:P-384";

/// Length-prefixed, as on the wire (RFC 7301 section 3.1).
constexpr std::string_view alpn_http1 = "\x08http/1.1";
constexpr std::string_view alpn_http2 = "\x02h2";
constexpr std::string_view alpn_both = "\x02h2\x08http/1.1";
constexpr std::string_view alpn_challenge =
    "\x0a"
    "acme-tls/1";

const unsigned char* bytes_of(std::string_view text) {
  return reinterpret_cast<const unsigned char*>(text.data());
}

Result<SslContextPtr> make_context(const SSL_METHOD* method, config::TlsVersion minimum,
                                   const char* property_query);
Result<void> trust(SSL_CTX* context, const std::string& ca_file);
Result<void> present(SSL_CTX* context, const config::UpstreamTls& settings);
int select_alpn(SSL*, const unsigned char** out, unsigned char* out_length,
                const unsigned char* offered, unsigned int offered_length, void* protocols);
int on_certificate(SSL* ssl, void*);
int on_ticket(SSL* ssl, unsigned char* name, unsigned char* iv, EVP_CIPHER_CTX* cipher,
              EVP_MAC_CTX* mac, int encrypt);

}  // namespace

Result<std::shared_ptr<const Context>> Context::server(config::TlsVersion minimum) {
  auto made = make_context(TLS_server_method(), minimum,
                           load_key_schedule() ? key_schedule_query : nullptr);
  if (!made) return made.error();
  SSL_CTX* context = made->get();

  SSL_CTX_set_options(context, SSL_OP_CIPHER_SERVER_PREFERENCE | SSL_OP_PRIORITIZE_CHACHA);
  SSL_CTX_set_num_tickets(context, 1);
  SSL_CTX_set_max_early_data(context, 0);
  SSL_CTX_set_recv_max_early_data(context, 0);
  SSL_CTX_set_timeout(context, static_cast<long>(session_lifetime.count()));
  SSL_CTX_set_tlsext_ticket_key_evp_cb(context, on_ticket);
  SSL_CTX_set_cert_cb(context, on_certificate, nullptr);
  SSL_CTX_set_alpn_select_cb(context, select_alpn, const_cast<std::string_view*>(&alpn_both));
  // A ticket is good only under the policy that it was issued under.
  const std::string_view id =
      minimum == config::TlsVersion::tls13 ? "gatehouse-1.3" : "gatehouse-1.2";
  SSL_CTX_set_session_id_context(context, bytes_of(id), static_cast<unsigned>(id.size()));
  return std::shared_ptr<const Context>(new Context(made->release()));
}

Result<std::shared_ptr<const Context>> Context::challenge() {
  auto made = make_context(TLS_server_method(), config::TlsVersion::tls12,
                           load_key_schedule() ? key_schedule_query : nullptr);
  if (!made) return made.error();
  SSL_CTX* context = made->get();
  SSL_CTX_set_num_tickets(context, 0);
  SSL_CTX_set_options(context, SSL_OP_NO_TICKET);
  SSL_CTX_set_max_early_data(context, 0);
  SSL_CTX_set_recv_max_early_data(context, 0);
  SSL_CTX_set_alpn_select_cb(context, select_alpn, const_cast<std::string_view*>(&alpn_challenge));
  return std::shared_ptr<const Context>(new Context(made->release()));
}

Result<std::shared_ptr<const Context>> Context::client(const config::UpstreamTls& settings,
                                                       bool http2) {
  auto made = make_context(TLS_client_method(), config::TlsVersion::tls12, nullptr);
  if (!made) return made.error();
  SSL_CTX* context = made->get();

  SSL_CTX_set_verify(context, settings.verify ? SSL_VERIFY_PEER : SSL_VERIFY_NONE, nullptr);
  if (auto trusted = trust(context, settings.ca); !trusted) return trusted.error();
  if (auto shown = present(context, settings); !shown) return shown.error();
  // Zero is success here.
  const std::string_view alpn = http2 ? alpn_http2 : alpn_http1;
  if (SSL_CTX_set_alpn_protos(context, bytes_of(alpn), static_cast<unsigned>(alpn.size())) != 0) {
    return openssl_error(ErrorKind::tls, "ALPN cannot be set for upstreams");
  }
  return std::shared_ptr<const Context>(new Context(made->release()));
}

Context::Context(ssl_ctx_st* context) : context_(context, SSL_CTX_free) {}

namespace {

bool set_groups(SSL_CTX* context) {
  if (SSL_CTX_set1_groups_list(context, groups_with_pq) == 1) return true;
  ERR_clear_error();  // OpenSSL before 3.5 has no ML-KEM
  return SSL_CTX_set1_groups_list(context, groups_without_pq) == 1;
}

/// What servers and clients have in common.
Result<SslContextPtr> make_context(const SSL_METHOD* method, config::TlsVersion minimum,
                                   const char* property_query) {
  ERR_clear_error();
  SslContextPtr context(SSL_CTX_new_ex(nullptr, property_query, method));
  if (!context) return openssl_error(ErrorKind::tls, "OpenSSL gives no TLS context");
  SSL_CTX_set_security_level(context.get(), security_level);
  const int oldest = minimum == config::TlsVersion::tls13 ? TLS1_3_VERSION : TLS1_2_VERSION;
  const bool well = SSL_CTX_set_min_proto_version(context.get(), oldest) == 1 &&
                    SSL_CTX_set_max_proto_version(context.get(), TLS1_3_VERSION) == 1 &&
                    SSL_CTX_set_cipher_list(context.get(), tls12_ciphers) == 1 &&
                    SSL_CTX_set_ciphersuites(context.get(), cipher_suites) == 1 &&
                    set_groups(context.get());
  if (!well) {
    return openssl_error(ErrorKind::tls,
                         "OpenSSL refuses Gatehouse's TLS policy; check its openssl.cnf");
  }
  SSL_CTX_set_options(context.get(), SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION);
  SSL_CTX_set_mode(context.get(), SSL_MODE_RELEASE_BUFFERS | SSL_MODE_ENABLE_PARTIAL_WRITE |
                                      SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
  SSL_CTX_set_session_cache_mode(context.get(), SSL_SESS_CACHE_OFF);
  SSL_CTX_set_read_ahead(context.get(), 0);
  return context;
}

/// Whose certificates a client context believes.
Result<void> trust(SSL_CTX* context, const std::string& ca_file) {
  if (ca_file.empty()) {
    if (SSL_CTX_set_default_verify_paths(context) == 1) return {};
    return openssl_error(ErrorKind::tls, "the system's trusted roots cannot be loaded");
  }
  auto text = read_pem_file(ca_file);
  if (!text) return text.error();
  if (SSL_CTX_load_verify_file(context, ca_file.c_str()) == 1) return {};
  return openssl_error(ErrorKind::invalid,
                       ca_file + ": no trusted root in it; tls.ca needs certificates in PEM");
}

/// The client certificate that upstreams with mutual TLS ask for.
Result<void> present(SSL_CTX* context, const config::UpstreamTls& settings) {
  if (settings.certificate.empty() && settings.key.empty()) return {};
  auto own = load_certificate_pair(settings.certificate, settings.key);
  if (!own) return own.error();
  const Certificate& certificate = **own;
  if (SSL_CTX_use_cert_and_key(context, certificate.leaf(), certificate.key(), certificate.chain(),
                               1) == 1) {
    return {};
  }
  return openssl_error(ErrorKind::invalid,
                       settings.certificate + ": OpenSSL refuses it as a client certificate");
}

int select_alpn(SSL*, const unsigned char** out, unsigned char* out_length,
                const unsigned char* offered, unsigned int offered_length, void* protocols) {
  const auto& wanted = *static_cast<const std::string_view*>(protocols);
  unsigned char* chosen = nullptr;
  const int found =
      SSL_select_next_proto(&chosen, out_length, bytes_of(wanted),
                            static_cast<unsigned>(wanted.size()), offered, offered_length);
  if (found != OPENSSL_NPN_NEGOTIATED) return SSL_TLSEXT_ERR_ALERT_FATAL;
  *out = chosen;
  return SSL_TLSEXT_ERR_OK;
}

/// Runs in every full handshake. Without ticket keys OpenSSL 3.0 would send a TLS 1.3 client a
/// ticket of no length, which RFC 8446 section 4.6.1 forbids: then promise none.
int on_certificate(SSL* ssl, void*) {
  if (current_ticket_keys() == nullptr) {
    SSL_set_num_tickets(ssl, 0);
    SSL_set_options(ssl, SSL_OP_NO_TICKET);
  }
  return 1;
}

// What OpenSSL's callback may return (SSL_CTX_set_tlsext_ticket_key_evp_cb(3)).
constexpr int ticket_failed = -1;
constexpr int ticket_none = 0;
constexpr int ticket_accepted = 1;
constexpr int ticket_renewed = 2;

/// Fetched once: a look-up by name costs more than the encryption of a ticket.
const EVP_CIPHER* ticket_cipher() {
  static const EVP_CIPHER* const cipher = EVP_CIPHER_fetch(nullptr, "AES-256-CBC", nullptr);
  return cipher;
}

bool start_ticket(const TicketKeys::Key& key, const unsigned char* iv, EVP_CIPHER_CTX* cipher,
                  EVP_MAC_CTX* mac, bool encrypt) {
  static char digest[] = "SHA256";
  const OSSL_PARAM parameters[] = {
      OSSL_PARAM_construct_utf8_string(OSSL_MAC_PARAM_DIGEST, digest, 0),
      OSSL_PARAM_construct_end()};
  return EVP_CipherInit_ex2(cipher, ticket_cipher(), key.aes.data(), iv, encrypt ? 1 : 0,
                            nullptr) == 1 &&
         EVP_MAC_init(mac, key.hmac.data(), key.hmac.size(), parameters) == 1;
}

int seal_ticket(const TicketKeys::Key& key, unsigned char* name, unsigned char* iv,
                EVP_CIPHER_CTX* cipher, EVP_MAC_CTX* mac) {
  const int iv_length = EVP_CIPHER_get_iv_length(ticket_cipher());
  if (RAND_bytes(iv, iv_length) != 1) return ticket_failed;
  std::memcpy(name, key.name.data(), key.name.size());
  return start_ticket(key, iv, cipher, mac, true) ? ticket_accepted : ticket_failed;
}

int on_ticket(SSL* ssl, unsigned char* name, unsigned char* iv, EVP_CIPHER_CTX* cipher,
              EVP_MAC_CTX* mac, int encrypt) {
  const TicketKeys* known = current_ticket_keys();
  if (known == nullptr || known->keys().empty()) return ticket_none;
  const auto& keys = known->keys();
  if (encrypt != 0) return seal_ticket(keys.front(), name, iv, cipher, mac);

  for (const auto& key : keys) {
    if (std::memcmp(name, key.name.data(), key.name.size()) != 0) continue;
    if (!start_ticket(key, iv, cipher, mac, false)) return ticket_failed;
    // A TLS 1.3 client uses a ticket once (RFC 8446 appendix C.4): it needs the next.
    const bool renew = &key != &keys.front() || SSL_version(ssl) == TLS1_3_VERSION;
    return renew ? ticket_renewed : ticket_accepted;
  }
  return ticket_none;
}

}  // namespace

}  // namespace gatehouse::tls
