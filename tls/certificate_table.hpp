// Which certificate answers which server name: an immutable table, replaced as a whole.
//
// Does not obtain or check certificates. Built on the control thread; a worker holds a shared_ptr
// to the one it serves from and looks up without a lock.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <string_view>

#include "tls/certificate.hpp"

namespace gatehouse::tls {

class CertificateTable;
using CertificateTablePtr = std::shared_ptr<const CertificateTable>;

class CertificateTable {
 public:
  enum class Match : uint8_t { none, exact, wildcard, fallback };
  struct Found {
    Match match = Match::none;
    const CertificatePtr* certificate = nullptr;  // valid while the table lives
  };

  static CertificateTablePtr empty();

  /// A copy with `certificate` served for `name` ("a.example.com" or "*.example.com"). Cheap: the
  /// copy shares all but one small part with this table.
  CertificateTablePtr with(std::string_view name, CertificatePtr certificate) const;
  CertificateTablePtr without(std::string_view name) const;
  /// The same for the self-signed fallback of `zone` ("example.com" serves itself and one label
  /// below it).
  CertificateTablePtr with_fallback(std::string_view zone, CertificatePtr certificate) const;
  /// Served when there is no SNI, or none matches and a default site exists.
  CertificateTablePtr with_default(CertificatePtr certificate) const;

  /// `name` in lower case: exact, then wildcard, then its zone's fallback.
  Found find(std::string_view name) const;
  const CertificatePtr& default_certificate() const;  // may be null
  size_t size() const;

  ~CertificateTable();

 private:
  struct Parts;
  explicit CertificateTable(std::unique_ptr<Parts> parts);
  std::unique_ptr<Parts> parts_;
};

/// What became of the wish for a certificate that the table lacks.
struct Acquired {
  enum class Outcome : uint8_t {
    ready,     // serve it
    fallback,  // a self-signed stand-in: answer requests with 503
    denied,    // refuse the handshake: unrecognized_name
    failed,    // refuse the handshake: internal_error (on_timeout = "alert")
  };
  Outcome outcome = Outcome::failed;
  CertificatePtr certificate;            // with ready and fallback
  std::chrono::seconds retry_after{10};  // for the 503 page
  std::string why;                       // with fallback, for the operator alone; empty: no word
};

/// How a worker asks for a certificate at a first handshake. `deliver` is called exactly once, on
/// the thread that asked. Handed in by app.
using AcquireCertificate = std::function<void(std::string name, std::string client_address,
                                              std::function<void(Acquired)> deliver)>;

}  // namespace gatehouse::tls
