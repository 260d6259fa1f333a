#include "tls/client_hello.hpp"

#include <algorithm>
#include <initializer_list>
#include <vector>

#include <catch2/catch.hpp>
#include <openssl/err.h>

#include "tests/tls/memory_handshake.hpp"
#include "tls/alert.hpp"

using namespace gatehouse::tls;

namespace {

using Bytes = std::vector<uint8_t>;

Bytes bytes_of(std::string_view text) {
  return Bytes(text.begin(), text.end());
}

struct ClientSettings {
  std::string name;
  std::string alpn;  // on the wire: length-prefixed
  std::string groups;
  int version_max = TLS1_3_VERSION;
};

/// The first flight of a real OpenSSL client.
Bytes openssl_hello(const ClientSettings& settings) {
  const auto context = test::plain_client(settings.version_max);
  if (!settings.groups.empty() &&
      SSL_CTX_set1_groups_list(context.get(), settings.groups.c_str()) != 1) {
    ERR_clear_error();
    return {};
  }
  test::End client(context.get(), false);
  if (!settings.name.empty()) SSL_set_tlsext_host_name(client.ssl.get(), settings.name.c_str());
  if (!settings.alpn.empty()) {
    SSL_set_alpn_protos(client.ssl.get(),
                        reinterpret_cast<const unsigned char*>(settings.alpn.data()),
                        static_cast<unsigned>(settings.alpn.size()));
  }
  SSL_do_handshake(client.ssl.get());
  return bytes_of(test::take_output(client));
}

/// Builds hellos that no library would send.
class Builder {
 public:
  Builder& u8(unsigned value) {
    bytes_.push_back(static_cast<uint8_t>(value));
    return *this;
  }
  Builder& u16(size_t value) { return u8(value >> 8 & 0xff).u8(value & 0xff); }
  Builder& raw(const Bytes& other) {
    bytes_.insert(bytes_.end(), other.begin(), other.end());
    return *this;
  }
  Builder& raw(std::string_view text) { return raw(bytes_of(text)); }
  Builder& vector8(const Bytes& other) {
    return u8(static_cast<unsigned>(other.size())).raw(other);
  }
  Builder& vector16(const Bytes& other) { return u16(other.size()).raw(other); }
  const Bytes& bytes() const { return bytes_; }

 private:
  Bytes bytes_;
};

Bytes extension(unsigned type, const Bytes& data) {
  return Builder().u16(type).vector16(data).bytes();
}

Bytes server_name(std::string_view name, unsigned type = 0) {
  const Bytes entry = Builder().u8(type).vector16(bytes_of(name)).bytes();
  return extension(0, Builder().vector16(entry).bytes());
}

Bytes alpn(std::initializer_list<std::string_view> protocols) {
  Builder list;
  for (const auto protocol : protocols) list.vector8(bytes_of(protocol));
  return extension(16, Builder().vector16(list.bytes()).bytes());
}

Bytes message_of(const Bytes& body, unsigned type = 1) {
  return Builder().u8(type).u8(body.size() >> 16).u16(body.size() & 0xffff).raw(body).bytes();
}

Bytes body_until_extensions() {
  return Builder().u16(0x0303).raw(Bytes(32, 7)).u8(0).u16(2).u16(0x1301).u8(1).u8(0).bytes();
}

Bytes message_with(const Bytes& extensions) {
  return message_of(Builder().raw(body_until_extensions()).vector16(extensions).bytes());
}

Bytes record(const Bytes& fragment, unsigned type = 22, unsigned version = 0x0301) {
  return Builder().u8(type).u16(version).vector16(fragment).bytes();
}

Bytes records(const Bytes& message, size_t fragment_size) {
  Bytes all;
  for (size_t at = 0; at < message.size(); at += fragment_size) {
    const size_t end = std::min(at + fragment_size, message.size());
    const Bytes one = record(
        Bytes(message.begin() + static_cast<long>(at), message.begin() + static_cast<long>(end)));
    all.insert(all.end(), one.begin(), one.end());
  }
  return all;
}

Bytes hello_with(const Bytes& extensions) {
  return record(message_with(extensions));
}

/// In memory of exactly that size, so that a sanitizer sees every read past the end.
HelloStatus parse(std::span<const uint8_t> bytes, ClientHello& out) {
  const Bytes exact(bytes.begin(), bytes.end());
  return parse_client_hello(exact, out);
}

HelloStatus status_of(const Bytes& bytes) {
  ClientHello out;
  return parse(bytes, out);
}

std::string name_in(const Bytes& bytes) {
  ClientHello out;
  REQUIRE(parse(bytes, out) == HelloStatus::complete);
  return out.server_name;
}

const ClientSettings browser{"www.example.com", "\x02h2\x08http/1.1", ""};

}  // namespace

