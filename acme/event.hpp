// Something that happened to a certificate and that a person may want to be told.
//
// Not a log line and not how it is told (notify). Plain data, any thread.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "acme/times.hpp"

namespace gatehouse::acme {

struct Event {
  enum class Kind : uint8_t {
    obtained,  // the first certificate of a name
    renewed,
    failed,    // an attempt to obtain or renew; there will be another
    expiring,  // 25, 10 and 5 % of the lifetime are left
    expired,
    blocked,        // no further attempt before a person has done something
    recovered,      // obtained or renewed after it had failed
    deploy_failed,  // obtained, but not what the listener serves
  };

  Kind kind = Kind::failed;
  std::string name;         // the certificate's: "example.com", "*.example.com"
  std::string text;         // one sentence: what happened, and the way out
  std::string authority;    // who issued it or refused; empty: nobody, or unknown
  WallTime not_after{};     // the end of the certificate in use; epoch: there is none
  WallTime next_attempt{};  // epoch: none is planned
};

inline constexpr size_t event_kinds = static_cast<size_t>(Event::Kind::deploy_failed) + 1;

/// "obtained", …, "deploy_failed": as notify.events, webhooks and commands read it.
std::string_view word(Event::Kind kind);

}  // namespace gatehouse::acme
