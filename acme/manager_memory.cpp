// What outlasts a restart beside the certificates: budgets, visits, setbacks. All of it is small,
// and none of it is worth an error: what cannot be read is begun anew.
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>

#include "acme/manager_state.hpp"
#include "base/log.hpp"

namespace gatehouse::acme {

namespace asio = boost::asio;
using base::ErrorKind;

namespace {

/// Soon: what a CA has refused is not forgotten by a crash. But it takes a tenth of the disk's
/// time.
constexpr std::chrono::milliseconds small_state_delay{50};
constexpr int rests_per_write = 9;
constexpr std::chrono::minutes small_state_retry{1};
/// On average: with 100,000 names the files are large, and change all the time.
constexpr size_t bytes_per_second = 256 * 1024;
constexpr size_t bytes_at_once = 1024 * 1024;
constexpr std::chrono::seconds rest_max{60};
constexpr const char* on_demand_rate_path = "on_demand/rate.json";
constexpr const char* visits_path = "on_demand/visits.json";

std::string rate_path(const std::string& ca) {
  return "issuers/" + ca + "/rate.json";
}

std::string setbacks_path(size_t shard) {
  return fmt::format("setbacks/{:02}.json", shard);
}

}  // namespace

asio::awaitable<void> Manager::State::read_memory() {
  auto rate = co_await storage.load(on_demand_rate_path);
  if (rate) on_demand_budget.buckets = Buckets::from_json(*rate, clock.wall());
  auto visited = co_await storage.load(visits_path);
  if (visited) visits = Visits::from_json(*visited, clock.wall());
  for (const auto* unreadable : {&rate, &visited})
    if (!*unreadable && unreadable->error().kind != ErrorKind::not_found)
      base::log::warn("{}; begun anew", unreadable->error().context);
  for (size_t shard = 0; shard < Setbacks::shard_count; ++shard) {
    auto text = co_await storage.load(setbacks_path(shard));
    if (text && !setbacks.read(*text, clock.wall()))
      base::log::warn("{} cannot be understood; begun anew", setbacks_path(shard));
    if (!text && text.error().kind != ErrorKind::not_found)
      base::log::warn("{}; begun anew", text.error().context);
  }
}

asio::awaitable<void> Manager::State::load_budget(std::shared_ptr<State> self, DeskPtr desk) {
  if (desk->budget.buckets.size() > 0) co_return;
  auto text = co_await self->storage.load(rate_path(desk->settings.name));
  if (text) {
    desk->budget.buckets = Buckets::from_json(*text, self->clock.wall());
  } else if (text.error().kind != ErrorKind::not_found) {
    base::log::warn("{}; begun anew", text.error().context);
  }
}

void Manager::State::remember(const Entry& entry) {
  setbacks.remember(entry.name, entry.past, clock.wall());
  note_change();
}

void Manager::State::note_change() {
  if (small_state_save != 0 || stopped) return;
  const auto when = std::max(clock.monotonic() + small_state_delay, small_state_rest);
  small_state_save = agenda.at(when, [this] {
    small_state_save = 0;
    asio::co_spawn(control, save_small_state(shared_from_this()), asio::detached);
  });
}

asio::awaitable<void> Manager::State::save_small_state(std::shared_ptr<State> self) {
  if (self->small_state_saving) {
    self->note_change();
    co_return;
  }
  self->small_state_saving = true;
  co_await self->saving.enter();
  const Inside inside(self->saving);
  const auto begun = self->clock.monotonic();
  std::vector<std::pair<std::string, std::string>> files;
  files.emplace_back(on_demand_rate_path, self->on_demand_budget.buckets.to_json());
  for (const auto& desk : self->desks)
    if (std::exchange(desk->budget_changed, false))
      files.emplace_back(rate_path(desk->settings.name), desk->budget.buckets.to_json());
  if (self->visits.changed())
    files.emplace_back(visits_path, self->visits.to_json(self->clock.wall()));
  bool well = true;
  size_t bytes = 0;
  for (auto& [path, text] : files) {
    bytes += text.size();
    auto stored = co_await self->storage.store(path, text);
    if (!stored && !std::exchange(self->small_state_failed, true))
      base::log::warn("{}: limits, visits and failures are kept in memory only",
                      stored.error().context);
    well = well && stored;
  }
  const bool setbacks_well = co_await save_setbacks(self, bytes);
  well = well && setbacks_well;
  if (well) self->small_state_failed = false;
  self->small_state_saving = false;
  const auto written = self->clock.monotonic();
  const base::Monotonic::duration rest = std::max<base::Monotonic::duration>(
      std::chrono::seconds(bytes / bytes_per_second), (written - begun) * rests_per_write);
  self->small_state_rest = written + std::min<base::Monotonic::duration>(rest, rest_max);
  if (self->stopped) co_return;
  if (well) {
    if (self->setbacks.changed()) self->note_change();
    co_return;
  }
  for (const auto& desk : self->desks) desk->budget_changed = true;
  if (self->small_state_save != 0) co_return;
  self->small_state_save = self->agenda.after(small_state_retry, [state = self.get()] {
    state->small_state_save = 0;
    state->note_change();
  });
}

/// The shards that have changed, in turn; as many as may be written at once, at the end all.
asio::awaitable<bool> Manager::State::save_setbacks(std::shared_ptr<State> self, size_t& bytes) {
  size_t& last = self->last_shard;
  for (size_t written = 0; written < Setbacks::shard_count; ++written) {
    const auto shard = self->setbacks.changed(last);
    if (!shard || (bytes >= bytes_at_once && !self->stopped)) co_return true;
    last = *shard;
    const std::string text = self->setbacks.to_json(last);
    bytes += text.size();
    auto stored = co_await self->storage.store(setbacks_path(last), text);
    if (stored) continue;
    self->setbacks.touch(last);
    if (!std::exchange(self->small_state_failed, true))
      base::log::warn("{}: limits, visits and failures are kept in memory only",
                      stored.error().context);
    co_return false;
  }
  co_return true;
}

}  // namespace gatehouse::acme