TEST_CASE("the hello of a TLS 1.3 client gives its name, protocols and version") {
  ClientHello out;
  REQUIRE(parse(openssl_hello(browser), out) == HelloStatus::complete);
  CHECK(out.server_name == "www.example.com");
  CHECK(out.has_alpn);
  CHECK(out.offers_http1);
  CHECK(out.offers_h2);
  CHECK_FALSE(out.offers_acme);
  CHECK(out.tls13);
}

TEST_CASE("the hello of a TLS 1.2 client does not offer TLS 1.3") {
  ClientSettings settings = browser;
  settings.version_max = TLS1_2_VERSION;
  ClientHello out;
  REQUIRE(parse(openssl_hello(settings), out) == HelloStatus::complete);
  CHECK(out.server_name == "www.example.com");
  CHECK_FALSE(out.tls13);
}

TEST_CASE("a hello without SNI and ALPN gives an empty name and no protocol") {
  ClientHello out;
  out.server_name = "left over";
  out.has_alpn = out.offers_h2 = true;
  REQUIRE(parse(openssl_hello({}), out) == HelloStatus::complete);
  CHECK(out.server_name.empty());
  CHECK_FALSE(out.has_alpn);
  CHECK_FALSE(out.offers_http1);
  CHECK_FALSE(out.offers_h2);
}

TEST_CASE("the validation protocol of a CA is told from others") {
  ClientSettings settings = browser;
  settings.alpn =
      "\x0a"
      "acme-tls/1";
  ClientHello out;
  REQUIRE(parse(openssl_hello(settings), out) == HelloStatus::complete);
  CHECK(out.offers_acme);
  CHECK_FALSE(out.offers_http1);
}

TEST_CASE("a hello with a post-quantum key share is read as any other") {
  ClientSettings settings = browser;
  settings.groups = "X25519MLKEM768:X25519";
  Bytes hello = openssl_hello(settings);
  if (hello.empty()) {  // an OpenSSL without ML-KEM: a key share of that size by hand
    Bytes extensions = server_name("www.example.com");
    const Bytes share = extension(51, Bytes(1260, 0xab));
    extensions.insert(extensions.end(), share.begin(), share.end());
    hello = hello_with(extensions);
  }
  CHECK(hello.size() > 1200);
  CHECK(name_in(hello) == "www.example.com");
}

TEST_CASE("every prefix of a hello asks for more and leaves the output alone") {
  for (const Bytes& hello :
       {openssl_hello(browser), records(message_with(server_name("a.b")), 20)}) {
    for (size_t length = 0; length < hello.size(); ++length) {
      ClientHello out;
      out.server_name = "untouched";
      INFO("prefix of " << length);
      REQUIRE(parse(std::span(hello).first(length), out) == HelloStatus::need_more);
      REQUIRE(out.server_name == "untouched");
    }
  }
}

TEST_CASE("a hello split into two records at any byte reads the same") {
  const Bytes message = message_with(server_name("split.example.com"));
  for (size_t at = 1; at < message.size(); ++at) {
    Bytes hello = record(Bytes(message.begin(), message.begin() + static_cast<long>(at)));
    const Bytes rest = record(Bytes(message.begin() + static_cast<long>(at), message.end()));
    hello.insert(hello.end(), rest.begin(), rest.end());
    INFO("split at " << at);
    REQUIRE(name_in(hello) == "split.example.com");
  }
}

