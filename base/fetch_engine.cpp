#include "base/fetch_engine.hpp"

#include <filesystem>
#include <fstream>

#include <boost/asio/redirect_error.hpp>
#include <boost/asio/use_awaitable.hpp>

namespace gatehouse::base {

namespace asio = boost::asio;

namespace {

constexpr long connections_per_host_max = 64;
constexpr long connections_max = 256;
constexpr long idle_connections_max = 32;
constexpr size_t ca_file_bytes_max = 4 * 1024 * 1024;

}  // namespace

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

asio::awaitable<bool> complete(Engine& engine, Transfer& transfer) {
  if (!engine.start(transfer)) co_return false;
  if (!transfer.finished) {
    boost::system::error_code ignored;
    co_await transfer.done.async_wait(asio::redirect_error(asio::use_awaitable, ignored));
  }
  co_return true;
}

namespace {

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

}  // namespace

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

}  // namespace gatehouse::base
