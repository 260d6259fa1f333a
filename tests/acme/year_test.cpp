// A year of a site's life on a clock that the test moves: what is asked of which CA, and when not.
#include <algorithm>
#include <map>

#include <boost/asio/redirect_error.hpp>
#include <boost/asio/steady_timer.hpp>
#include <catch2/catch.hpp>

#include "acme/certificate_details.hpp"
#include "tests/acme/manager_stage.hpp"

using namespace gatehouse;
using namespace gatehouse::acme;
using namespace std::chrono_literals;
namespace asio = boost::asio;
using Wall = base::WallClock::time_point;
using Kind = Event::Kind;
using std::chrono::nanoseconds;

namespace {

constexpr std::chrono::hours day{24};
const std::string shop = "shop.example.com";

/// A CA, or a staging directory, that answers at once and as the test says.
struct Scripted {
  struct Asked {
    Wall when;
    std::string name;
    std::string replaces;
    std::string first_challenge;
    unsigned verdicts_max;
  };
  std::string name;
  std::chrono::seconds lifetime = 90 * day;
  std::optional<Failure> failure;
  bool up = true;
  std::optional<Wall> date;
  std::optional<RenewalInfo> advice;
  std::string challenge = "http-01";
  std::string kid;        // of the account it is bound to
  unsigned verdicts = 0;  // on the way to a certificate
  unsigned orders = 0;
  bool hangs = false;  // until release()
  std::vector<std::shared_ptr<asio::steady_timer>> hanging;
  std::vector<Asked> asked;
  std::vector<Wall> looks;  // at renewal information

  void release() {
    hangs = false;
    for (auto& one : std::exchange(hanging, {})) one->cancel();
  }
};

struct Year : ManagerStage {
  Year() : root(*tls::InternalAuthority::create("A CA")), begin(clock.wall()) { site(shop); }
  ~Year() { end(); }

  Scripted& ca(const std::string& name) {
    auto& one = authorities[name];
    one.name = name;
    return one;
  }
  void use(const std::string& name, bool staging = false,
           const std::string& directory = std::string()) {
    auto& made =
        ManagerStage::use(name, directory.empty() ? "https://" + name + ".test/dir" : directory);
    if (staging) made.staging = "https://staging." + name + ".test/dir";
  }

  void on_demand(const std::string& host) {
    site(host, config::CertificateMode::on_demand);
    allow(host);
  }
  void visit(const std::string& name) {
    manager->acquire(name, "127.0.0.1", [](const tls::Acquired&) {});
    settle();
  }

  static asio::awaitable<Outcome<Issued>> obtain(Year* year, Scripted* ca, Wanted wanted) {
    ca->asked.push_back({year->clock.wall(), wanted.names.front(), wanted.replaces,
                         wanted.first_challenge, wanted.verdicts_max});
    if (ca->hangs) {
      const auto event = std::make_shared<asio::steady_timer>(
          year->control, asio::steady_timer::time_point::max());
      ca->hanging.push_back(event);
      boost::system::error_code error;
      co_await event->async_wait(asio::redirect_error(asio::use_awaitable, error));
    }
    if (ca->failure) co_return *ca->failure;
    if (!ca->up) {
      Failure failure;
      failure.kind = FailureClass::transport;
      failure.sentence = ca->name + " does not answer";
      co_return failure;
    }
    Issued issued = issue(year->root, wanted.names, year->clock.wall(), ca->lifetime);
    issued.challenge = ca->challenge;
    issued.verdicts = ca->verdicts;
    issued.orders = ca->orders;
    co_return issued;
  }
  static asio::awaitable<bool> probe(Scripted* ca) { co_return ca->up; }
  static asio::awaitable<std::optional<Wall>> date(Scripted* ca) { co_return ca->date; }
  static asio::awaitable<Outcome<RenewalInfo>> look(Year* year, Scripted* ca) {
    ca->looks.push_back(year->clock.wall());
    if (ca->advice) co_return *ca->advice;
    Failure failure;
    failure.type = "unsupported";
    failure.status = 404;
    co_return failure;
  }
  Authority authority(const config::CertificateAuthority& settings) {
    Scripted* one = &ca(settings.name);
    one->kid = settings.eab_kid;
    Authority made;
    made.name = settings.name;
    made.directory = settings.directory;
    made.obtain = [this, one](Wanted wanted) { return obtain(this, one, std::move(wanted)); };
    made.forget = [](std::string) { return forget_nothing(); };
    made.probe = [one] { return probe(one); };
    made.renewal_info = [this, one](std::string) { return look(this, one); };
    made.orders_placed = [one] { return static_cast<uint64_t>(one->asked.size()); };
    made.date = [one] { return date(one); };
    return made;
  }

