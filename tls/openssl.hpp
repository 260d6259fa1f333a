// Owning handles for OpenSSL's objects, its error queue as base::Error, its names and times as
// ours.
//
// Only for the files of this folder and acme/jose. Any thread; the error queue is the thread's own.
#pragma once

#include <memory>
#include <optional>
#include <string>

#include <openssl/bio.h>
#include <openssl/bn.h>
#include <openssl/evp.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>
#include <openssl/x509v3.h>

#include "base/clock.hpp"
#include "base/error.hpp"

namespace gatehouse::tls {

template <auto release>
struct Release {
  template <class T>
  void operator()(T* object) const {
    release(object);
  }
};

inline void release_certificates(STACK_OF(X509) * stack) {
  sk_X509_pop_free(stack, X509_free);
}

using BioPtr = std::unique_ptr<BIO, Release<BIO_free_all>>;
using BignumPtr = std::unique_ptr<BIGNUM, Release<BN_free>>;
using ExtensionPtr = std::unique_ptr<X509_EXTENSION, Release<X509_EXTENSION_free>>;
using GeneralNamesPtr = std::unique_ptr<GENERAL_NAMES, Release<GENERAL_NAMES_free>>;
using KeyPtr = std::unique_ptr<EVP_PKEY, Release<EVP_PKEY_free>>;
using RequestPtr = std::unique_ptr<X509_REQ, Release<X509_REQ_free>>;
using SslPtr = std::unique_ptr<SSL, Release<SSL_free>>;
using SslContextPtr = std::unique_ptr<SSL_CTX, Release<SSL_CTX_free>>;
using SslSessionPtr = std::unique_ptr<SSL_SESSION, Release<SSL_SESSION_free>>;
using X509Ptr = std::unique_ptr<X509, Release<X509_free>>;
using X509StackPtr = std::unique_ptr<STACK_OF(X509), Release<release_certificates>>;

/// The first reason in the thread's error queue in OpenSSL's words, "unknown reason" when the queue
/// is empty. Empties the queue.
std::string openssl_reason();

/// "context: reason", the cause being OpenSSL's packed code. Empties the queue.
base::Error openssl_error(base::ErrorKind kind, std::string context);

/// All that was written to a memory BIO.
std::string bio_text(BIO* bio);

/// The common name, or the whole name: a certificate of today's CAs may have no common one.
std::string name_words(const X509_NAME* name);

/// None if it is damaged. Nothing is after the year 2200: no CA promises longer, and further dates
/// would overflow the clock's nanoseconds. Leaves the reason in the thread's error queue.
std::optional<base::WallClock::time_point> time_of(const ASN1_TIME* time);

/// The same as bio_text() for private keys: the BIO's copy is cleansed.
std::string take_secret_text(BIO* bio);

/// Overwrites the characters of a secret before its memory is given back.
void cleanse(std::string& secret);

}  // namespace gatehouse::tls
