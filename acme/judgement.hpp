// Which CA is asked next for a name, and what a failure leads to (CERTIFICATES section 5).
//
// Does not ask, wait or store: what is known comes in, and the decision goes out. Pure. Control
// thread.
#pragma once

#include <optional>
#include <span>
#include <string>

#include "acme/failure.hpp"
#include "acme/schedule.hpp"
#include "acme/setbacks.hpp"

namespace gatehouse::acme {

/// One CA as it stands at the moment, in the order of the configuration.
struct Candidate {
  std::string name;
  base::WallClock::time_point budget{};  // when its budget has an order for this name
  uint64_t settings = 0;
  bool open = false;     // its breaker
  bool staging = false;  // it has a staging directory, which can be asked now
  bool tried = false;    // in this round
};

struct Choice {
  enum class Kind : uint8_t {
    order,     // at the CA `which`
    rehearse,  // at the staging directory of `which`
    wait,      // nothing before `until`
    await,     // for a breaker to close, or `until`, whichever is first
    blocked,   // every CA has refused the name, the first until `until`
  };
  Kind kind = Kind::wait;
  size_t which = 0;
  base::WallClock::time_point until = base::WallClock::time_point::max();  // max: not known
  bool of_budget = false;  // `wait` ends when the budget has an order again
};

/// Who is asked now. Holds of other settings than the candidate's count for nothing.
Choice choose(std::span<const Candidate> candidates, const Setback& setback,
              base::WallClock::time_point now);

/// Drops refusals that were given to other settings, and holds that are over; true: one was a
/// refusal given to other settings, so a person has changed something.
bool review_holds(Setback& setback, std::span<const Candidate> candidates,
                  base::WallClock::time_point now);

struct Circumstances {
  std::string authority;                // the CA's name in the configuration
  uint64_t settings = 0;                // mark() of what a person could change about it
  bool rehearsal = false;               // it was its staging directory
  bool open = false;                    // its breaker, by now
  bool wanted = false;                  // somebody waits for the certificate, or lately did
  std::optional<Lifetime> certificate;  // that is served meanwhile
  std::string id;                       // spreads the waits
};

struct Verdict {
  bool another = false;                // CAs that were not tried in this round may be asked at once
  bool when_open = false;              // else when the CA answers again
  base::WallClock::time_point next{};  // else
};

/// Enters the failure into `setback` and says what follows.
Verdict judge(Setback& setback, const Failure& failure, const Circumstances& circumstances,
              base::WallClock::time_point now);

/// A rehearsal went well: production is asked from now on, first at this CA.
void rehearsed(Setback& setback, const std::string& authority);

/// How many validations of the name failed at the CA, by what an attempt came to.
unsigned failed_validations(const Failure& failure);

/// Production has failed to validate the name `count` times more.
void note_failed_validations(Setback& setback, unsigned count, base::WallClock::time_point now);

/// How often production may still fail to validate the name in this hour, see validation_allowed.
unsigned validations_left(const Setback& setback, base::WallClock::time_point now);

/// When production may fail to validate the name once more: four times an hour, at all CAs
/// together, whatever else says otherwise.
base::WallClock::time_point validation_allowed(const Setback& setback,
                                               base::WallClock::time_point now);

/// Something has changed: the schedule and the rehearsal begin anew. What CAs said stays.
void begin_anew(Setback& setback);

/// A person wishes it: refusals are forgotten besides. What a CA said about its limits stays.
void absolve(Setback& setback);

/// The name has its certificate: the count of failed validations and what single CAs said outlive
/// the episode.
void end_episode(Setback& setback, base::WallClock::time_point now);

/// Its last failure needs a person, and not only time.
bool needs_person(const Setback& setback);

}  // namespace gatehouse::acme
