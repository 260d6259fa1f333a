// One year of a site's life, whole: five names, two CAs, outages, limits, restarts and lifetimes of
// 90, 45 and 6 days, on a clock that the test moves. Every request that a CA got in it is held
// against what the program could know at that moment.
#include <algorithm>
#include <ctime>
#include <map>

#include <catch2/catch.hpp>
#include <fmt/format.h>

#include "acme/names.hpp"
#include "acme/schedule.hpp"
#include "tests/acme/manager_stage.hpp"

using namespace gatehouse;
using namespace gatehouse::acme;
using namespace std::chrono_literals;
namespace asio = boost::asio;
using Wall = base::WallClock::time_point;
using Kind = Event::Kind;
using std::chrono::nanoseconds;

namespace {

// Processor time, which other programs on the machine do not take.
#ifdef NDEBUG
constexpr double seconds_max = 1;
#else
constexpr double seconds_max = 30;  // assertions, and perhaps a sanitizer
#endif

constexpr std::chrono::hours day{24};
constexpr nanoseconds calm_step = 1h;
constexpr nanoseconds busy_step = 250ms;
/// How long after a failure the tries of one attempt go on.
constexpr nanoseconds busy_for = 10s;
/// A CA that answers again is seen at the next step; what waited for it is asked in that one.
constexpr nanoseconds late_max = 2h;

const std::vector<std::string> names = {"shop.example.com", "www.example.com", "blog.example.org",
                                        "api.example.net", "mail.example.net"};
const std::string first_ca = "first";
const std::string second_ca = "second";

enum class Said : uint8_t { issued, nothing, limited };

struct Request {
  Wall when;
  std::string ca, name, replaces;
  Said said = Said::issued;
  Wall until{};                     // limited
  tls::CertificatePtr certificate;  // issued
};

struct Period {
  Wall from, to;
  bool covers(Wall moment) const { return from <= moment && moment < to; }
};

const Period* covering(const std::vector<Period>& periods, Wall moment) {
  const auto found = std::find_if(periods.begin(), periods.end(),
                                  [&](const Period& one) { return one.covers(moment); });
  return found == periods.end() ? nullptr : &*found;
}

struct Ca {
  std::vector<Period> down;     // it answers nobody
  std::vector<Period> limited;  // it answers 429 with the period's end
  /// When it answers again; `moment` itself if it does.
  Wall free_at(Wall moment) const {
    for (const auto* periods : {&down, &limited})
      if (const Period* found = covering(*periods, moment)) return free_at(found->to);
    return moment;
  }
};

struct WholeYear : ManagerStage {
  WholeYear() : root(*tls::InternalAuthority::create("A CA")), begin(clock.wall()) {
    for (const auto& name : names) site(name);
    for (const auto& name : {first_ca, second_ca}) {
      use(name, "https://" + name + ".test/dir");
      cas[name];
    }
    start();
  }
  ~WholeYear() { end(); }

  /// What CAs give changes in the course of the year.
  std::chrono::hours lifetime_now() const {
    if (clock.wall() < begin + 150 * day) return 90 * day;
    return clock.wall() < begin + 290 * day ? 45 * day : 6 * day;
  }

