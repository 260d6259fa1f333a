#include "base/fetch.hpp"

#include <array>
#include <charconv>
#include <filesystem>
#include <fstream>
#include <limits>
#include <map>
#include <sstream>
#include <unistd.h>

#include <boost/asio/posix/stream_descriptor.hpp>
#include <boost/asio/redirect_error.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <curl/curl.h>

namespace gatehouse::base {

namespace asio = boost::asio;

namespace {

constexpr long connections_per_host_max = 64;
constexpr long connections_max = 256;
constexpr long idle_connections_max = 32;
constexpr long redirects_max = 5;
constexpr size_t response_head_bytes_max = 64 * 1024;
constexpr size_t response_fields_max = 128;
constexpr size_t ca_file_bytes_max = 4 * 1024 * 1024;

/// One request on its way; owned by the coroutine that waits for it.
struct Transfer {
  explicit Transfer(asio::io_context& control) : done(control) {
    done.expires_at(asio::steady_timer::time_point::max());
  }

  CURL* easy = nullptr;
  curl_slist* fields = nullptr;
  std::string roots;  // the bundle curl reads from, when it has to be one piece
  size_t body_max = 0;
  size_t head_bytes = 0;
  int sendings = 0;
  bool safe = true;  // may be sent twice by curl itself
  bool redirects = false;
  bool body_too_large = false;
  bool head_too_large = false;
  bool sent_twice = false;
  bool finished = false;
  CURLcode code = CURLE_OK;
  std::array<char, CURL_ERROR_SIZE> reason{};
  FetchResponse response;
  asio::steady_timer done;  // an event: cancelled when the transfer ends
};

/// A descriptor that curl wants to be told about.
struct Watch {
  Watch(asio::io_context& control, curl_socket_t socket) : descriptor(control, socket) {}
  ~Watch() {
    // curl closes its sockets itself.
    if (descriptor.is_open()) descriptor.release();
  }

  asio::posix::stream_descriptor descriptor;
  int wanted = CURL_POLL_NONE;
  bool waiting_read = false;
  bool waiting_write = false;
};

/// libcurl's multi interface driven by the io_context. Never called recursively: every call into
/// curl_multi_socket_action comes from a handler of the io_context.
class Engine : public std::enable_shared_from_this<Engine> {
 public:
  explicit Engine(asio::io_context& control);
  ~Engine();

  asio::io_context& control() { return control_; }
  bool start(Transfer& transfer);
  void abandon(Transfer& transfer);
  /// Ends every transfer as cancelled; nothing starts any more.
  void close();

 private:
  static int on_socket(CURL*, curl_socket_t socket, int what, void* self, void*);
  static int on_timer(CURLM*, long milliseconds, void* self);

  void watch(curl_socket_t socket, int what);
  void wait_for(const std::shared_ptr<Watch>& watched, curl_socket_t socket,
                asio::posix::stream_descriptor::wait_type direction);
  void set_timer(long milliseconds);
  void act(curl_socket_t socket, int events);
  void collect();

