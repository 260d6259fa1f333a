// TLS-ALPN-01 challenges (RFC 8737): the table of challenge certificates that every TLS listener
// answers hellos with acme-tls/1 from.
//
// Does not listen or shake hands: app hands the workers an immutable table (proxy answers from it).
// Control thread, except AlpnTable, which any thread reads.
#pragma once

#include <memory>
#include <string>
#include <string_view>

#include <boost/asio/awaitable.hpp>
#include <boost/asio/io_context.hpp>

#include "acme/solver/notice_board.hpp"
#include "base/error.hpp"
#include "tls/certificate.hpp"

namespace gatehouse::acme {

inline constexpr std::string_view tls_alpn01_type = "tls-alpn-01";

/// Server name → the certificate that proves it.
using AlpnTable = NoticeBoard<tls::CertificatePtr>::Table;
using AlpnTablePtr = NoticeBoard<tls::CertificatePtr>::TablePtr;
using PublishAlpnCertificates = NoticeBoard<tls::CertificatePtr>::Publish;

/// What the CA's hello names: the identifier, or the reverse-DNS name of an address (RFC 8738
/// section 6), lower case.
std::string challenge_server_name(const std::string& identifier);

/// The certificate for a hello's server name (lower case), or null.
tls::CertificatePtr answer_alpn(const AlpnTable& table, const std::string& server_name);

/// A handle: copies share the table.
class TlsAlpn01 {
 public:
  TlsAlpn01(boost::asio::io_context& control, PublishAlpnCertificates publish);

  /// Returns when every worker answers with it; only then may the CA be told "ready". `identifier`
  /// in lower case. An identifier has one answer at a time: a later one replaces it. Fails if no
  /// certificate can be made.
  boost::asio::awaitable<base::Result<void>> present(std::string identifier,
                                                     std::string key_authorization);
  /// Forgets it 60 s from now: CAs ask several times, and late.
  void retire(const std::string& identifier);

 private:
  std::shared_ptr<NoticeBoard<tls::CertificatePtr>> board_;
};

}  // namespace gatehouse::acme