  Outcome<Issued> answer(const std::string& name, const Wanted& wanted) {
    const Ca& ca = cas.at(name);
    auto& request = requests.emplace_back();
    request.when = clock.wall();
    request.ca = name;
    request.name = wanted.names.front();
    request.replaces = wanted.replaces;
    Failure failure;
    failure.sentence = request.name + ": " + name;
    if (covering(ca.down, clock.wall()) != nullptr) {
      request.said = Said::nothing;
      busy_until = clock.wall() + std::chrono::duration_cast<Wall::duration>(busy_for);
      failure.kind = FailureClass::transport;
      failure.sentence += " does not answer";
      return failure;
    }
    if (const Period* limit = covering(ca.limited, clock.wall())) {
      request.said = Said::limited;
      request.until = limit->to;
      failure.kind = FailureClass::rate_limit;
      failure.words = "too many requests";
      failure.retry_at = limit->to;
      return failure;
    }
    Issued issued = issue(root, wanted.names, clock.wall(), lifetime_now());
    request.certificate = issued.certificate;
    issued.orders = 1;
    return issued;
  }
  static asio::awaitable<Outcome<Issued>> obtain(WholeYear* year, std::string ca, Wanted wanted) {
    Outcome<Issued> outcome = year->answer(ca, wanted);
    co_return outcome;
  }
  static asio::awaitable<bool> probe(WholeYear* year, std::string ca) {
    co_return covering(year->cas.at(ca).down, year->clock.wall()) == nullptr;
  }
  /// Renewal information says nothing, until one certificate is to be replaced now.
  static asio::awaitable<Outcome<RenewalInfo>> look(WholeYear* year, std::string ca,
                                                    std::string id) {
    year->looks.emplace_back(year->clock.wall(), ca);
    if (year->recalled.empty() || id != year->recalled) {
      Failure failure;
      failure.status = 500;
      co_return failure;
    }
    if (year->recall_seen == Wall{}) year->recall_seen = year->clock.wall();
    RenewalInfo info;
    info.start = year->clock.wall() - 2 * day;
    info.end = year->clock.wall() - 1 * day;
    co_return info;
  }
  Authority authority(const config::CertificateAuthority& settings) {
    Authority made;
    made.name = settings.name;
    made.directory = settings.directory;
    made.obtain = [this, name = settings.name](Wanted wanted) {
      return obtain(this, name, std::move(wanted));
    };
    made.forget = [](std::string) { return forget_nothing(); };
    made.probe = [this, name = settings.name] { return probe(this, name); };
    made.renewal_info = [this, name = settings.name](std::string id) {
      return look(this, name, std::move(id));
    };
    made.orders_placed = [] { return uint64_t{0}; };
    made.date = [] { return no_date(); };
    return made;
  }

  /// Also as a restart of the program: all but the storage is new.
  void start() {
    stop();
    ManagerStage::start(
        hooks(), [this](const config::CertificateAuthority& made) { return authority(made); });
    REQUIRE(configure());
  }
  void pass_to(Wall when) {
    while (clock.wall() < when) {
      const nanoseconds step = clock.wall() < busy_until ? busy_step : calm_step;
      clock.advance(std::min<nanoseconds>(step, when - clock.wall()));
      manager->recheck();
      settle();
      for (const auto& name : names) {
        const auto found = served.find(name);
        if (found == served.end() || found->second->not_after() <= clock.wall())
          without.push_back(fmt::format("{} on day {}", name, (clock.wall() - begin) / day));
      }
    }
  }
  Wall due(const std::string& name) const {
    for (const auto& one : manager->status())
      if (one.name == name) return one.renew_at;
    return {};
  }
  /// Around the renewal of `name` that is planned now.
  Period around_renewal(const std::string& name, nanoseconds long_for) const {
    const Wall from = due(name) - 2h;
    return {from, from + std::chrono::duration_cast<Wall::duration>(long_for)};
  }
  Wall free_at(Wall moment) const {
    return std::min(cas.at(first_ca).free_at(moment), cas.at(second_ca).free_at(moment));
  }
  size_t count(Said said, const std::string& ca) const {
    return static_cast<size_t>(
        std::count_if(requests.begin(), requests.end(),
                      [&](const Request& one) { return one.said == said && one.ca == ca; }));
  }

