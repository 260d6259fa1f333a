// The client's half of a handshake that is made only to see which certificate answers a name.
//
// Verifies nothing and carries no data: what it says of the certificate is for comparing. Knows no
// sockets: bytes go in and come out. One thread at a time.
#pragma once

#include <memory>
#include <string>
#include <string_view>

#include "base/error.hpp"

namespace gatehouse::tls {

class CertificateProbe {
 public:
  enum class Status : uint8_t { need_more, done, failed };

  /// `name` is sent as SNI; empty: none is.
  explicit CertificateProbe(const std::string& name);
  ~CertificateProbe();
  CertificateProbe(const CertificateProbe&) = delete;
  CertificateProbe& operator=(const CertificateProbe&) = delete;

  /// What came from the server; nothing to begin with.
  Status receive(std::string_view bytes);
  /// What is to be sent to it now.
  std::string take_output();

  /// Once done: SHA-256 of the leaf, hexadecimal.
  const std::string& fingerprint() const { return fingerprint_; }
  /// Once failed: in OpenSSL's words.
  const std::string& problem() const { return problem_; }

 private:
  struct Parts;
  std::unique_ptr<Parts> parts_;
  std::string fingerprint_;
  std::string problem_;
};

}  // namespace gatehouse::tls
