// Names of certificates: which the configuration claims and how, how one is called in storage, and
// which zone's fallback stands in for it.
//
// Does not load or order anything. Pure; Claims is immutable once built. Any thread.
#pragma once

#include <string>
#include <string_view>
#include <unordered_map>
#include <unordered_set>
#include <utility>
#include <vector>

#include "config/snapshot.hpp"

namespace gatehouse::acme {

/// The folder under certs/ and orders/: "*.example.com" is "_wildcard_.example.com"; a name too
/// long for a file name is cut and told apart by a digest.
std::string certificate_id(std::string_view name);

/// The other way; empty for a digest, whose name only its meta.json tells.
std::string name_of(std::string_view id);

/// The zone whose self-signed certificate covers `name`: its parent, or itself if it is a
/// registered domain, a single label or an address.
std::string fallback_zone(std::string_view name);

/// Host-name syntax for an order asked for by a stranger: lower-case LDH and A-labels (RFC 5890),
/// no address, at most 10 labels, no label more than twice.
bool plausible_name(std::string_view name);

/// What a person may ask for: a host name, "*." before one, or an IP address; in lower case,
/// without a final dot. Empty: it is none of these.
std::string requested_name(std::string_view text);

enum class Claim : uint8_t {
  none,       // no site has it
  automatic,  // order it from the CA, at once
  internal,   // issue it from our own authority
  on_demand,  // at its first handshake, if permitted
  own,        // the user's own certificate: nothing to do
  off,        // plain HTTP only, or a name that no CA can be asked for
};

class Claims {
 public:
  Claims() = default;
  /// `own`: names that a person gave a certificate for, besides the sites' files.
  explicit Claims(const config::Snapshot& snapshot, std::unordered_set<std::string> own = {});
  Claims(Claims&&) = default;
  Claims& operator=(Claims&&) = default;

  struct Found {
    Claim claim = Claim::none;
    std::string subject;  // the certificate's name: `name` itself, or the site's "*.zone"
  };
  /// `name` in lower case: an exact host before a wildcard before "*".
  Found find(std::string_view name) const;

  using Standing = std::pair<const std::string, Claim>;
  /// Names to keep a certificate for without being asked, automatic and internal, in the order of
  /// the configuration. Valid while the object lives, wherever it is moved.
  const std::vector<const Standing*>& standing() const { return standing_; }

 private:
  void add(const std::string& host, Claim claim);

  std::unordered_set<std::string> own_;
  std::unordered_map<std::string, Claim> hosts_;  // also "*.zone"
  Claim any_ = Claim::none;                       // of the host "*"
  std::vector<const Standing*> standing_;         // in hosts_: names are not kept twice
};

}  // namespace gatehouse::acme
