#include "acme/caa_check.hpp"

#include <algorithm>

#include <fmt/format.h>

#include "acme/protocol.hpp"
#include "base/log.hpp"

namespace gatehouse::acme {

using base::ErrorKind;
using base::Monotonic;
using base::Result;
using boost::asio::awaitable;
using dns::Lookup;
using std::chrono::seconds;

namespace {

constexpr seconds kept_max{300};
/// A set that forbids is soon asked for anew: a person may just have mended it.
constexpr seconds forbidding_kept_max{10};
constexpr seconds failure_kept_max{30};
constexpr seconds lookup_time_max{4};
constexpr seconds check_time_max{4};  // then no further lookup begins
constexpr size_t slots_max = 10'000;
constexpr size_t warned_max = 1'000;
constexpr std::chrono::hours warned_again_after{1};
/// So many lookups in a row without any answer, and none is tried for a while.
constexpr unsigned unanswered_max = 3;
constexpr seconds silence_max{30};

}  // namespace

CaaCheck::CaaCheck(dns::ResolverSettings resolvers, const base::Clock& clock)
    : resolver_(std::move(resolvers)), clock_(clock) {}

awaitable<Outcome<std::vector<std::string>>> CaaCheck::run(std::vector<std::string> names,
                                                           CaaApplicant applicant) {
  std::vector<std::string> challenges = applicant.challenges;
  const Time deadline = Monotonic::now() + check_time_max;
  for (const auto& name : names) {
    const auto identifier = identifier_of(name);
    if (identifier.type != "dns") continue;
    auto accepted = co_await judge(identifier.value, applicant, deadline);
    if (!accepted) co_return accepted;
    std::erase_if(challenges, [&](const std::string& challenge) {
      return std::find(accepted->begin(), accepted->end(), challenge) == accepted->end();
    });
  }
  co_return challenges;
}

awaitable<Outcome<std::vector<std::string>>> CaaCheck::judge(std::string name,
                                                             const CaaApplicant& applicant,
                                                             Time deadline) {
  if (silent()) {
    warn("", applicant.authority, "no DNS resolver answers");
    co_return applicant.challenges;
  }
  const bool wildcard = name.starts_with("*.");
  const std::string at = wildcard ? name.substr(2) : name;
  auto found = co_await climb(at, kept_max, deadline);
  CaaVerdict verdict;
  if (found) verdict = judge_caa(found->set, wildcard, applicant);
  if (!verdict.allowed && clock_.monotonic() - found->since > forbidding_kept_max) {
    found = co_await climb(at, forbidding_kept_max, deadline);
    if (found) verdict = judge_caa(found->set, wildcard, applicant);
  }
  if (!found) {
    warn(name, applicant.authority, found.error().context);
    co_return applicant.challenges;
  }
  if (verdict.allowed) co_return std::move(verdict.challenges);
  found->place.zone = co_await zone_of(found->place.owner);
  co_return caa_failure(name, applicant, verdict, found->place);
}

/// RFC 8659 section 3: upwards along the name itself, not along what its CNAMEs lead to.
awaitable<Result<CaaCheck::Relevant>> CaaCheck::climb(std::string name, seconds age_max,
                                                      Time deadline) {
  Relevant relevant;
  relevant.since = clock_.monotonic();
  while (!name.empty()) {
    if (Monotonic::now() > deadline) {
      co_return base::Error(ErrorKind::timeout, "the DNS takes too long");
    }
    const auto slot = co_await look(name, age_max);
    const auto& found = *slot->found;
    if (!found) co_return found.error();
    relevant.since = std::min(relevant.since, slot->since);
    if (!found->records.empty()) {
      relevant.set = found->records;
      relevant.place.owner = found->owner;
      relevant.place.asked = name;
      break;
    }
    const size_t dot = name.find('.');
    name = dot == name.npos ? std::string() : name.substr(dot + 1);
  }
  co_return relevant;
}

awaitable<CaaCheck::SlotPtr> CaaCheck::look(std::string name, seconds age_max) {
  if (slots_.size() >= slots_max) slots_.clear();  // those in use live on with their users
  auto& place = slots_[name];
  if (!place) place = std::make_shared<Slot>();
  const SlotPtr slot = place;
  if (slot->found) {
    const auto most = *slot->found ? age_max : std::min(age_max, failure_kept_max);
    if (clock_.monotonic() - slot->since <= most) co_return slot;
  }
  // Named: GCC 12 destroys such a temporary twice inside a co_await expression.
  std::function<awaitable<Result<Lookup>>()> work = [this, slot, name] {
    return fetch(slot, name);
  };
  co_await slot->flight.join(std::move(work));
  co_return slot;
}

awaitable<Result<Lookup>> CaaCheck::fetch(SlotPtr slot, std::string name) {
  auto found = co_await resolver_.look_up(name, dns::Type::caa, Monotonic::now() + lookup_time_max);
  const bool unanswered = !found && (found.error().kind == ErrorKind::timeout ||
                                     found.error().kind == ErrorKind::refused);
  unanswered_ = unanswered ? unanswered_ + 1 : 0;
  unanswered_since_ = clock_.monotonic();
  slot->found = found;
  slot->since = clock_.monotonic();
  co_return found;
}

/// Empty: not to be found out.
awaitable<std::string> CaaCheck::zone_of(std::string owner) {
  auto found =
      co_await resolver_.look_up(owner, dns::Type::soa, Monotonic::now() + lookup_time_max);
  if (!found) co_return std::string();
  co_return found->records.empty() ? found->zone : found->owner;
}

bool CaaCheck::silent() const {
  return unanswered_ >= unanswered_max && clock_.monotonic() - unanswered_since_ <= silence_max;
}

void CaaCheck::warn(const std::string& name, const std::string& authority, const std::string& why) {
  const Time now = clock_.monotonic();
  const auto told = warned_.find(name);
  if (told != warned_.end() && now - told->second < warned_again_after) return;
  if (warned_.size() >= warned_max) warned_.clear();
  warned_[name] = now;
  base::log::warn("{}CAA records are not known ({}): {} is asked all the same, and looks itself",
                  name.empty() ? "" : name + ": its ", why, authority);
}

}  // namespace gatehouse::acme