  asio::io_context& control_;
  CURLM* multi_;
  asio::steady_timer timer_;
  std::map<curl_socket_t, std::shared_ptr<Watch>> watches_;
  std::map<CURL*, Transfer*> transfers_;
  bool closed_ = false;
};

Engine::Engine(asio::io_context& control)
    : control_(control), multi_(curl_multi_init()), timer_(control) {
  ASSERT(multi_ != nullptr);
  curl_multi_setopt(multi_, CURLMOPT_SOCKETFUNCTION, &Engine::on_socket);
  curl_multi_setopt(multi_, CURLMOPT_SOCKETDATA, this);
  curl_multi_setopt(multi_, CURLMOPT_TIMERFUNCTION, &Engine::on_timer);
  curl_multi_setopt(multi_, CURLMOPT_TIMERDATA, this);
  curl_multi_setopt(multi_, CURLMOPT_MAX_HOST_CONNECTIONS, connections_per_host_max);
  curl_multi_setopt(multi_, CURLMOPT_MAX_TOTAL_CONNECTIONS, connections_max);
  curl_multi_setopt(multi_, CURLMOPT_MAXCONNECTS, idle_connections_max);
}

Engine::~Engine() {
  close();
  curl_multi_setopt(multi_, CURLMOPT_TIMERFUNCTION, nullptr);
  curl_multi_cleanup(multi_);
}

bool Engine::start(Transfer& transfer) {
  if (closed_) return false;
  transfers_.emplace(transfer.easy, &transfer);
  if (curl_multi_add_handle(multi_, transfer.easy) == CURLM_OK) return true;
  transfers_.erase(transfer.easy);
  return false;
}

void Engine::abandon(Transfer& transfer) {
  if (transfers_.erase(transfer.easy) > 0) curl_multi_remove_handle(multi_, transfer.easy);
}

void Engine::close() {
  closed_ = true;
  timer_.cancel();
  while (!transfers_.empty()) {
    Transfer& transfer = *transfers_.begin()->second;
    abandon(transfer);
    transfer.code = CURLE_ABORTED_BY_CALLBACK;
    transfer.finished = true;
    transfer.done.cancel();
  }
}

int Engine::on_socket(CURL*, curl_socket_t socket, int what, void* self, void*) {
  static_cast<Engine*>(self)->watch(socket, what);
  return 0;
}

int Engine::on_timer(CURLM*, long milliseconds, void* self) {
  static_cast<Engine*>(self)->set_timer(milliseconds);
  return 0;
}

void Engine::watch(curl_socket_t socket, int what) {
  if (what == CURL_POLL_REMOVE) {
    watches_.erase(socket);
    return;
  }
  auto& watched = watches_[socket];
  if (!watched) watched = std::make_shared<Watch>(control_, socket);
  watched->wanted = what;
  if ((what & CURL_POLL_IN) != 0 && !watched->waiting_read) {
    wait_for(watched, socket, asio::posix::stream_descriptor::wait_read);
  }
  if ((what & CURL_POLL_OUT) != 0 && !watched->waiting_write) {
    wait_for(watched, socket, asio::posix::stream_descriptor::wait_write);
  }
}

void Engine::wait_for(const std::shared_ptr<Watch>& watched, curl_socket_t socket,
                      asio::posix::stream_descriptor::wait_type direction) {
  const bool reading = direction == asio::posix::stream_descriptor::wait_read;
  (reading ? watched->waiting_read : watched->waiting_write) = true;
  // Weak: curl may have dropped the socket, and even opened another of that number, by then.
  watched->descriptor.async_wait(
      direction, [self = weak_from_this(), weak = std::weak_ptr<Watch>(watched), socket,
                  reading](boost::system::error_code error) {
        const auto engine = self.lock();
        auto watching = weak.lock();
        if (!engine || !watching || engine->closed_) return;
        (reading ? watching->waiting_read : watching->waiting_write) = false;
        if (error == asio::error::operation_aborted) return;
        const int wanted = reading ? CURL_POLL_IN : CURL_POLL_OUT;
        if ((watching->wanted & wanted) == 0) return;
        watching.reset();
        int events = reading ? CURL_CSELECT_IN : CURL_CSELECT_OUT;
        if (error) events |= CURL_CSELECT_ERR;
        engine->act(socket, events);
        // curl calls on_socket only when its wish changes, so the same wish is renewed here.
        if (const auto still = weak.lock()) engine->watch(socket, still->wanted);
      });
}

void Engine::set_timer(long milliseconds) {
  timer_.cancel();
  if (milliseconds < 0 || closed_) return;
  timer_.expires_after(std::chrono::milliseconds(milliseconds));
  timer_.async_wait([self = weak_from_this()](boost::system::error_code error) {
    const auto engine = self.lock();
    if (!error && engine && !engine->closed_) engine->act(CURL_SOCKET_TIMEOUT, 0);
  });
}

void Engine::act(curl_socket_t socket, int events) {
  int running = 0;
  curl_multi_socket_action(multi_, socket, events, &running);
  collect();
}

void Engine::collect() {
  int left = 0;
  while (const CURLMsg* message = curl_multi_info_read(multi_, &left)) {
    if (message->msg != CURLMSG_DONE) continue;
    const CURLcode code = message->data.result;  // the message dies with the handle's removal
    const auto found = transfers_.find(message->easy_handle);
    if (found == transfers_.end()) continue;
    Transfer& transfer = *found->second;
    abandon(transfer);
    transfer.code = code;
    transfer.finished = true;
    transfer.done.cancel();
  }
}

/// Leaves nothing of the transfer inside curl, however the coroutine ends.
struct TransferGuard {
  TransferGuard(std::shared_ptr<Engine> e, Transfer& t) : engine(std::move(e)), transfer(t) {}
  TransferGuard(const TransferGuard&) = delete;
  TransferGuard& operator=(const TransferGuard&) = delete;
  ~TransferGuard() {
    if (transfer.easy == nullptr) return;
    // Given up because nothing came: the next request must not share that connection.
    if (!transfer.finished) curl_easy_setopt(transfer.easy, CURLOPT_FORBID_REUSE, 1L);
    engine->abandon(transfer);
    curl_easy_cleanup(transfer.easy);
    curl_slist_free_all(transfer.fields);
  }