  /// As a restart of the program.
  void start() {
    stop();
    ManagerStage::start(
        hooks(), [this](const config::CertificateAuthority& made) { return authority(made); });
    configure();
  }
  void configure() { REQUIRE(ManagerStage::configure()); }
  void pass(nanoseconds time, nanoseconds step) {
    while (time > 0s) {
      const auto part = std::min(time, step);
      clock.advance(part);
      time -= part;
      manager->recheck();
      settle();
    }
  }
  Failure failing(FailureClass kind, std::optional<Wall> until = std::nullopt) const {
    Failure made;
    made.kind = kind;
    made.sentence = shop + ": scripted failure";
    made.retry_at = until;
    return made;
  }
  bool serves() const { return served.contains(shop); }
  Wall ends() const { return served.at(shop)->not_after(); }
  CertificateStatus status(const std::string& name = shop) const {
    return ManagerStage::status(name);
  }

  tls::CertificatePtr root;
  Wall begin;
  std::map<std::string, Scripted> authorities;
};

/// At most `most` of the moments within any `span`.
bool sparse(const std::vector<Scripted::Asked>& asked, nanoseconds span, size_t most) {
  for (size_t i = most; i < asked.size(); ++i)
    if (asked[i].when - asked[i - most].when < span) return false;
  return true;
}

}  // namespace

TEST_CASE("A quiet year: one CA is asked, each time in the last third or half of a lifetime") {
  struct Case {
    std::chrono::hours lifetime;
    double from, to;
  };
  for (const Case& one :
       {Case{90 * day, 0.61, 0.73}, Case{45 * day, 0.61, 0.74}, Case{6 * day, 0.44, 0.58}}) {
    Year year;
    year.use("one", true);
    year.use("two");
    year.ca("one").lifetime = one.lifetime;
    year.start();
    year.pass(365 * day, 2h);
    const auto& asked = year.ca("one").asked;
    const auto life = std::chrono::duration<double>(one.lifetime);
    for (size_t i = 1; i < asked.size(); ++i) {
      const double share = std::chrono::duration<double>(asked[i].when - asked[i - 1].when) / life;
      CHECK(share > one.from);
      CHECK(share < one.to);
      CHECK_FALSE(asked[i].replaces.empty());
    }
    CHECK(asked.size() >= static_cast<size_t>(365 * day / one.lifetime / one.to));
    CHECK(asked.front().replaces.empty());
    CHECK(year.ca("one-staging").asked.empty());
    CHECK(year.ca("two").asked.empty());
    CHECK(year.told(Kind::obtained).size() == 1);
    CHECK(year.told(Kind::renewed).size() == asked.size() - 1);
    CHECK(year.events.size() == asked.size());  // nothing to worry anybody
  }
}

TEST_CASE("A CA that is down for hours: the next one at once, or a wait without a storm") {
  SECTION("with a second CA") {
    Year year;
    year.use("one");
    year.use("two");
    year.ca("one").up = false;
    year.start();
    year.pass(10s, 250ms);
    CHECK(year.ca("one").asked.size() == 4);  // the tries of one attempt
    CHECK(year.ca("two").asked.size() == 1);
    CHECK(year.serves());
    CHECK(year.told(Kind::failed).empty());
    year.pass(6h, 1min);
    CHECK(year.ca("one").asked.size() == 4);
    CHECK(year.ca("two").asked.size() == 1);
  }
  SECTION("alone") {
    Year year;
    year.use("one");
    year.ca("one").up = false;
    year.start();
    year.pass(10s, 250ms);
    year.pass(5h, 15s);
    CHECK(year.ca("one").asked.size() == 4);
    CHECK(year.told(Kind::failed).size() == 1);
    year.ca("one").up = true;
    year.pass(16s, 250ms);
    CHECK(year.serves());
    CHECK(year.ca("one").asked.size() == 5);
    CHECK(year.told(Kind::recovered).size() == 1);
  }
}

