#include "tls/certificate.hpp"

#include <algorithm>
#include <arpa/inet.h>
#include <array>
#include <utility>

#include <fmt/chrono.h>
#include <fmt/format.h>
#include <openssl/err.h>
#include <openssl/pem.h>

#include "base/encoding.hpp"
#include "tls/certificate_chain.hpp"
#include "tls/openssl.hpp"

namespace gatehouse::tls {

namespace {

using base::Error;
using base::ErrorKind;
using base::WallClock;

constexpr size_t names_max = 1000;
constexpr int security_bits_min = 112;  // OpenSSL's security level 2

std::vector<std::string> subject_names(X509* leaf);
Result<WallClock::time_point> time_in(const ASN1_TIME* time, std::string_view source);
std::string weakness(X509* leaf, EVP_PKEY* key);
std::string mismatch(EVP_PKEY* key, STACK_OF(X509) * chain);
std::string date_text(WallClock::time_point time);
std::string usage_problem(X509* leaf);
std::string chain_problem(X509* leaf, STACK_OF(X509) * chain);
void append_pem(std::string& text, X509* certificate);
std::string content_of(const ASN1_INTEGER* number);

}  // namespace

struct Certificate::Parts {
  X509Ptr leaf;
  PrivateKey key;
  std::shared_ptr<const Chain> chain;
};

Result<std::shared_ptr<const Certificate>> Certificate::from_pem(std::string_view chain_pem,
                                                                 std::string_view key_pem,
                                                                 std::string_view source) {
  ERR_clear_error();
  auto ders = certificates_in(chain_pem, source);
  if (!ders) return ders.error();
  auto leaf = decode_certificate(ders->front(), source);
  if (!leaf) return leaf.error();
  ders->erase(ders->begin());
  auto chain = shared_chain(*ders, source);
  if (!chain) return chain.error();
  auto key = PrivateKey::from_pem(key_pem, source);
  if (!key) return key.error();

  if (X509_check_private_key(leaf->get(), key->native()) != 1) {
    ERR_clear_error();
    return Error(ErrorKind::invalid,
                 fmt::format("{}: {}", source, mismatch(key->native(), (*chain)->stack.get())));
  }
  if (const std::string weak = weakness(leaf->get(), key->native()); !weak.empty()) {
    return Error(ErrorKind::invalid, fmt::format("{}: {}", source, weak));
  }
  auto begins = time_in(X509_get0_notBefore(leaf->get()), source);
  if (!begins) return begins.error();
  auto ends = time_in(X509_get0_notAfter(leaf->get()), source);
  if (!ends) return ends.error();

  auto parts = std::unique_ptr<Parts>(new Parts{std::move(*leaf), *key, *chain});
  std::shared_ptr<Certificate> made(new Certificate(std::move(parts)));
  made->names_ = subject_names(made->leaf());
  made->not_before_ = *begins;
  made->not_after_ = *ends;
  return std::shared_ptr<const Certificate>(std::move(made));
}

std::string Certificate::issuer() const {
  return name_words(X509_get_issuer_name(leaf()));
}

std::string Certificate::serial() const {
  const ASN1_INTEGER* number = X509_get0_serialNumber(leaf());
  const auto* data = reinterpret_cast<const char*>(ASN1_STRING_get0_data(number));
  return base::hex({data, static_cast<size_t>(ASN1_STRING_length(number))});
}

std::string Certificate::fingerprint() const {
  std::array<unsigned char, EVP_MAX_MD_SIZE> digest;
  unsigned int length = 0;
  ASSERT(X509_digest(leaf(), EVP_sha256(), digest.data(), &length) == 1);
  return base::hex({reinterpret_cast<const char*>(digest.data()), length});
}

std::string Certificate::leaf_der() const {
  unsigned char* bytes = nullptr;
  const int length = i2d_X509(leaf(), &bytes);
  ASSERT(length > 0);
  std::string result(reinterpret_cast<const char*>(bytes), static_cast<size_t>(length));
  OPENSSL_free(bytes);
  return result;
}

std::string Certificate::renewal_id() const {
  const ASN1_OCTET_STRING* authority = X509_get0_authority_key_id(leaf());
  const std::string serial = content_of(X509_get0_serialNumber(leaf()));
  if (authority == nullptr || ASN1_STRING_length(authority) == 0 || serial.empty()) return {};
  const std::string_view identifier(reinterpret_cast<const char*>(ASN1_STRING_get0_data(authority)),
                                    static_cast<size_t>(ASN1_STRING_length(authority)));
  return base::base64url(identifier) + "." + base::base64url(serial);
}

bool Certificate::self_signed() const {
  return (X509_get_extension_flags(leaf()) & EXFLAG_SS) != 0;
}

bool Certificate::covers(std::string_view name) const {
  const size_t dot = name.find('.');
  const std::string_view parent =
      dot == std::string_view::npos || dot == 0 ? std::string_view() : name.substr(dot);
  return std::any_of(names_.begin(), names_.end(), [&](const std::string& own) {
    if (own == name) return true;
    return !parent.empty() && own.starts_with("*.") && std::string_view(own).substr(1) == parent;
  });
}

std::string Certificate::problem_for(const std::vector<std::string>& wanted,
                                     WallClock::time_point now, std::chrono::seconds skew) const {
  if (now + skew < not_before_) return "it is not valid before " + date_text(not_before_);
  if (now - skew > not_after_) return "it expired on " + date_text(not_after_);
  for (const auto& name : wanted) {
    if (!covers(name)) return "it does not cover " + name;
  }
  if (std::string usage = usage_problem(leaf()); !usage.empty()) return usage;
  return chain_problem(leaf(), chain());
}

std::string Certificate::chain_pem() const {
  std::string text;
  append_pem(text, leaf());
  for (int i = 0; i < sk_X509_num(chain()); ++i) append_pem(text, sk_X509_value(chain(), i));
  return text;
}

std::string Certificate::key_pem() const {
  return parts_->key.to_pem();
}

x509_st* Certificate::leaf() const {
  return parts_->leaf.get();
}
evp_pkey_st* Certificate::key() const {
  return parts_->key.native();
}
stack_st_X509* Certificate::chain() const {
  return parts_->chain->stack.get();
}

Certificate::Certificate(std::unique_ptr<Parts> parts) : parts_(std::move(parts)) {}
Certificate::~Certificate() = default;

namespace {

std::string address_text(const ASN1_OCTET_STRING* address) {
  std::array<char, INET6_ADDRSTRLEN> text{};
  const int length = ASN1_STRING_length(address);
  if (length != 4 && length != 16) return {};
  inet_ntop(length == 4 ? AF_INET : AF_INET6, ASN1_STRING_get0_data(address), text.data(),
            text.size());
  return text.data();
}

/// In lower case; empty if it is no text that could be a host name (NUL bytes, for one).
std::string dns_text(const ASN1_IA5STRING* name) {
  std::string text(reinterpret_cast<const char*>(ASN1_STRING_get0_data(name)),
                   static_cast<size_t>(ASN1_STRING_length(name)));
  for (char& c : text) {
    if (c <= ' ' || c >= 0x7f) return {};
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
  }
  return text;
}

std::vector<std::string> subject_names(X509* leaf) {
  std::vector<std::string> names;
  const GeneralNamesPtr all(
      static_cast<GENERAL_NAMES*>(X509_get_ext_d2i(leaf, NID_subject_alt_name, nullptr, nullptr)));
  const int count = all ? sk_GENERAL_NAME_num(all.get()) : 0;
  for (int i = 0; i < count && names.size() < names_max; ++i) {
    const GENERAL_NAME* entry = sk_GENERAL_NAME_value(all.get(), i);
    std::string text;
    if (entry->type == GEN_DNS) text = dns_text(entry->d.dNSName);
    if (entry->type == GEN_IPADD) text = address_text(entry->d.iPAddress);
    if (!text.empty()) names.push_back(std::move(text));
  }
  ERR_clear_error();
  names.shrink_to_fit();
  return names;
}

Result<WallClock::time_point> time_in(const ASN1_TIME* time, std::string_view source) {
  const auto found = time_of(time);
  if (found) return *found;
  return openssl_error(ErrorKind::invalid, fmt::format("{}: damaged validity dates", source));
}

/// What OpenSSL's security level would refuse at every handshake, said once at load.
std::string weakness(X509* leaf, EVP_PKEY* key) {
  if (EVP_PKEY_get_security_bits(key) < security_bits_min) {
    return fmt::format("its key of {} bits is too weak; use P-256, or RSA from 2048 bits",
                       EVP_PKEY_get_bits(key));
  }
  int digest = 0;
  int bits = 0;
  if (X509_get_signature_info(leaf, &digest, nullptr, &bits, nullptr) != 1) {
    ERR_clear_error();
    return {};
  }
  const bool trusted_by_itself = (X509_get_extension_flags(leaf) & EXFLAG_SS) != 0;
  if (trusted_by_itself || bits >= security_bits_min) return {};
  return fmt::format("it is signed with {}, which is too weak; have it issued with SHA-256",
                     OBJ_nid2sn(digest));
}

std::string mismatch(EVP_PKEY* key, STACK_OF(X509) * chain) {
  for (int i = 0; i < sk_X509_num(chain); ++i) {
    if (X509_check_private_key(sk_X509_value(chain, i), key) == 1) {
      ERR_clear_error();
      return "the key's certificate is not the first in the chain; put it before the others";
    }
  }
  ERR_clear_error();
  return "the private key does not belong to the certificate; name the key it was issued for";
}

std::string date_text(WallClock::time_point time) {
  return fmt::format("{:%Y-%m-%d %H:%M} UTC", fmt::gmtime(WallClock::to_time_t(time)));
}

std::string usage_problem(X509* leaf) {
  const uint32_t extended = X509_get_extended_key_usage(leaf);
  if (extended != UINT32_MAX && (extended & (XKU_SSL_SERVER | XKU_ANYEKU)) == 0) {
    return "it is not meant for servers: serverAuth is missing from its extended key usage";
  }
  if ((X509_get_key_usage(leaf) & KU_DIGITAL_SIGNATURE) == 0) {
    return "it may not sign handshakes: digitalSignature is missing from its key usage";
  }
  return {};
}

std::string chain_problem(X509* leaf, STACK_OF(X509) * chain) {
  X509* below = leaf;
  for (int i = 0; i < sk_X509_num(chain); ++i) {
    X509* above = sk_X509_value(chain, i);
    const bool linked = X509_check_issued(above, below) == X509_V_OK &&
                        X509_verify(below, X509_get0_pubkey(above)) == 1;
    ERR_clear_error();
    if (!linked) {
      return fmt::format(
          "certificate {} of its chain did not sign the one before it; order them "
          "leaf first, each followed by its issuer",
          i + 2);
    }
    below = above;
  }
  return {};
}

/// The DER octets behind tag and length: with the zero before a set first bit.
std::string content_of(const ASN1_INTEGER* number) {
  unsigned char* bytes = nullptr;
  const int length = i2d_ASN1_INTEGER(number, &bytes);
  if (length <= 0) {
    ERR_clear_error();
    return {};
  }
  const unsigned char* at = bytes;
  long size = 0;
  int tag = 0;
  int tag_class = 0;
  std::string result;
  if ((ASN1_get_object(&at, &size, &tag, &tag_class, length) & 0x80) == 0) {
    result.assign(reinterpret_cast<const char*>(at), static_cast<size_t>(size));
  }
  OPENSSL_free(bytes);
  ERR_clear_error();
  return result;
}

void append_pem(std::string& text, X509* certificate) {
  const BioPtr bio(BIO_new(BIO_s_mem()));
  ASSERT(PEM_write_bio_X509(bio.get(), certificate) == 1);
  text += bio_text(bio.get());
}

}  // namespace

}  // namespace gatehouse::tls