TEST_CASE("what follows a whole hello does not matter") {
  Bytes hello = openssl_hello(browser);
  const Bytes more = {0x14, 3, 3, 0, 1, 1, 0xff, 0xff};
  hello.insert(hello.end(), more.begin(), more.end());
  CHECK(name_in(hello) == "www.example.com");
}

TEST_CASE("no flipped bit makes the parser read out of bounds") {
  for (const Bytes& hello :
       {openssl_hello(browser), records(message_with(server_name("a.b")), 20)}) {
    for (size_t at = 0; at < hello.size(); ++at) {
      for (const int mask : {0x01, 0x80, 0xff}) {
        Bytes damaged = hello;
        damaged[at] = static_cast<uint8_t>(damaged[at] ^ mask);
        ClientHello out;
        const HelloStatus status = parse(damaged, out);
        if (status != HelloStatus::complete) REQUIRE(out.server_name.empty());
      }
    }
  }
}

TEST_CASE("what is not TLS is told at the first bytes") {
  CHECK(status_of(bytes_of("GET / HTTP/1.1\r\n\r\n")) == HelloStatus::not_tls);
  CHECK(status_of(bytes_of("G")) == HelloStatus::not_tls);
  CHECK(status_of(bytes_of("SSH-2.0-x")) == HelloStatus::not_tls);
  CHECK(status_of({0x80, 0x2e, 0x01, 0x03, 0x01}) == HelloStatus::not_tls);  // SSLv2
  CHECK(status_of({22, 2}) == HelloStatus::not_tls);
  CHECK(status_of({22, 4, 0, 0, 5}) == HelloStatus::not_tls);
  CHECK(status_of({21, 3, 1, 0, 2, 2, 40}) == HelloStatus::not_tls);
  CHECK(status_of({}) == HelloStatus::need_more);
}

TEST_CASE("any record version 3.x is accepted") {
  const Bytes message = message_with(server_name("a.example"));
  for (const unsigned version : {0x0300u, 0x0301u, 0x0303u, 0x0304u, 0x03ffu}) {
    CHECK(name_in(record(message, 22, version)) == "a.example");
  }
}

TEST_CASE("damaged records are refused") {
  CHECK(status_of({22, 3, 1, 0, 0}) == HelloStatus::malformed);        // empty fragment
  CHECK(status_of({22, 3, 1, 0x40, 0x01}) == HelloStatus::malformed);  // over 2^14
  CHECK(status_of({22, 3, 1, 0, 1, 2}) == HelloStatus::malformed);     // a ServerHello
  const Bytes message = message_with(server_name("a.example"));
  Bytes mixed = record(Bytes(message.begin(), message.begin() + 20));
  for (const unsigned type : {20u, 21u, 23u}) {
    Bytes second = mixed;
    const Bytes rest = record(Bytes(message.begin() + 20, message.end()), type);
    second.insert(second.end(), rest.begin(), rest.end());
    CHECK(status_of(second) == HelloStatus::malformed);
  }
}

