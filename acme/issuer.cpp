#include "acme/issuer.hpp"

#include <algorithm>
#include <set>

#include <boost/asio/steady_timer.hpp>
#include <boost/asio/this_coro.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <fmt/format.h>

#include "acme/account.hpp"
#include "acme/client.hpp"
#include "acme/download.hpp"
#include "acme/finalization.hpp"
#include "acme/journal.hpp"
#include "acme/key_maker.hpp"
#include "acme/order_search.hpp"
#include "acme/profile.hpp"
#include "acme/validation.hpp"
#include "acme/verdicts.hpp"
#include "base/log.hpp"

namespace gatehouse::acme {

using boost::asio::awaitable;

namespace {

constexpr std::chrono::minutes obtain_time_max{5};
constexpr std::chrono::seconds renewal_look_time_max{60};
constexpr std::chrono::minutes revocation_time_max{2};
constexpr std::chrono::minutes rollover_time_max{4};
constexpr size_t names_max = 100;
/// Further beginnings of one obtain(), each after something was found gone at the CA.
constexpr int fresh_starts_max = 5;
/// Something the CA has lost or no longer offers: begin again without it, once each; or a challenge
/// that failed, while there are others.
enum class Loss : uint8_t { none, order, account, profile, predecessor, challenge };

/// One obtain() on its way.
struct Job {
  std::string id;
  std::vector<std::string> names;
  Errand errand;
  AccountPtr account;
  std::string profile;
  std::string replaces;
  std::optional<JournalEntry> entry;
  bool search = false;   // an earlier order may exist whose URL was not written
  bool resumed = false;  // the order in `entry` is from before
  Loss loss = Loss::none;
  bool another = false;
  std::optional<Verdicts> verdicts;  // set from the start
  std::string challenge;             // the type that proved the names, in this life
  unsigned orders = 0;               // placed, but for those that take another's place
};

Failure internal_failure(const Errand& errand, std::string_view what) {
  Failure failure;
  failure.sentence = fmt::format("{}: {}", errand.attempt.names, what);
  return failure;
}

/// In the order given, lower case, each once.
std::vector<std::string> normalized(const std::vector<std::string>& names) {
  std::vector<std::string> result;
  for (const auto& name : names) {
    std::string value = identifier_of(name).value;
    if (std::find(result.begin(), result.end(), value) == result.end()) {
      result.push_back(std::move(value));
    }
  }
  return result;
}

bool same_names(std::vector<std::string> a, std::vector<std::string> b) {
  std::sort(a.begin(), a.end());
  std::sort(b.begin(), b.end());
  return a == b;
}

/// Of an order that names its predecessor, for reasons that may lie in that (RFC 9773 section 5).
bool may_do_without_predecessor(const Failure& failure) {
  return failure.status >= 400 && failure.status < 500 && failure.status != 429 &&
         failure.type != "accountDoesNotExist" && failure.type != "badNonce";
}

/// Not valid yet, or over before it was ordered: so says our clock, and it would of any other.
bool blames_clock(const tls::Certificate& certificate, WallTime ordered, WallTime now) {
  return certificate.not_before() > now + date_skew_max ||
         certificate.not_after() + date_skew_max < ordered;
}

/// The account in memory may not be the one in storage any more: a person was told to remove that,
/// or its key was changed. Some CAs call a signature by a key that they do not know malformed.
bool doubts_account(const Failure& failure) {
  return failure.kind == FailureClass::account || failure.type == "malformed";
}

/// The account is not the one that obtained the certificate, or is none.
bool means_not_ours(const Failure& failure) {
  return failure.kind == FailureClass::account || failure.type == "unauthorized" ||
         failure.status == 403;
}

}  // namespace

struct Issuer::State {
  State(base::Fetcher& fetcher, Storage& storage, Solvers ways, const base::Clock& c,
        config::CertificateAuthority authority, const config::Acme& acme)
      : clock(c),
        solvers(ways),
        settings(acme),
        client(fetcher, storage, c, std::move(authority)),
        accounts(client, storage, c, acme.email),
        journal(storage) {}

  const base::Clock& clock;
  Solvers solvers;
  const config::Acme& settings;
  Client client;
  AccountKeeper accounts;
  Journal journal;
  std::set<std::string> running;       // ids
  std::set<std::string> orders_taken;  // URLs of orders that an obtain works on
  std::set<std::string> handed_out;    // ids whose journalled order gave a certificate in this life
  uint64_t placed = 0;

