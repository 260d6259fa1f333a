#include "app/budget_metrics.hpp"

#include <array>
#include <string_view>
#include <utility>

#include <fmt/format.h>

namespace gatehouse::app {

namespace {

/// The limits of which there is a bucket for each domain or name, as a bucket's name begins.
constexpr std::array<std::pair<std::string_view, std::string_view>, 3> kinds = {
    {{"domain:", "domain"}, {"set:", "name_set"}, {"failed:", "failures"}}};

std::string row(std::string_view family, const std::string& authority, std::string_view limit,
                size_t value) {
  // Names of CAs and limits hold nothing that would have to be escaped.
  return fmt::format("gatehouse_{}{{ca=\"{}\",limit=\"{}\"}} {}\n", family, authority, limit,
                     value);
}

}  // namespace

std::string budget_metrics(const std::vector<acme::BudgetStatus>& authorities) {
  std::string left, spent;
  for (const auto& authority : authorities) {
    std::array<size_t, kinds.size()> counts{};
    for (const auto& bucket : authority.buckets) {
      bool of_many = false;
      for (size_t i = 0; i < kinds.size(); ++i) {
        if (!bucket.what.starts_with(kinds[i].first)) continue;
        of_many = true;
        counts[i] += bucket.left == 0 ? 1 : 0;
      }
      if (!of_many)
        left += row("certificate_budget_left", authority.authority, bucket.what, bucket.left);
    }
    for (size_t i = 0; i < kinds.size(); ++i)
      spent += row("certificate_budget_spent", authority.authority, kinds[i].second, counts[i]);
  }
  if (!left.empty())
    left =
        "# HELP gatehouse_certificate_budget_left What an authority's limit leaves for its account "
        "now.\n# TYPE gatehouse_certificate_budget_left gauge\n" +
        left;
  if (!spent.empty())
    spent =
        "# HELP gatehouse_certificate_budget_spent Domains, sets of names and names for which an "
        "authority's limit leaves nothing now.\n"
        "# TYPE gatehouse_certificate_budget_spent gauge\n" +
        spent;
  return left + spent;
}

}  // namespace gatehouse::app
