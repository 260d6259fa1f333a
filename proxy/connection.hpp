// One client's connection: the PROXY header of a trusted proxy, the TLS handshake, its requests,
// then an end that loses nothing.
//
// Answers nothing by itself but malformed requests: each request is an exchange's. Lives on one
// worker's thread; the worker owns it.
#pragma once

#include <optional>

#include "base/reactor.hpp"
#include "base/task.hpp"
#include "http/http1_server.hpp"
#include "http/http2_server.hpp"
#include "proxy/exchange.hpp"
#include "tls/alert.hpp"
#include "tls/certificate_table.hpp"
#include "tls/client_hello.hpp"
#include "tls/stream.hpp"

namespace gatehouse::proxy {

class Worker;
struct SiteRules;

class Connection final : public base::Retirable,
                         private base::Deferred,
                         private tls::Stream::Observer,
                         private http::Http2Server::Handler {
 public:
  /// What is read after the last response, so that a late byte of the client's does not destroy it.
  static constexpr size_t linger_bytes_max = 1024 * 1024;
  static constexpr std::chrono::milliseconds linger_time{1000};

  /// `introduced`: a PROXY header must come first.
  Connection(Worker& worker, size_t listener_id, ClientFacts facts, bool introduced);
  ~Connection() override;

  /// Takes over an accepted descriptor and runs until the connection ends; then the worker is told.
  void start(int fd);

  size_t listener_id() const { return listener_id_; }
  const boost::asio::ip::address& client() const { return facts_.address; }

  /// Closes an idle connection at once, any other one after the response under way.
  void drain();
  /// Closes it now.
  void break_off();

 private:
  struct DeadlineTimer : base::Timer {
    explicit DeadlineTimer(Connection& c);
    Connection& connection;
  };
  struct Turn;

  base::Task<void> run();
  base::Task<bool> meet();
  base::Task<bool> secure();
  base::Task<bool> read_hello(tls::ClientHello& hello);
  base::Task<tls::CertificatePtr> certificate_for(const std::string& name, const SiteRules& site);
  base::Task<bool> prove(const tls::ClientHello& hello);
  const SiteRules* site_of_address(std::string& address) const;
  base::Task<bool> complete_handshake(const tls::Context& context, tls::CertificatePtr certificate);
  base::Task<bool> speaks_http2();
  base::Task<void> serve_http1();
  base::Task<void> serve_http2();
  base::Task<void> answer_stream(http::Http2ServerStream& stream);
  base::Task<void> answer_refusal(http::ServerStream& stream, http::Refusal refusal);
  base::Task<void> linger();
  bool refuse_handshake(tls::Alert alert);
  void on_deferred() override;
  void on_hang_up() override;
  void on_request(http::Http2ServerStream& stream) override;
  bool serves(std::string_view host) override;
  void on_session_ended() override;

  Worker& worker_;
  tls::Stream stream_;
  DeadlineTimer timer_;
  std::optional<http::Http1Server> server_;  // one of these two, once it is known
  std::unique_ptr<http::Http2Server> http2_;
  base::Event http2_over_;  // its session has ended and no stream is in use
  tls::CertificatePtr certificate_;
  ClientFacts facts_;
  std::coroutine_handle<> turn_;
  base::Event* wish_ = nullptr;  // while a certificate is awaited
  size_t listener_id_;
  size_t index_ = 0;  // in the worker's list
  bool introduced_;
  bool counted_;  // among its client's connections
  bool resumable_ = true;
  bool draining_ = false;
  bool must_linger_ = false;
  bool proved_ = false;  // the handshake was a CA's, and all that it wanted

  friend class Worker;
};

}  // namespace gatehouse::proxy
