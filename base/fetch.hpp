// Outgoing control requests over HTTP(S): ACME, the on-demand question, providers.
//
// Not the data path: proxied requests never pass here. libcurl behind a coroutine; the only file
// that knows libcurl is fetch.cpp. Lives on the control thread's io_context, and only there.
#pragma once

#include <chrono>
#include <cstddef>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <boost/asio/awaitable.hpp>
#include <boost/asio/io_context.hpp>

#include "base/error.hpp"

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

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace gatehouse::base