  tls::CertificatePtr root;
  Wall begin, busy_until{};
  std::map<std::string, Ca> cas;
  std::string recalled;  // the certificate's renewal id
  Wall recall_seen{};
  std::vector<Request> requests;
  std::vector<std::pair<Wall, std::string>> looks;  // at renewal information, at which CA
  std::vector<std::string> without;                 // who had no valid certificate, and when
};

/// When the certificate is to be renewed, and that this is where the lifetime says.
Wall expected_renewal(const Request& issued, const std::string& name) {
  const auto& certificate = *issued.certificate;
  const Lifetime life{certificate.not_before(), certificate.not_after()};
  const Wall due = renewal_due(life, std::nullopt, certificate_id(name));
  const double share = std::chrono::duration<double>(due - life.not_before) /
                       std::chrono::duration<double>(life.length());
  const double middle = life.length() < 10 * day ? 1.0 / 2 : 2.0 / 3;
  CHECK(share == Approx(middle).margin(0.0501));
  return due;
}

/// Each request for `name` came when it had to, went to the CA that it had to go to, and named what
/// it replaces. Returns how many certificates there were, by the days they live.
std::map<int, size_t> check_requests(const WholeYear& year, const std::string& name) {
  std::map<std::string, Wall> not_before;  // by CA
  const Request* holding = nullptr;
  const Request* began = nullptr;  // the first of an attempt that is not over
  std::map<int, size_t> issued;
  for (const Request& one : year.requests) {
    if (one.name != name) continue;
    INFO(name << " at " << one.ca << ", hour " << (one.when - year.begin) / 1h << ", said "
              << static_cast<int>(one.said));
    CHECK(one.when >= not_before[one.ca]);  // Retry-After
    Wall due = year.begin;
    if (holding != nullptr) {
      const bool recall = holding->certificate->renewal_id() == year.recalled;
      due = recall ? year.recall_seen : expected_renewal(*holding, name);
    }
    CHECK(one.when >= due);
    if (began == nullptr) began = &one;
    const Wall free = std::max(year.free_at(due), year.free_at(began->when));
    CHECK(one.when <= free + late_max);
    if (one.ca == second_ca) {
      const Ca& first = year.cas.at(first_ca);
      // By the program's knowledge, which is a step old when a CA comes back.
      const bool away = first.free_at(one.when) > one.when ||
                        first.free_at(one.when - calm_step) > one.when - calm_step;
      CHECK(away);
    }
    const bool same = holding != nullptr && holding->ca == one.ca;
    CHECK(one.replaces == (same ? holding->certificate->renewal_id() : std::string()));
    if (one.said == Said::limited) not_before[one.ca] = one.until;
    if (one.said != Said::issued) continue;
    holding = &one;
    began = nullptr;
    const auto& made = *one.certificate;
    ++issued[static_cast<int>((made.not_after() - made.not_before()) / day)];
  }
  CHECK(began == nullptr);
  return issued;
}

/// An outage costs the tries of those who were first to meet it: nobody asks again before the CA
/// has shown its directory.
void check_outages(const WholeYear& year, const std::string& ca) {
  for (const Period& outage : year.cas.at(ca).down) {
    std::map<std::string, int> tries;
    std::optional<Wall> first;
    for (const Request& one : year.requests) {
      if (one.ca != ca || !outage.covers(one.when)) continue;
      if (!first) first = one.when;
      CHECK(one.when - *first < busy_for);
      ++tries[one.name];
    }
    CHECK(first.has_value());
    for (const auto& [name, count] : tries) {
      INFO(name);
      CHECK(count <= 4);
    }
  }
}

/// After its 429 a CA gets no request before the time that it named, for whichever name.
void check_limits(const WholeYear& year, const std::string& ca) {
  for (const Period& limit : year.cas.at(ca).limited) {
    std::optional<Wall> said;
    for (const Request& one : year.requests) {
      if (one.ca != ca || !limit.covers(one.when)) continue;
      if (!said) said = one.when;
      CHECK(one.when == *said);  // or together with the one that was told
    }
    REQUIRE(said.has_value());
    CHECK(std::none_of(year.looks.begin(), year.looks.end(), [&](const auto& look) {
      return look.second == ca && look.first > *said && look.first < limit.to;
    }));
  }
}

}  // namespace

