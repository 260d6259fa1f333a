// One message to a person: an event, or many of one kind, in the words of mail, JSON and commands.
//
// Does not send it (notify_ways) and does not decide what is told when (notify). Pure, any thread.
#pragma once

#include <cstddef>
#include <string>
#include <utility>
#include <vector>

#include "acme/event.hpp"

namespace gatehouse::acme {

struct Notice {
  /// Events written out; of the others only their number is kept.
  static constexpr size_t shown_max = 50;
  /// A text is cut here: much of it may be a CA's.
  static constexpr size_t text_bytes_max = 1000;

  std::string event;          // word() of what happened, or "test"
  std::vector<Event> events;  // the first, at most shown_max
  size_t count = 0;           // of all
  WallTime time{};            // of the first
  std::string id;             // stays the same when it is sent once more
  std::string machine;        // the name of this one
  size_t lost = 0;            // messages before this one that could not be delivered

  void add(const Event& event);
};

/// One line: "example.com: certificate renewed (gatehouse on web-1)".
std::string subject_of(const Notice& notice);

/// For mail: a line for each event, when its certificate ends, when the next attempt is.
std::string text_of(const Notice& notice);

/// One JSON object (docs/configuration.md, [notify]).
std::string json_of(const Notice& notice);

/// GATEHOUSE_EVENT, GATEHOUSE_NAME, … for a command.
std::vector<std::pair<std::string, std::string>> environment_of(const Notice& notice);

/// What `gatehouse notify test` sends.
Notice test_notice(WallTime now);

/// The name of this machine, as mail and webhooks say it.
std::string machine_name();

}  // namespace gatehouse::acme
