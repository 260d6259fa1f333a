#include "acme/judgement.hpp"

#include <algorithm>

#include "acme/times.hpp"

namespace gatehouse::acme {

using Time = base::WallClock::time_point;
using std::chrono::milliseconds;

namespace {

constexpr std::chrono::hours validation_period{1};
constexpr std::chrono::hours hold_max = retry_after_believed_max;

const Hold* hold_of(const Setback& setback, const Candidate& candidate, Time now) {
  const auto found = setback.holds.find(candidate.name);
  if (found == setback.holds.end() || found->second.until <= now) return nullptr;
  if (found->second.until > now + hold_max) return nullptr;  // the clock was set back since
  if (found->second.refused && found->second.settings != candidate.settings) return nullptr;
  return &found->second;
}

bool is_refusal(const Failure& failure) {
  return !failure.local &&
         (failure.kind == FailureClass::policy || failure.kind == FailureClass::account);
}

/// By which schedule. A refusal that no CA gave (a CAA record), or that a rehearsal met, can end at
/// any time, as a failed validation can.
FailureClass schedule_of(const Failure& failure, const Circumstances& circumstances) {
  const bool ours = failure.local || circumstances.rehearsal;
  return ours && failure.kind != FailureClass::storage ? FailureClass::validation : failure.kind;
}

void record(Setback& setback, const Failure& failure, FailureClass kind) {
  const bool same = setback.failures > 0 && setback.kind == kind;
  setback.step = same ? setback.step + 1 : 1;
  ++setback.failures;
  setback.kind = kind;
  setback.local = failure.local;
  setback.sentence = failure.sentence.substr(0, Setback::sentence_max);
}

void hold(Setback& setback, const Circumstances& circumstances, Hold made) {
  if (setback.holds.size() >= Setback::holds_max &&
      !setback.holds.contains(circumstances.authority))
    setback.holds.erase(setback.holds.begin());
  setback.holds[circumstances.authority] = made;
}

void rehearse_next(Setback& setback, const Failure& failure, const Circumstances& circumstances,
                   Time now) {
  const unsigned failed = circumstances.rehearsal ? 0 : failed_validations(failure);
  note_failed_validations(setback, failed, now);
  if (failed > 0 && setback.rehearsal == Rehearsal::none) setback.rehearsal = Rehearsal::due;
  // Refused at the staging directory for a reason of its own: it shows nothing about the name. So
  // does a CAA record there, which may be for production's account alone (RFC 8657 section 3), and
  // is looked at once more before production is asked.
  const bool own_reason = failure.kind != FailureClass::validation &&
                          failure.kind != FailureClass::transport && !failure.local;
  const bool useless = own_reason || failure.type == "caa";
  if (circumstances.rehearsal && useless) setback.rehearsal = Rehearsal::over;
}

}  // namespace

Choice choose(std::span<const Candidate> candidates, const Setback& setback, Time now) {
  Choice choice;
  bool any_open = false;
  size_t refused = 0;
  Time refused_until = Time::max();
  std::vector<size_t> order;
  for (size_t i = 0; i < candidates.size(); ++i) {
    const bool first = setback.rehearsal == Rehearsal::over && candidates[i].name == setback.pinned;
    order.insert(first ? order.begin() : order.end(), i);
  }
  const auto later = [&choice](Time ready, bool of_budget) {
    if (ready >= choice.until) return;
    choice.until = ready;
    choice.of_budget = of_budget;
  };
  for (const size_t i : order) {
    const Candidate& candidate = candidates[i];
    const Hold* held = hold_of(setback, candidate, now);
    if (held != nullptr) {
      if (held->refused) {
        ++refused;
        refused_until = std::min(refused_until, held->until);
      }
      later(held->until, false);
      continue;
    }
    if (candidate.tried) {
      // One that is down may be asked anew when it is back, whatever the others have said.
      any_open = any_open || candidate.open;
      continue;
    }
    const bool rehearse = setback.rehearsal == Rehearsal::due && candidate.staging;
    if (rehearse) {
      choice.kind = Choice::Kind::rehearse;
      choice.which = i;
      return choice;
    }
    if (candidate.open) {
      any_open = true;
      continue;
    }
    const Time allowed = validation_allowed(setback, now);
    if (allowed <= now && candidate.budget <= now) {
      choice.kind = Choice::Kind::order;
      choice.which = i;
      return choice;
    }
    later(std::max(allowed, candidate.budget), candidate.budget >= allowed);
  }
  if (!candidates.empty() && refused == candidates.size()) {
    choice.kind = Choice::Kind::blocked;
    choice.until = refused_until;
  } else if (any_open) {
    choice.kind = Choice::Kind::await;
  }
  return choice;
}

bool review_holds(Setback& setback, std::span<const Candidate> candidates, Time now) {
  bool changed = false;
  for (const auto& candidate : candidates) {
    const auto found = setback.holds.find(candidate.name);
    if (found == setback.holds.end()) continue;
    const bool other = found->second.refused && found->second.settings != candidate.settings;
    changed = changed || other;
    if (other || found->second.until <= now) setback.holds.erase(found);
  }
  return changed;
}

Verdict judge(Setback& setback, const Failure& failure, const Circumstances& circumstances,
              Time now) {
  const auto kind = schedule_of(failure, circumstances);
  record(setback, failure, kind);
  rehearse_next(setback, failure, circumstances, now);
  const bool blocked = is_refusal(failure) && !circumstances.rehearsal;
  const bool told = failure.kind == FailureClass::rate_limit && failure.retry_at;
  // A limit without a time may end at any moment.
  const bool soon = failure.kind == FailureClass::rate_limit && circumstances.wanted;
  milliseconds wait = retry_wait(kind, soon ? 1 : setback.step, circumstances.id);
  const bool last = circumstances.certificate && expiry_stage(*circumstances.certificate, now) > 0;
  if (circumstances.certificate && !blocked)
    wait = shortened(wait, *circumstances.certificate, now);
  Verdict verdict;
  verdict.next = now + std::chrono::duration_cast<Time::duration>(wait);
  verdict.when_open = circumstances.open && !circumstances.rehearsal;
  verdict.another = blocked || failure.local || failure.kind == FailureClass::rate_limit ||
                    verdict.when_open || (last && failure.kind != FailureClass::storage);
  if (circumstances.rehearsal && !last && !failure.local) verdict.another = false;
  if (blocked) {
    hold(setback, circumstances, {verdict.next, true, circumstances.settings});
  } else if (told && !circumstances.rehearsal) {
    const Time until = std::min<Time>(*failure.retry_at, now + hold_max);
    hold(setback, circumstances, {until, false, circumstances.settings});
    verdict.next = until;
  }
  setback.next_attempt = verdict.next;
  return verdict;
}

void rehearsed(Setback& setback, const std::string& authority) {
  setback.rehearsal = Rehearsal::over;
  setback.pinned = authority;
}

unsigned failed_validations(const Failure& failure) {
  if (failure.local) return 0;
  return std::max(failure.verdicts, failure.kind == FailureClass::validation ? 1U : 0U);
}

void note_failed_validations(Setback& setback, unsigned count, Time now) {
  auto& times = setback.failed_validations;
  for (; count > 0; --count) {
    if (times.size() >= Setback::failed_validations_max) times.erase(times.begin());
    times.push_back(now);
  }
}

unsigned validations_left(const Setback& setback, Time now) {
  const auto& times = setback.failed_validations;
  const auto spent = std::count_if(times.begin(), times.end(), [now](Time time) {
    return std::min(time, now) + validation_period > now;
  });
  constexpr auto most = static_cast<unsigned>(Setback::failed_validations_max);
  return most - std::min(static_cast<unsigned>(spent), most);
}

Time validation_allowed(const Setback& setback, Time now) {
  const auto& times = setback.failed_validations;
  if (times.size() < Setback::failed_validations_max) return Time{};
  // Not ahead of now: the clock may have been set back since.
  return std::min(times[times.size() - Setback::failed_validations_max], now) + validation_period;
}

void begin_anew(Setback& setback) {
  setback.failures = setback.step = 0;
  setback.next_attempt = {};
  setback.rehearsal = Rehearsal::none;
  setback.pinned.clear();
}

void absolve(Setback& setback) {
  begin_anew(setback);
  std::erase_if(setback.holds, [](const auto& one) { return one.second.refused; });
}

void end_episode(Setback& setback, Time now) {
  Setback left;
  left.failed_validations = std::move(setback.failed_validations);
  left.holds = std::move(setback.holds);
  std::erase_if(left.holds, [now](const auto& one) { return one.second.until <= now; });
  setback = std::move(left);
}

bool needs_person(const Setback& setback) {
  return setback.failures > 0 && !setback.local &&
         (setback.kind == FailureClass::policy || setback.kind == FailureClass::account);
}

}  // namespace gatehouse::acme
