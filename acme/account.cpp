#include "acme/account.hpp"

#include <boost/json/object.hpp>
#include <boost/json/parse.hpp>
#include <boost/json/serialize.hpp>
#include <fmt/format.h>

#include "acme/jose.hpp"
#include "base/encoding.hpp"
#include "base/log.hpp"
#include "tls/digest.hpp"

namespace gatehouse::acme {

namespace json = boost::json;
using base::ErrorKind;
using boost::asio::awaitable;

namespace {

constexpr std::chrono::seconds users_patience{60};
constexpr const char* next_key_file = "/next.pem";
constexpr size_t id_bytes = 8;  // of the e-mail's hash: tells the accounts of one user apart

std::string text_of(const json::object& object, std::string_view key) {
  const auto* value = object.if_contains(key);
  const auto* text = value == nullptr ? nullptr : value->if_string();
  return text == nullptr ? std::string() : std::string(text->data(), text->size());
}

/// The record of an account, if it is of that directory.
std::optional<json::object> record_of(std::string_view bytes, const std::string& directory) {
  boost::system::error_code error;
  const json::value value = json::parse(bytes, error);
  const auto* object = error ? nullptr : value.if_object();
  if (object == nullptr || text_of(*object, "directory") != directory) return std::nullopt;
  return *object;
}

}  // namespace

std::string account_folder(const std::string& authority, const std::string& email) {
  return fmt::format("issuers/{}/accounts/{}", authority,
                     base::hex(tls::sha256(email).substr(0, id_bytes)));
}

std::string account_record(const Account& account, const std::string& directory,
                           const std::string& email, WallTime registered) {
  const json::object object{{"url", account.url},
                            {"orders", account.orders},
                            {"directory", directory},
                            {"email", email},
                            {"registered", timestamp(registered)}};
  return json::serialize(object);
}

awaitable<std::string> stored_account_url(Storage& storage,
                                          const config::CertificateAuthority& authority,
                                          const std::string& email) {
  const auto bytes = co_await storage.load(account_folder(authority.name, email) + "/account.json");
  if (!bytes) co_return std::string();
  const auto record = record_of(*bytes, authority.directory);
  if (!record) co_return std::string();
  std::string url = text_of(*record, "url");
  if (!usable_url(url, authority.directory)) url.clear();
  co_return url;
}

AccountKeeper::AccountKeeper(Client& client, Storage& storage, const base::Clock& clock,
                             std::string email)
    : client_(client),
      storage_(storage),
      clock_(clock),
      email_(std::move(email)),
      folder_(account_folder(client.authority().name, email_)) {}

awaitable<Outcome<AccountPtr>> AccountKeeper::ensure(const Errand& errand) {
  if (account_) co_return account_;
  Errand common = errand;
  common.attempt.names.clear();
  common.attempt.email = email_;
  // Named: GCC 12 destroys such a temporary twice inside a co_await expression.
  std::function<awaitable<Outcome<AccountPtr>>()> work = [this, common] { return open(common); };
  auto outcome = co_await flight_.join(std::move(work));
  if (!outcome) {
    Failure failure = outcome.error();
    if (!errand.attempt.names.empty()) {
      failure.sentence = errand.attempt.names + ": " + failure.sentence;
    }
    co_return failure;
  }
  co_return outcome;
}

void AccountKeeper::forget(const std::string& url) {
  if (account_ && account_->url == url) account_.reset();
  forgotten_ = url;
}

awaitable<Outcome<AccountPtr>> AccountKeeper::open(Errand errand) {
  if (account_) co_return account_;
  auto settled = co_await settle_change(errand);
  if (!settled) co_return settled.error();
  if (*settled) {
    account_ = std::move(*settled);
    co_return account_;
  }
  auto key = co_await stored_key(errand);
  if (!key) co_return key.error();
  if (auto stored = co_await stored_account(*key)) {
    account_ = std::move(stored);
    co_return account_;
  }
  // With a key that already has an account, this finds the account (RFC 8555 section 7.3.1): a
  // crash between registration and its record costs one request and never a second account.
  auto registered = co_await client_.new_account(*key, errand);
  if (!registered) co_return registered.error();
  ++registered_;
  co_await store(*registered);
  account_ = std::move(*registered);
  base::log::info("{}: account {} is ready", errand.attempt.authority, account_->url);
  co_return account_;
}

awaitable<Outcome<tls::PrivateKey>> AccountKeeper::stored_key(const Errand& errand) {
  const std::string path = folder_ + "/key.pem";
  const auto pem = co_await storage_.load(path);
  if (!pem && pem.error().kind == ErrorKind::not_found) co_return co_await make_key(errand);
  if (pem) {
    auto key = tls::PrivateKey::from_pem(*pem, path);
    if (key && public_jwk(*key)) co_return std::move(*key);
  } else if (pem.error().kind != ErrorKind::corrupt) {
    co_return storage_failure(pem.error(), "the account key " + path, errand.attempt);
  }
  const auto aside = fmt::format("quarantine/{}-account-{}", errand.attempt.authority,
                                 clock_.wall().time_since_epoch().count());
  base::log::warn("{}: the account key is damaged; moved to {}, a new account is made", path,
                  aside);
  const auto moved = co_await storage_.move(folder_, aside);
  if (!moved) co_return storage_failure(moved.error(), "the account " + folder_, errand.attempt);
  co_return co_await make_key(errand);
}

awaitable<Outcome<tls::PrivateKey>> AccountKeeper::make_key(const Errand& errand) {
  auto key = tls::PrivateKey::generate(config::KeyType::p256);
  if (!key) co_return storage_failure(key.error(), "an account key", errand.attempt);
  const auto stored = co_await storage_.store(folder_ + "/key.pem", key->to_pem());
  if (!stored) co_return storage_failure(stored.error(), "the account key", errand.attempt);
  co_return std::move(*key);
}

awaitable<AccountPtr> AccountKeeper::stored_account(tls::PrivateKey key) {
  const auto& authority = client_.authority();
  const auto bytes = co_await storage_.load(folder_ + "/account.json");
  if (!bytes) co_return nullptr;
  const auto record = record_of(*bytes, authority.directory);
  if (!record) co_return nullptr;
  std::string url = text_of(*record, "url");
  std::string orders = text_of(*record, "orders");
  const bool ours = url != forgotten_;
  const auto print = thumbprint(key);
  if (!ours || !print || !usable_url(url, authority.directory)) co_return nullptr;
  if (!usable_url(orders, authority.directory)) orders.clear();
  co_return std::make_shared<const Account>(
      Account{std::move(key), std::move(url), std::move(orders), *print});
}

awaitable<void> AccountKeeper::store(AccountPtr account) {
  std::string record =
      account_record(*account, client_.authority().directory, email_, clock_.wall());
  const auto stored = co_await storage_.store(folder_ + "/account.json", std::move(record));
  // The key is what counts: with it the next start finds the account again.
  if (!stored) base::log::warn("{}/account.json: {}", folder_, stored.error().context);
}

// ---------------------------------------------------------------- a change of keys

awaitable<Outcome<void>> AccountKeeper::roll_over(const Errand& errand) {
  const bool alone = co_await users_.close(users_patience);
  if (!alone) {
    Failure busy;
    busy.sentence = errand.attempt.authority +
                    ": orders are at work with the account's key, so it was not changed; try again "
                    "in some minutes";
    co_return busy;
  }
  const Alone until_done(users_);
  const auto account = co_await ensure(errand);
  if (!account) co_return account.error();
  auto next = tls::PrivateKey::generate(config::KeyType::p256);
  if (!next) co_return storage_failure(next.error(), "a new account key", errand.attempt);
  const auto stored = co_await storage_.store(folder_ + next_key_file, next->to_pem());
  if (!stored) co_return storage_failure(stored.error(), "the new account key", errand.attempt);
  const auto changed = co_await client_.change_key(*account, std::move(*next), errand);
  if (changed) {
    account_ = *changed;
    co_await confirm(*changed);
    base::log::info("{}: account {} has a new key", errand.attempt.authority, account_->url);
    co_return Outcome<void>();
  }
  Failure failure = changed.error();
  if (means_refused(failure) || failure.type == "unsupported") {
    co_await discard_next();
    failure.sentence += "; the account keeps its key";
    co_return failure;
  }
  account_.reset();
  failure.sentence +=
      "; both keys are kept, and the CA will be asked which one it knows before the next order";
  co_return failure;
}

/// A change that was left open: the newer key is tried first. Nothing: the older one is the key.
awaitable<Outcome<AccountPtr>> AccountKeeper::settle_change(const Errand& errand) {
  const std::string path = folder_ + next_key_file;
  const auto pem = co_await storage_.load(path);
  if (!pem && pem.error().kind == ErrorKind::not_found) co_return AccountPtr();
  if (!pem && pem.error().kind != ErrorKind::corrupt) {
    co_return storage_failure(pem.error(), "the account key " + path, errand.attempt);
  }
  auto next =
      pem ? tls::PrivateKey::from_pem(*pem, path) : base::Result<tls::PrivateKey>(pem.error());
  if (!next || !public_jwk(*next)) {
    base::log::warn("{}: this key of an unfinished change is damaged: going on with the older one",
                    path);
    co_return AccountPtr();
  }
  const auto found = co_await client_.existing_account(std::move(*next), errand);
  if (found) {
    co_await confirm(*found);
    base::log::info("{}: the interrupted change of the account's key had been made",
                    errand.attempt.authority);
    co_return *found;
  }
  if (found.error().type != "accountDoesNotExist") co_return found.error();
  co_await discard_next();
  co_return AccountPtr();
}

/// The CA knows the account by this key now. If the disk does not take it, the newer key stays
/// beside the older one, and the next start asks again.
awaitable<void> AccountKeeper::confirm(AccountPtr account) {
  co_await store(account);
  const auto stored = co_await storage_.store(folder_ + "/key.pem", account->key.to_pem());
  if (stored) {
    co_await discard_next();
  } else {
    base::log::warn("{}/key.pem: {}", folder_, stored.error().context);
  }
}

awaitable<void> AccountKeeper::discard_next() {
  const auto removed = co_await storage_.move(folder_ + next_key_file, "");
  if (!removed && removed.error().kind != ErrorKind::not_found) {
    base::log::warn("{}{}: {}", folder_, next_key_file, removed.error().context);
  }
}

}  // namespace gatehouse::acme
