// May a stranger's name have a certificate, and may his handshake wait for it?
//
// Permission: syntax, local globs, `ask`, in this order. Parking: how many handshakes wait at once.
// Does not order or serve (manager), and does not count issues (budget). Control thread.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <unordered_map>

#include "acme/ask.hpp"
#include "config/snapshot.hpp"

namespace gatehouse::acme {

class Permission {
 public:
  /// `ask` outlives it.
  explicit Permission(Ask& ask) : ask_(ask) {}

  void configure(const config::OnDemand& settings);

  /// `answer` is called once, at once where no question is needed: a name on the deny list is
  /// denied, of the others one on the allow list allowed; without `ask`, every other is denied.
  void request(const std::string& name, const std::string& client, Ask::Listener answer);

  /// What would be answered without asking anybody.
  std::optional<Answer> known(const std::string& name);

 private:
  std::optional<Answer> local(const std::string& name) const;

  Ask& ask_;
  config::OnDemand settings_;
};

/// Handshakes that wait, counted: in all, for a name, for a client.
class Parking {
 public:
  static constexpr size_t total_max = 4096;
  static constexpr size_t per_name_max = 256;
  static constexpr size_t per_client_max = 16;

  /// False: one of the limits is reached, and nothing was counted.
  bool enter(const std::string& name, const std::string& client);
  void leave(const std::string& name, const std::string& client);
  size_t total() const { return total_; }

  /// The address, or the /64 of an IPv6 one. Empty for loopback: a balancer on this machine brings
  /// everybody's handshakes from there, and it is no stranger.
  static std::string client_key(const std::string& address);

 private:
  size_t total_ = 0;
  std::unordered_map<std::string, size_t> names_;
  std::unordered_map<std::string, size_t> clients_;
};

}  // namespace gatehouse::acme
