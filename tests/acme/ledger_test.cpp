#include "acme/ledger.hpp"

#include <algorithm>
#include <random>

#include <catch2/catch.hpp>

#include "acme/names.hpp"

using namespace gatehouse::acme;
using namespace std::chrono_literals;
using Place = Ledger::Place;

namespace {

const Ledger::Time start{std::chrono::seconds(1'800'000'000)};

Ledger::Facts facts(Ledger::Time not_after, uint32_t generation = 1) {
  Ledger::Facts made;
  made.not_after = not_after;
  made.authority = "test-ca";
  made.generation = generation;
  return made;
}

/// As the next start reads it; what is in `certs` is put there.
Ledger reread(Ledger& ledger, const std::vector<std::string>& certs) {
  Ledger again;
  for (size_t part = 0; part < Ledger::parts; ++part) REQUIRE(again.read(part, ledger.text(part)));
  for (const auto& id : certs) again.put(id, Place::certs);
  again.settle();
  return again;
}

}  // namespace

TEST_CASE("The ledger gives back what it was told, also after it was written and read") {
  Ledger ledger;
  ledger.put("a.example", Place::certs);
  ledger.note("a.example", facts(start + 24h, 7));
  ledger.look_at("a.example", start + 1h);
  ledger.put("old.example", Place::archive);
  CHECK(ledger.changed_part());
  Ledger again = reread(ledger, {"a.example"});
  CHECK_FALSE(ledger.changed_part());
  for (const Ledger* one : {&ledger, &again}) {
    REQUIRE(one->facts("a.example"));
    CHECK(one->facts("a.example")->not_after == start + 24h);
    CHECK(one->facts("a.example")->authority == "test-ca");
    CHECK(one->facts("a.example")->generation == 7);
    CHECK(one->look("a.example") == start + 1h);
    CHECK(one->place("a.example") == Place::certs);
    CHECK(one->place("b.example") == Place::nowhere);
  }
  // What is in the archive is listed at each start.
  CHECK(again.place("old.example") == Place::nowhere);
}

TEST_CASE("Looks come in their order, each once, and never before their time") {
  Ledger ledger;
  std::mt19937 chance(1);
  std::vector<std::pair<int, std::string>> planned;
  for (int i = 0; i < 5000; ++i) {
    const std::string name = "n" + std::to_string(i) + ".example";
    int seconds = 0;
    // Planned anew several times: the last one counts.
    for (unsigned times = chance() % 3 + 1; times > 0; --times)
      ledger.look_at(name,
                     start + std::chrono::seconds(seconds = static_cast<int>(chance() % 9999)));
    if (chance() % 5 == 0)
      ledger.forget_look(name);
    else
      planned.emplace_back(seconds, name);
  }
  std::sort(planned.begin(), planned.end());
  CHECK(ledger.take_due(start - 1s).empty());
  int last = 0;
  size_t taken = 0;
  for (; ledger.next_look(); ++taken) {
    const auto when = *ledger.next_look();
    CHECK(ledger.take_due(when - 1s).empty());
    const std::string name = ledger.take_due(when);
    const int seconds =
        static_cast<int>(std::chrono::duration_cast<std::chrono::seconds>(when - start).count());
    CHECK(seconds >= last);
    last = seconds;
    CHECK(std::binary_search(planned.begin(), planned.end(), std::pair(seconds, name)));
  }
  CHECK(taken == planned.size());
  CHECK(ledger.take_due(start + 24h).empty());
}

TEST_CASE("A look is never before the moment it was planned for, to the fraction of a second") {
  Ledger ledger;
  ledger.look_at("a.example", start + 1500ms);
  CHECK(ledger.take_due(start + 1500ms).empty());
  CHECK(ledger.take_due(start + 2s) == "a.example");
}

TEST_CASE("Rows whose folder is gone are dropped, folders without a row are known by name only") {
  Ledger ledger;
  for (const char* id : {"a.example", "b.example"}) {
    ledger.put(id, Place::certs);
    ledger.note(id, facts(start));
    ledger.look_at(id, start);
  }
  Ledger again = reread(ledger, {"b.example", "c.example"});
  CHECK_FALSE(again.look("a.example"));
  CHECK(again.known("b.example"));
  CHECK(again.place("c.example") == Place::certs);
  CHECK_FALSE(again.known("c.example"));
  CHECK(again.take_due(start) == "b.example");
  CHECK(again.take_due(start).empty());
}

TEST_CASE("Another generation in the folder than in the ledger makes the row unknown") {
  Ledger ledger;
  ledger.put("a.example", Place::certs);
  ledger.note("a.example", facts(start, 3));
  CHECK(ledger.agrees("a.example", 3));
  CHECK(ledger.known("a.example"));
  CHECK_FALSE(ledger.agrees("a.example", 4));
  CHECK_FALSE(ledger.known("a.example"));
  CHECK(ledger.agrees("nobody.example", 1));
}

TEST_CASE("A text that is none is refused whole") {
  Ledger ledger;
  ledger.put("a.example", Place::certs);
  ledger.note("a.example", facts(start));
  std::string good;
  for (size_t part = 0; part < Ledger::parts; ++part)
    if (auto text = ledger.text(part); text.find("a.example") != text.npos) good = text;
  REQUIRE_FALSE(good.empty());
  const std::string head = good.substr(0, good.find('\n') + 1);
  for (const std::string& bad : std::vector<std::string>{
           "", "\n", "gatehouse certificates 2\n", good.substr(0, good.size() - 1),
           good + good.substr(head.size()), head + "a.example 1 2 3 ca\n",
           head + "a.example x 2 3 ca standing\n", head + "a.example 1 2 99999999999 ca standing\n",
           head + "a.example -1 2 3 ca standing\n", head + "../b 1 2 3 ca standing\n",
           head + "a.example 1 2 3 ca maybe\n", head + " 1 2 3 ca standing\n",
           head + "a.example 1 2 3 ca standing b.example\n",
           head + std::string("a\0b 1 2 3 ca standing\n", 23)}) {
    for (size_t part = 0; part < Ledger::parts; ++part) {
      Ledger again;
      INFO(bad);
      CHECK_FALSE(again.read(part, bad));
      CHECK(again.ids(Place::nowhere, part).empty());
    }
  }
}

TEST_CASE("A name whose folder is called by a digest is told by its row") {
  std::string name;
  while (name.size() < 230) name += "a-long-label-" + std::to_string(name.size()) + ".";
  name += "example";
  const std::string id = certificate_id(name);
  REQUIRE(name_of(id).empty());
  Ledger ledger;
  ledger.put(id, Place::certs);
  CHECK(ledger.name(id).empty());
  ledger.note(id, facts(start));
  ledger.look_at(name, start);
  Ledger again = reread(ledger, {id});
  CHECK(again.name(id) == name);
  CHECK(again.take_due(start) == name);
}

TEST_CASE("renew_before moves looks to an earlier time, and never to a later one") {
  Ledger ledger;
  for (const char* name : {"early.example", "late.example"}) {
    ledger.put(name, Place::certs);
    ledger.note(name, facts(start + 90 * 24h));
  }
  ledger.look_at("early.example", start + 24h);
  ledger.look_at("late.example", start + 80 * 24h);
  ledger.look_before_end(std::chrono::hours(24 * 30));
  CHECK(ledger.look("early.example") == start + 24h);
  CHECK(ledger.look("late.example") == start + 60 * 24h);
}
