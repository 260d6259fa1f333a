#include "tls/certificate_builder.hpp"

#include <arpa/inet.h>
#include <array>

#include <openssl/err.h>
#include <openssl/pem.h>

namespace gatehouse::tls {

namespace {

using base::Error;
using base::ErrorKind;
using base::WallClock;

constexpr size_t common_name_max = 64;  // RFC 5280 appendix A, ub-common-name
constexpr size_t names_max = 100;
constexpr size_t name_max = 253;
constexpr int serial_bits = 127;
constexpr std::chrono::hours clock_tolerance{1};  // a client's clock may be behind
constexpr const char* acme_identifier_oid = "1.3.6.1.5.5.7.1.31";

Result<GeneralNamesPtr> general_names(const std::vector<std::string>& names);
bool add_extension(X509* certificate, X509V3_CTX* context, int nid, const char* value);
bool set_basics(X509* certificate, const CertificateDraft& draft, EVP_PKEY* key);
bool set_extensions(X509* certificate, const CertificateDraft& draft, X509* issuer,
                    GENERAL_NAMES* names);
const EVP_MD* digest_for(EVP_PKEY* key);

}  // namespace

Result<X509Ptr> build_certificate(const CertificateDraft& draft, const PrivateKey& key,
                                  const Certificate* issuer) {
  ERR_clear_error();
  auto names = general_names(draft.names);
  if (!names) return names.error();
  X509Ptr made(X509_new());
  X509* issuer_leaf = issuer ? issuer->leaf() : made.get();
  EVP_PKEY* signing_key = issuer ? issuer->key() : key.native();
  const bool well = set_basics(made.get(), draft, key.native()) &&
                    X509_set_issuer_name(made.get(), X509_get_subject_name(issuer_leaf)) == 1 &&
                    set_extensions(made.get(), draft, issuer_leaf, names->get()) &&
                    X509_sign(made.get(), signing_key, digest_for(signing_key)) > 0;
  if (!well) {
    return openssl_error(ErrorKind::tls,
                         "a certificate for " + draft.common_name + " cannot be made");
  }
  return made;
}

Result<CertificatePtr> build_with_key(const CertificateDraft& draft, const Certificate* issuer) {
  auto key = PrivateKey::generate(config::KeyType::p256);
  if (!key) return key.error();
  auto made = build_certificate(draft, *key, issuer);
  if (!made) return made.error();
  const BioPtr bio(BIO_new(BIO_s_mem()));
  ASSERT(PEM_write_bio_X509(bio.get(), made->get()) == 1);
  std::string key_pem = key->to_pem();
  auto certificate = Certificate::from_pem(bio_text(bio.get()), key_pem, draft.common_name);
  cleanse(key_pem);
  return certificate;
}

Result<CertificatePtr> make_self_signed(const std::vector<std::string>& names,
                                        std::chrono::hours lifetime) {
  if (names.empty()) return Error(ErrorKind::invalid, "a certificate needs at least one name");
  const auto now = WallClock::now();
  CertificateDraft draft;
  draft.common_name = names.front();
  draft.names = names;
  draft.not_before = now - clock_tolerance;
  draft.not_after = now + lifetime;
  return build_with_key(draft, nullptr);
}

Result<std::string> make_request_der(const PrivateKey& key, const std::vector<std::string>& names) {
  ERR_clear_error();
  if (names.empty()) {
    return Error(ErrorKind::invalid, "a certificate request needs at least one name");
  }
  auto alternatives = general_names(names);
  if (!alternatives) return alternatives.error();
  const RequestPtr request(X509_REQ_new());
  const ExtensionPtr extension(X509V3_EXT_i2d(NID_subject_alt_name, 0, alternatives->get()));
  std::unique_ptr<STACK_OF(X509_EXTENSION),
                  decltype([](STACK_OF(X509_EXTENSION) * stack) { sk_X509_EXTENSION_free(stack); })>
      extensions(sk_X509_EXTENSION_new_null());
  const bool well = extension && sk_X509_EXTENSION_push(extensions.get(), extension.get()) > 0 &&
                    X509_REQ_set_version(request.get(), X509_REQ_VERSION_1) == 1 &&
                    X509_REQ_set_pubkey(request.get(), key.native()) == 1 &&
                    X509_REQ_add_extensions(request.get(), extensions.get()) == 1 &&
                    X509_REQ_sign(request.get(), key.native(), digest_for(key.native())) > 0;
  unsigned char* der = nullptr;
  const int length = well ? i2d_X509_REQ(request.get(), &der) : -1;
  if (length <= 0) {
    return openssl_error(ErrorKind::tls,
                         "a certificate request for " + names.front() + " cannot be made");
  }
  std::string text(reinterpret_cast<const char*>(der), static_cast<size_t>(length));
  OPENSSL_free(der);
  return text;
}

namespace {

bool is_address(const std::string& name) {
  std::array<unsigned char, 16> bytes;
  return inet_pton(AF_INET, name.c_str(), bytes.data()) == 1 ||
         inet_pton(AF_INET6, name.c_str(), bytes.data()) == 1;
}

bool is_dns_name(std::string_view name) {
  if (name.starts_with("*.")) name.remove_prefix(2);
  if (name.empty() || name.size() > name_max || name.front() == '.' || name.back() == '.') {
    return false;
  }
  return name.find("..") == std::string_view::npos &&
         name.find_first_not_of("abcdefghijklmnopqrstuvwxyz0123456789-_.") ==
             std::string_view::npos;
}

ASN1_STRING* encode_name(const std::string& name, bool address) {
  if (address) return a2i_IPADDRESS(name.c_str());
  ASN1_STRING* text = ASN1_IA5STRING_new();
  ASN1_STRING_set(text, name.data(), static_cast<int>(name.size()));
  return text;
}

Result<GeneralNamesPtr> general_names(const std::vector<std::string>& names) {
  if (names.size() > names_max) {
    return Error(ErrorKind::limit, "more than 100 names in one certificate; use several");
  }
  GeneralNamesPtr all(GENERAL_NAMES_new());
  for (const auto& name : names) {
    const bool address = is_address(name);
    if (!address && !is_dns_name(name)) {
      return Error(ErrorKind::invalid, "'" + name +
                                           "' cannot be in a certificate: neither a host name in "
                                           "lower case nor an IP address");
    }
    ASN1_STRING* value = encode_name(name, address);
    GENERAL_NAME* entry = GENERAL_NAME_new();
    GENERAL_NAME_set0_value(entry, address ? GEN_IPADD : GEN_DNS, value);
    ASSERT(sk_GENERAL_NAME_push(all.get(), entry) > 0);
  }
  return all;
}

/// A positive number nobody can guess (RFC 5280 section 4.1.2.2).
bool set_serial(X509* certificate) {
  const BignumPtr number(BN_new());
  return BN_rand(number.get(), serial_bits, BN_RAND_TOP_ANY, BN_RAND_BOTTOM_ODD) == 1 &&
         BN_to_ASN1_INTEGER(number.get(), X509_get_serialNumber(certificate)) != nullptr;
}

bool set_subject(X509* certificate, const std::string& common_name) {
  if (common_name.empty() || common_name.size() > common_name_max) return true;
  return X509_NAME_add_entry_by_NID(X509_get_subject_name(certificate), NID_commonName,
                                    MBSTRING_UTF8,
                                    reinterpret_cast<const unsigned char*>(common_name.data()),
                                    static_cast<int>(common_name.size()), -1, 0) == 1;
}

bool set_time(ASN1_TIME* time, WallClock::time_point value) {
  return ASN1_TIME_set(time, WallClock::to_time_t(value)) != nullptr;
}

bool set_basics(X509* certificate, const CertificateDraft& draft, EVP_PKEY* key) {
  return X509_set_version(certificate, X509_VERSION_3) == 1 && set_serial(certificate) &&
         set_time(X509_getm_notBefore(certificate), draft.not_before) &&
         set_time(X509_getm_notAfter(certificate), draft.not_after) &&
         set_subject(certificate, draft.common_name) && X509_set_pubkey(certificate, key) == 1;
}

bool add_extension(X509* certificate, X509V3_CTX* context, int nid, const char* value) {
  const ExtensionPtr extension(X509V3_EXT_nconf_nid(nullptr, context, nid, value));
  return extension && X509_add_ext(certificate, extension.get(), -1) == 1;
}

/// An OCTET STRING inside the extension's own, critical (RFC 8737 section 3).
bool add_acme_identifier(X509* certificate, const std::string& digest) {
  const std::unique_ptr<ASN1_OBJECT, decltype([](ASN1_OBJECT* o) { ASN1_OBJECT_free(o); })> type(
      OBJ_txt2obj(acme_identifier_oid, 1));
  const std::unique_ptr<ASN1_OCTET_STRING,
                        decltype([](ASN1_OCTET_STRING* s) { ASN1_OCTET_STRING_free(s); })>
      value(ASN1_OCTET_STRING_new());
  const std::string content = std::string("\x04\x20", 2) + digest;
  ASSERT(digest.size() == 32);
  if (!type || !value ||
      ASN1_OCTET_STRING_set(value.get(), reinterpret_cast<const unsigned char*>(content.data()),
                            static_cast<int>(content.size())) != 1) {
    return false;
  }
  const ExtensionPtr extension(X509_EXTENSION_create_by_OBJ(nullptr, type.get(), 1, value.get()));
  return extension && X509_add_ext(certificate, extension.get(), -1) == 1;
}

/// RFC 5280 section 4.2.1: what an authority and a server need, nothing more.
bool set_extensions(X509* certificate, const CertificateDraft& draft, X509* issuer,
                    GENERAL_NAMES* names) {
  X509V3_CTX context;
  X509V3_set_ctx_nodb(&context);
  X509V3_set_ctx(&context, issuer, certificate, nullptr, nullptr, 0);
  const char* constraints = draft.authority ? "critical,CA:TRUE,pathlen:0" : "critical,CA:FALSE";
  const char* usage =
      draft.authority ? "critical,keyCertSign,cRLSign" : "critical,digitalSignature";
  if (!add_extension(certificate, &context, NID_basic_constraints, constraints) ||
      !add_extension(certificate, &context, NID_key_usage, usage) ||
      !add_extension(certificate, &context, NID_subject_key_identifier, "hash")) {
    return false;
  }
  if (!draft.authority && !add_extension(certificate, &context, NID_ext_key_usage, "serverAuth")) {
    return false;
  }
  if (issuer != certificate &&
      !add_extension(certificate, &context, NID_authority_key_identifier, "keyid:always")) {
    return false;
  }
  if (!draft.acme_identifier.empty() && !add_acme_identifier(certificate, draft.acme_identifier)) {
    return false;
  }
  if (draft.names.empty()) return true;
  // Critical when it is all that names the subject (RFC 5280 section 4.2.1.6).
  const bool nameless = X509_NAME_entry_count(X509_get_subject_name(certificate)) == 0;
  return X509_add1_ext_i2d(certificate, NID_subject_alt_name, names, nameless ? 1 : 0,
                           X509V3_ADD_APPEND) == 1;
}

const EVP_MD* digest_for(EVP_PKEY* key) {
  if (EVP_PKEY_is_a(key, "ED25519") || EVP_PKEY_is_a(key, "ED448")) return nullptr;
  return EVP_PKEY_get_security_bits(key) > 128 ? EVP_sha384() : EVP_sha256();
}

}  // namespace

}  // namespace gatehouse::tls
