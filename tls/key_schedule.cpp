#include "tls/key_schedule.hpp"

#include <algorithm>
#include <cstring>
#include <string>

#include <openssl/core.h>
#include <openssl/core_dispatch.h>
#include <openssl/core_names.h>
#include <openssl/crypto.h>
#include <openssl/kdf.h>
#include <openssl/params.h>
#include <openssl/provider.h>

#include "tls/openssl.hpp"

namespace gatehouse::tls {

namespace {

using Bytes = std::span<const uint8_t>;

thread_local TrafficSecrets* captured = nullptr;

Bytes bytes_of(std::string_view text) {
  return {reinterpret_cast<const uint8_t*>(text.data()), text.size()};
}

// --- HMAC and HKDF (RFC 2104, RFC 5869)

using MacContextPtr = std::unique_ptr<EVP_MAC_CTX, Release<EVP_MAC_CTX_free>>;

/// TLS 1.3 knows two hashes; each of a thread keeps a context that is keyed anew for every use.
struct Hash {
  const char* name;
  size_t size;
  std::array<uint8_t, Secret::bytes_max> of_nothing;  // Hash("")
};

constexpr Hash sha256{
    "SHA256", 32, {0xe3, 0xb0, 0xc4, 0x42, 0x98, 0xfc, 0x1c, 0x14, 0x9a, 0xfb, 0xf4,
                   0xc8, 0x99, 0x6f, 0xb9, 0x24, 0x27, 0xae, 0x41, 0xe4, 0x64, 0x9b,
                   0x93, 0x4c, 0xa4, 0x95, 0x99, 0x1b, 0x78, 0x52, 0xb8, 0x55}};
constexpr Hash sha384{
    "SHA384", 48, {0x38, 0xb0, 0x60, 0xa7, 0x51, 0xac, 0x96, 0x38, 0x4c, 0xd9, 0x32, 0x7e,
                   0xb1, 0xb1, 0xe3, 0x6a, 0x21, 0xfd, 0xb7, 0x11, 0x14, 0xbe, 0x07, 0x43,
                   0x4c, 0x0c, 0xc7, 0xbf, 0x63, 0xf6, 0xe1, 0xda, 0x27, 0x4e, 0xde, 0xbf,
                   0xe7, 0x6f, 0x65, 0xfb, 0xd5, 0x1a, 0xd2, 0xf1, 0x48, 0x98, 0xb9, 0x5b}};

const Hash* hash_of_size(size_t size) {
  if (size == sha256.size) return &sha256;
  return size == sha384.size ? &sha384 : nullptr;
}

const Hash* hash_named(std::string_view name) {
  if (name == "SHA2-256" || name == "SHA256" || name == "SHA-256") return &sha256;
  if (name == "SHA2-384" || name == "SHA384" || name == "SHA-384") return &sha384;
  return nullptr;
}

MacContextPtr make_hmac(const Hash& hash) {
  EVP_MAC* const mac = EVP_MAC_fetch(nullptr, OSSL_MAC_NAME_HMAC, nullptr);
  MacContextPtr made(EVP_MAC_CTX_new(mac));
  EVP_MAC_free(mac);
  std::string name = hash.name;
  const OSSL_PARAM parameters[] = {
      OSSL_PARAM_construct_utf8_string(OSSL_MAC_PARAM_DIGEST, name.data(), 0),
      OSSL_PARAM_construct_end()};
  if (made != nullptr && EVP_MAC_CTX_set_params(made.get(), parameters) != 1) made.reset();
  return made;
}

/// HMAC over the parts in order; `out` takes hash.size bytes.
bool hmac(const Hash& hash, Bytes key, std::initializer_list<Bytes> parts, uint8_t* out) {
  thread_local const MacContextPtr contexts[2] = {make_hmac(sha256), make_hmac(sha384)};
  EVP_MAC_CTX* const context = contexts[&hash == &sha256 ? 0 : 1].get();
  // A null key would mean the one before.
  static constexpr uint8_t no_key = 0;
  if (context == nullptr ||
      EVP_MAC_init(context, key.empty() ? &no_key : key.data(), key.size(), nullptr) != 1) {
    return false;
  }
  for (const Bytes part : parts) {
    if (EVP_MAC_update(context, part.data(), part.size()) != 1) return false;
  }
  size_t written = 0;
  return EVP_MAC_final(context, out, &written, hash.size) == 1;
}

/// HKDF-Expand-Label (RFC 8446 section 7.1).
bool expand_label(const Hash& hash, Bytes secret, Bytes prefix, Bytes label, Bytes data,
                  std::span<uint8_t> out) {
  const size_t label_size = prefix.size() + label.size();
  if (out.size() > UINT8_MAX * hash.size || label_size > UINT8_MAX || data.size() > UINT8_MAX) {
    return false;
  }
  const uint8_t head[] = {static_cast<uint8_t>(out.size() >> 8), static_cast<uint8_t>(out.size()),
                          static_cast<uint8_t>(label_size)};
  const uint8_t data_size[] = {static_cast<uint8_t>(data.size())};
  std::array<uint8_t, Secret::bytes_max> block;
  Bytes previous;
  bool well = true;
  for (uint8_t counter = 1; well && !out.empty(); ++counter) {
    well = hmac(hash, secret, {previous, head, prefix, label, data_size, data, {&counter, 1}},
                block.data());
    const size_t count = std::min(out.size(), hash.size);
    if (well) std::memcpy(out.data(), block.data(), count);
    out = out.subspan(count);
    previous = Bytes(block).first(hash.size);
  }
  OPENSSL_cleanse(block.data(), block.size());
  return well;
}

// --- the function that OpenSSL calls (provider-kdf(7), EVP_KDF-TLS13_KDF(7))

Bytes octets(const OSSL_PARAM* parameters, const char* name) {
  const OSSL_PARAM* const found = OSSL_PARAM_locate_const(parameters, name);
  if (found == nullptr || found->data_type != OSSL_PARAM_OCTET_STRING) return {};
  return {static_cast<const uint8_t*>(found->data), found->data_size};
}

std::string_view text(const OSSL_PARAM* parameters, const char* name) {
  const OSSL_PARAM* const found = OSSL_PARAM_locate_const(parameters, name);
  if (found == nullptr || found->data_type != OSSL_PARAM_UTF8_STRING) return {};
  return {static_cast<const char*>(found->data), found->data_size};
}

/// The step from one stage's secret to the next (RFC 8446 section 7.1): HKDF-Extract, salted with
/// what the stage before derives for it. A missing secret is zeros.
bool extract(const Hash& hash, const OSSL_PARAM* parameters, std::span<uint8_t> out) {
  static constexpr std::array<uint8_t, Secret::bytes_max> zeros{};
  Bytes secret = octets(parameters, OSSL_KDF_PARAM_KEY);
  if (secret.empty()) secret = Bytes(zeros).first(hash.size);
  Bytes salt = octets(parameters, OSSL_KDF_PARAM_SALT);
  std::array<uint8_t, Secret::bytes_max> derived;
  if (!salt.empty()) {
    if (!expand_label(hash, salt, octets(parameters, OSSL_KDF_PARAM_PREFIX),
                      octets(parameters, OSSL_KDF_PARAM_LABEL),
                      Bytes(hash.of_nothing).first(hash.size),
                      std::span(derived).first(hash.size))) {
      return false;
    }
    salt = Bytes(derived).first(hash.size);
  }
  const bool well = out.size() == hash.size && hmac(hash, salt, {secret}, out.data());
  OPENSSL_cleanse(derived.data(), derived.size());
  return well;
}

void capture(Bytes label, Bytes secret) {
  if (captured == nullptr) return;
  const std::string_view name(reinterpret_cast<const char*>(label.data()), label.size());
  if (name == "c ap traffic") captured->client = Secret(secret);
  if (name == "s ap traffic") captured->server = Secret(secret);
}

int derive(void*, unsigned char* out, size_t size, const OSSL_PARAM parameters[]) {
  const OSSL_PARAM* const mode = OSSL_PARAM_locate_const(parameters, OSSL_KDF_PARAM_MODE);
  const Hash* const hash = hash_named(text(parameters, OSSL_KDF_PARAM_DIGEST));
  int kind = -1;
  if (hash == nullptr || mode == nullptr || OSSL_PARAM_get_int(mode, &kind) != 1) return 0;
  const std::span<uint8_t> result(out, size);
  if (kind == EVP_KDF_HKDF_MODE_EXTRACT_ONLY) return extract(*hash, parameters, result) ? 1 : 0;
  if (kind != EVP_KDF_HKDF_MODE_EXPAND_ONLY) return 0;
  const Bytes label = octets(parameters, OSSL_KDF_PARAM_LABEL);
  if (!expand_label(*hash, octets(parameters, OSSL_KDF_PARAM_KEY),
                    octets(parameters, OSSL_KDF_PARAM_PREFIX), label,
                    octets(parameters, OSSL_KDF_PARAM_DATA), result)) {
    return 0;
  }
  capture(label, result);
  return 1;
}

// A context holds nothing: every parameter comes with the call.
char no_state = 0;

void* new_context(void*) {
  return &no_state;
}

void free_context(void*) {}

template <class F>
void (*generic(F* function))() {
  return reinterpret_cast<void (*)()>(function);
}

const OSSL_DISPATCH functions[] = {{OSSL_FUNC_KDF_NEWCTX, generic(new_context)},
                                   {OSSL_FUNC_KDF_FREECTX, generic(free_context)},
                                   {OSSL_FUNC_KDF_DERIVE, generic(derive)},
                                   {0, nullptr}};

const OSSL_ALGORITHM algorithms[] = {
    {"TLS13-KDF", "provider=gatehouse", functions, "HKDF of the TLS 1.3 key schedule"},
    {nullptr, nullptr, nullptr, nullptr}};

const OSSL_ALGORITHM* query(void*, int operation, int* no_cache) {
  *no_cache = 0;
  return operation == OSSL_OP_KDF ? algorithms : nullptr;
}

const OSSL_DISPATCH provider[] = {{OSSL_FUNC_PROVIDER_QUERY_OPERATION, generic(query)},
                                  {0, nullptr}};

int start_provider(const OSSL_CORE_HANDLE*, const OSSL_DISPATCH*, const OSSL_DISPATCH** out,
                   void** context) {
  *out = provider;
  *context = &no_state;
  return 1;
}

}  // namespace

Secret::Secret(Bytes bytes) : size_(std::min(bytes.size(), bytes_max)) {
  std::memcpy(bytes_.data(), bytes.data(), size_);
}

Secret::~Secret() {
  clear();
}

void Secret::clear() {
  if (size_ > 0) OPENSSL_cleanse(bytes_.data(), bytes_.size());
  size_ = 0;
}

bool load_key_schedule() {
  struct Loaded {
    // Beside OpenSSL's own provider, not in its place.
    OSSL_PROVIDER* handle = OSSL_PROVIDER_add_builtin(nullptr, "gatehouse", start_provider) == 1
                                ? OSSL_PROVIDER_try_load(nullptr, "gatehouse", 1)
                                : nullptr;
    ~Loaded() {
      if (handle != nullptr) OSSL_PROVIDER_unload(handle);
    }
  };
  static const Loaded loaded;
  return loaded.handle != nullptr;
}

CaptureSecrets::CaptureSecrets(TrafficSecrets* secrets) {
  captured = secrets;
}

CaptureSecrets::~CaptureSecrets() {
  captured = nullptr;
}

bool expand_label(const Secret& secret, std::string_view label, std::span<uint8_t> out) {
  const Hash* const hash = hash_of_size(secret.bytes().size());
  return hash != nullptr &&
         expand_label(*hash, secret.bytes(), bytes_of("tls13 "), bytes_of(label), {}, out);
}

}  // namespace gatehouse::tls
