// Outgoing control requests over HTTP(S), and mail: ACME, the on-demand question, notifications.
//
// Not the data path: proxied requests never pass here. libcurl behind a coroutine; the only files
// that know libcurl are fetch*. Lives on the control thread's io_context, and only there.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <boost/asio/awaitable.hpp>
#include <boost/asio/io_context.hpp>

#include "base/error.hpp"
#include "base/mail_message.hpp"

namespace gatehouse::base {

struct FetchRequest {
  std::string method = "GET";
  std::string url;
  std::vector<std::pair<std::string, std::string>> fields;
  std::string body;
  std::string ca_file;  // further trusted roots (PEM), besides the system's; empty: none
  std::chrono::milliseconds connect_timeout{10'000};
  std::chrono::milliseconds timeout{45'000};  // the whole request
  size_t response_body_max = 1024 * 1024;
  bool follow_redirects = false;
  bool fresh_connection = false;  // none that is kept: a probe must not trust what may hang
};

struct FetchResponse {
  int status = 0;
  std::vector<std::pair<std::string, std::string>> fields;  // names in lower case
  std::string body;

  /// The first field of that lower-case name, or empty.
  std::string_view field(std::string_view name) const;
};

/// How a message is handed to its mail server (RFC 5321, submission by RFC 6409).
struct MailRequest {
  MailMessage message;
  std::string host;
  uint16_t port = 587;
  bool implicit_tls = false;  // from the first byte (RFC 8314), instead of STARTTLS
  bool tls_required = true;   // false: unencrypted where the server offers no STARTTLS
  std::string user;           // empty: no authentication
  std::string password;       // never sent unencrypted
  std::string ca_file;        // as FetchRequest's
  std::chrono::milliseconds connect_timeout{10'000};
  std::chrono::milliseconds timeout{45'000};  // the whole conversation
};

class Fetcher {
 public:
  /// Keeps connections for reuse. Must outlive every fetch() it started.
  explicit Fetcher(boost::asio::io_context& control);
  ~Fetcher();
  Fetcher(const Fetcher&) = delete;
  Fetcher& operator=(const Fetcher&) = delete;

  /// One request. Honours HTTPS_PROXY and NO_PROXY. Any status is a success; an Error says that
  /// no whole response came: resolve, refused, timeout, tls, reset, limit (the body's size).
  boost::asio::awaitable<Result<FetchResponse>> fetch(FetchRequest request);

  /// Hands one message over, one after the other. Well: the server has taken it for every
  /// recipient. Errors as those of fetch(), and denied (the user or the password), invalid (what
  /// must not stand in a mail).
  boost::asio::awaitable<Result<void>> send_mail(MailRequest request);

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace gatehouse::base