TEST_CASE("A whole year: outages, limits, shorter lifetimes, and every decision is the right one") {
  const auto begun = std::clock();
  WholeYear year;
  Ca& first = year.cas.at(first_ca);
  Ca& second = year.cas.at(second_ca);
  const auto on_day = [&](int number) { return year.begin + number * day; };
  CHECK(year.requests.size() == names.size());

  // Certificates of 90 days. The first CA is down for a day and a half when the shop's is due …
  first.down.push_back(year.around_renewal("shop.example.com", 36h));
  year.pass_to(on_day(80));
  CHECK(year.count(Said::issued, second_ca) >= 1);
  CHECK(year.events.size() == 2 * names.size());  // nobody has to hear of it
  // … and at the next renewals it says 429 for three days, in which the program restarts.
  first.limited.push_back(year.around_renewal("blog.example.org", 3 * day));
  year.pass_to(first.limited.back().from + day);
  year.start();
  CHECK(year.served.size() == names.size());
  year.pass_to(on_day(149));
  CHECK(year.count(Said::limited, first_ca) >= 1);

  // From now on certificates live 45 days. Both CAs are down for two days, one longer than that.
  first.down.push_back(year.around_renewal("api.example.net", 48h));
  second.down.push_back(year.around_renewal("api.example.net", 60h));
  year.pass_to(on_day(200));
  CHECK(year.told(Kind::failed).size() >= 1);
  CHECK(year.told(Kind::recovered).size() == year.told(Kind::failed).size());
  // Both say 429, for five hours and for thirty, with a restart in them.
  first.limited.push_back(year.around_renewal("www.example.com", 5h));
  second.limited.push_back(year.around_renewal("www.example.com", 30h));
  year.pass_to(first.limited.back().from + 3h + 30min);
  year.start();
  year.pass_to(second.limited.back().to + day);
  CHECK(year.count(Said::limited, second_ca) >= 1);
  // A certificate is to be replaced long before its time.
  year.pass_to(year.due("mail.example.net") + 6h);
  year.pass_to(year.clock.wall() + 2 * day);
  year.recalled = year.served.at("mail.example.net")->renewal_id();
  year.pass_to(year.clock.wall() + day);
  CHECK(year.recall_seen != Wall{});
  CHECK(year.served.at("mail.example.net")->renewal_id() != year.recalled);
  year.pass_to(on_day(325));

  // By now they live six days. The first CA is away for three, then both for one, then limited.
  first.down.push_back(year.around_renewal("shop.example.com", 3 * day));
  year.pass_to(on_day(335));
  first.down.push_back(year.around_renewal("www.example.com", 24h));
  second.down.push_back(year.around_renewal("www.example.com", 24h));
  year.pass_to(on_day(345));
  first.limited.push_back(year.around_renewal("api.example.net", 2 * day));
  year.pass_to(first.limited.back().from + 30h);
  year.start();
  year.pass_to(on_day(365));

  size_t issued = 0;
  for (const auto& name : names) {
    auto certificates = check_requests(year, name);
    CHECK(certificates[90] == 3);
    CHECK(certificates[45] >= 3);
    CHECK(certificates[45] <= 6);
    CHECK(certificates[6] >= 10);
    CHECK(certificates.size() == 3);
    for (const auto& [days, count] : certificates) issued += count;
  }
  check_outages(year, first_ca);
  check_outages(year, second_ca);
  check_limits(year, first_ca);
  check_limits(year, second_ca);
  CHECK(year.looks.size() >= 365 * names.size());
  CHECK(year.without.empty());
  CHECK(year.told(Kind::obtained).size() == names.size());
  CHECK(year.told(Kind::renewed).size() == issued - names.size());
  CHECK(year.told(Kind::recovered).size() == year.told(Kind::failed).size());
  for (const Kind kind : {Kind::expiring, Kind::expired, Kind::blocked, Kind::deploy_failed})
    CHECK(year.told(kind).empty());
  // The storage holds what is served.
  const auto served = year.served;
  year.start();
  for (const auto& name : names)
    CHECK(year.served.at(name)->fingerprint() == served.at(name)->fingerprint());
  const double seconds = static_cast<double>(std::clock() - begun) / CLOCKS_PER_SEC;
  CHECK(seconds < seconds_max);
}
