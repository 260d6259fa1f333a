// How many certificates may still be ordered: our own limits for on-demand names, and Let's
// Encrypt's for one account (CERTIFICATES sections 3 and 5).
//
// Does not order, wait or store: times come in, and the state goes out as JSON for whoever keeps
// it. Pure. Times are on the wall clock, because the state outlives the process. Control thread.
#pragma once

#include <chrono>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/clock.hpp"

namespace gatehouse::acme {

/// `capacity` at once, refilled evenly over `period`.
struct Limit {
  uint32_t capacity;
  std::chrono::seconds period;
  std::chrono::milliseconds interval() const {
    return std::chrono::duration_cast<std::chrono::milliseconds>(period) / capacity;
  }
};

/// Buckets by name, one moment each (GCRA): a bucket that is full again takes no room.
class Buckets {
 public:
  using Time = base::WallClock::time_point;
  static constexpr size_t count_max = 200'000;

  /// How many of the limit can be taken at once.
  uint32_t left(const std::string& key, const Limit& limit, Time now) const;
  /// When one may be taken, leaving `reserve`; not later than `now`: at once.
  Time ready_at(const std::string& key, const Limit& limit, Time now, uint32_t reserve = 0) const;
  void take(const std::string& key, const Limit& limit, Time now);
  void give_back(const std::string& key, const Limit& limit);
  /// Nothing before `until`: the CA said so.
  void empty_until(const std::string& key, const Limit& limit, Time until);
  /// Drops the full ones.
  void tidy(Time now);
  void each(const std::function<void(const std::string& key)>& look) const;

  std::string to_json() const;
  /// Unreadable text leaves the buckets full: the CA is the authority.
  static Buckets from_json(std::string_view text, Time now);
  size_t size() const { return full_at_.size(); }

 private:
  std::map<std::string, Time, std::less<>> full_at_;
};

/// Issues for names that strangers asked for.
class OnDemandBudget {
 public:
  static constexpr Limit everywhere{50, std::chrono::minutes(5)};  // 10 a minute, 50 at once
  static constexpr Limit per_domain{20, std::chrono::hours(24)};

  /// Takes one for `name` and says nothing, or takes none and says when to ask again.
  std::optional<Buckets::Time> take(const std::string& name, Buckets::Time now);

  Buckets buckets;
};

/// What may still be taken at once of each of a CA's buckets, by a person.
struct BudgetLeft {
  bool counted = false;   // false: the CA's limits are not known here
  uint32_t orders = 0;    // of the account
  uint32_t domain = 0;    // certificates of the registered domain
  uint32_t name_set = 0;  // certificates of exactly these names
  uint32_t failures = 0;  // failed validations of the name
};

/// Let's Encrypt's buckets for one account.
class AuthorityBudget {
 public:
  static constexpr Limit orders{300, std::chrono::hours(3)};
  static constexpr Limit per_domain{50, std::chrono::hours(7 * 24)};
  static constexpr Limit per_name_set{5, std::chrono::hours(7 * 24)};
  static constexpr Limit failures{5, std::chrono::hours(1)};
  static constexpr Limit requests{1, std::chrono::seconds(1)};  // only what the CA itself says
  static constexpr Limit accounts{10, std::chrono::hours(3)};   // from one address
  /// Of `per_name_set`, kept for a person.
  static constexpr uint32_t kept_for_a_person = 1;

  /// `counted`: the CA has these limits. Of any other, only what it says itself is kept.
  explicit AuthorityBudget(bool counted) : counted_(counted) {}

  /// What is special about an order.
  struct Order {
    bool replaces = false;   // RFC 9773 section 5: exempt from all but failures
    bool by_person = false;  // may take the last one of a name set
  };
  Buckets::Time ready_at(const std::vector<std::string>& names, Buckets::Time now,
                         Order order) const;
  Buckets::Time ready_at(const std::vector<std::string>& names, Buckets::Time now) const {
    return ready_at(names, now, Order{});
  }
  BudgetLeft left(const std::vector<std::string>& names, Buckets::Time now) const;
  void ordered(const std::vector<std::string>& names, Buckets::Time now);
  /// A further order for the same certificate.
  void ordered_again(Buckets::Time now);
  /// The order came to nothing: no certificate was counted.
  void not_issued(const std::vector<std::string>& names);
  /// The CA was not even asked for one.
  void not_ordered(const std::vector<std::string>& names);
  void account_made(Buckets::Time now);
  void validation_failed(const std::string& name, Buckets::Time now, unsigned times = 1);
  /// The CA answered 429: `words` are its own, and empty the bucket they name; words that name none
  /// are for every request to it. True: it concerns names besides these.
  bool limited(const std::vector<std::string>& names, std::string_view words, Buckets::Time until);
  /// Before this the CA wants no request at all; not later than `now`: it said nothing of the kind.
  Buckets::Time silent_until(Buckets::Time now) const;

  /// For a person: the account's buckets, and of the others those that have an order left for none
  /// at `now`, at most `shown_max`.
  struct Bucket {
    std::string what;  // "orders", "domain:example.com", "set:a.example.com", …
    uint32_t capacity = 0;
    uint32_t left = 0;
    Buckets::Time ready{};
  };
  static constexpr size_t shown_max = 100;
  std::vector<Bucket> report(Buckets::Time now) const;
  bool counted() const { return counted_; }

  Buckets buckets;

 private:
  bool counted_;
};

/// The directory is Let's Encrypt's production: the limits above are its own.
bool counts_like_letsencrypt(std::string_view directory);

}  // namespace gatehouse::acme
