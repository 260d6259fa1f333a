#include "admin/certificate_json.hpp"

#include <fmt/chrono.h>
#include <fmt/format.h>

namespace gatehouse::admin {

namespace json = boost::json;

json::value moment_json(std::chrono::system_clock::time_point time) {
  const auto seconds = std::chrono::floor<std::chrono::seconds>(time).time_since_epoch().count();
  if (seconds == 0) return nullptr;
  return json::string(fmt::format("{:%Y-%m-%dT%H:%M:%SZ}", fmt::gmtime(std::time_t{seconds})));
}

json::value text_or_null(const std::string& text) {
  if (text.empty()) return nullptr;
  return json::string(text);
}

namespace {

json::object status_json(const acme::CertificateStatus& status) {
  json::object out;
  out["name"] = status.name;
  out["state"] = status.state;
  out["issuer"] = text_or_null(status.issuer);
  out["serial"] = text_or_null(status.serial);
  out["not_before"] = moment_json(status.not_before);
  out["not_after"] = moment_json(status.not_after);
  out["renew_at"] = moment_json(status.renew_at);
  out["on_demand"] = status.on_demand;
  out["last_error"] = text_or_null(status.last_error);
  out["next_attempt"] = moment_json(status.next_attempt);
  return out;
}

json::object link_json(const tls::ChainLink& link) {
  json::object out;
  out["subject"] = link.subject;
  out["issuer"] = link.issuer;
  out["not_before"] = moment_json(link.not_before);
  out["not_after"] = moment_json(link.not_after);
  return out;
}

// Numbers only where the CA's limits are known: others would be guesses.
json::object budget_json(const acme::NameBudget& budget) {
  const auto number = [&](uint32_t left) {
    return budget.left.counted ? json::value(left) : json::value(nullptr);
  };
  json::object out;
  out["authority"] = budget.authority;
  out["answers"] = budget.answers;
  out["orders_left"] = number(budget.left.orders);
  out["domain_left"] = number(budget.left.domain);
  out["name_left"] = number(budget.left.name_set);
  out["failures_left"] = number(budget.left.failures);
  out["ready_at"] = moment_json(budget.ready_at);
  return out;
}

json::value window_json(const acme::CertificateDetails& details) {
  if (!details.window) return nullptr;
  json::object out;
  out["start"] = moment_json(details.window->start);
  out["end"] = moment_json(details.window->end);
  out["explanation"] = text_or_null(details.explanation);
  return out;
}

}  // namespace

std::string certificates_json(const std::vector<acme::CertificateStatus>& certificates) {
  json::array rows;
  rows.reserve(certificates.size());
  for (const auto& status : certificates) rows.push_back(status_json(status));
  json::object out;
  out["certificates"] = std::move(rows);
  return json::serialize(out);
}

std::string details_json(const acme::CertificateDetails& details) {
  json::object out = status_json(details.status);
  json::array names, chain, budgets;
  for (const auto& name : details.names) names.push_back(json::string(name));
  for (const auto& link : details.chain) chain.push_back(link_json(link));
  for (const auto& budget : details.budgets) budgets.push_back(budget_json(budget));
  out["names"] = std::move(names);
  out["authority"] = text_or_null(details.authority);
  out["key_type"] = text_or_null(details.key);
  out["fingerprint"] = text_or_null(details.fingerprint);
  out["chain"] = std::move(chain);
  out["renewal_window"] = window_json(details);
  out["failures"] = details.failures;
  out["orders_today"] = details.orders_today;
  out["budgets"] = std::move(budgets);
  out["previous_generation"] = text_or_null(details.previous_generation);
  return json::serialize(out);
}

std::string authorities_json(const std::vector<acme::BudgetStatus>& authorities) {
  json::array rows;
  for (const auto& authority : authorities) {
    json::array buckets;
    for (const auto& bucket : authority.buckets)
      buckets.push_back(json::object{
          {"what", bucket.what},
          {"capacity", bucket.capacity},
          {"left", bucket.left},
          {"ready_at", bucket.left > 0 ? json::value(nullptr) : moment_json(bucket.ready)}});
    json::object row;
    row["name"] = authority.authority;
    row["answers"] = !authority.open;
    row["next_try"] = moment_json(authority.next_try);
    row["orders_running"] = authority.running;
    row["orders_waiting"] = authority.waiting;
    row["limits"] = std::move(buckets);
    rows.push_back(std::move(row));
  }
  json::object out;
  out["authorities"] = std::move(rows);
  return json::serialize(out);
}

}  // namespace gatehouse::admin
