#include "acme/visits.hpp"

#include <boost/json.hpp>

namespace gatehouse::acme {

namespace json = boost::json;

namespace {

constexpr std::chrono::hours grain{1};
constexpr int64_t seconds_max = 253402300799;  // the end of the year 9999

int64_t to_number(Visits::Time time) {
  return std::chrono::duration_cast<std::chrono::seconds>(time.time_since_epoch()).count();
}

Visits::Time to_time(const json::value& value) {
  const int64_t number = value.is_int64() ? value.get_int64() : 0;
  return Visits::Time(std::chrono::seconds(std::clamp<int64_t>(number, 0, seconds_max / 32)));
}

}  // namespace

Visits::Visit* Visits::place(const std::string& name) {
  const auto found = visits_.find(name);
  if (found != visits_.end()) return &found->second;
  if (visits_.size() >= count_max) return nullptr;
  return &visits_[name];
}

void Visits::seen(const std::string& name, Time now) {
  Visit* visit = place(name);
  if (visit == nullptr || std::chrono::abs(now - visit->seen) < grain) return;
  visit->seen = now;
  changed_ = true;
}

void Visits::renew_at(const std::string& name, Time due, Time now) {
  Visit* visit = place(name);
  if (visit == nullptr || visit->renew_at == due) return;
  if (visit->seen == Time{}) visit->seen = now;
  visit->renew_at = due;
  changed_ = true;
}

void Visits::forget(const std::string& name) {
  if (visits_.erase(name) > 0) changed_ = true;
}

bool Visits::recent(const std::string& name, Time now) const {
  const auto found = visits_.find(name);
  return found != visits_.end() && now - found->second.seen < remembered;
}

void Visits::each(const std::function<void(const std::string&, const Visit&)>& look) const {
  for (const auto& [name, visit] : visits_) look(name, visit);
}

std::string Visits::to_json(Time now) {
  std::erase_if(visits_, [now](const auto& one) { return now - one.second.seen >= remembered; });
  json::object names;
  names.reserve(visits_.size());
  for (const auto& [name, visit] : visits_)
    names[name] = json::array{to_number(visit.seen), to_number(visit.renew_at)};
  changed_ = false;
  return json::serialize(json::object{{"version", 1}, {"names", std::move(names)}}) + "\n";
}

Visits Visits::from_json(std::string_view text, Time now) {
  Visits visits;
  boost::system::error_code code;
  const json::value document = json::parse(text, code);
  const auto* object = code ? nullptr : document.if_object();
  const auto* names = object == nullptr ? nullptr : object->if_contains("names");
  if (names == nullptr || !names->is_object()) return visits;
  for (const auto& [name, value] : names->get_object()) {
    const auto* pair = value.if_array();
    if (pair == nullptr || pair->size() != 2 || visits.visits_.size() == count_max) continue;
    const Visit visit{std::min(to_time(pair->at(0)), now), to_time(pair->at(1))};
    if (now - visit.seen < remembered) visits.visits_.emplace(name, visit);
  }
  return visits;
}

}  // namespace gatehouse::acme
