#include "acme/visits.hpp"

#include <boost/json.hpp>

#include "base/json_escape.hpp"

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

void Visits::seen(const std::string& name, Time now) {
  const auto found = visits_.find(name);
  if (found == visits_.end()) return first(name, now);
  if (std::chrono::abs(now - found->second) < grain) return;
  found->second = now;
  changed_ = true;
}

void Visits::first(const std::string& name, Time now) {
  if (visits_.size() >= count_max || !visits_.try_emplace(name, now).second) return;
  changed_ = true;
}

void Visits::forget(const std::string& name) {
  if (visits_.erase(name) > 0) changed_ = true;
}

bool Visits::recent(const std::string& name, Time now) const {
  const auto found = visits_.find(name);
  return found != visits_.end() && now - found->second < remembered;
}

/// Written by hand: 100,000 names as a tree of values would cost more than they are worth.
std::string Visits::to_json(Time now) {
  std::erase_if(visits_, [now](const auto& one) { return now - one.second >= remembered; });
  std::string text = R"({"version":1,"names":{)";
  text.reserve(visits_.size() * 48);
  for (const auto& [name, seen] : visits_) {
    text += text.back() == '{' ? "\"" : ",\"";
    base::append_json_escaped(text, name);
    text += "\":[" + std::to_string(to_number(seen)) + "]";
  }
  changed_ = false;
  return text + "}}\n";
}

/// The pairs of an earlier version held the renewal too, which the ledger knows now.
Visits Visits::from_json(std::string_view text, Time now) {
  Visits visits;
  boost::system::error_code code;
  const json::value document = json::parse(text, code);
  const auto* object = code ? nullptr : document.if_object();
  const auto* names = object == nullptr ? nullptr : object->if_contains("names");
  if (names == nullptr || !names->is_object()) return visits;
  for (const auto& [name, value] : names->get_object()) {
    const auto* list = value.if_array();
    if (list == nullptr || list->empty() || visits.visits_.size() == count_max) continue;
    const Time seen = std::min(to_time(list->at(0)), now);
    if (now - seen < remembered) visits.visits_.emplace(name, seen);
  }
  return visits;
}

}  // namespace gatehouse::acme
