// What base/fetch*.cpp share: libcurl's multi interface behind the io_context, and the trusted
// roots.
//
// Not for others: they include fetch.hpp. Control thread.
#pragma once

#include <array>
#include <atomic>
#include <map>
#include <memory>
#include <string>

#include <boost/asio/io_context.hpp>
#include <boost/asio/posix/stream_descriptor.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/thread_pool.hpp>
#include <curl/curl.h>

#include "base/fetch.hpp"

namespace gatehouse::base {

/// One request or mail on its way.
struct Transfer {
  explicit Transfer(boost::asio::io_context& control) : done(control) {
    done.expires_at(boost::asio::steady_timer::time_point::max());
  }

  CURL* easy = nullptr;
  curl_slist* list = nullptr;  // fields or recipients
  std::string roots;           // the bundle curl reads from, when it has to be one piece
  bool finished = false;
  CURLcode code = CURLE_OK;
  std::array<char, CURL_ERROR_SIZE> reason{};
  boost::asio::steady_timer done;  // an event: cancelled when the transfer ends

  /// Why it failed, in curl's words.
  const char* words() const { return reason[0] != '\0' ? reason.data() : curl_easy_strerror(code); }
};

/// A descriptor that curl wants to be told about.
struct Watch;

/// libcurl's multi interface driven by the io_context. Never called recursively: every call into
/// curl_multi_socket_action comes from a handler of the io_context.
class Engine : public std::enable_shared_from_this<Engine> {
 public:
  explicit Engine(boost::asio::io_context& control);
  ~Engine();

  boost::asio::io_context& control() { return control_; }
  bool start(Transfer& transfer);
  void abandon(Transfer& transfer);
  /// Ends every transfer as cancelled; nothing starts any more.
  void close();

 private:
  static int on_socket(CURL*, curl_socket_t socket, int what, void* self, void*);
  static int on_timer(CURLM*, long milliseconds, void* self);

  void watch(curl_socket_t socket, int what);
  void wait_for(const std::shared_ptr<Watch>& watched, curl_socket_t socket,
                boost::asio::posix::stream_descriptor::wait_type direction);
  void set_timer(long milliseconds);
  void act(curl_socket_t socket, int events);
  void collect();

  boost::asio::io_context& control_;
  CURLM* multi_;
  boost::asio::steady_timer timer_;
  std::map<curl_socket_t, std::shared_ptr<Watch>> watches_;
  std::map<CURL*, Transfer*> transfers_;
  bool closed_ = false;
};

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
    curl_slist_free_all(transfer.list);
  }

  std::shared_ptr<Engine> engine;
  Transfer& transfer;
};

/// Starts the transfer and waits for its end: false if the program is stopping.
boost::asio::awaitable<bool> complete(Engine& engine, Transfer& transfer);

/// The system's roots, and those of `ca_file` besides.
Result<void> set_roots(Transfer& transfer, const std::string& ca_file);

ErrorKind kind_of(CURLcode code);

struct Fetcher::State {
  std::shared_ptr<Engine> engine;
  std::unique_ptr<boost::asio::thread_pool> mail_thread;  // from the first mail on
  std::atomic<bool> stopping = false;
};

}  // namespace gatehouse::base
