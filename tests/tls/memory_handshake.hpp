// Two OpenSSL ends joined by memory, without sockets, for the tests of this folder.
#pragma once

#include <string>

#include "tls/certificate.hpp"
#include "tls/openssl.hpp"

namespace gatehouse::tls::test {

struct End {
  SslPtr ssl;
  BIO* in = nullptr;   // owned by ssl
  BIO* out = nullptr;  // owned by ssl

  explicit End(SSL_CTX* context, bool server) : ssl(SSL_new(context)) {
    in = BIO_new(BIO_s_mem());
    out = BIO_new(BIO_s_mem());
    SSL_set_bio(ssl.get(), in, out);
    if (server) {
      SSL_set_accept_state(ssl.get());
    } else {
      SSL_set_connect_state(ssl.get());
    }
  }

  void attach(const Certificate& certificate) {
    SSL_use_cert_and_key(ssl.get(), certificate.leaf(), certificate.key(), certificate.chain(), 1);
  }
};

/// What waits to be sent, taken from the end's buffer.
inline std::string take_output(End& end) {
  std::string text = bio_text(end.out);
  BIO_reset(end.out);
  return text;
}

inline bool carry(End& from, End& to) {
  const std::string text = take_output(from);
  if (!text.empty()) BIO_write(to.in, text.data(), static_cast<int>(text.size()));
  return !text.empty();
}

/// Runs both ends until neither says more; true if both finished.
inline bool handshake(End& client, End& server) {
  bool said = true;
  int client_done = 0;
  int server_done = 0;
  while (said) {
    client_done = SSL_do_handshake(client.ssl.get());
    said = carry(client, server);
    server_done = SSL_do_handshake(server.ssl.get());
    said = carry(server, client) || said;
  }
  // Reads the tickets that follow a TLS 1.3 handshake.
  char byte = 0;
  SSL_read(client.ssl.get(), &byte, 1);
  return client_done == 1 && server_done == 1;
}

/// A client that trusts anybody, with OpenSSL's own defaults otherwise.
inline SslContextPtr plain_client(int version_max = TLS1_3_VERSION) {
  SslContextPtr context(SSL_CTX_new(TLS_client_method()));
  SSL_CTX_set_max_proto_version(context.get(), version_max);
  SSL_CTX_set_verify(context.get(), SSL_VERIFY_NONE, nullptr);
  return context;
}

}  // namespace gatehouse::tls::test