TEST_CASE("A CA that is down for weeks: the old certificate, louder and louder, then recovery") {
  Year year;
  year.use("one");
  year.ca("one").lifetime = 45 * day;
  year.start();
  year.pass(25 * day, 1h);
  const Wall end = year.ends();
  year.ca("one").up = false;
  year.pass(19 * day, 1h);
  CHECK(year.ends() == end);
  CHECK(year.told(Kind::expiring).size() == 3);
  CHECK(year.told(Kind::expired).empty());
  CHECK(year.told(Kind::failed).size() >= 1);
  year.pass(4 * day, 1h);
  CHECK(year.serves());  // it is past its end, and better than nothing
  CHECK(year.told(Kind::expired).size() >= 3);
  CHECK(year.told(Kind::expired).size() <= 4);
  CHECK(year.status().state == "expired");
  year.ca("one").up = true;
  year.pass(1h, 1min);
  CHECK(year.ends() > year.clock.wall() + 44 * day);
  CHECK(year.told(Kind::recovered).size() == 1);
  CHECK(year.told(Kind::renewed).size() == 1);
  // Nothing of it is left: the next renewal is at its usual time.
  const size_t events = year.events.size();
  year.pass(20 * day, 1h);
  CHECK(year.events.size() == events);
}

TEST_CASE("While no CA can be asked, what is not in memory is spoken of once a day") {
  Year year;
  year.use("one");
  year.ca("one").lifetime = 20 * day;
  year.on_demand("*.shops.example.com");
  year.start();
  const std::string soon = "a.shops.example.com";
  year.visit(soon);
  const Wall end = year.clock.wall() + 20 * day;
  year.pass(1 * day, 1h);
  year.visit("b.shops.example.com");
  year.pass(1 * day, 1h);
  // A new name finds out that the CA is down; the others are on the disk.
  year.ca("one").up = false;
  year.site("new.example.com");
  year.start();
  year.pass(10s, 250ms);
  year.pass(10 * day, 1h);
  const auto told = [&] {
    std::vector<std::pair<Wall, Event>> list;
    for (const auto& one : year.events)
      if (one.second.name == soon && one.second.text.find("no CA") == 0) list.push_back(one);
    return list;
  };
  CHECK(told().empty());
  year.pass(8 * day + 12h, 1h);
  REQUIRE(told().size() >= 7);
  CHECK(told().size() <= 9);
  for (size_t i = 1; i < told().size(); ++i)
    CHECK(told()[i].first - told()[i - 1].first >= 24 * 1h);
  CHECK(told().front().second.kind == Kind::expiring);
  CHECK(told().front().second.not_after == end);
  CHECK(told().front().first >= end - 7 * day);
  CHECK(told().front().second.text.find(" 1 end within 7 days and 0 have ended") !=
        std::string::npos);
  CHECK(told().back().second.kind == Kind::expired);
  CHECK(told().back().second.text.find(" 1 end within 7 days and 1 have ended") !=
        std::string::npos);
  // It is over when a CA answers again.
  year.ca("one").up = true;
  year.pass(1 * day, 10min);
  const size_t before = told().size();
  year.pass(3 * day, 1h);
  CHECK(told().size() == before);
}

TEST_CASE("After max_reminders the fallback is served, and a later success recovers by itself") {
  Year year;
  year.use("one");
  year.ca("one").lifetime = 6 * day;
  year.snapshot.notify.max_reminders = 3;
  year.start();
  year.ca("one").failure = year.failing(FailureClass::internal);
  year.pass(6 * day + 1h, 1h);
  CHECK(year.serves());
  year.pass(3 * day + 2h, 1h);
  CHECK_FALSE(year.serves());
  CHECK(year.told(Kind::expired).size() == 4);
  year.ca("one").failure.reset();
  year.pass(1h, 1min);
  CHECK(year.serves());
  CHECK(year.told(Kind::recovered).size() == 1);
}

TEST_CASE("After months without power every name is renewed, those last in line too") {
  Year year;
  year.use("one");
  year.ca("one").lifetime = 6 * day;
  for (int number = 0; number < 300; ++number)
    year.site("old" + std::to_string(number) + ".example.com");
  year.start();
  REQUIRE(year.served.size() == 301);
  year.stop();
  year.clock.advance(60 * day);
  year.start();
  year.pass(5min, 1s);
  CHECK(year.served.size() == 301);
  for (const auto& [name, certificate] : year.served)
    CHECK(certificate->not_after() > year.clock.wall());
}

