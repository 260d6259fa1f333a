#include "tls/key_schedule.hpp"

#include <string>

#include <catch2/catch.hpp>

#include "base/encoding.hpp"
#include "tests/tls/memory_handshake.hpp"
#include "tls/certificate_builder.hpp"
#include "tls/context.hpp"

namespace gatehouse::tls {

namespace {

using test::End;

std::vector<uint8_t> from_hex(std::string_view text) {
  std::vector<uint8_t> bytes;
  for (size_t i = 0; i + 1 < text.size(); i += 2) {
    bytes.push_back(static_cast<uint8_t>(std::stoi(std::string(text.substr(i, 2)), nullptr, 16)));
  }
  return bytes;
}

std::string to_hex(std::span<const uint8_t> bytes) {
  std::string text;
  for (const uint8_t byte : bytes) text += fmt::format("{:02x}", byte);
  return text;
}

std::string expanded(const char* secret, const char* label, size_t size) {
  std::vector<uint8_t> out(size);
  REQUIRE(expand_label(Secret(from_hex(secret)), label, out));
  return to_hex(out);
}

/// What OpenSSL itself says the secrets are, by label (the format of NSS key logs).
std::map<std::string, std::string> logged;

void log_key(const SSL*, const char* line) {
  const std::string text(line);
  const size_t first = text.find(' '), second = text.rfind(' ');
  logged[text.substr(0, first)] = text.substr(second + 1);
}

}  // namespace

TEST_CASE("keys and the next secret are those of RFC 8448") {
  // Section 3, "simple 1-RTT handshake": the server's application traffic secret.
  constexpr auto secret = "a11af9f05531f856ad47116b45a950328204b4f44bfb6b3a4b4f1f3fcb631643";
  CHECK(expanded(secret, "key", 16) == "9f02283b6c9c07efc26bb9f2ac92e356");
  CHECK(expanded(secret, "iv", 12) == "cf782b88dd83549aadf1e984");
}

TEST_CASE("a secret of no hash's size, or a length no label can say, derives nothing") {
  std::array<uint8_t, 16> out;
  CHECK_FALSE(expand_label(Secret(), "key", out));
  CHECK_FALSE(expand_label(Secret(std::vector<uint8_t>(20)), "key", out));
  std::vector<uint8_t> endless(256 * 32);
  CHECK_FALSE(expand_label(Secret(std::vector<uint8_t>(32)), "key", endless));
}

TEST_CASE("a handshake leaves the secrets that OpenSSL uses, whatever the suite") {
  const auto* const suite =
      GENERATE("TLS_AES_128_GCM_SHA256", "TLS_AES_256_GCM_SHA384", "TLS_CHACHA20_POLY1305_SHA256");
  const auto server_context = Context::server(config::TlsVersion::tls12).value();
  const auto certificate = make_self_signed({"example.com"}, std::chrono::hours(1)).value();
  const auto client_context = test::plain_client();
  REQUIRE(SSL_CTX_set_ciphersuites(client_context.get(), suite) == 1);
  // The client derives with OpenSSL's own function: an oracle for ours.
  SSL_CTX_set_keylog_callback(client_context.get(), log_key);
  logged.clear();
  End client(client_context.get(), false), server(server_context->native(), true);
  server.attach(*certificate);
  TrafficSecrets secrets;
  {
    const CaptureSecrets capture(&secrets);
    SSL_do_handshake(client.ssl.get());
    carry(client, server);
    SSL_do_handshake(server.ssl.get());
    CHECK_FALSE(secrets.server.empty());
    carry(server, client);
  }
  REQUIRE(SSL_do_handshake(client.ssl.get()) == 1);
  carry(client, server);
  TrafficSecrets later;
  {
    const CaptureSecrets capture(&later);
    REQUIRE(SSL_do_handshake(server.ssl.get()) == 1);
  }
  CHECK(to_hex(secrets.server.bytes()) == logged["SERVER_TRAFFIC_SECRET_0"]);
  CHECK(to_hex(later.client.bytes()) == logged["CLIENT_TRAFFIC_SECRET_0"]);
  // Nobody captures: nothing is kept.
  CHECK(secrets.client.empty());
}

TEST_CASE("exporters longer than one hash come out as the peer's") {
  const auto server_context = Context::server(config::TlsVersion::tls13).value();
  const auto certificate = make_self_signed({"example.com"}, std::chrono::hours(1)).value();
  const auto client_context = test::plain_client();
  End client(client_context.get(), false), server(server_context->native(), true);
  server.attach(*certificate);
  REQUIRE(test::handshake(client, server));
  std::array<uint8_t, 200> ours, theirs;
  const auto exported = [](SSL* ssl, std::array<uint8_t, 200>& out) {
    return SSL_export_keying_material(ssl, out.data(), out.size(), "label", 5, nullptr, 0, 0);
  };
  REQUIRE(exported(server.ssl.get(), ours) == 1);
  REQUIRE(exported(client.ssl.get(), theirs) == 1);
  CHECK(ours == theirs);
}

}  // namespace gatehouse::tls
