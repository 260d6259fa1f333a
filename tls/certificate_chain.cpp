#include "tls/certificate_chain.hpp"

#include <array>
#include <map>
#include <mutex>
#include <utility>

#include <fmt/format.h>
#include <openssl/err.h>
#include <openssl/pem.h>

namespace gatehouse::tls {

namespace {

using base::Error;
using base::ErrorKind;

constexpr int chain_certificates_max = 10;  // intermediates; browsers give up earlier

/// One PEM block as OpenSSL hands it out; the data may be a private key.
struct Block {
  char* type = nullptr;
  char* header = nullptr;
  unsigned char* data = nullptr;
  long length = 0;

  Block() = default;
  Block(const Block&) = delete;
  Block& operator=(const Block&) = delete;
  ~Block() {
    OPENSSL_free(type);
    OPENSSL_free(header);
    OPENSSL_clear_free(data, static_cast<size_t>(length));
  }
  bool is_certificate() const {
    const std::string_view name(type);
    return name == PEM_STRING_X509 || name == PEM_STRING_X509_OLD;
  }
};

using Digest = std::array<unsigned char, 32>;

Digest digest_of(const std::vector<std::string>& ders) {
  std::string all;
  for (const auto& der : ders) all += der;  // DER ends itself: no two lists read the same
  Digest digest;
  ASSERT(EVP_Digest(all.data(), all.size(), digest.data(), nullptr, EVP_sha256(), nullptr) == 1);
  return digest;
}

/// Chains in use: ten thousand leaves of one CA share one. Locked while loading only.
class ChainCache {
 public:
  std::shared_ptr<const Chain> find(const Digest& digest) {
    const std::lock_guard lock(mutex_);
    const auto at = chains_.find(digest);
    return at == chains_.end() ? nullptr : at->second.lock();
  }
  std::shared_ptr<const Chain> keep(const Digest& digest, std::shared_ptr<const Chain> chain) {
    const std::lock_guard lock(mutex_);
    std::erase_if(chains_, [](const auto& entry) { return entry.second.expired(); });
    auto& slot = chains_[digest];
    if (std::shared_ptr<const Chain> earlier = slot.lock()) return earlier;
    slot = chain;
    return chain;
  }

 private:
  std::mutex mutex_;
  std::map<Digest, std::weak_ptr<const Chain>> chains_;
};

}  // namespace

Result<std::vector<std::string>> certificates_in(std::string_view pem, std::string_view source) {
  const BioPtr bio(BIO_new_mem_buf(pem.data(), static_cast<int>(pem.size())));
  std::vector<std::string> ders;
  while (true) {
    Block block;
    if (PEM_read_bio(bio.get(), &block.type, &block.header, &block.data, &block.length) != 1) break;
    if (!block.is_certificate()) continue;
    ders.emplace_back(reinterpret_cast<const char*>(block.data), static_cast<size_t>(block.length));
    if (ders.size() > chain_certificates_max + 1) {
      return Error(ErrorKind::limit,
                   fmt::format("{}: more than {} certificates in one chain; keep the leaf and its "
                               "intermediates",
                               source, chain_certificates_max + 1));
    }
  }
  // "No start line" is the text's orderly end; anything else is a damaged block.
  if (ERR_GET_REASON(ERR_peek_last_error()) != PEM_R_NO_START_LINE) {
    return openssl_error(ErrorKind::invalid, fmt::format("{}: damaged PEM", source));
  }
  ERR_clear_error();
  if (ders.empty()) {
    return Error(ErrorKind::invalid,
                 fmt::format("{}: no certificate in PEM form in it; it needs a block "
                             "'-----BEGIN CERTIFICATE-----'",
                             source));
  }
  return ders;
}

Result<X509Ptr> decode_certificate(const std::string& der, std::string_view source) {
  const auto* data = reinterpret_cast<const unsigned char*>(der.data());
  const auto* end = data + der.size();
  X509Ptr certificate(d2i_X509(nullptr, &data, static_cast<long>(der.size())));
  if (!certificate || data != end) {
    return openssl_error(ErrorKind::invalid, fmt::format("{}: damaged certificate", source));
  }
  // Fills the cache of extensions now, on one thread.
  X509_check_purpose(certificate.get(), -1, 0);
  if ((X509_get_extension_flags(certificate.get()) & EXFLAG_INVALID) != 0 ||
      X509_get0_pubkey(certificate.get()) == nullptr) {
    return openssl_error(ErrorKind::invalid,
                         fmt::format("{}: certificate with invalid contents", source));
  }
  return certificate;
}

Result<std::shared_ptr<const Chain>> shared_chain(const std::vector<std::string>& ders,
                                                  std::string_view source) {
  static ChainCache& cache = *new ChainCache;  // outlives every certificate, also static ones
  const Digest digest = digest_of(ders);
  if (std::shared_ptr<const Chain> known = cache.find(digest)) return known;
  auto chain = std::make_shared<Chain>();
  chain->stack.reset(sk_X509_new_null());
  for (const auto& der : ders) {
    auto certificate = decode_certificate(der, source);
    if (!certificate) return certificate.error();
    ASSERT(sk_X509_push(chain->stack.get(), certificate->release()) > 0);
  }
  return cache.keep(digest, std::move(chain));
}

}  // namespace gatehouse::tls