TEST_CASE("A certificate that ended is told of once a day, whatever restarts happen") {
  for (const bool restarts : {false, true}) {
    CAPTURE(restarts);
    Year year;
    year.use("one");
    year.ca("one").lifetime = 6 * day;
    year.snapshot.notify.max_reminders = 3;
    year.start();
    year.ca("one").failure = year.failing(FailureClass::internal);
    year.pass(6 * day, 1h);
    std::vector<std::pair<size_t, bool>> days;  // told by then, and served
    for (int hour = 0; hour < 5 * 24; ++hour) {
      year.pass(1h, 10min);
      if (restarts && hour % 5 == 0) year.start();
      if (hour % 24 == 12) days.emplace_back(year.told(Kind::expired).size(), year.serves());
    }
    REQUIRE(days.size() == 5);
    for (size_t i = 0; i < 4; ++i) CHECK(days[i] == std::pair(i + 1, i < 3));
    // The fallback is there to stay. A start may say so again on another day.
    CHECK_FALSE(days[4].second);
    CHECK(days[4].first <= 5);
    CHECK(days[4].first >= 4);
  }
}

TEST_CASE("A 429 with Retry-After: not a request before it, whatever restarts happen") {
  SECTION("alone") {
    Year year;
    year.use("one");
    const Wall until = year.begin + 3h;
    year.ca("one").failure = year.failing(FailureClass::rate_limit, until);
    year.start();
    year.pass(2s, 1s);
    year.ca("one").failure.reset();
    for (int restarts = 0; restarts < 10; ++restarts) {
      year.pass(17min, 1min);
      year.start();
    }
    year.pass(9min + 50s, 10s);
    CHECK(year.ca("one").asked.size() == 1);
    year.pass(30s, 10s);
    REQUIRE(year.ca("one").asked.size() == 2);
    CHECK(year.ca("one").asked[1].when >= until);
    CHECK(year.serves());
  }
  SECTION("with a second CA, which serves at once") {
    Year year;
    year.use("one");
    year.use("two");
    year.ca("two").lifetime = 6 * day;
    year.ca("one").failure = year.failing(FailureClass::rate_limit, year.begin + 5 * day);
    year.start();
    CHECK(year.serves());
    CHECK(year.ca("two").asked.size() == 1);
    year.ca("one").failure.reset();
    // The limit outlives the success: the renewal after three days is the second's again.
    year.pass(4 * day, 1h);
    CHECK(year.ca("one").asked.size() == 1);
    CHECK(year.ca("two").asked.size() == 2);
    CHECK_FALSE(year.ca("two").asked[1].replaces.empty());
    year.pass(4 * day, 1h);
    CHECK(year.ca("one").asked.size() == 2);
    CHECK(year.ca("one").asked[1].replaces.empty());  // the certificate was another CA's
    CHECK(year.told(Kind::failed).empty());
  }
}

TEST_CASE("A failed validation is rehearsed at staging, and production follows at once") {
  Year year;
  year.use("one", true);
  year.ca("one").failure = year.ca("one-staging").failure = year.failing(FailureClass::validation);
  year.start();
  year.pass(3h, 10s);
  year.pass(21h, 1min);
  const auto& production = year.ca("one").asked;
  const auto& staging = year.ca("one-staging").asked;
  CHECK(production.size() == 1);
  REQUIRE(staging.size() >= 4);
  const auto about = [&](size_t attempt, nanoseconds wait) {
    const Wall before = attempt == 0 ? production[0].when : staging[attempt - 1].when;
    const auto waited = staging[attempt].when - before;
    return waited >= wait * 9 / 10 && waited <= wait * 11 / 10 + 1min;
  };
  CHECK(about(0, 1min));
  CHECK(about(1, 10min));
  CHECK(about(2, 100min));
  CHECK(about(3, 6h));
  CHECK(year.told(Kind::failed).size() <= 2);
  // A restart in between goes on where it stood.
  year.start();
  CHECK(production.size() == 1);
  year.ca("one").failure.reset();
  year.ca("one-staging").failure.reset();
  year.pass(24h, 1min);
  REQUIRE(production.size() == 2);
  CHECK(production[1].when == staging.back().when);
  CHECK(year.serves());
  CHECK(year.told(Kind::obtained).size() == 1);  // the rehearsal's was thrown away
  CHECK(year.told(Kind::recovered).size() == 1);
}

TEST_CASE("A staging twin is bound to an account of its own, where it has one") {
  Year year;
  year.use("one", true);
  auto& settings = year.snapshot.acme.authorities.back();
  settings.eab_kid = "production";
  settings.eab_hmac_key = "abc";
  year.start();
  CHECK(year.ca("one-staging").kid == "production");
  settings.staging_eab_kid = "twin";
  settings.staging_eab_hmac_key = "def";
  year.configure();
  CHECK(year.ca("one-staging").kid == "twin");
  CHECK(year.ca("one").kid == "production");
}

