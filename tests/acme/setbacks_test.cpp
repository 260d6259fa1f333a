#include "acme/setbacks.hpp"

#include <catch2/catch.hpp>

using namespace gatehouse::acme;
using namespace std::chrono_literals;
using Time = Setbacks::Time;

namespace {

const Time start = Time(std::chrono::seconds(1'800'000'000));

Past troubled() {
  Past past;
  Setback& setback = past.setback;
  setback.failures = 5;
  setback.step = 3;
  setback.kind = FailureClass::validation;
  setback.sentence = "a.example: \"words\" of the CA";
  setback.next_attempt = start + 1h;
  setback.told = start - 1h;
  setback.rehearsal = Rehearsal::due;
  setback.pinned = "one";
  setback.failed_validations = {start - 10min, start - 5min};
  setback.holds["one"] = {start + 2h, false, 0};
  setback.holds["two"] = {start + 20h, true, 0xfedcba9876543210};
  past.challenge = "tls-alpn-01";
  past.advice = {
      0x8000000000000001, {start + 24h, start + 48h}, start + 30h, "https://ca.test/why"};
  past.heeded = start - 3h;
  past.warned_of = 12;
  past.warned = 2;
  past.mourned = start - 7h;
  return past;
}

/// Through the storage, as a restart does it.
Setbacks again(Setbacks& before, Time now) {
  Setbacks after;
  while (const auto shard = before.changed()) REQUIRE(after.read(before.to_json(*shard), now));
  return after;
}

}  // namespace

TEST_CASE("What is remembered of a name outlasts a restart, to the last field") {
  Setbacks setbacks;
  setbacks.remember("a.example", troubled(), start);
  const Past past = again(setbacks, start).recall("a.example");
  const Past wanted = troubled();
  CHECK(past.setback.failures == 5);
  CHECK(past.setback.step == 3);
  CHECK(past.setback.kind == FailureClass::validation);
  CHECK(past.setback.sentence == wanted.setback.sentence);
  CHECK(past.setback.next_attempt == wanted.setback.next_attempt);
  CHECK(past.setback.told == wanted.setback.told);
  CHECK(past.setback.rehearsal == Rehearsal::due);
  CHECK(past.setback.pinned == "one");
  CHECK(past.setback.failed_validations == wanted.setback.failed_validations);
  REQUIRE(past.setback.holds.size() == 2);
  CHECK(past.setback.holds.at("one").until == start + 2h);
  CHECK_FALSE(past.setback.holds.at("one").refused);
  CHECK(past.setback.holds.at("two").refused);
  CHECK(past.setback.holds.at("two").settings == 0xfedcba9876543210);
  CHECK(past.challenge == "tls-alpn-01");
  CHECK(past.advice.certificate == 0x8000000000000001);
  CHECK(past.advice.window == wanted.advice.window);
  CHECK(past.advice.instant == wanted.advice.instant);
  CHECK(past.advice.explanation == "https://ca.test/why");
  CHECK(past.heeded == start - 3h);
  CHECK(past.warned_of == 12);
  CHECK(past.warned == 2);
  CHECK(past.mourned == start - 7h);
}

TEST_CASE("Names without trouble take no room, and only what changed is written") {
  Setbacks setbacks;
  CHECK_FALSE(setbacks.changed());
  setbacks.remember("a.example", Past(), start);
  CHECK(setbacks.size() == 0);
  CHECK_FALSE(setbacks.changed());
  setbacks.remember("a.example", troubled(), start);
  const auto shard = setbacks.changed();
  REQUIRE(shard);
  setbacks.to_json(*shard);
  CHECK_FALSE(setbacks.changed());
  setbacks.touch(*shard);
  CHECK(setbacks.changed() == shard);
  setbacks.to_json(*shard);
  Past ended = troubled();
  ended.setback = {};
  ended.challenge.clear();
  ended.advice = {};
  ended.warned = 0;
  setbacks.remember("a.example", ended, start);
  CHECK(setbacks.size() == 1);  // when the CA's wish was last followed counts for a day
  setbacks.to_json(*shard);
  ended.heeded = {};
  setbacks.remember("a.example", ended, start);
  CHECK(setbacks.size() == 0);
  CHECK(setbacks.changed() == shard);
}

TEST_CASE("Changed shards take turns") {
  Setbacks setbacks;
  for (int number = 0; number < 500; ++number)
    setbacks.remember("n" + std::to_string(number), troubled(), start);
  size_t last = Setbacks::shard_count - 1;
  for (size_t turn = 0; turn < Setbacks::shard_count; ++turn) {
    last = *setbacks.changed(last);
    CHECK(last == turn);
  }
  CHECK(setbacks.changed(last) == std::optional<size_t>(0));
}

TEST_CASE("Failed validations count for an hour, ended holds not at all") {
  Past past;
  past.setback.failed_validations = {start};
  past.setback.holds["one"] = {start + 10min, false, 0};
  CHECK_FALSE(past.empty(start + 59min));
  CHECK(past.empty(start + 1h));
}

TEST_CASE("There is room for 200,000 names, and those known already are kept up to date") {
  Setbacks setbacks;
  Past past;
  past.challenge = "x";
  for (size_t number = 0; number < Setbacks::count_max + 10; ++number)
    setbacks.remember("n" + std::to_string(number), past, start);
  CHECK(setbacks.size() == Setbacks::count_max);
  past.challenge = "y";
  setbacks.remember("n7", past, start);
  CHECK(setbacks.recall("n7").challenge == "y");
  setbacks.tidy(start, [](const std::string& name) { return name == "n7"; });
  CHECK(setbacks.size() == 1);
}

TEST_CASE("Damaged or foreign text is unreadable, odd parts of it are left out") {
  Setbacks setbacks;
  for (const char* bad : {"", "x", "[]", "{}", R"({"version":2,"names":{}})",
                          R"({"version":1,"names":[]})", R"({"version":1})"})
    CHECK_FALSE(setbacks.read(bad, start));
  CHECK(setbacks.read(
      R"({"version":1,"names":{"a":7,"":{"failures":1},"b":{"failures":-3,"challenge":9},)"
      R"("c":{"failures":99999999999,"class":"none","next_attempt":9223372036854775807,)"
      R"("told":9223372036854775807,"rehearsal":77,"holds":{"one":7,"two":{"until":1e99},)"
      R"("three":{"until":9223372036854775807,"refused":"xyz"}},"advice":[1,2],)"
      R"("failed_validations":[9223372036854775807,-5,"x",0,0,0,0],"warned":["0",9]}}})",
      start));
  CHECK(setbacks.size() == 1);
  const Past past = setbacks.recall("c");
  CHECK(past.setback.failures == 1'000'000);
  CHECK(past.setback.next_attempt <= start + 32 * 24h);
  CHECK(past.setback.told <= start);
  CHECK(past.setback.rehearsal == Rehearsal::none);
  CHECK(past.setback.failed_validations.size() == Setback::failed_validations_max);
  CHECK(past.setback.failed_validations.front() <= start);
  CHECK(past.setback.holds.at("three").until <= start + 32 * 24h);
}

TEST_CASE("A sentence that is too long or no UTF-8 spoils nothing") {
  Setbacks setbacks;
  Past past = troubled();
  past.setback.sentence.assign(Setback::sentence_max - 1, 'x');
  for (int number = 0; number < 9; ++number) past.setback.sentence += "\xc3\xa9";
  setbacks.remember("a", past, start);
  past.setback.sentence = "\xff\xfe /path";
  setbacks.remember("b", past, start);
  const Setbacks after = again(setbacks, start);
  CHECK(after.recall("a").setback.sentence.size() <= Setback::sentence_max);
  CHECK(after.recall("b").setback.sentence == "?? /path");
}
