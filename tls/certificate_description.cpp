#include "tls/certificate_description.hpp"

#include <algorithm>

#include <fmt/format.h>
#include <openssl/err.h>

#include "tls/openssl.hpp"

namespace gatehouse::tls {

namespace {

using base::WallClock;

/// 1970 if it is damaged.
WallClock::time_point shown_time(const ASN1_TIME* time) {
  const auto found = time_of(time);
  if (!found) ERR_clear_error();
  return found.value_or(WallClock::time_point{});
}

}  // namespace

ChainLink chain_link(x509_st* certificate) {
  ChainLink link;
  link.subject = name_words(X509_get_subject_name(certificate));
  link.issuer = name_words(X509_get_issuer_name(certificate));
  link.not_before = shown_time(X509_get0_notBefore(certificate));
  link.not_after = shown_time(X509_get0_notAfter(certificate));
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
