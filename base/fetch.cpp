#include "base/fetch.hpp"

#include <strings.h>

#include <fmt/format.h>

#include "base/fetch_engine.hpp"

namespace gatehouse::base {

namespace asio = boost::asio;

namespace {

constexpr long redirects_max = 5;
constexpr size_t response_head_bytes_max = 64 * 1024;
constexpr size_t response_fields_max = 128;

/// One request on its way.
struct Request : Transfer {
  using Transfer::Transfer;

  size_t body_max = 0;
  size_t head_bytes = 0;
  int sendings = 0;
  bool safe = true;  // may be sent twice by curl itself
  bool redirects = false;
  bool body_too_large = false;
  bool head_too_large = false;
  bool sent_twice = false;
  FetchResponse response;
};

size_t on_body(const char* bytes, size_t, size_t count, void* context) {
  auto& transfer = *static_cast<Request*>(context);
  if (transfer.response.body.size() + count > transfer.body_max) {
    transfer.body_too_large = true;
    return 0;
  }
  transfer.response.body.append(bytes, count);
  return count;
}

std::string_view trimmed(std::string_view text) {
  while (!text.empty() && (text.front() == ' ' || text.front() == '\t')) text.remove_prefix(1);
  while (!text.empty() && std::string_view(" \t\r\n").find(text.back()) != std::string_view::npos) {
    text.remove_suffix(1);
  }
  return text;
}

size_t on_head_line(const char* bytes, size_t, size_t count, void* context) {
  auto& transfer = *static_cast<Request*>(context);
  auto& response = transfer.response;
  const std::string_view line(bytes, count);
  transfer.head_bytes += count;
  if (transfer.head_bytes > response_head_bytes_max ||
      response.fields.size() >= response_fields_max) {
    transfer.head_too_large = true;
    return 0;
  }
  if (line.starts_with("HTTP/")) {  // a further response: 1xx before it, or a redirect followed
    response.fields.clear();
    response.body.clear();
    return count;
  }
  const size_t colon = line.find(':');
  if (colon == std::string_view::npos) return count;
  std::string field_name(trimmed(line.substr(0, colon)));
  for (char& c : field_name) {
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
  }
  response.fields.emplace_back(std::move(field_name), std::string(trimmed(line.substr(colon + 1))));
  return count;
}

/// curl repeats a request by itself when a kept connection turns out dead. That is right for GET,
/// but a POST may have been acted on: the caller decides, not curl.
int before_sending(void* context, char*, char*, int, int) {
  auto& transfer = *static_cast<Request*>(context);
  if (++transfer.sendings > 1 && !transfer.safe && !transfer.redirects) {
    transfer.sent_twice = true;
    return CURL_PREREQFUNC_ABORT;
  }
  return CURL_PREREQFUNC_OK;
}

/// "host" or "host:port" of a URL, for messages; never its user or query.
std::string host_of(const std::string& url) {
  std::string_view rest = url;
  if (const size_t scheme = rest.find("://"); scheme != std::string_view::npos) {
    rest.remove_prefix(scheme + 3);
  }
  rest = rest.substr(0, rest.find_first_of("/?#"));
  if (const size_t user = rest.rfind('@'); user != std::string_view::npos) {
    rest.remove_prefix(user + 1);
  }
  return rest.empty() ? std::string("(no host)") : std::string(rest);
}

void set_method(CURL* easy, const FetchRequest& request) {
  if (request.method == "GET" && request.body.empty()) return;
  if (request.method == "HEAD") {
    curl_easy_setopt(easy, CURLOPT_NOBODY, 1L);
    return;
  }
  if (!request.body.empty() || request.method == "POST") {
    curl_easy_setopt(easy, CURLOPT_POST, 1L);
    curl_easy_setopt(easy, CURLOPT_POSTFIELDSIZE_LARGE,
                     static_cast<curl_off_t>(request.body.size()));
    curl_easy_setopt(easy, CURLOPT_POSTFIELDS, request.body.data());
  }
  if (request.method != "POST") {
    curl_easy_setopt(easy, CURLOPT_CUSTOMREQUEST, request.method.c_str());
  }
}

Result<void> set_fields(Request& transfer, const FetchRequest& request) {
  bool content_type = false;
  for (const auto& [key, value] : request.fields) {
    const std::string line = value.empty() ? key + ";" : key + ": " + value;
    if (line.find_first_of(std::string_view("\r\n\0", 3)) != std::string::npos) {
      return Error(ErrorKind::invalid, "a request field holds a line break: " + key);
    }
    if (strcasecmp(key.c_str(), "content-type") == 0) content_type = true;
    transfer.list = curl_slist_append(transfer.list, line.c_str());
  }
  // curl's own ideas: a form's type, and a pause of up to a second for 100-continue.
  if (!content_type) transfer.list = curl_slist_append(transfer.list, "Content-Type:");
  transfer.list = curl_slist_append(transfer.list, "Expect:");
  curl_easy_setopt(transfer.easy, CURLOPT_HTTPHEADER, transfer.list);
  return {};
}

void set_callbacks(Request& transfer) {
  curl_easy_setopt(transfer.easy, CURLOPT_WRITEFUNCTION, &on_body);
  curl_easy_setopt(transfer.easy, CURLOPT_WRITEDATA, &transfer);
  curl_easy_setopt(transfer.easy, CURLOPT_HEADERFUNCTION, &on_head_line);
  curl_easy_setopt(transfer.easy, CURLOPT_HEADERDATA, &transfer);
  curl_easy_setopt(transfer.easy, CURLOPT_PREREQFUNCTION, &before_sending);
  curl_easy_setopt(transfer.easy, CURLOPT_PREREQDATA, &transfer);
  curl_easy_setopt(transfer.easy, CURLOPT_ERRORBUFFER, transfer.reason.data());
}

Result<void> prepare(Request& transfer, const FetchRequest& request) {
  const bool secure = request.url.starts_with("https://");
  if (!secure && !request.url.starts_with("http://")) {
    return Error(ErrorKind::invalid, "only http and https addresses can be fetched, not that of " +
                                         host_of(request.url));
  }
  if (request.url.find('\0') != std::string::npos) {
    return Error(ErrorKind::invalid, host_of(request.url) + ": the address holds a null byte");
  }
  CURL* easy = transfer.easy;
  transfer.body_max = request.response_body_max;
  transfer.safe = request.method == "GET" || request.method == "HEAD";
  transfer.redirects = request.follow_redirects;
  set_callbacks(transfer);
  curl_easy_setopt(easy, CURLOPT_URL, request.url.c_str());
  curl_easy_setopt(easy, CURLOPT_PROTOCOLS_STR, "http,https");
  curl_easy_setopt(easy, CURLOPT_REDIR_PROTOCOLS_STR, "http,https");
  curl_easy_setopt(easy, CURLOPT_FOLLOWLOCATION, request.follow_redirects ? 1L : 0L);
  curl_easy_setopt(easy, CURLOPT_MAXREDIRS, redirects_max);
  curl_easy_setopt(easy, CURLOPT_USERAGENT, "gatehouse/" GATEHOUSE_VERSION);
  curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L);
  curl_easy_setopt(easy, CURLOPT_QUICK_EXIT, 1L);  // never wait for a resolver thread
  curl_easy_setopt(easy, CURLOPT_SUPPRESS_CONNECT_HEADERS, 1L);
  curl_easy_setopt(easy, CURLOPT_TCP_KEEPALIVE, 1L);
  curl_easy_setopt(easy, CURLOPT_CONNECTTIMEOUT_MS,
                   static_cast<long>(request.connect_timeout.count()));
  curl_easy_setopt(easy, CURLOPT_TIMEOUT_MS, static_cast<long>(request.timeout.count()));
  // Over TLS, a burst shares one HTTP/2 connection, also while it is still being set up.
  curl_easy_setopt(easy, CURLOPT_HTTP_VERSION,
                   secure ? CURL_HTTP_VERSION_2TLS : CURL_HTTP_VERSION_1_1);
  curl_easy_setopt(easy, CURLOPT_PIPEWAIT, secure && !request.fresh_connection ? 1L : 0L);
  curl_easy_setopt(easy, CURLOPT_FRESH_CONNECT, request.fresh_connection ? 1L : 0L);
  set_method(easy, request);
  if (auto set = set_fields(transfer, request); !set) return set;
  return set_roots(transfer, request.ca_file);
}

Error failure_of(const Request& transfer, const FetchRequest& request) {
  const std::string host = host_of(request.url);
  if (transfer.body_too_large) {
    return Error(
        ErrorKind::limit, Side::upstream, Retry::never,
        fmt::format("{} sent more than the {} bytes a response may have", host, transfer.body_max));
  }
  if (transfer.head_too_large) {
    return Error(ErrorKind::limit, Side::upstream, Retry::never,
                 fmt::format("{} sent a response head of more than {} bytes or {} fields", host,
                             response_head_bytes_max, response_fields_max));
  }
  if (transfer.sent_twice) {
    return Error(ErrorKind::reset, Side::upstream, Retry::if_reused,
                 host + " closed a kept connection as the request was sent");
  }
  // The certificate is what fails, and connecting is what may be repeated without harm.
  auto kind = kind_of(transfer.code);
  // curl's "unsupported protocol" is our address before sending, the server's HTTP/0.9 after it.
  if (kind == ErrorKind::invalid && transfer.sendings > 0) kind = ErrorKind::protocol;
  const bool unsent = kind == ErrorKind::resolve || kind == ErrorKind::refused ||
                      (kind == ErrorKind::tls && transfer.sendings == 0);
  return Error(kind, Side::upstream, unsent ? Retry::always : Retry::never,
               fmt::format("{} gave no answer: {}", host, transfer.words()), transfer.code);
}

}  // namespace

