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
constexpr std::chrono::hours furthest{(31 + 8) * 24};

const std::string everywhere_key = "issues";
const std::string orders_key = "orders";
const std::string requests_key = "requests";
const std::string accounts_key = "accounts";

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

uint32_t Buckets::left(const std::string& key, const Limit& limit, Time now) const {
  const auto found = full_at_.find(key);
  if (found == full_at_.end() || found->second <= now) return limit.capacity;
  const auto interval = std::chrono::duration_cast<Time::duration>(limit.interval());
  const auto taken = (found->second - now + interval - Time::duration(1)) / interval;
  return limit.capacity - static_cast<uint32_t>(std::min<int64_t>(taken, limit.capacity));
}

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

void Buckets::each(const std::function<void(const std::string&)>& look) const {
  for (const auto& [key, full_at] : full_at_) look(key);
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

Time AuthorityBudget::ready_at(const std::vector<std::string>& names, Time now, Order order) const {
  Time ready = silent_until(now);
  for (const auto& name : names)
    ready = std::max(ready, buckets.ready_at(failure_key(name), failures, now));
  if (order.replaces) return ready;
  // A CA that keeps forgetting the account would have one made with each order.
  ready = std::max({ready, buckets.ready_at(accounts_key, accounts, now),
                    buckets.ready_at(orders_key, orders, now)});
  const uint32_t kept = counted_ && !order.by_person ? kept_for_a_person : 0;
  ready = std::max(ready, buckets.ready_at(set_key(names), per_name_set, now, kept));
  for (const auto& domain : domains_of(names))
    ready = std::max(ready, buckets.ready_at(domain_key(domain), per_domain, now));
  return ready;
}

BudgetLeft AuthorityBudget::left(const std::vector<std::string>& names, Time now) const {
  BudgetLeft out;
  out.counted = counted_;
  out.orders = silent_until(now) > now ? 0 : buckets.left(orders_key, orders, now);
  out.name_set =
      names.empty() ? per_name_set.capacity : buckets.left(set_key(names), per_name_set, now);
  out.domain = per_domain.capacity;
  for (const auto& domain : domains_of(names))
    out.domain = std::min(out.domain, buckets.left(domain_key(domain), per_domain, now));
  out.failures = failures.capacity;
  for (const auto& name : names)
    out.failures = std::min(out.failures, buckets.left(failure_key(name), failures, now));
  return out;
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

void AuthorityBudget::not_ordered(const std::vector<std::string>& names) {
  not_issued(names);
  if (counted_) buckets.give_back(orders_key, orders);
}

void AuthorityBudget::ordered_again(Time now) {
  if (counted_) buckets.take(orders_key, orders, now);
}

void AuthorityBudget::validation_failed(const std::string& name, Time now, unsigned times) {
  for (; counted_ && times > 0; --times) buckets.take(failure_key(name), failures, now);
}

void AuthorityBudget::account_made(Time now) {
  if (counted_) buckets.take(accounts_key, accounts, now);
}

Time AuthorityBudget::silent_until(Time now) const {
  return buckets.ready_at(requests_key, requests, now);
}

bool AuthorityBudget::limited(const std::vector<std::string>& names, std::string_view words,
                              Time until) {
  const auto says = [words](std::string_view part) {
    return words.find(part) != std::string_view::npos;
  };
  const auto domains = domains_of(names);
  if (says("new orders")) {
    buckets.empty_until(orders_key, orders, until);
    return true;
  }
  if (says("registrations")) {
    buckets.empty_until(accounts_key, accounts, until);
    return true;
  }
  if (says("exact set")) {
    buckets.empty_until(set_key(names), per_name_set, until);
    return false;
  }
  if (says("certificates") && says("already issued")) {
    for (const auto& domain : domains) buckets.empty_until(domain_key(domain), per_domain, until);
    return true;
  }
  if (says("failed authorizations") || std::any_of(names.begin(), names.end(), says)) {
    for (const auto& name : names) buckets.empty_until(failure_key(name), failures, until);
    return false;
  }
  buckets.empty_until(requests_key, requests, until);
  return true;
}

std::vector<AuthorityBudget::Bucket> AuthorityBudget::report(Time now) const {
  std::vector<Bucket> list;
  const auto add = [&](const std::string& key, const Limit& limit, uint32_t reserve) {
    const uint32_t left = buckets.left(key, limit, now);
    list.push_back({key, limit.capacity, left - std::min(left, reserve),
                    buckets.ready_at(key, limit, now, reserve)});
  };
  if (silent_until(now) > now) add(requests_key, requests, 0);
  if (counted_ || buckets.left(orders_key, orders, now) == 0) add(orders_key, orders, 0);
  if (counted_ || buckets.left(accounts_key, accounts, now) == 0) add(accounts_key, accounts, 0);
  buckets.each([&](const std::string& key) {
    if (list.size() >= shown_max) return;
    const bool set = key.starts_with("set:");
    const Limit* limit = set                          ? &per_name_set
                         : key.starts_with("domain:") ? &per_domain
                         : key.starts_with("failed:") ? &failures
                                                      : nullptr;
    const uint32_t reserve = set && counted_ ? kept_for_a_person : 0;
    if (limit != nullptr && buckets.left(key, *limit, now) <= reserve) add(key, *limit, reserve);
  });
  return list;
}

bool counts_like_letsencrypt(std::string_view directory) {
  return directory.starts_with("https://acme-v02.api.letsencrypt.org/");
}

}  // namespace gatehouse::acme