TEST_CASE("Production stays pinned for the episode in which staging went well") {
  Year year;
  year.use("one", true);
  year.ca("one").failure = year.failing(FailureClass::validation);
  year.start();
  year.pass(6h, 30s);
  CHECK(year.ca("one-staging").asked.size() == 1);
  CHECK(year.ca("one").asked.size() >= 4);
  CHECK(sparse(year.ca("one").asked, 1h, 4));
  year.ca("one").failure.reset();
  year.pass(24h, 1min);
  CHECK(year.serves());
  // Another episode begins with a rehearsal again.
  year.pass(54 * day, 1h);
  year.ca("one").failure = year.failing(FailureClass::validation);
  year.pass(14 * day, 1h);
  CHECK(year.ca("one-staging").asked.size() == 2);
}

TEST_CASE("At most four production failures an hour, with restarts every minute and no staging") {
  Year year;
  year.use("one");
  year.use("two");
  year.ca("one").failure = year.ca("two").failure = year.failing(FailureClass::validation);
  for (int minute = 0; minute < 180; ++minute) {
    year.start();
    year.pass(1min, 20s);
  }
  auto all = year.ca("one").asked;
  all.insert(all.end(), year.ca("two").asked.begin(), year.ca("two").asked.end());
  std::sort(all.begin(), all.end(), [](const auto& a, const auto& b) { return a.when < b.when; });
  CHECK(sparse(all, 1h, 4));
  CHECK(all.size() >= 3);
  CHECK(all.size() <= 5);  // 1, 10, 100 min
}

TEST_CASE("What was found wrong before a CA was asked is looked at again after a restart") {
  Year year;
  year.use("one");
  year.ca("one").failure = year.failing(FailureClass::validation);
  const bool local = GENERATE(true, false);
  year.ca("one").failure->local = local;
  year.start();
  year.pass(2s, 1s);
  year.ca("one").failure.reset();
  year.start();
  year.pass(2s, 1s);
  CHECK(year.serves() == local);
  year.pass(2min, 1s);
  CHECK(year.serves());
}

TEST_CASE(
    "An attempt may fail as many validations as are left of the four, and all of them count") {
  Year year;
  year.use("one");
  year.ca("one").failure = year.failing(FailureClass::validation);
  year.ca("one").failure->verdicts = 2;
  year.start();
  year.pass(2min, 1s);
  const auto& asked = year.ca("one").asked;
  REQUIRE(asked.size() == 2);
  CHECK(asked[0].verdicts_max == 4);
  CHECK(asked[1].verdicts_max == 2);
  year.pass(57min, 1min);
  CHECK(asked.size() == 2);  // not after ten minutes: none is left
  year.ca("one").failure.reset();
  year.ca("one").verdicts = 1;
  year.pass(1h, 1min);
  REQUIRE(asked.size() == 3);
  CHECK(asked[2].verdicts_max >= 2);
  CHECK(year.serves());
}

TEST_CASE("The budget counts every order and failed validation of an attempt") {
  Year year;
  year.use("one", false, "https://acme-v02.api.letsencrypt.org/directory");
  Scripted& ca = year.ca("one");
  const auto left = [&] {
    const auto details = test::await(year.control, year.manager->show(shop));
    REQUIRE(details);
    REQUIRE(details->budgets.size() == 1);
    return details->budgets[0].left;
  };
  SECTION("that led to a certificate") {
    ca.verdicts = 1;
    ca.orders = 2;
    year.start();
    REQUIRE(year.serves());
    CHECK(left().orders == 298);
    CHECK(left().failures == 4);
    CHECK(left().name_set == 4);
  }
  SECTION("that came to nothing") {
    ca.failure = year.failing(FailureClass::validation);
    ca.failure->verdicts = 2;
    ca.failure->orders = 2;
    year.start();
    CHECK(left().orders == 298);
    CHECK(left().failures == 3);
    CHECK(left().name_set == 5);
  }
  SECTION("whose predecessor the CA did not take") {
    ca.orders = 1;
    year.start();
    ca.orders = 0;
    year.pass(66 * day, 1h);
    REQUIRE(ca.asked.size() == 2);
    REQUIRE_FALSE(ca.asked[1].replaces.empty());
    CHECK(left().name_set == 5);
    ca.orders = 1;
    for (int hour = 0; hour < 66 * 24 && ca.asked.size() < 3; ++hour) year.pass(1h, 1h);
    REQUIRE(ca.asked.size() == 3);
    CHECK(left().orders >= 299);
    CHECK(left().name_set == 4);
  }
}