Fetcher::Fetcher(asio::io_context& control) : state_(std::make_unique<State>()) {
  static const CURLcode ready = curl_global_init(CURL_GLOBAL_DEFAULT);
  ASSERT(ready == CURLE_OK);
  state_->engine = std::make_shared<Engine>(control);
}

Fetcher::~Fetcher() {
  state_->engine->close();
  state_->stopping = true;
  if (state_->mail_thread) state_->mail_thread->join();
}

std::string_view FetchResponse::field(std::string_view name) const {
  for (const auto& [key, value] : fields) {
    if (key == name) return value;
  }
  return {};
}

asio::awaitable<Result<FetchResponse>> Fetcher::fetch(FetchRequest request) {
  const auto engine = state_->engine;
  Request transfer(engine->control());
  transfer.easy = curl_easy_init();
  if (transfer.easy == nullptr) co_return Error(ErrorKind::io, "out of memory for a request");
  const TransferGuard guard(engine, transfer);
  if (const auto prepared = prepare(transfer, request); !prepared) co_return prepared.error();
  const bool started = co_await complete(*engine, transfer);
  if (!started) {
    co_return Error(ErrorKind::cancelled, host_of(request.url) + ": the program is stopping");
  }
  if (!transfer.finished) {
    co_return Error(ErrorKind::cancelled,
                    "the request to " + host_of(request.url) + " was given up");
  }
  if (transfer.code != CURLE_OK) co_return failure_of(transfer, request);
  long status = 0;
  curl_easy_getinfo(transfer.easy, CURLINFO_RESPONSE_CODE, &status);
  transfer.response.status = static_cast<int>(status);
  co_return std::move(transfer.response);
}

}  // namespace gatehouse::base
