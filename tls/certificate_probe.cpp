#include "tls/certificate_probe.hpp"

#include <openssl/err.h>
#include <openssl/ssl.h>

#include "base/encoding.hpp"
#include "tls/openssl.hpp"

namespace gatehouse::tls {

namespace {

SSL_CTX* probing_context() {
  static const SslContextPtr context = [] {
    SslContextPtr made(SSL_CTX_new(TLS_client_method()));
    ASSERT(made != nullptr);
    SSL_CTX_set_verify(made.get(), SSL_VERIFY_NONE, nullptr);
    SSL_CTX_set_session_cache_mode(made.get(), SSL_SESS_CACHE_OFF);
    return made;
  }();
  return context.get();
}

}  // namespace

struct CertificateProbe::Parts {
  SslPtr ssl;
  BIO* in = nullptr;   // owned by ssl
  BIO* out = nullptr;  // owned by ssl
};

CertificateProbe::CertificateProbe(const std::string& name) : parts_(std::make_unique<Parts>()) {
  ERR_clear_error();
  parts_->ssl.reset(SSL_new(probing_context()));
  ASSERT(parts_->ssl != nullptr);
  parts_->in = BIO_new(BIO_s_mem());
  parts_->out = BIO_new(BIO_s_mem());
  SSL_set_bio(parts_->ssl.get(), parts_->in, parts_->out);
  SSL_set_connect_state(parts_->ssl.get());
  if (!name.empty()) SSL_set_tlsext_host_name(parts_->ssl.get(), name.c_str());
}

CertificateProbe::~CertificateProbe() = default;

CertificateProbe::Status CertificateProbe::receive(std::string_view bytes) {
  ERR_clear_error();
  if (!bytes.empty()) BIO_write(parts_->in, bytes.data(), static_cast<int>(bytes.size()));
  SSL* ssl = parts_->ssl.get();
  const int result = SSL_do_handshake(ssl);
  if (result != 1 && SSL_get_error(ssl, result) == SSL_ERROR_WANT_READ) return Status::need_more;
  const X509Ptr leaf(SSL_get1_peer_certificate(ssl));
  unsigned char digest[EVP_MAX_MD_SIZE];
  unsigned int length = 0;
  if (result != 1 || !leaf || X509_digest(leaf.get(), EVP_sha256(), digest, &length) != 1) {
    problem_ = openssl_reason();
    return Status::failed;
  }
  fingerprint_ = base::hex({reinterpret_cast<const char*>(digest), length});
  return Status::done;
}

std::string CertificateProbe::take_output() {
  std::string text = bio_text(parts_->out);
  BIO_reset(parts_->out);
  return text;
}

}  // namespace gatehouse::tls
