#include "acme/solver/tls_alpn01.hpp"

#include <boost/asio/ip/address.hpp>
#include <fmt/format.h>

#include "base/log.hpp"
#include "tls/challenge_certificate.hpp"

namespace gatehouse::acme {

namespace asio = boost::asio;

namespace {

/// RFC 1035 section 3.5: the bytes from the last to the first.
std::string reverse_name(const asio::ip::address_v4& address) {
  const auto bytes = address.to_bytes();
  return fmt::format("{}.{}.{}.{}.in-addr.arpa", bytes[3], bytes[2], bytes[1], bytes[0]);
}

/// RFC 3596 section 2.5: half bytes, from the last to the first.
std::string reverse_name(const asio::ip::address_v6& address) {
  std::string name;
  const auto bytes = address.to_bytes();
  for (auto byte = bytes.rbegin(); byte != bytes.rend(); ++byte) {
    name += fmt::format("{:x}.{:x}.", *byte & 0xf, *byte >> 4);
  }
  return name + "ip6.arpa";
}

}  // namespace

std::string challenge_server_name(const std::string& identifier) {
  boost::system::error_code error;
  const auto address = asio::ip::make_address(identifier, error);
  if (error) return identifier;
  return address.is_v4() ? reverse_name(address.to_v4()) : reverse_name(address.to_v6());
}

tls::CertificatePtr answer_alpn(const AlpnTable& table, const std::string& server_name) {
  const tls::CertificatePtr* found = table.find(server_name);
  return found == nullptr ? nullptr : *found;
}

TlsAlpn01::TlsAlpn01(asio::io_context& control, PublishAlpnCertificates publish)
    : board_(std::make_shared<NoticeBoard<tls::CertificatePtr>>(control, std::move(publish))) {}

asio::awaitable<base::Result<void>> TlsAlpn01::present(std::string identifier,
                                                       std::string key_authorization) {
  auto made = tls::make_challenge_certificate(identifier, key_authorization);
  if (!made) co_return made.error();
  const bool everywhere = co_await NoticeBoard<tls::CertificatePtr>::put(
      board_, challenge_server_name(identifier), std::move(*made));
  if (!everywhere) {
    base::log::warn("not every worker answers the challenge of {} yet: asking the CA regardless",
                    identifier);
  }
  co_return base::Result<void>();
}

void TlsAlpn01::retire(const std::string& identifier) {
  board_->retire(challenge_server_name(identifier));
}

}  // namespace gatehouse::acme
