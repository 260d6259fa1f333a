#include "acme/judgement.hpp"

#include <catch2/catch.hpp>

using namespace gatehouse::acme;
using namespace std::chrono_literals;
using Time = gatehouse::base::WallClock::time_point;
using Kind = Choice::Kind;

namespace {

constexpr std::chrono::hours day{24};
const Time start = Time(std::chrono::seconds(1'800'000'000));

Candidate candidate(const std::string& name, bool staging = false) {
  Candidate made;
  made.name = name;
  made.staging = staging;
  made.settings = 7;
  return made;
}

Failure failure(FailureClass kind, std::optional<Time> until = std::nullopt) {
  Failure made;
  made.kind = kind;
  made.sentence = "a.example: it failed";
  made.retry_at = until;
  return made;
}

Circumstances at(const std::string& authority) {
  Circumstances made;
  made.authority = authority;
  made.settings = 7;
  made.id = "a.example";
  return made;
}

bool about(Time value, std::chrono::nanoseconds wanted) {
  const auto away = std::chrono::duration<double>(value - start);
  const auto aim = std::chrono::duration<double>(wanted);
  return away >= aim * 0.9 && away <= aim * 1.1;
}

}  // namespace

TEST_CASE("The first CA that can be asked is asked") {
  std::vector<Candidate> list{candidate("one"), candidate("two")};
  const Setback none;
  CHECK(choose(list, none, start).kind == Kind::order);
  CHECK(choose(list, none, start).which == 0);
  list[0].open = true;
  CHECK(choose(list, none, start).which == 1);
  list[0].open = false;
  list[0].tried = true;
  CHECK(choose(list, none, start).which == 1);
  list[0].tried = false;
  list[0].budget = start + 1h;
  CHECK(choose(list, none, start).which == 1);
}

TEST_CASE("When nobody can be asked, the choice says what to wait for") {
  std::vector<Candidate> list{candidate("one"), candidate("two")};
  Setback setback;
  list[0].budget = start + 2h;
  list[1].budget = start + 1h;
  Choice choice = choose(list, setback, start);
  CHECK(choice.kind == Kind::wait);
  CHECK(choice.until == start + 1h);
  CHECK(choice.of_budget);
  setback.holds["two"] = {start + 30min, false, 7};
  choice = choose(list, setback, start);
  CHECK(choice.until == start + 30min);
  CHECK_FALSE(choice.of_budget);
  list[0].open = true;
  choice = choose(list, setback, start);
  CHECK(choice.kind == Kind::await);
  CHECK(choice.until == start + 30min);
  // Also one that was asked in this round: it did not answer.
  list[0].tried = true;
  CHECK(choose(list, setback, start).kind == Kind::await);
  list[0].tried = false;
  setback.holds["one"] = {start + 5h, true, 7};
  CHECK(choose(list, setback, start).kind == Kind::wait);
  setback.holds["two"] = {start + 3h, true, 7};
  choice = choose(list, setback, start);
  CHECK(choice.kind == Kind::blocked);
  CHECK(choice.until == start + 3h);
  CHECK(choose({}, setback, start).kind == Kind::wait);
  CHECK(choose({}, setback, start).until == Time::max());
}

TEST_CASE("A 429 with a time holds that CA until then, and the next one is asked at once") {
  Setback setback;
  const Time until = start + 3h;
  const auto verdict = judge(setback, failure(FailureClass::rate_limit, until), at("one"), start);
  CHECK(verdict.another);
  CHECK(verdict.next == until);
  std::vector<Candidate> list{candidate("one"), candidate("two")};
  CHECK(choose(list, setback, start).which == 1);
  list.pop_back();
  CHECK(choose(list, setback, until - 1s).kind == Kind::wait);
  CHECK(choose(list, setback, until).kind == Kind::order);
  // A wish does not undo it.
  absolve(setback);
  CHECK(choose(list, setback, until - 1s).kind == Kind::wait);
  end_episode(setback, start);
  CHECK(choose(list, setback, until - 1s).kind == Kind::wait);
  end_episode(setback, until);
  CHECK(setback.holds.empty());
}

TEST_CASE("A CA's Retry-After of years, or a clock that was years ahead, locks nobody out") {
  Setback setback;
  judge(setback, failure(FailureClass::rate_limit, start + 3650 * day), at("one"), start);
  const std::vector<Candidate> list{candidate("one")};
  CHECK(choose(list, setback, start).until <= start + 32 * day);
  setback.holds["one"].until = start + 3650 * day;
  setback.failed_validations.assign(4, start + 3650 * day);
  CHECK(choose(list, setback, start).until <= start + 1h);
}

TEST_CASE("A refusal blocks only when every CA has given one, for a day, or until a change") {
  Setback setback;
  std::vector<Candidate> list{candidate("one"), candidate("two")};
  CHECK(judge(setback, failure(FailureClass::policy), at("one"), start).another);
  CHECK(choose(list, setback, start).which == 1);
  const auto verdict = judge(setback, failure(FailureClass::account), at("two"), start);
  CHECK(choose(list, setback, start).kind == Kind::blocked);
  CHECK(about(verdict.next, day));
  CHECK(needs_person(setback));
  CHECK(choose(list, setback, start + 27h).kind == Kind::order);
  CHECK_FALSE(review_holds(setback, list, start));
  list[1].settings = 8;  // a person has changed something about it
  CHECK(choose(list, setback, start).which == 1);
  CHECK(review_holds(setback, list, start));
  absolve(setback);
  CHECK(setback.holds.empty());
  CHECK_FALSE(needs_person(setback));
}

TEST_CASE("After a failed validation the next attempts go to the staging directory") {
  Setback setback;
  const std::vector<Candidate> list{candidate("one", true), candidate("two")};
  auto rehearsal = at("one");
  rehearsal.rehearsal = true;
  auto verdict = judge(setback, failure(FailureClass::validation), at("one"), start);
  CHECK_FALSE(verdict.another);
  CHECK(about(verdict.next, 1min));
  for (const std::chrono::nanoseconds wait :
       {std::chrono::nanoseconds(10min), std::chrono::nanoseconds(100min),
        std::chrono::nanoseconds(6h)}) {
    CHECK(choose(list, setback, start).kind == Kind::rehearse);
    verdict = judge(setback, failure(FailureClass::validation), rehearsal, start);
    CHECK(about(verdict.next, wait));
  }
  CHECK(setback.failed_validations.size() == 1);
  rehearsed(setback, "one");
  CHECK(choose(list, setback, start).kind == Kind::order);
  // Production is pinned for the episode.
  judge(setback, failure(FailureClass::validation), at("one"), start);
  CHECK(choose(list, setback, start).kind == Kind::order);
  end_episode(setback, start);
  judge(setback, failure(FailureClass::validation), at("one"), start);
  CHECK(choose(list, setback, start).kind == Kind::rehearse);
}

TEST_CASE("The CA whose staging it passed is asked first") {
  Setback setback;
  const std::vector<Candidate> list{candidate("one"), candidate("two", true)};
  setback.rehearsal = Rehearsal::over;
  setback.pinned = "two";
  CHECK(choose(list, setback, start).which == 1);
}

TEST_CASE("Without a staging directory, or with one of no use, the schedule goes on alone") {
  Setback setback;
  judge(setback, failure(FailureClass::validation), at("one"), start);
  CHECK(choose(std::vector{candidate("one")}, setback, start).kind == Kind::order);
  auto rehearsal = at("one");
  rehearsal.rehearsal = true;
  SECTION("its staging does not answer") {
    const auto verdict = judge(setback, failure(FailureClass::transport), rehearsal, start);
    CHECK(about(verdict.next, 10min));
    CHECK_FALSE(verdict.when_open);
    CHECK(setback.rehearsal == Rehearsal::due);
  }
  SECTION("its staging wants an account of its own") {
    const auto verdict = judge(setback, failure(FailureClass::account), rehearsal, start);
    CHECK(about(verdict.next, 10min));
    CHECK(setback.rehearsal == Rehearsal::over);
    CHECK(setback.holds.empty());
    CHECK_FALSE(needs_person(setback));
  }
  SECTION("a CAA record is for production's account alone") {
    auto caa = failure(FailureClass::validation);
    caa.type = "caa";
    caa.local = GENERATE(true, false);
    const auto verdict = judge(setback, caa, rehearsal, start);
    CHECK(about(verdict.next, 10min));
    CHECK(choose(std::vector{candidate("one", true)}, setback, start).kind == Kind::order);
  }
}

TEST_CASE("Production fails to validate a name four times an hour and no more") {
  Setback setback;
  const std::vector<Candidate> list{candidate("one"), candidate("two")};
  for (int number = 0; number < 4; ++number) {
    const Time now = start + number * 1min;
    CHECK(choose(list, setback, now).kind == Kind::order);
    judge(setback, failure(FailureClass::validation), at(number % 2 ? "two" : "one"), now);
  }
  absolve(setback);
  CHECK(choose(list, setback, start + 4min).kind == Kind::wait);
  CHECK(choose(list, setback, start + 4min).until == start + 1h);
  CHECK(choose(list, setback, start + 1h).kind == Kind::order);
}

TEST_CASE("Each validation that failed on the way to one outcome counts among the four") {
  Setback setback;
  CHECK(validations_left(setback, start) == 4);
  auto two = failure(FailureClass::validation);
  two.verdicts = 2;
  judge(setback, two, at("one"), start);
  CHECK(validations_left(setback, start) == 2);
  // Whatever came after it, the CA has counted the validation.
  auto limited = failure(FailureClass::rate_limit, start + 2h);
  limited.verdicts = 1;
  judge(setback, limited, at("one"), start + 1min);
  CHECK(setback.holds.contains("one"));
  CHECK(validations_left(setback, start + 1min) == 1);
  note_failed_validations(setback, 1, start + 2min);  // on the way to a certificate
  end_episode(setback, start + 2min);
  CHECK(validations_left(setback, start + 2min) == 0);
  CHECK(validation_allowed(setback, start + 2min) == start + 1h);
  CHECK(validations_left(setback, start + 1h) == 2);
  CHECK(validations_left(setback, start + 1h + 1min) == 3);
  CHECK(validations_left(setback, start + 2h) == 4);
  // A clock that was set back since frees nobody at once, and locks nobody out.
  CHECK(validations_left(setback, start - 30 * day) == 0);
}

TEST_CASE("What costs the CA nothing does not count among the four") {
  Setback setback;
  auto made = failure(FailureClass::validation);
  made.verdicts = 2;
  auto circumstances = at("one");
  SECTION("found before it was asked") {
    made.local = true;
  }
  SECTION("at the staging directory") {
    circumstances.rehearsal = true;
  }
  SECTION("of another kind") {
    made.kind = GENERATE(FailureClass::transport, FailureClass::policy, FailureClass::account,
                         FailureClass::storage, FailureClass::internal);
    made.verdicts = 0;
  }
  judge(setback, made, circumstances, start);
  CHECK(validations_left(setback, start) == 4);
  CHECK(setback.rehearsal != Rehearsal::due);
}

TEST_CASE("What was found before the CA was asked is no failure there") {
  Setback setback;
  auto record = failure(FailureClass::policy);
  record.local = true;
  const auto verdict = judge(setback, record, at("one"), start);
  CHECK(verdict.another);  // a CAA record names single CAs
  CHECK(about(verdict.next, 1min));
  CHECK(setback.holds.empty());
  CHECK(setback.failed_validations.empty());
  CHECK(setback.rehearsal == Rehearsal::none);
  CHECK_FALSE(needs_person(setback));
}

TEST_CASE("With a quarter of its life left, every CA is asked in each round, and soon again") {
  Setback setback;
  auto last = at("one");
  last.certificate = Lifetime{start - 80 * day, start + 10 * day};
  for (int number = 0; number < 6; ++number) {
    const auto verdict = judge(setback, failure(FailureClass::internal), last, start);
    CHECK(verdict.another);
    CHECK(verdict.next <= start + 1h);
  }
  last.certificate = Lifetime{start - 5 * day, start + 1 * day};
  setback = {};
  for (int number = 0; number < 6; ++number)
    CHECK(judge(setback, failure(FailureClass::validation), last, start).next <= start + 10min);
  last.certificate = Lifetime{start - 10 * day, start + 80 * day};
  CHECK_FALSE(judge(setback, failure(FailureClass::internal), last, start).another);
}

TEST_CASE("A closed breaker sends the name on, and else lets it wait for the CA") {
  Setback setback;
  auto open = at("one");
  open.open = true;
  const auto verdict = judge(setback, failure(FailureClass::transport), open, start);
  CHECK(verdict.another);
  CHECK(verdict.when_open);
  CHECK_FALSE(judge(setback, failure(FailureClass::transport), at("one"), start).another);
}

TEST_CASE("Another class of failure begins its own schedule") {
  Setback setback;
  for (int number = 0; number < 5; ++number)
    judge(setback, failure(FailureClass::transport), at("one"), start);
  const auto verdict = judge(setback, failure(FailureClass::validation), at("one"), start);
  CHECK(about(verdict.next, 1min));
  CHECK(setback.failures == 6);
}