TEST_CASE("a hello may use several full records and no more than 64 KiB") {
  const Bytes padding = extension(21, Bytes(30'000, 0));
  Bytes extensions = server_name("large.example.com");
  extensions.insert(extensions.end(), padding.begin(), padding.end());
  const Bytes large = records(message_with(extensions), 16 * 1024);
  CHECK(name_in(large) == "large.example.com");

  CHECK(status_of({22, 3, 1, 0, 100, 1, 0x01, 0x00, 0x00}) == HelloStatus::too_large);
  Bytes endless = record(Bytes{1, 0, 0xff, 0xf0});
  while (endless.size() < client_hello_max) {
    const Bytes more = record(Bytes(16 * 1024, 0));
    endless.insert(endless.end(), more.begin(), more.end());
  }
  CHECK(status_of(endless) == HelloStatus::too_large);
}

TEST_CASE("a hello in more records than any client sends is refused") {
  const Bytes message = message_with(server_name("shreds.example.com"));
  CHECK(name_in(records(message, 2)) == "shreds.example.com");
  CHECK(status_of(records(message, 1)) == HelloStatus::too_large);
}

TEST_CASE("server names are lower-cased and lose a trailing dot") {
  CHECK(name_in(hello_with(server_name("WWW.Example.COM"))) == "www.example.com");
  CHECK(name_in(hello_with(server_name("example.com."))) == "example.com");
  CHECK(name_in(hello_with(server_name("localhost"))) == "localhost");
  CHECK(name_in(hello_with(server_name("_dmarc.example.com"))) == "_dmarc.example.com");
  CHECK(name_in(hello_with(server_name("xn--bcher-kva.example"))) == "xn--bcher-kva.example");
  CHECK(name_in(hello_with(server_name("1.0.0.127.in-addr.arpa"))) == "1.0.0.127.in-addr.arpa");
  const std::string label(63, 'a');
  CHECK(name_in(hello_with(server_name(label + "." + label + ".example"))).size() == 135);
}

TEST_CASE("an IP address as server name counts as none") {
  for (const auto* address : {"127.0.0.1", "192.0.2.1.", "2130706433", "0.1", "::1", "[::1]",
                              "2001:db8::1", "::ffff:192.0.2.1"}) {
    INFO(address);
    CHECK(name_in(hello_with(server_name(address))).empty());
  }
}

TEST_CASE("server names that are no host names are refused") {
  const std::string label64(64, 'a');
  std::string name254;
  while (name254.size() < 250) name254 += "abcd.";
  name254 += "abcd";
  for (const std::string& name : {std::string(""),
                                  std::string("."),
                                  std::string(".."),
                                  std::string(".a"),
                                  std::string("a..b"),
                                  std::string("a.."),
                                  std::string("a b"),
                                  std::string("a/b"),
                                  std::string("*.example.com"),
                                  std::string("-a.example"),
                                  std::string("a-.example"),
                                  std::string("a\0b", 3),
                                  std::string("::1\0b", 5),
                                  std::string("[::1\0]", 6),
                                  std::string("b\xc3\xbc"
                                              "cher.example"),
                                  std::string("a:b"),
                                  std::string("example.com:443"),
                                  std::string("[::1"),
                                  std::string("a\r\n"),
                                  label64 + ".example",
                                  name254}) {
    INFO(name);
    CHECK(status_of(hello_with(server_name(name))) == HelloStatus::malformed);
  }
}

TEST_CASE("the server name list holds exactly one host name") {
  CHECK(status_of(hello_with(server_name("a.example", 1))) == HelloStatus::malformed);
  const Bytes one = Builder().u8(0).vector16(bytes_of("a.example")).bytes();
  const Bytes two = Builder().raw(one).raw(one).bytes();
  CHECK(status_of(hello_with(extension(0, Builder().vector16(two).bytes()))) ==
        HelloStatus::malformed);
  CHECK(status_of(hello_with(extension(0, {}))) == HelloStatus::malformed);
  CHECK(status_of(hello_with(extension(0, {0, 0}))) == HelloStatus::malformed);
  CHECK(status_of(hello_with(extension(0, Builder().vector16(one).u8(0).bytes()))) ==
        HelloStatus::malformed);
  CHECK(status_of(hello_with(extension(0, {0, 3, 0, 0, 9}))) == HelloStatus::malformed);
}

TEST_CASE("extensions that Gatehouse reads may come once only") {
  for (const Bytes& one : {server_name("a.example"), alpn({"h2"}), extension(43, {2, 3, 4})}) {
    CHECK(status_of(hello_with(one)) == HelloStatus::complete);
    CHECK(status_of(hello_with(Builder().raw(one).raw(one).bytes())) == HelloStatus::malformed);
  }
}

TEST_CASE("damaged protocol and version lists are refused") {
  CHECK(status_of(hello_with(alpn({}))) == HelloStatus::malformed);
  CHECK(status_of(hello_with(alpn({""}))) == HelloStatus::malformed);
  CHECK(status_of(hello_with(alpn({"h2", ""}))) == HelloStatus::malformed);
  CHECK(status_of(hello_with(extension(16, {}))) == HelloStatus::malformed);
  CHECK(status_of(hello_with(extension(16, {0, 3, 2, 'h', '2', 0}))) == HelloStatus::malformed);
  CHECK(status_of(hello_with(extension(16, {0, 3, 3, 'h', '2'}))) == HelloStatus::malformed);
  CHECK(status_of(hello_with(extension(43, {}))) == HelloStatus::malformed);
  CHECK(status_of(hello_with(extension(43, {0}))) == HelloStatus::malformed);
  CHECK(status_of(hello_with(extension(43, {3, 3, 4, 3}))) == HelloStatus::malformed);
  CHECK(status_of(hello_with(extension(43, {2, 3, 4, 0}))) == HelloStatus::malformed);
}

TEST_CASE("protocols that only look like known ones are not known") {
  ClientHello out;
  REQUIRE(parse(hello_with(alpn({"http/1.0", "h2c", "HTTP/1.1", "h"})), out) ==
          HelloStatus::complete);
  CHECK(out.has_alpn);
  CHECK_FALSE(out.offers_http1);
  CHECK_FALSE(out.offers_h2);
}

TEST_CASE("a hello without extensions is complete, one with a damaged body is not") {
  const Bytes body = body_until_extensions();
  CHECK(status_of(record(message_of(body))) == HelloStatus::complete);
  for (size_t length = 0; length < body.size(); ++length) {
    INFO("body of " << length);
    const Bytes cut(body.begin(), body.begin() + static_cast<long>(length));
    CHECK(status_of(record(message_of(cut))) == HelloStatus::malformed);
  }
  const auto with_tail = [&](const Bytes& tail) {
    return record(message_of(Builder().raw(body).raw(tail).bytes()));
  };
  CHECK(status_of(with_tail({0})) == HelloStatus::malformed);
  CHECK(status_of(with_tail({0, 0})) == HelloStatus::complete);
  CHECK(status_of(with_tail({0, 0, 0})) == HelloStatus::malformed);
  CHECK(status_of(with_tail({0, 4, 0, 9})) == HelloStatus::malformed);
  CHECK(status_of(with_tail({0, 4, 0, 9, 0, 1})) == HelloStatus::malformed);
}

TEST_CASE("lengths that RFC 8446 forbids are refused") {
  const auto body = [](size_t id, size_t suites, size_t compressions) {
    return record(message_of(Builder()
                                 .u16(0x0303)
                                 .raw(Bytes(32, 0))
                                 .vector8(Bytes(id, 0))
                                 .vector16(Bytes(suites, 0))
                                 .vector8(Bytes(compressions, 0))
                                 .bytes()));
  };
  CHECK(status_of(body(32, 2, 1)) == HelloStatus::complete);
  CHECK(status_of(body(33, 2, 1)) == HelloStatus::malformed);
  CHECK(status_of(body(0, 0, 1)) == HelloStatus::malformed);
  CHECK(status_of(body(0, 3, 1)) == HelloStatus::malformed);
  CHECK(status_of(body(0, 2, 0)) == HelloStatus::malformed);
}

TEST_CASE("an alert record is fatal and carries its code") {
  for (const Alert alert :
       {Alert::handshake_failure, Alert::protocol_version, Alert::internal_error,
        Alert::decode_error, Alert::unrecognized_name, Alert::no_application_protocol}) {
    const auto record = alert_record(alert);
    const Bytes bytes = bytes_of({record.data(), record.size()});
    CHECK(bytes == Bytes{21, 3, 3, 0, 2, 2, static_cast<uint8_t>(alert)});
  }
}

TEST_CASE("an OpenSSL client understands the alert for an unknown name") {
  const auto context = test::plain_client();
  test::End client(context.get(), false);
  SSL_do_handshake(client.ssl.get());
  const auto alert = alert_record(Alert::unrecognized_name);
  BIO_write(client.in, alert.data(), static_cast<int>(alert.size()));
  CHECK(SSL_do_handshake(client.ssl.get()) == -1);
  CHECK(ERR_GET_REASON(ERR_peek_error()) == SSL_R_TLSV1_UNRECOGNIZED_NAME);
  ERR_clear_error();
}