TEST_CASE("Blocked only when every CA has refused, for a day, or until its settings change") {
  Year year;
  year.use("one");
  year.use("two");
  year.ca("one").failure = year.ca("two").failure = year.failing(FailureClass::policy);
  year.start();
  CHECK(year.ca("one").asked.size() == 1);
  CHECK(year.ca("two").asked.size() == 1);
  CHECK(year.status().state == "blocked");
  CHECK(year.told(Kind::blocked).size() == 1);
  CHECK(year.told(Kind::failed).empty());
  year.pass(20h, 10min);
  year.configure();
  year.start();
  year.pass(1h, 10min);
  CHECK(year.ca("one").asked.size() == 1);
  year.pass(6h, 10min);
  CHECK(year.ca("one").asked.size() == 2);  // a day has passed
  CHECK(year.ca("two").asked.size() == 2);
  year.ca("two").failure.reset();
  year.snapshot.acme.authorities[1].profile = "other";
  year.configure();
  year.pass(1s, 1s);
  CHECK(year.ca("one").asked.size() == 2);
  CHECK(year.ca("two").asked.size() == 3);
  CHECK(year.serves());
}

TEST_CASE("A spent budget: the order says until when it waits, and an expiring one goes first") {
  Year year;
  const std::string letsencrypt = "https://acme-v02.api.letsencrypt.org/directory";
  year.use("one", false, letsencrypt);
  year.ca("one").lifetime = 6 * day;
  year.start();
  CHECK(year.serves());
  year.stop();
  year.clock.advance(5 * day);
  year.ca("one").asked.clear();
  for (int number = 0; number < 305; ++number)
    year.site("new" + std::to_string(number) + ".n" + std::to_string(number) + ".com");
  // An order of the shop's own that counts: the one before is another CA's, so it replaces nothing.
  for (auto& files : year.memory.folders["certs/" + shop]) {
    auto& note = files["meta.json"];
    note.replace(note.find("\"one\""), 5, "\"old\"");
  }
  year.start();
  year.pass(1s, 1s);
  const auto& asked = year.ca("one").asked;
  CHECK(asked.size() >= 300);
  CHECK(asked.size() <= 301);
  const auto waiting = year.status("new304.n304.com");
  CHECK(waiting.next_attempt > year.clock.wall());
  CHECK(waiting.next_attempt < year.clock.wall() + 1min);
  const auto budget = year.manager->budget();
  REQUIRE(budget.size() == 1);
  REQUIRE_FALSE(budget[0].buckets.empty());
  CHECK(budget[0].buckets[0].what == "orders");
  CHECK(budget[0].buckets[0].left == 0);
  const size_t before = asked.size();
  const bool first =
      std::any_of(asked.begin(), asked.end(), [](const auto& one) { return one.name == shop; });
  year.pass(80s, 1s);
  REQUIRE(asked.size() > before);
  CHECK((first || asked[before].name == shop));
  year.pass(5min, 1s);
  CHECK(asked.size() == 306);
}

TEST_CASE("Orders that a CA was not heard for cost nothing, and go there when it answers again") {
  Year year;
  year.use("one", false, "https://acme-v02.api.letsencrypt.org/directory");
  year.use("two");
  year.ca("one").up = false;
  // The other one would take none before tomorrow.
  year.ca("two").failure = year.failing(FailureClass::rate_limit, year.clock.wall() + day);
  for (int number = 0; number < 200; ++number)
    year.site("new" + std::to_string(number) + ".n" + std::to_string(number) + ".com");
  year.start();
  year.pass(1min, 1s);
  CHECK(year.served.empty());
  year.ca("one").up = true;
  year.pass(2min, 1s);
  CHECK(year.served.size() == 201);
  const auto budget = year.manager->budget();
  REQUIRE_FALSE(budget.empty());
  REQUIRE_FALSE(budget[0].buckets.empty());
  // Those that were served, and the ones that were tried in vain.
  CHECK(budget[0].buckets[0].left >= 300 - 201 - 32);
}

TEST_CASE("What is stopped orders nothing more, not even at another CA") {
  Year year;
  year.use("one");
  year.use("two");
  year.ca("one").hangs = true;
  for (int number = 0; number < 100; ++number)
    year.site("new" + std::to_string(number) + ".example.com");
  year.start();
  CHECK_FALSE(year.ca("one").asked.empty());
  const size_t begun = year.ca("one").asked.size();
  year.manager->stop();
  year.settle();
  year.ca("one").failure = year.failing(FailureClass::policy);
  year.ca("one").release();
  year.settle();
  CHECK(year.ca("one").asked.size() == begun);
  CHECK(year.ca("two").asked.empty());
}

