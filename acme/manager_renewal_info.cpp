// When the CAs want certificates renewed (RFC 9773): asked right after issue, and then as often as
// each CA says. Of certificates that are ours to renew only, a few a second at most.
#include <random>

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>

#include "acme/manager_state.hpp"
#include "acme/renewal_info.hpp"
#include "base/log.hpp"

namespace gatehouse::acme {

namespace asio = boost::asio;
using Wall = base::WallClock::time_point;
using std::chrono::milliseconds;

namespace {

constexpr milliseconds between_looks{250};
constexpr size_t looks_max = 4;  // at once
constexpr std::chrono::hours unsupported_pause{24};
constexpr std::chrono::hours closed_pause{1};
constexpr std::chrono::minutes spread_after_start{6 * 60};
constexpr size_t explained_max = 256;

double chance() {
  static std::mt19937_64 engine{std::random_device()()};
  return std::uniform_real_distribution<double>(0.0, 1.0)(engine);
}

asio::awaitable<Outcome<RenewalInfo>> look(DeskPtr desk, std::string id) {
  Failure failure;
  try {
    auto info = co_await desk->orders->authority().renewal_info(std::move(id));
    co_return info;
  } catch (const std::exception& error) {
    failure.sentence = error.what();
  }
  co_return failure;
}

}  // namespace

/// The certificate that an order would take the place of, for the CA that issued it.
std::string Manager::State::replaced_by(const Entry& entry, const Desk& desk) const {
  if (!entry.certificate || entry.authority != desk.settings.name) return {};
  return entry.certificate->renewal_id();
}

/// The instant that the CA's window has led to, if one was given for this very certificate.
std::optional<Wall> Manager::State::advised(const Entry& entry) const {
  const RenewalAdvice& advice = entry.past.advice;
  if (advice.certificate == 0 || advice.certificate != mark(entry.certificate->renewal_id()))
    return std::nullopt;
  return advice.instant;
}

/// A certificate came into use: its CA is asked, at once if it never was.
void Manager::State::plan_advice(Entry& entry) {
  agenda.cancel(entry.advice_look);
  const DeskPtr desk = desk_of(entry.authority);
  const bool ours = entry.claim == Claim::automatic || entry.claim == Claim::on_demand;
  if (!ours || !desk || !desk->orders->authority().renewal_info) return;
  if (entry.certificate->renewal_id().empty() || entry.certificate->not_after() < clock.wall())
    return;
  // One that is in memory only to be looked at may be gone by the time of another look.
  if (!advised(entry) || std::exchange(entry.passing, false)) return queue_advice(entry.name);
  look_after(entry, spread_after_start * static_cast<int64_t>(mark(entry.id) % 1000) / 1000);
}

void Manager::State::look_after(Entry& entry, base::Monotonic::duration wait) {
  agenda.cancel(entry.advice_look);
  entry.advice_look = agenda.after(wait, [this, name = entry.name] {
    if (Entry* one = find(name)) one->advice_look = 0;
    queue_advice(name);
  });
}

void Manager::State::queue_advice(const std::string& name) {
  if (!advice_queued.insert(name).second) return;
  advice_queue.push_back(name);
  if (advice_timer == 0) ask_next();
}

/// The next one in the queue, if it is not too soon and not too many are asked now.
void Manager::State::ask_next() {
  while (!advice_queue.empty() && looks_running < looks_max && !stopped) {
    const std::string name = std::move(advice_queue.front());
    advice_queue.pop_front();
    advice_queued.erase(name);
    Entry* entry = find(name);
    if (entry == nullptr || !entry->certificate) continue;
    const DeskPtr desk = desk_of(entry->authority);
    if (!desk || !desk->orders->authority().renewal_info) continue;
    const bool wanted = !entry->on_demand() || visits.recent(name, clock.wall());
    if (!wanted || desk->no_advice_until > clock.monotonic()) {
      look_after(*entry, unsupported_pause);
      continue;
    }
    const Wall now = clock.wall();
    if (desk->orders->open() || desk->budget.silent_until(now) > now) {
      look_after(*entry, closed_pause);
      continue;
    }
    ++looks_running;
    asio::co_spawn(control, ask_advice(shared_from_this(), desk, name, entry->certificate),
                   asio::detached);
    agenda.cancel(advice_timer);
    advice_timer = agenda.after(between_looks, [this] {
      advice_timer = 0;
      ask_next();
    });
    return;
  }
}

asio::awaitable<void> Manager::State::ask_advice(std::shared_ptr<State> self, DeskPtr desk,
                                                 std::string name,
                                                 tls::CertificatePtr certificate) {
  auto info = co_await look(desk, certificate->renewal_id());
  --self->looks_running;
  if (self->stopped) co_return;
  if (self->advice_timer == 0) self->ask_next();
  Entry* entry = self->find(name);
  if (entry == nullptr || entry->certificate != certificate) co_return;
  if (info) {
    self->take_advice(*entry, *desk, *info);
    co_return;
  }
  const Failure& failure = info.error();
  milliseconds pause = window_pause(std::nullopt, entry->id);
  if (failure.type == "unsupported") {
    pause = unsupported_pause;
    desk->no_advice_until = self->clock.monotonic() + unsupported_pause;
  } else {
    base::log::debug("{}: no renewal information: {}", name, failure.sentence);
    if (failure.retry_at)
      pause = window_pause(
          std::chrono::duration_cast<milliseconds>(*failure.retry_at - self->clock.wall()),
          entry->id);
  }
  self->look_after(*entry, pause);
}

void Manager::State::take_advice(Entry& entry, Desk& desk, const RenewalInfo& info) {
  look_after(entry, window_pause(info.retry_after, entry.id));
  const bool known = advised(entry).has_value();
  const RenewalAdvice before = known ? entry.past.advice : RenewalAdvice();
  const RenewalWindow offered{info.start, info.end};
  const auto instant = instant_in(offered, before.window, before.instant, chance());
  // One that is too long to keep is told once, below.
  const std::string kept =
      info.explanation.size() <= RenewalAdvice::explanation_max ? info.explanation : std::string();
  if (!instant || (known && offered == before.window && *instant == before.instant &&
                   kept == before.explanation))
    return;
  entry.past.advice = {mark(entry.certificate->renewal_id()), offered, *instant, kept};
  remember(entry);
  plan_renewal(entry);
  base::log::debug("{}: {} wants it renewed, which will be {}", entry.name, desk.settings.name,
                   spoken_time(entry.renew_at, clock.wall()));
  if (info.explanation.empty() || desk.explained.size() >= explained_max) return;
  if (desk.explained.insert(info.explanation).second)
    base::log::warn("{}: {} has changed when certificates are to be renewed, and says why: {}",
                    entry.name, desk.settings.name, info.explanation);
}

}  // namespace gatehouse::acme
