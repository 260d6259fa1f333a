#include "acme/budget.hpp"

#include <algorithm>
#include <set>

#include <boost/json.hpp>

#include "acme/registered_domain.hpp"

namespace gatehouse::acme {

namespace json = boost::json;
using std::chrono::milliseconds;
using Time = Buckets::Time;

namespace {

/// What a clock that was wrong may have left behind.
constexpr std::chrono::hours furthest{8 * 24};

const std::string everywhere_key = "issues";
const std::string orders_key = "orders";

std::string domain_key(const std::string& domain) {
  return "domain:" + domain;
}
std::string failure_key(const std::string& name) {
  return "failed:" + name;
}

std::string set_key(std::vector<std::string> names) {
  std::sort(names.begin(), names.end());
  std::string key = "set:";
  for (const auto& name : names) key += name + ",";
  key.pop_back();
  return key;
}

std::set<std::string> domains_of(const std::vector<std::string>& names) {
  std::set<std::string> domains;
  for (const auto& name : names) domains.insert(registered_domain(name));
  return domains;
}

int64_t to_number(Time time) {
  return std::chrono::duration_cast<milliseconds>(time.time_since_epoch()).count();
}

}  // namespace

Time Buckets::ready_at(const std::string& key, const Limit& limit, Time now,
                       uint32_t reserve) const {
  const auto found = full_at_.find(key);
  if (found == full_at_.end()) return now;
  return std::max(found->second + limit.interval() * (1 + reserve) - limit.period, now);
}

void Buckets::take(const std::string& key, const Limit& limit, Time now) {
  if (full_at_.size() >= count_max && !full_at_.contains(key)) tidy(now);
  if (full_at_.size() >= count_max && !full_at_.contains(key)) return;
  auto& full_at = full_at_[key];
  full_at = std::max(full_at, now) + limit.interval();
}

void Buckets::give_back(const std::string& key, const Limit& limit) {
  const auto found = full_at_.find(key);
  if (found != full_at_.end()) found->second -= limit.interval();
}

void Buckets::empty_until(const std::string& key, const Limit& limit, Time until) {
  if (full_at_.size() >= count_max && !full_at_.contains(key)) return;
  auto& full_at = full_at_[key];
  full_at = std::max(full_at, until + limit.period - limit.interval());
}

void Buckets::tidy(Time now) {
  std::erase_if(full_at_, [now](const auto& bucket) { return bucket.second <= now; });
}

std::string Buckets::to_json() const {
  json::object list;
  for (const auto& [key, full_at] : full_at_) list[key] = to_number(full_at);
  return json::serialize(json::object{{"version", 1}, {"full_at_ms", std::move(list)}}) + "\n";
}

Buckets Buckets::from_json(std::string_view text, Time now) {
  Buckets buckets;
  boost::system::error_code code;
  const json::value document = json::parse(text, code);
  if (code || !document.is_object()) return buckets;
  const auto* list = document.get_object().if_contains("full_at_ms");
  if (list == nullptr || !list->is_object()) return buckets;
  for (const auto& [key, value] : list->get_object()) {
    if (!value.is_int64() || buckets.size() == count_max) continue;
    // Compared as numbers: an absurd one must not overflow a time point.
    const int64_t number = std::min(value.get_int64(), to_number(now + furthest));
    if (number <= to_number(now)) continue;
    buckets.full_at_.emplace(key, Time(milliseconds(number)));
  }
  return buckets;
}

std::optional<Time> OnDemandBudget::take(const std::string& name, Time now) {
  const std::string domain = domain_key(registered_domain(name));
  const Time ready = std::max(buckets.ready_at(everywhere_key, everywhere, now),
                              buckets.ready_at(domain, per_domain, now));
  if (ready > now) return ready;
  buckets.take(everywhere_key, everywhere, now);
  buckets.take(domain, per_domain, now);
  return std::nullopt;
}

Time AuthorityBudget::ready_at(const std::vector<std::string>& names, Time now) const {
  Time ready = std::max(buckets.ready_at(orders_key, orders, now),
                        buckets.ready_at(set_key(names), per_name_set, now, kept_for_a_person));
  for (const auto& domain : domains_of(names))
    ready = std::max(ready, buckets.ready_at(domain_key(domain), per_domain, now));
  for (const auto& name : names)
    ready = std::max(ready, buckets.ready_at(failure_key(name), failures, now));
  return ready;
}

void AuthorityBudget::ordered(const std::vector<std::string>& names, Time now) {
  if (!counted_) return;
  buckets.take(orders_key, orders, now);
  buckets.take(set_key(names), per_name_set, now);
  for (const auto& domain : domains_of(names)) buckets.take(domain_key(domain), per_domain, now);
}

void AuthorityBudget::not_issued(const std::vector<std::string>& names) {
  if (!counted_) return;
  buckets.give_back(set_key(names), per_name_set);
  for (const auto& domain : domains_of(names)) buckets.give_back(domain_key(domain), per_domain);
}

void AuthorityBudget::validation_failed(const std::string& name, Time now) {
  if (counted_) buckets.take(failure_key(name), failures, now);
}

void AuthorityBudget::limited(const std::vector<std::string>& names, std::string_view words,
                              Time until) {
  const auto says = [words](std::string_view part) {
    return words.find(part) != std::string_view::npos;
  };
  if (says("new orders")) {
    buckets.empty_until(orders_key, orders, until);
  } else if (says("certificates") && says("already issued") && !says("exact set")) {
    for (const auto& domain : domains_of(names))
      buckets.empty_until(domain_key(domain), per_domain, until);
  } else {
    // This exact set, "too many failed authorizations", or words we do not know: not this name.
    for (const auto& name : names) buckets.empty_until(failure_key(name), failures, until);
  }
}

bool counts_like_letsencrypt(std::string_view directory) {
  return directory.starts_with("https://acme-v02.api.letsencrypt.org/");
}

}  // namespace gatehouse::acme