TEST_CASE("A clock that the CA contradicts renews nothing and mourns nothing") {
  Year year;
  year.use("one");
  year.start();
  const Wall right = year.clock.wall();
  year.ca("one").date = right;
  year.clock.set_wall(right + 200 * day);
  year.pass(30min, 1min);
  CHECK(year.ca("one").asked.size() == 1);
  CHECK(year.events.size() == 1);
  year.clock.set_wall(right + 30min);
  year.ca("one").date.reset();
  year.pass(55 * day, 1h);
  CHECK(year.ca("one").asked.size() == 1);
  year.pass(15 * day, 1h);
  CHECK(year.ca("one").asked.size() == 2);
}

TEST_CASE("A CA that is removed: its certificate is served on, and the next one is another's") {
  Year year;
  year.use("one");
  year.start();
  year.pass(10 * day, 1h);
  const Wall end = year.ends();
  year.snapshot.acme.authorities.clear();
  year.use("two");
  year.configure();
  CHECK(year.ends() == end);
  year.start();
  CHECK(year.ends() == end);
  year.pass(40 * day, 1h);
  CHECK(year.ca("two").asked.empty());
  year.pass(20 * day, 1h);
  REQUIRE(year.ca("two").asked.size() == 1);
  CHECK(year.ca("two").asked[0].replaces.empty());
  CHECK(year.ca("one").asked.size() == 1);
}

TEST_CASE("A reload with another CA ends the wait for one that is down, spent or said 429") {
  const bool in_its_place = GENERATE(false, true);
  Year year;
  year.use("one", false, "https://acme-v02.api.letsencrypt.org/directory");
  Scripted& one = year.ca("one");
  SECTION("down") {
    one.up = false;
    year.start();
    year.pass(1min, 1s);
  }
  SECTION("429 with Retry-After") {
    one.failure = year.failing(FailureClass::rate_limit, year.clock.wall() + day);
    year.start();
    // The same again changes nothing.
    year.configure();
    CHECK(one.asked.size() == 1);
  }
  SECTION("its budget is spent") {
    AuthorityBudget spent(true);
    for (int number = 0; number < 300; ++number)
      spent.ordered({"other" + std::to_string(number) + ".net"}, year.clock.wall());
    year.memory.files["issuers/one/rate.json"] = spent.buckets.to_json();
    year.start();
    CHECK(one.asked.empty());
  }
  REQUIRE_FALSE(year.serves());
  const size_t before = one.asked.size();
  if (in_its_place) year.snapshot.acme.authorities.clear();
  year.use("two");
  year.configure();
  year.pass(1s, 1s);
  CHECK(year.serves());
  CHECK(year.ca("two").asked.size() == 1);
  CHECK(one.asked.size() == before);
}

TEST_CASE("An order left by a former process goes on at its own CA, not at the first") {
  Year year;
  year.use("one");
  year.use("two");
  year.memory.files["orders/" + shop + "/order.json"] =
      R"({"version":1,"directory":"https://two.test/dir","names":["shop.example.com"],)"
      R"("created":"2026-01-01T00:00:00Z","order":"https://two.test/order/1"})";
  year.start();
  CHECK(year.ca("one").asked.empty());
  CHECK(year.ca("two").asked.size() == 1);
  CHECK(year.serves());
}

TEST_CASE("The CA's window decides, is kept over a restart, and followed when it moves") {
  Year year;
  year.use("one");
  RenewalInfo info;
  info.start = year.begin + 40 * day;
  info.end = year.begin + 42 * day;
  info.retry_after = 6h;
  year.ca("one").advice = info;
  year.start();
  CHECK(year.ca("one").looks.size() == 1);  // right after issue
  const Wall instant = year.status().renew_at;
  CHECK(instant >= info.start);
  CHECK(instant <= info.end);
  year.pass(2s, 1s);
  year.start();
  CHECK(year.status().renew_at == instant);
  const size_t looks = year.ca("one").looks.size();
  year.pass(20 * day, 1h);
  CHECK(year.ca("one").looks.size() >= looks + 65);
  CHECK(year.ca("one").looks.size() <= looks + 81);
  CHECK(year.status().renew_at == instant);
  CHECK(year.ca("one").asked.size() == 1);
  // The certificate is about to be revoked: now.
  info.start = year.begin + 10 * day;
  info.end = year.begin + 11 * day;
  info.explanation = "https://one.test/incident";
  year.ca("one").advice = info;
  const Wall moved = year.clock.wall();
  while (year.ca("one").asked.size() == 1 && year.clock.wall() < moved + 7h)
    year.pass(10min, 10min);
  REQUIRE(year.ca("one").asked.size() == 2);
  CHECK_FALSE(year.ca("one").asked[1].replaces.empty());
}

