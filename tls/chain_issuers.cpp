#include "tls/chain_issuers.hpp"

#include <array>

#include <openssl/pem.h>

#include "tls/openssl.hpp"

namespace gatehouse::tls {

namespace {

constexpr size_t certificates_max = 16;

std::string common_name(X509_NAME* name) {
  std::array<char, 256> text{};
  const int length =
      X509_NAME_get_text_by_NID(name, NID_commonName, text.data(), static_cast<int>(text.size()));
  return length <= 0 ? std::string() : std::string(text.data(), static_cast<size_t>(length));
}

}  // namespace

std::vector<std::string> chain_issuers(std::string_view chain_pem) {
  std::vector<std::string> result;
  const BioPtr bio(BIO_new_mem_buf(chain_pem.data(), static_cast<int>(chain_pem.size())));
  for (size_t i = 0; bio && i < certificates_max; ++i) {
    const X509Ptr certificate(PEM_read_bio_X509(bio.get(), nullptr, nullptr, nullptr));
    if (!certificate) break;
    auto name = common_name(X509_get_issuer_name(certificate.get()));
    if (!name.empty()) result.push_back(std::move(name));
  }
  openssl_reason();  // the end of the text is an error to OpenSSL
  return result;
}

}  // namespace gatehouse::tls
