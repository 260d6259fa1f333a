// What went wrong, on which side, and whether trying again may help.
//
// Not for bad configuration (config::Diagnostic) and not for our own bugs (ASSERT). An Error is
// logged once, by the exchange or control loop that ends it. Any thread.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include <boost/system/result.hpp>

namespace gatehouse::base {

enum class ErrorKind : uint8_t {
  closed,     // the peer ended the connection in an orderly way, too early
  reset,      // the connection broke
  refused,    // nobody listens there
  timeout,    // a named wait ran out
  resolve,    // a name has no address
  tls,        // handshake or verification failed
  protocol,   // the peer broke the protocol's rules
  limit,      // a named limit was reached
  cancelled,  // we stopped it
  invalid,    // input that makes no sense
  not_found,
  denied,
  corrupt,      // stored data that fails its checks
  io,           // the operating system refused: disk, descriptors, permissions
  unavailable,  // cannot be done now
};

enum class Side : uint8_t { downstream, upstream, internal };

/// When the same request may be sent once more.
enum class Retry : uint8_t {
  never,
  if_reused,  // only if the connection had been idle in the pool
  always,     // no byte of it reached the peer
};

struct Error {
  ErrorKind kind = ErrorKind::io;
  Side side = Side::internal;
  Retry retry = Retry::never;
  int cause = 0;        // errno, or the library's code; 0: none
  std::string context;  // a sentence for a person: names the thing and what happened

  Error() = default;
  Error(ErrorKind k, std::string text, int code = 0)
      : kind(k), cause(code), context(std::move(text)) {}
  Error(ErrorKind k, Side s, Retry r, std::string text, int code = 0)
      : kind(k), side(s), retry(r), cause(code), context(std::move(text)) {}
};

template <class T>
using Result = boost::system::result<T, Error>;

std::string_view name(ErrorKind kind);

/// Descriptors, memory or buffers of this machine ran out: no peer is to blame.
bool out_of_resources(int code);

/// "context: strerror(errno)" with the kind that fits the errno.
Error from_errno(int code, std::string context);

/// Called by result::value() on an error: start-up code only, the data path never throws.
[[noreturn]] void throw_exception_from_error(const Error& error, const boost::source_location&);

[[noreturn]] void assertion_failed(const char* expression, const char* file, int line);

}  // namespace gatehouse::base

/// Our own bug, checked in every build: stops the program rather than going on with broken state.
#define ASSERT(expression)       \
  (static_cast<bool>(expression) \
       ? void(0)                 \
       : ::gatehouse::base::assertion_failed(#expression, __FILE__, __LINE__))
