// After a swap: is the new certificate what our own listener shows?
//
// Connects as a client does, to the first HTTPS listener that can be reached from here, and
// compares what it sees. Does not decide what follows (acme), nor does it publish (certificates).
// Control thread.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>

#include <boost/asio/io_context.hpp>

#include "config/snapshot.hpp"
#include "tls/certificate.hpp"

namespace gatehouse::app {

class SelfCheck {
 public:
  /// Handshakes at once.
  static constexpr size_t running_max = 4;
  /// Checks that wait; further ones are not made.
  static constexpr size_t waiting_max = 1000;
  /// Looks before a certificate counts as not served, and the time between them.
  static constexpr unsigned looks_max = 3;
  static constexpr std::chrono::seconds look_interval{1};
  /// For one look, from the connect on.
  static constexpr std::chrono::seconds look_patience{5};

  /// What is wrong, as a sentence's end; empty: nothing; nullopt: it cannot be seen from here.
  using Problem = std::optional<std::string>;
  using Report = std::function<void(Problem problem)>;

  /// `control` outlives it.
  explicit SelfCheck(boost::asio::io_context& control);
  /// As close().
  ~SelfCheck();
  SelfCheck(const SelfCheck&) = delete;
  SelfCheck& operator=(const SelfCheck&) = delete;

  /// Where to look, from now on.
  void configure(config::SnapshotPtr snapshot);

  /// Whether `name` ("a.example.com" or "*.example.com") is answered with `certificate`, which
  /// every worker has by now. `report` is called once, later; a check of the same name that still
  /// waits is replaced, and its report is called with nullopt. `current` says whether this
  /// certificate is still the one to be seen.
  void check(std::string name, tls::CertificatePtr certificate, std::function<bool()> current,
             Report report);

  /// Whether a look at this server name is under way: its handshake is no visit.
  bool looks_at(const std::string& server_name) const;

  /// Reports nothing any more.
  void close();

 private:
  struct State;
  std::shared_ptr<State> state_;
};

/// The server name that a client of this certificate might send; empty: it is an address, which no
/// client can name.
std::string name_to_ask_for(const std::string& name);

}  // namespace gatehouse::app
