#include "app/expiry_watch.hpp"

#include <algorithm>
#include <map>
#include <set>
#include <string>

#include <boost/asio/awaitable.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <boost/json.hpp>
#include <fmt/format.h>

#include "acme/agenda.hpp"
#include "acme/expiry.hpp"
#include "base/log.hpp"

namespace gatehouse::app {

namespace asio = boost::asio;
namespace json = boost::json;
namespace log = base::log;
using acme::CertificateStatus;
using acme::Event;
using acme::ExpiryStage;
using acme::WallTime;

namespace {

constexpr std::chrono::hours look_interval{1};
constexpr std::chrono::hours kept_past_end{24 * 30};
constexpr size_t remembered_max = 10'000;
constexpr size_t names_shown_max = 3;
constexpr const char* told_path = "notify/expiry.json";

/// What was told of a certificate, by its issuer and serial.
struct Told {
  ExpiryStage stage = ExpiryStage::fresh;
  WallTime not_after{};
};
using Memory = std::map<std::string, Told>;

/// One certificate and its names; `status` is that of one of them.
struct Watched {
  CertificateStatus status;
  std::set<std::string> names;
};

std::string key_of(const CertificateStatus& status) {
  return status.issuer + " " + status.serial;
}

std::map<std::string, Watched> by_certificate(const std::vector<CertificateStatus>& list) {
  std::map<std::string, Watched> result;
  for (const auto& status : list) {
    if (status.not_after == WallTime{}) continue;
    auto& watched = result[key_of(status)];
    if (watched.names.empty()) watched.status = status;
    watched.names.insert(status.name);
  }
  return result;
}

std::string names_of(const Watched& watched) {
  std::string result;
  size_t shown = 0;
  for (const auto& name : watched.names) {
    if (shown++ == names_shown_max) {
      return result + fmt::format(" and {} more", watched.names.size() - names_shown_max);
    }
    result += (result.empty() ? "" : ", ") + name;
  }
  return result;
}

Event event_of(const Watched& watched, ExpiryStage stage) {
  static constexpr const char* way_out =
      "replace its files, or give the admin interface a new one where it came from there: that is "
      "then served without a restart";
  Event event;
  event.name = *watched.names.begin();
  event.authority = watched.status.issuer;
  event.not_after = watched.status.not_after;
  const auto end = acme::timestamp(event.not_after);
  if (stage == ExpiryStage::over) {
    event.kind = Event::Kind::expired;
    event.text =
        fmt::format("the certificate of your own for {} ended at {}, clients refuse it: {}",
                    names_of(watched), end, way_out);
  } else {
    event.kind = Event::Kind::expiring;
    event.text = fmt::format(
        "the certificate of your own for {} ends at {}, under {} of its lifetime are "
        "left: {}",
        names_of(watched), end, acme::share_left(stage), way_out);
  }
  return event;
}

std::string to_json(const Memory& memory) {
  json::object told;
  for (const auto& [key, one] : memory) {
    const auto end =
        std::chrono::duration_cast<std::chrono::seconds>(one.not_after.time_since_epoch());
    told[key] = json::array{static_cast<int>(one.stage), end.count()};
  }
  return json::serialize(json::object{{"version", 1}, {"told", std::move(told)}}) + "\n";
}

/// What cannot be read is forgotten: then something is told once more.
Memory from_json(std::string_view text) {
  Memory memory;
  boost::system::error_code code;
  const json::value document = json::parse(text, code);
  const auto* object = code ? nullptr : document.if_object();
  const auto* told = object == nullptr ? nullptr : object->if_contains("told");
  if (told == nullptr || !told->is_object()) return memory;
  for (const auto& [key, value] : told->get_object()) {
    const auto* pair = value.if_array();
    if (pair == nullptr || pair->size() != 2 || memory.size() == remembered_max) continue;
    if (!pair->at(0).is_int64() || !pair->at(1).is_int64()) continue;
    const auto stage =
        std::clamp<int64_t>(pair->at(0).get_int64(), 0, static_cast<int64_t>(ExpiryStage::over));
    constexpr int64_t seconds_max = int64_t{1} << 33;  // what a WallTime can hold
    const auto end = std::clamp<int64_t>(pair->at(1).get_int64(), 0, seconds_max);
    memory[key] = {static_cast<ExpiryStage>(stage), WallTime(std::chrono::seconds(end))};
  }
  return memory;
}

}  // namespace

struct ExpiryWatch::State : std::enable_shared_from_this<ExpiryWatch::State> {
  State(asio::io_context& io, acme::Storage& where, const base::Clock& time)
      : control(io), storage(where), clock(time), agenda(io, time) {}