TEST_CASE("The CA's window is asked for within a day of a restart, of what is not in memory too") {
  Year year;
  year.use("one");
  year.on_demand("*.shops.example.com");
  RenewalInfo info;
  info.start = year.begin + 40 * day;
  info.end = year.begin + 42 * day;
  year.ca("one").advice = info;
  year.start();
  const std::vector<std::string> names{"a.shops.example.com", "b.shops.example.com",
                                       "c.shops.example.com"};
  for (const auto& name : names) year.visit(name);
  REQUIRE(year.ca("one").asked.size() == 1 + names.size());
  year.pass(2 * day, 1h);
  year.start();
  for (const auto& name : names) CHECK_FALSE(year.served.contains(name));
  // They are about to be revoked: now.
  info.start = year.begin + 1 * day;
  info.end = year.begin + 2 * day;
  year.ca("one").advice = info;
  year.pass(25h, 10min);
  for (const auto& name : names) {
    const auto of_it = [&](const auto& asked) { return asked.name == name; };
    CHECK(std::count_if(year.ca("one").asked.begin(), year.ca("one").asked.end(), of_it) >= 2);
  }
}

TEST_CASE("A window that is past is obeyed at once, however young the certificate is") {
  Year year;
  year.use("one");
  RenewalInfo info;
  info.start = year.begin - 10 * day;
  info.end = year.begin - 9 * day;
  year.ca("one").advice = info;
  year.start();
  year.pass(5s, 250ms);
  REQUIRE(year.ca("one").asked.size() == 2);
  CHECK_FALSE(year.ca("one").asked[1].replaces.empty());
  // What is obeyed once is not obeyed again at once, whatever restarts happen.
  year.start();
  year.pass(5h, 1min);
  CHECK(year.ca("one").asked.size() == 2);
  year.pass(2h, 1min);
  CHECK(year.ca("one").asked.size() == 3);
}

TEST_CASE("A CA that always wants renewal now gets four a day, and one without windows is left") {
  Year year;
  year.use("one");
  RenewalInfo info;
  info.start = year.begin - 10 * day;
  info.end = year.begin - 9 * day;
  year.ca("one").advice = info;
  year.start();
  year.pass(2 * day, 10min);
  CHECK(year.ca("one").asked.size() >= 8);
  CHECK(year.ca("one").asked.size() <= 10);
  year.ca("one").advice.reset();
  const size_t looks = year.ca("one").looks.size();
  year.pass(7 * day, 10min);
  CHECK(year.ca("one").looks.size() <= looks + 9);
}

TEST_CASE("What proved a name last is tried first the next time, after a restart too") {
  Year year;
  year.use("one");
  year.ca("one").challenge = "tls-alpn-01";
  year.start();
  year.pass(2s, 1s);
  year.start();
  year.pass(66 * day, 1h);
  REQUIRE(year.ca("one").asked.size() == 2);
  CHECK(year.ca("one").asked[0].first_challenge.empty());
  CHECK(year.ca("one").asked[1].first_challenge == "tls-alpn-01");
}

TEST_CASE("In the last quarter every CA is asked in each round, and soon again") {
  Year year;
  year.use("one");
  year.use("two");
  year.ca("one").lifetime = 6 * day;
  year.start();
  year.ca("one").failure = year.ca("two").failure = year.failing(FailureClass::internal);
  year.pass(4 * day, 1min);
  const size_t calm = year.ca("two").asked.size();
  CHECK(calm == 0);  // nothing speaks for another CA yet
  year.pass(20h, 1min);
  CHECK(year.ca("two").asked.size() >= 40);
  CHECK(year.ca("two").asked.size() <= year.ca("one").asked.size());
  CHECK(year.told(Kind::expiring).size() >= 1);
}

TEST_CASE("In the last quarter a CA that is down holds up nobody") {
  Year year;
  year.use("one");
  year.use("two");
  year.ca("one").lifetime = 6 * day;
  year.start();
  year.ca("one").failure = year.failing(FailureClass::internal);
  year.ca("two").up = false;
  year.pass(4 * day + 13h, 1min);
  const size_t before = year.ca("one").asked.size();
  year.pass(10h, 1min);
  CHECK(year.ca("one").asked.size() >= before + 45);
  year.ca("two").up = true;
  year.pass(16min, 1min);
  CHECK(year.ends() > year.begin + 90 * day);  // the second's, as soon as it answered
}
