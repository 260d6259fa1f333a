#include "tls/certificate_probe.hpp"

#include <catch2/catch.hpp>

#include "tests/tls/memory_handshake.hpp"
#include "tls/certificate.hpp"
#include "tls/context.hpp"

using namespace gatehouse;
using tls::CertificateProbe;
using Status = CertificateProbe::Status;

TEST_CASE("A probe sees the leaf that a server shows, in TLS 1.2 and 1.3, byte by byte too") {
  const auto certificate = tls::make_self_signed({"a.example"}, std::chrono::hours(24));
  REQUIRE(certificate.has_value());
  const auto context = tls::Context::server(config::TlsVersion::tls12);
  REQUIRE(context.has_value());
  for (const int newest : {TLS1_2_VERSION, TLS1_3_VERSION}) {
    tls::test::End server((*context)->native(), true);
    SSL_set_max_proto_version(server.ssl.get(), newest);
    server.attach(**certificate);
    CertificateProbe probe("a.example");
    Status status = probe.receive({});
    for (int rounds = 0; status == Status::need_more && rounds < 10; ++rounds) {
      const std::string sent = probe.take_output();
      BIO_write(server.in, sent.data(), static_cast<int>(sent.size()));
      SSL_do_handshake(server.ssl.get());
      for (const char c : tls::test::take_output(server))
        if (status == Status::need_more) status = probe.receive({&c, 1});
    }
    CHECK(status == Status::done);
    CHECK(probe.fingerprint() == (*certificate)->fingerprint());
    CHECK(std::string(SSL_get_servername(server.ssl.get(), TLSEXT_NAMETYPE_host_name)) ==
          "a.example");
  }
}

TEST_CASE("A probe that is told nonsense, or an alert, fails with words") {
  for (const std::string_view answer : {std::string_view("HTTP/1.1 400 Bad Request\r\n\r\n"),
                                        std::string_view("\x15\x03\x03\x00\x02\x02\x70", 7)}) {
    CertificateProbe probe("a.example");
    CHECK(probe.receive({}) == Status::need_more);
    CHECK_FALSE(probe.take_output().empty());
    CHECK(probe.receive(answer) == Status::failed);
    CHECK_FALSE(probe.problem().empty());
    CHECK(probe.fingerprint().empty());
  }
}