  static asio::awaitable<void> start(std::shared_ptr<State> self);
  static asio::awaitable<void> save(std::shared_ptr<State> self);
  void look();
  bool look_at(const std::string& key, const Watched& watched, WallTime& next);
  bool forget(const std::map<std::string, Watched>& watched);

  asio::io_context& control;
  acme::Storage& storage;
  const base::Clock& clock;
  acme::Agenda agenda;
  std::function<std::vector<CertificateStatus>()> list;
  std::function<void(const Event&)> tell;
  Memory told;
  acme::Agenda::Id next_look = 0;
  bool ready = false;
  bool saving = false;
  bool changed = false;
  bool save_failed = false;
  bool stopped = false;
};

ExpiryWatch::ExpiryWatch(asio::io_context& control, acme::Storage& storage,
                         const base::Clock& clock,
                         std::function<std::vector<CertificateStatus>()> list,
                         std::function<void(const Event&)> tell)
    : state_(std::make_shared<State>(control, storage, clock)) {
  state_->list = std::move(list);
  state_->tell = std::move(tell);
}

ExpiryWatch::~ExpiryWatch() {
  stop();
}

void ExpiryWatch::start() {
  asio::co_spawn(state_->control, State::start(state_), asio::detached);
}

void ExpiryWatch::look() {
  if (state_->ready) state_->look();
}

void ExpiryWatch::stop() {
  state_->stopped = true;
  state_->agenda.stop();
}

asio::awaitable<void> ExpiryWatch::State::start(std::shared_ptr<State> self) {
  const auto text = co_await self->storage.load(told_path);
  if (self->stopped) co_return;
  if (text) self->told = from_json(*text);
  if (!text && text.error().kind != base::ErrorKind::not_found) {
    log::warn("what was told of ending certificates is told once more: {}", text.error().context);
  }
  self->ready = true;
  self->look();
}

void ExpiryWatch::State::look() {
  if (stopped) return;
  const auto watched = by_certificate(list());
  auto next = clock.wall() + look_interval;
  for (const auto& [key, one] : watched) changed |= look_at(key, one, next);
  changed |= forget(watched);
  agenda.cancel(next_look);
  next_look = agenda.at_wall(next, [this] { look(); });
  if (changed && !saving) {
    saving = true;
    asio::co_spawn(control, save(shared_from_this()), asio::detached);
  }
}

/// True if something was told. `next` becomes the time of its next step, if that is earlier.
bool ExpiryWatch::State::look_at(const std::string& key, const Watched& watched, WallTime& next) {
  const auto now = clock.wall();
  const auto& status = watched.status;
  const auto stage = acme::expiry_stage(status.not_before, status.not_after, now);
  if (stage != ExpiryStage::over) {
    const auto begins = acme::next_stage_begins(status.not_before, status.not_after, stage);
    next = std::min(next, std::max(begins, now + std::chrono::seconds(1)));
  }
  const auto known = told.find(key);
  if (stage == ExpiryStage::fresh || (known != told.end() && known->second.stage >= stage)) {
    return false;
  }
  told[key] = {stage, status.not_after};
  const Event event = event_of(watched, stage);
  log::warn("{}: {}", event.name, event.text);
  tell(event);
  return true;
}

/// Certificates that are gone for good. One taken out for a while keeps its row.
bool ExpiryWatch::State::forget(const std::map<std::string, Watched>& watched) {
  const auto now = clock.wall();
  return std::erase_if(told, [&](const auto& row) {
           return !watched.contains(row.first) && row.second.not_after + kept_past_end < now;
         }) > 0;
}

asio::awaitable<void> ExpiryWatch::State::save(std::shared_ptr<State> self) {
  while (self->changed && !self->stopped) {
    self->changed = false;
    auto text = to_json(self->told);
    const auto stored = co_await self->storage.store(told_path, std::move(text));
    if (!stored && !std::exchange(self->save_failed, true)) {
      log::warn("what was told of ending certificates cannot be noted: {}", stored.error().context);
    }
    if (stored) self->save_failed = false;
  }
  self->saving = false;
}

}  // namespace gatehouse::app
