// What is remembered of each name beside its certificate, so that a restart does not begin anew:
// failures in a row, refusals and limits of single CAs, the rehearsal at a staging directory, what
// proved the name last, and when the CA wants it renewed.
//
// Does not decide anything (judgement) and does not touch the disk: the state goes out as JSON, in
// shards of which only the changed ones need to be written. Pure. Times are on the wall clock,
// because the state outlives the process. Control thread.
#pragma once

#include <array>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "acme/failure.hpp"
#include "acme/schedule.hpp"
#include "base/clock.hpp"

namespace gatehouse::acme {

/// A CA that is not to be asked for a name before `until`.
struct Hold {
  base::WallClock::time_point until{};
  bool refused = false;   // a person must act, or else a day passes; false: a 429
  uint64_t settings = 0;  // the CA's settings that it refused
};

/// After a failed validation, the next attempts cost nothing: they go to a staging directory.
enum class Rehearsal : uint8_t {
  none,
  due,
  over,  // it went well, or staging is of no use; production, to the end of the episode
};

/// One name's trouble, from its first failure to the next certificate.
struct Setback {
  using Time = base::WallClock::time_point;
  static constexpr size_t failed_validations_max = 4;
  static constexpr size_t holds_max = 16;
  static constexpr size_t sentence_max = 2048;

  unsigned failures = 0;  // in a row
  unsigned step = 0;      // of them, the last ones of the same class
  FailureClass kind = FailureClass::internal;
  bool local = false;
  std::string sentence;
  Time next_attempt{};
  Time told{};  // when a person was last told
  Rehearsal rehearsal = Rehearsal::none;
  std::string pinned;                    // the CA whose staging it passed
  std::vector<Time> failed_validations;  // the last ones at production; outlive the episode
  std::map<std::string, Hold> holds;     // by CA
};

/// What the CA wants of one certificate.
struct RenewalAdvice {
  uint64_t certificate = 0;  // mark() of its renewal id; 0: none
  RenewalWindow window;
  base::WallClock::time_point instant{};
  std::string explanation{};  // the CA's, a URL for people; empty: none
  static constexpr size_t explanation_max = 300;
};

struct Past {
  Setback setback;
  RenewalAdvice advice;
  base::WallClock::time_point heeded{};   // when such advice last led to a renewal
  std::string challenge;                  // that proved the name last; empty: as configured
  uint64_t warned_of = 0;                 // mark() of the certificate of which
  unsigned warned = 0;                    // this stage of its end has been told,
  base::WallClock::time_point mourned{};  // and then that it is over, last
  /// Nothing worth a place at `now`.
  bool empty(base::WallClock::time_point now) const;
};

/// A short mark of a text, the same in every process.
uint64_t mark(std::string_view text);

class Setbacks {
 public:
  using Time = base::WallClock::time_point;
  static constexpr size_t count_max = 200'000;
  static constexpr size_t shard_count = 32;

  /// A copy of what is known of `name`, or a blank one.
  Past recall(const std::string& name) const;
  /// Keeps it, or drops it if nothing is left of it. When full, new names are not kept.
  void remember(const std::string& name, const Past& past, Time now);
  void forget(const std::string& name);
  size_t size() const;

  /// Drops names whose trouble nobody has looked at for 30 days, where `kept` does not object.
  void tidy(Time now, const std::function<bool(const std::string& name)>& kept);

  /// A shard that has changed since its last to_json(), beginning after `last`; none: nothing to
  /// write.
  std::optional<size_t> changed(size_t last = shard_count - 1) const;
  std::string to_json(size_t shard);
  /// To be written (again) after all.
  void touch(size_t shard) { changed_[shard] = true; }
  /// Adds what a shard's text holds; false: it is unreadable, and nothing was added. Times further
  /// ahead than any CA asks for are brought near: they are from a clock that was wrong.
  bool read(std::string_view text, Time now);

 private:
  static size_t shard_of(const std::string& name);

  std::array<std::unordered_map<std::string, Past>, shard_count> shards_;
  std::array<bool, shard_count> changed_{};
};

}  // namespace gatehouse::acme
