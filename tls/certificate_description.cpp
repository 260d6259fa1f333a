#include "tls/certificate_description.hpp"

#include <algorithm>
#include <ctime>

#include <fmt/format.h>
#include <openssl/err.h>

#include "tls/openssl.hpp"

namespace gatehouse::tls {

namespace {

using base::WallClock;

/// The common name, or the whole name; a certificate of today's CAs may have neither.
std::string name_words(const X509_NAME* name) {
  const int at = X509_NAME_get_index_by_NID(name, NID_commonName, -1);
  if (at >= 0) {
    unsigned char* text = nullptr;
    const ASN1_STRING* value = X509_NAME_ENTRY_get_data(X509_NAME_get_entry(name, at));
    const int length = ASN1_STRING_to_UTF8(&text, value);
    if (length >= 0) {
      std::string words(reinterpret_cast<const char*>(text), static_cast<size_t>(length));
      OPENSSL_free(text);
      return words;
    }
    ERR_clear_error();
  }
  const BioPtr bio(BIO_new(BIO_s_mem()));
  X509_NAME_print_ex(bio.get(), name, 0, XN_FLAG_RFC2253);
  return bio_text(bio.get());
}

WallClock::time_point time_of(const ASN1_TIME* time) {
  std::tm parts{};
  if (ASN1_TIME_to_tm(time, &parts) != 1) {
    ERR_clear_error();
    return {};
  }
  constexpr std::time_t latest = 7'258'118'400;  // 2200-01-01, as in Certificate
  return WallClock::from_time_t(std::min(timegm(&parts), latest));
}

}  // namespace

ChainLink chain_link(x509_st* certificate) {
  ChainLink link;
  link.subject = name_words(X509_get_subject_name(certificate));
  link.issuer = name_words(X509_get_issuer_name(certificate));
  link.not_before = time_of(X509_get0_notBefore(certificate));
  link.not_after = time_of(X509_get0_notAfter(certificate));
  return link;
}

std::string key_words(const Certificate& certificate) {
  EVP_PKEY* const key = certificate.key();
  const int bits = EVP_PKEY_get_bits(key);
  if (EVP_PKEY_get_base_id(key) == EVP_PKEY_RSA) return fmt::format("RSA {}", bits);
  if (EVP_PKEY_get_base_id(key) == EVP_PKEY_EC) return fmt::format("P-{}", bits);
  const char* const name = EVP_PKEY_get0_type_name(key);
  return name == nullptr ? "unknown" : name;
}

std::vector<ChainLink> chain_links(const Certificate& certificate) {
  std::vector<ChainLink> links;
  links.push_back(chain_link(certificate.leaf()));
  if (links.front().subject.empty() && !certificate.names().empty())
    links.front().subject = certificate.names().front();
  for (int i = 0; i < sk_X509_num(certificate.chain()); ++i)
    links.push_back(chain_link(sk_X509_value(certificate.chain(), i)));
  return links;
}

}  // namespace gatehouse::tls