  Errand errand_for(const std::vector<std::string>& names, std::chrono::seconds time_max) const;

  awaitable<Outcome<Issued>> obtain(Job& job);
  awaitable<Outcome<void>> recall(Job& job);
  awaitable<void> recover(Job& job);
  awaitable<Outcome<tls::CertificatePtr>> attempt(Job& job);
  awaitable<Outcome<OrderObject>> begin(Job& job);
  awaitable<Outcome<OrderObject>> reread(Job& job);
  awaitable<Outcome<bool>> search(Job& job, OrderObject& order);
  awaitable<Outcome<void>> intend(Job& job);
  awaitable<Outcome<OrderObject>> place(Job& job);
  awaitable<void> journal_order(Job& job, std::string url);
  awaitable<Outcome<OrderObject>> finalize(Job& job, OrderObject order);
  awaitable<Outcome<tls::CertificatePtr>> collect(Job& job, const OrderObject& order);
};

namespace {

/// Names the ids and orders at work, however the coroutine ends.
struct Taken {
  Taken(std::set<std::string>& s, std::string v) : set(s), value(std::move(v)) {
    set.insert(value);
  }
  Taken(const Taken&) = delete;
  Taken& operator=(const Taken&) = delete;
  ~Taken() { set.erase(value); }
  std::set<std::string>& set;
  std::string value;
};

}  // namespace

// ---------------------------------------------------------------- outside

Issuer::Issuer(base::Fetcher& fetcher, Storage& storage, Solvers solvers, const base::Clock& clock,
               config::CertificateAuthority authority, const config::Acme& settings)
    : state_(std::make_shared<State>(fetcher, storage, solvers, clock, std::move(authority),
                                     settings)) {}

Issuer::~Issuer() = default;

uint64_t Issuer::orders_placed() const {
  return state_->placed;
}

uint64_t Issuer::accounts_made() const {
  return state_->accounts.registered();
}

awaitable<void> Issuer::forget(std::string id) {
  const auto state = state_;
  state->handed_out.erase(id);
  co_await state->journal.drop(id);
}

awaitable<Outcome<Issued>> Issuer::obtain(Wanted wanted) {
  const auto state = state_;
  Job job;
  job.id = std::move(wanted.id);
  job.names = normalized(wanted.names);
  job.errand = state->errand_for(job.names, obtain_time_max);
  job.replaces = std::move(wanted.replaces);
  job.another = wanted.another;
  const auto& configured = state->settings.challenges;
  job.verdicts.emplace(wanted.challenges.empty() ? configured : wanted.challenges,
                       wanted.first_challenge, wanted.verdicts_max);
  if (job.names.empty() || job.names.size() > names_max) {
    co_return internal_failure(job.errand, "a certificate has between 1 and 100 names");
  }
  if (state->running.contains(job.id)) {
    co_return internal_failure(job.errand, "this certificate is being obtained already");
  }
  const Taken taken(state->running, job.id);
  co_await state->accounts.users().enter();
  const Inside inside(state->accounts.users());
  job.errand.deadline = state->clock.monotonic() + obtain_time_max;
  auto outcome = co_await state->obtain(job);
  if (!outcome) {
    Failure failure = outcome.error();
    failure.orders = job.orders;
    co_return failure;
  }
  outcome->orders = job.orders;
  co_return outcome;
}

awaitable<Outcome<RenewalInfo>> Issuer::renewal_info(std::string certificate_id) {
  const auto state = state_;
  Errand errand = state->errand_for({}, renewal_look_time_max);
  errand.attempt.names.clear();
  co_return co_await state->client.renewal_info(std::move(certificate_id), errand);
}

awaitable<Outcome<void>> Issuer::revoke(tls::CertificatePtr certificate, int reason) {
  const auto state = state_;
  co_await state->accounts.users().enter();
  const Inside inside(state->accounts.users());
  const Errand errand = state->errand_for(certificate->names(), revocation_time_max);
  if (!is_revocation_reason(reason)) {
    co_return internal_failure(errand, "a reason is one of " + revocation_reason_names());
  }
  const auto account = co_await state->accounts.ensure(errand);
  if (!account && !means_not_ours(account.error())) co_return account.error();
  if (account) {
    const auto revoked =
        co_await state->client.revoke(*account, certificate->leaf_der(), reason, errand);
    if (revoked || !means_not_ours(revoked.error())) co_return revoked;
    if (revoked.error().type == "accountDoesNotExist") state->accounts.forget((*account)->url);
  }
  const auto key = tls::PrivateKey::from_pem(certificate->key_pem(), "the certificate's key");
  if (!key) co_return internal_failure(errand, key.error().context);
  co_return co_await state->client.revoke(*key, certificate->leaf_der(), reason, errand);
}

awaitable<Outcome<void>> Issuer::roll_over_account_key() {
  const auto state = state_;
  Errand errand = state->errand_for({}, rollover_time_max);
  errand.attempt.names.clear();
  co_return co_await state->accounts.roll_over(errand);
}

// ---------------------------------------------------------------- the flow

Errand Issuer::State::errand_for(const std::vector<std::string>& names,
                                 std::chrono::seconds time_max) const {
  Errand errand;
  errand.attempt.names = spoken(names);
  errand.attempt.authority = client.authority().name;
  errand.attempt.email = settings.email;
  errand.deadline = clock.monotonic() + time_max;
  return errand;
}

awaitable<Outcome<Issued>> Issuer::State::obtain(Job& job) {
  co_await client.transport().prefetch_nonce();  // on its way while storage is read
  const auto recalled = co_await recall(job);
  if (!recalled) co_return recalled.error();
  auto profile = co_await choose_profile(client.transport(), job.names, job.errand);
  if (!profile) co_return profile.error();
  job.profile = std::move(*profile);
  std::set<Loss> met;
  for (int starts = 0;; ++starts) {
    auto account = co_await accounts.ensure(job.errand);
    if (!account) co_return job.verdicts->sum_up(account.error(), job.errand.attempt);
    job.account = std::move(*account);
    job.loss = Loss::none;
    auto outcome = co_await attempt(job);
    if (outcome) {
      handed_out.insert(job.id);
      Issued issued;
      issued.certificate = std::move(*outcome);
      issued.challenge = std::move(job.challenge);
      issued.verdicts = job.verdicts->count();
      co_return issued;
    }
    if (doubts_account(outcome.error())) accounts.reread();
    const bool again =
        job.loss == Loss::challenge || (job.loss != Loss::none && !met.contains(job.loss));
    if (!again || starts >= fresh_starts_max) {
      co_return job.verdicts->sum_up(outcome.error(), job.errand.attempt);
    }
    met.insert(job.loss);
    base::log::debug("{}: beginning again: {}", job.errand.attempt.names, outcome.error().sentence);
    co_await recover(job);
  }
}

/// What the journal holds of this certificate.
awaitable<Outcome<void>> Issuer::State::recall(Job& job) {
  const auto& directory = client.authority().directory;
  // A renewal so soon that nobody has called forget() yet wants another certificate, not the same.
  if (job.another && handed_out.erase(job.id) > 0) co_await journal.drop(job.id);
  auto found = co_await journal.find(job.id);
  if (!found) {
    co_return storage_failure(found.error(), "the journal of the order", job.errand.attempt);
  }
  job.search = found->doubtful;
  if (!found->entry) co_return Outcome<void>();
  if (found->entry->directory != directory || !same_names(found->entry->names, job.names)) {
    co_await journal.drop(job.id);  // of another CA, or of what the names were before
    co_return Outcome<void>();
  }
  job.entry = std::move(found->entry);
  job.resumed = !job.entry->order.empty();
  job.search = job.entry->order.empty();
  co_return Outcome<void>();
}

awaitable<void> Issuer::State::recover(Job& job) {
  switch (job.loss) {
    case Loss::none:
      break;
    case Loss::challenge:
    case Loss::order:
      co_await journal.drop(job.id);
      job.entry.reset();
      job.resumed = false;
      job.search = false;
      break;
    case Loss::account:
      accounts.forget(job.account->url);
      break;
    case Loss::profile:
      base::log::warn("{}: {} has no profile \"{}\": ordering without it", job.errand.attempt.names,
                      job.errand.attempt.authority, job.profile);
      job.profile.clear();
      break;
    case Loss::predecessor:
      base::log::info("{}: {} does not take the order as a replacement: ordering without that",
                      job.errand.attempt.names, job.errand.attempt.authority);
      job.replaces.clear();
      if (job.entry && job.entry->order.empty()) break;
      co_await journal.drop(job.id);
      job.entry.reset();
      break;
  }
}

awaitable<Outcome<tls::CertificatePtr>> Issuer::State::attempt(Job& job) {
  auto order = co_await begin(job);
  if (!order) co_return order.error();
  const Taken taken(orders_taken, job.entry->order);
  if (order->status == OrderStatus::pending) {
    Validation validation(client, solvers, clock, job.verdicts->preferences(), job.account,
                          job.errand);
    const auto validated = co_await validation.run(order->authorizations);
    if (!validated) {
      // Its order is spent: the next attempt needs a new one.
      if (validation.order_spent()) co_await journal.drop(job.id);
      if (validation.order_stale() && job.resumed) {
        job.loss = Loss::order;
      } else if (const auto& verdict = validation.verdict()) {
        const bool others = job.verdicts->add(*verdict, validated.error());
        if (others) job.loss = Loss::challenge;
      }
      if (validated.error().type == "accountDoesNotExist") job.loss = Loss::account;
      co_return validated.error();
    }
    job.challenge = validation.proven_by();
    order->status = OrderStatus::ready;
  }
  if (order->status != OrderStatus::valid) {
    order = co_await finalize(job, std::move(*order));
    if (!order) co_return order.error();
  }
  co_return co_await collect(job, *order);
}

/// The order to work on: the journalled one, one found at the CA, or a new one.
awaitable<Outcome<OrderObject>> Issuer::State::begin(Job& job) {
  if (job.entry && !job.entry->order.empty()) co_return co_await reread(job);
  const bool searching = std::exchange(job.search, false);
  const auto intended = co_await intend(job);
  if (!intended) co_return intended.error();
  if (searching && !job.account->orders.empty()) {
    OrderObject earlier;
    const auto found = co_await search(job, earlier);
    if (!found) co_return found.error();
    if (*found) co_return earlier;
  }
  co_return co_await place(job);
}

awaitable<Outcome<OrderObject>> Issuer::State::reread(Job& job) {
  auto reply = co_await client.order(job.account, job.entry->order, job.errand);
  if (!reply) {
    if (means_gone(reply.error())) job.loss = Loss::order;
    if (reply.error().type == "accountDoesNotExist") job.loss = Loss::account;
    co_return reply.error();
  }
  OrderObject& order = reply->value;
  const bool open = order.status == OrderStatus::pending || order.status == OrderStatus::ready;
  const bool expired = open && order.expires && *order.expires <= clock.wall();
  // A finalized order whose key is lost has a certificate that nobody can use.
  const bool useless = !open && !job.entry->key;
  if (order.status == OrderStatus::invalid || expired || useless || !is_for(order, job.names)) {
    job.loss = Loss::order;
    co_return internal_failure(job.errand, "the order in the journal is of no use any more");
  }
  if (!job.entry->key) {
    const std::string url = job.entry->order;
    const auto intended = co_await intend(job);
    if (!intended) co_return intended.error();
    co_await journal_order(job, url);
  }
  base::log::info("{}: going on with order {}", job.errand.attempt.names, job.entry->order);
  co_return std::move(order);
}

/// The key and the names, written before the CA hears of them.
awaitable<Outcome<void>> Issuer::State::intend(Job& job) {
  if (job.entry && job.entry->key) co_return Outcome<void>();
  auto key = co_await make_key(settings.key_type);
  if (!key) co_return internal_failure(job.errand, key.error().context);
  JournalEntry entry;
  entry.directory = client.authority().directory;
  entry.names = job.names;
  entry.created = clock.wall();
  entry.key = std::move(*key);
  const auto written = co_await journal.write_intent(job.id, entry);
  if (!written) {
    co_return storage_failure(written.error(), "the journal of the order", job.errand.attempt);
  }
  job.entry = std::move(entry);
  co_return Outcome<void>();
}

awaitable<Outcome<OrderObject>> Issuer::State::place(Job& job) {
  OrderRequest request;
  request.names = job.names;
  request.profile = job.profile;
  request.replaces = job.replaces;
  auto reply = co_await client.new_order(job.account, std::move(request), job.errand);
  if (!reply) {
    const Failure& failure = reply.error();
    if (failure.type == "accountDoesNotExist") job.loss = Loss::account;
    const bool optional = !job.profile.empty() && !client.authority().profile_required;
    if (failure.type == "invalidProfile" && optional) job.loss = Loss::profile;
    const bool replacing = job.loss == Loss::none && !job.replaces.empty();
    if (replacing && may_do_without_predecessor(failure)) job.loss = Loss::predecessor;
    // Refused for good: nothing to find at the next attempt. Otherwise it may have been placed.
    if (job.loss == Loss::none && means_refused(failure)) co_await journal.drop(job.id);
    co_return failure;
  }
  ++placed;
  if (job.replaces.empty()) ++job.orders;
  if (reply->location.empty()) {
    co_return nonsense_failure("an order without its address", job.errand.attempt);
  }
  co_await journal_order(job, reply->location);
  if (!is_for(reply->value, job.names)) {
    co_await journal.drop(job.id);
    co_return nonsense_failure("an order for other names", job.errand.attempt);
  }
  co_return std::move(reply->value);
}

awaitable<void> Issuer::State::journal_order(Job& job, std::string url) {
  job.entry->order = url;
  const auto written = co_await journal.write_order(job.id, url);
  // The order exists by now: going on from memory is better than ordering again.
  if (!written) {
    base::log::warn("{}: the order is kept in memory only: {}", job.errand.attempt.names,
                    written.error().context);
  }
}

// ---------------------------------------------------------------- an order whose URL was lost

/// Looks for the order among those of the account; true: it is in job.entry from now on.
awaitable<Outcome<bool>> Issuer::State::search(Job& job, OrderObject& order) {
  const std::function<bool(const std::string&)> available = [this](const std::string& url) {
    return !orders_taken.contains(url);
  };
  auto found =
      co_await find_open_order(client, job.account, job.names, clock.wall(), available, job.errand);
  if (!found) {
    if (found.error().type == "accountDoesNotExist") job.loss = Loss::account;
    co_return found.error();
  }
  if (!*found) co_return false;
  base::log::info("{}: found the order that was interrupted", job.errand.attempt.names);
  job.resumed = true;
  order = std::move((*found)->order);
  co_await journal_order(job, (*found)->url);
  co_return true;
}

// ---------------------------------------------------------------- from ready to the certificate

awaitable<Outcome<OrderObject>> Issuer::State::finalize(Job& job, OrderObject order) {
  auto request = tls::make_request_der(*job.entry->key, job.names);
  if (!request) co_return internal_failure(job.errand, request.error().context);
  Finalization finalization(client, clock, job.account, job.entry->order, job.errand);
  auto done = co_await finalization.run(std::move(order), std::move(*request));
  if (!done && finalization.order_spent()) {
    const bool replacing = !job.resumed && !job.replaces.empty();
    if (job.resumed) job.loss = Loss::order;
    if (replacing && may_do_without_predecessor(done.error())) job.loss = Loss::predecessor;
    co_await journal.drop(job.id);
  }
  co_return done;
}

awaitable<Outcome<tls::CertificatePtr>> Issuer::State::collect(Job& job, const OrderObject& order) {
  Download wanted;
  wanted.url = order.certificate;
  wanted.names = job.names;
  wanted.preferred_chain = settings.preferred_chain;
  auto got = co_await download(client, job.account, *job.entry->key, std::move(wanted),
                               clock.wall(), job.errand);
  if (!got) {
    if (job.resumed && means_gone(got.error())) job.loss = Loss::order;
    co_return got.error();
  }
  const auto& certificate = got->certificate;
  // One that is half over is what a crash left behind long ago: a renewal wants a new one.
  const bool stale = job.resumed && got->problem.empty() &&
                     clock.wall() > certificate->not_before() +
                                        (certificate->not_after() - certificate->not_before()) / 2;
  if (got->problem.empty() && !stale) co_return certificate;
  if (certificate && blames_clock(*certificate, job.entry->created, clock.wall())) {
    co_return internal_failure(
        job.errand,
        fmt::format("{} has issued the certificate, but {}, and this machine's clock "
                    "says {}: set it (nothing more is ordered until then)",
                    job.errand.attempt.authority, got->problem, timestamp(clock.wall())));
  }
  if (job.resumed) job.loss = Loss::order;
  // What is no certificate at all may be a page of something in between: it is asked for once more.
  const bool ask_again = !certificate && !job.resumed;
  if (!ask_again) co_await journal.drop(job.id);
  Failure failure =
      nonsense_failure("a certificate that cannot be served: " + got->problem, job.errand.attempt);
  // Whole, new, and of no use: the next would be no better, and CAs allow few for the same names.
  if (certificate && !job.resumed) failure.kind = FailureClass::policy;
  co_return failure;
}

}  // namespace gatehouse::acme