  std::shared_ptr<Engine> engine;
  Transfer& transfer;
};

size_t on_body(const char* bytes, size_t, size_t count, void* context) {
  auto& transfer = *static_cast<Transfer*>(context);
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
  auto& transfer = *static_cast<Transfer*>(context);
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
  auto& transfer = *static_cast<Transfer*>(context);
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

Result<std::string> read_roots(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) return from_errno(errno, "cannot read the trusted roots in " + path);
  std::string text(ca_file_bytes_max + 1, '\0');
  file.read(text.data(), static_cast<std::streamsize>(text.size()));
  text.resize(static_cast<size_t>(file.gcount()));
  if (text.size() > ca_file_bytes_max) {
    return Error(ErrorKind::limit, "the trusted roots in " + path + " are larger than 4 MiB");
  }
  if (text.find("-----BEGIN ") == std::string::npos) {
    return Error(ErrorKind::invalid,
                 path + " holds no PEM certificate: name a file of trusted roots");
  }
  return text;
}

/// The system's folder of hashed roots, if it has one: looked up one by one, where reading the
/// bundle anew for a connection costs tens of milliseconds.
const char* hashed_roots() {
  static const std::string folder = [] {
    const auto* version = curl_version_info(CURLVERSION_NOW);
    if (version->age < CURLVERSION_SEVENTH || version->capath == nullptr) return std::string();
    std::error_code ignored;
    for (const auto& entry : std::filesystem::directory_iterator(version->capath, ignored)) {
      if (entry.path().extension() == ".0") return std::string(version->capath);
    }
    return std::string();
  }();
  return folder.empty() ? nullptr : folder.c_str();
}

const char* bundled_roots() {
  const auto* version = curl_version_info(CURLVERSION_NOW);
  return version->age < CURLVERSION_SEVENTH ? nullptr : version->cainfo;
}

/// The system's roots, and those of `ca_file` besides.
Result<void> set_roots(Transfer& transfer, const std::string& ca_file) {
  const char* folder = hashed_roots();
  curl_easy_setopt(transfer.easy, CURLOPT_CAPATH, folder);
  if (ca_file.empty()) {
    if (folder != nullptr) curl_easy_setopt(transfer.easy, CURLOPT_CAINFO, nullptr);
    return {};
  }
  auto extra = read_roots(ca_file);
  if (!extra) return extra.error();
  if (folder != nullptr) {
    curl_easy_setopt(transfer.easy, CURLOPT_CAINFO, ca_file.c_str());
    return {};
  }
  // CAINFO is exclusive: one bundle of both.
  if (const char* bundle = bundled_roots(); bundle != nullptr) {
    if (auto system = read_roots(bundle)) transfer.roots = *system + "\n";
  }
  transfer.roots += *extra;
  curl_blob blob{transfer.roots.data(), transfer.roots.size(), CURL_BLOB_NOCOPY};
  curl_easy_setopt(transfer.easy, CURLOPT_CAINFO_BLOB, &blob);
  return {};
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

Result<void> set_fields(Transfer& transfer, const FetchRequest& request) {
  bool content_type = false;
  for (const auto& [key, value] : request.fields) {
    const std::string line = value.empty() ? key + ";" : key + ": " + value;
    if (line.find_first_of(std::string_view("\r\n\0", 3)) != std::string::npos) {
      return Error(ErrorKind::invalid, "a request field holds a line break: " + key);
    }
    if (strcasecmp(key.c_str(), "content-type") == 0) content_type = true;
    transfer.fields = curl_slist_append(transfer.fields, line.c_str());
  }
  // curl's own ideas: a form's type, and a pause of up to a second for 100-continue.
  if (!content_type) transfer.fields = curl_slist_append(transfer.fields, "Content-Type:");
  transfer.fields = curl_slist_append(transfer.fields, "Expect:");
  curl_easy_setopt(transfer.easy, CURLOPT_HTTPHEADER, transfer.fields);
  return {};
}

void set_callbacks(Transfer& transfer) {
  curl_easy_setopt(transfer.easy, CURLOPT_WRITEFUNCTION, &on_body);
  curl_easy_setopt(transfer.easy, CURLOPT_WRITEDATA, &transfer);
  curl_easy_setopt(transfer.easy, CURLOPT_HEADERFUNCTION, &on_head_line);
  curl_easy_setopt(transfer.easy, CURLOPT_HEADERDATA, &transfer);
  curl_easy_setopt(transfer.easy, CURLOPT_PREREQFUNCTION, &before_sending);
  curl_easy_setopt(transfer.easy, CURLOPT_PREREQDATA, &transfer);
  curl_easy_setopt(transfer.easy, CURLOPT_ERRORBUFFER, transfer.reason.data());
}

Result<void> prepare(Transfer& transfer, const FetchRequest& request) {
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

ErrorKind kind_of(CURLcode code) {
  switch (code) {
    case CURLE_COULDNT_RESOLVE_HOST:
    case CURLE_COULDNT_RESOLVE_PROXY:
      return ErrorKind::resolve;
    case CURLE_COULDNT_CONNECT:
      return ErrorKind::refused;
    case CURLE_OPERATION_TIMEDOUT:
      return ErrorKind::timeout;
    case CURLE_SSL_CONNECT_ERROR:
    case CURLE_PEER_FAILED_VERIFICATION:
    case CURLE_SSL_CERTPROBLEM:
    case CURLE_SSL_CIPHER:
    case CURLE_SSL_CACERT_BADFILE:
    case CURLE_SSL_ISSUER_ERROR:
      return ErrorKind::tls;
    case CURLE_GOT_NOTHING:
    case CURLE_PARTIAL_FILE:
      return ErrorKind::closed;
    case CURLE_SEND_ERROR:
    case CURLE_RECV_ERROR:
      return ErrorKind::reset;
    case CURLE_URL_MALFORMAT:
    case CURLE_UNSUPPORTED_PROTOCOL:
      return ErrorKind::invalid;
    case CURLE_ABORTED_BY_CALLBACK:
      return ErrorKind::cancelled;
    default:
      return ErrorKind::protocol;
  }
}

Error failure_of(const Transfer& transfer, const FetchRequest& request) {
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
  const char* reason =
      transfer.reason[0] != '\0' ? transfer.reason.data() : curl_easy_strerror(transfer.code);
  // The certificate is what fails, and connecting is what may be repeated without harm.
  auto kind = kind_of(transfer.code);
  // curl's "unsupported protocol" is our address before sending, the server's HTTP/0.9 after it.
  if (kind == ErrorKind::invalid && transfer.sendings > 0) kind = ErrorKind::protocol;
  const bool unsent = kind == ErrorKind::resolve || kind == ErrorKind::refused ||
                      (kind == ErrorKind::tls && transfer.sendings == 0);
  return Error(kind, Side::upstream, unsent ? Retry::always : Retry::never,
               fmt::format("{} gave no answer: {}", host, reason), transfer.code);
}

}  // namespace

struct Fetcher::State {
  std::shared_ptr<Engine> engine;
};

Fetcher::Fetcher(asio::io_context& control) : state_(std::make_unique<State>()) {
  static const CURLcode ready = curl_global_init(CURL_GLOBAL_DEFAULT);
  ASSERT(ready == CURLE_OK);
  state_->engine = std::make_shared<Engine>(control);
}

Fetcher::~Fetcher() {
  state_->engine->close();
}

std::string_view FetchResponse::field(std::string_view name) const {
  for (const auto& [key, value] : fields) {
    if (key == name) return value;
  }
  return {};
}

asio::awaitable<Result<FetchResponse>> Fetcher::fetch(FetchRequest request) {
  const auto engine = state_->engine;
  Transfer transfer(engine->control());
  transfer.easy = curl_easy_init();
  if (transfer.easy == nullptr) co_return Error(ErrorKind::io, "out of memory for a request");
  const TransferGuard guard(engine, transfer);
  if (const auto prepared = prepare(transfer, request); !prepared) co_return prepared.error();
  if (!engine->start(transfer)) {
    co_return Error(ErrorKind::cancelled, host_of(request.url) + ": the program is stopping");
  }
  if (!transfer.finished) {
    boost::system::error_code ignored;
    co_await transfer.done.async_wait(asio::redirect_error(asio::use_awaitable, ignored));
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
