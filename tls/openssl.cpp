#include "tls/openssl.hpp"

#include <algorithm>
#include <ctime>

#include <openssl/crypto.h>
#include <openssl/err.h>

namespace gatehouse::tls {

namespace {

std::string describe(unsigned long code, const char* data, int flags) {
  if (code == 0) return "unknown reason";
  const char* reason = ERR_reason_error_string(code);
  std::string text = reason ? reason : "error " + std::to_string(ERR_GET_REASON(code));
  if ((flags & ERR_TXT_STRING) != 0 && data != nullptr && *data != '\0') {
    text += " (";
    text += data;
    text += ')';
  }
  return text;
}

std::string take_reason(unsigned long& code) {
  const char* data = nullptr;
  int flags = 0;
  code = ERR_get_error_all(nullptr, nullptr, nullptr, &data, &flags);
  std::string text = describe(code, data, flags);
  ERR_clear_error();
  return text;
}

}  // namespace

std::string openssl_reason() {
  unsigned long code = 0;
  return take_reason(code);
}

base::Error openssl_error(base::ErrorKind kind, std::string context) {
  unsigned long code = 0;
  context += ": ";
  context += take_reason(code);
  return base::Error(kind, std::move(context), static_cast<int>(code));
}

std::string bio_text(BIO* bio) {
  char* data = nullptr;
  const long length = BIO_get_mem_data(bio, &data);
  return length > 0 ? std::string(data, static_cast<size_t>(length)) : std::string();
}

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

std::optional<base::WallClock::time_point> time_of(const ASN1_TIME* time) {
  std::tm parts{};
  if (ASN1_TIME_to_tm(time, &parts) != 1) return std::nullopt;
  constexpr std::time_t latest = 7'258'118'400;  // 2200-01-01
  return base::WallClock::from_time_t(std::min(timegm(&parts), latest));
}

std::string take_secret_text(BIO* bio) {
  char* data = nullptr;
  const long length = BIO_get_mem_data(bio, &data);
  if (length <= 0) return {};
  std::string text(data, static_cast<size_t>(length));
  OPENSSL_cleanse(data, static_cast<size_t>(length));
  return text;
}

void cleanse(std::string& secret) {
  if (!secret.empty()) OPENSSL_cleanse(secret.data(), secret.size());
  secret.clear();
}

}  // namespace gatehouse::tls
