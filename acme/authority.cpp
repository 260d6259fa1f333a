#include "acme/authority.hpp"

#include <algorithm>

#include "acme/account.hpp"
#include "acme/caa_check.hpp"
#include "acme/issuer.hpp"
#include "acme/single_flight.hpp"
#include "acme/times.hpp"
#include "acme/transport.hpp"
#include "base/log.hpp"
#include "tls/internal_authority.hpp"

namespace gatehouse::acme {

namespace asio = boost::asio;
using std::chrono::hours;

namespace {

constexpr hours internal_leaf_lifetime{24 * 90};
constexpr hours root_left_min{24 * 180};
constexpr const char* root_folder = "internal/root";
constexpr std::chrono::seconds look_timeout{5};

base::FetchRequest look_at(std::string url, std::string trust) {
  base::FetchRequest request;
  request.url = std::move(url);
  request.ca_file = std::move(trust);
  request.timeout = request.connect_timeout = look_timeout;
  request.fresh_connection = true;
  return request;
}

asio::awaitable<std::optional<base::WallClock::time_point>> date_of(base::Fetcher* fetcher,
                                                                    std::string url,
                                                                    std::string trust) {
  auto response = co_await fetcher->fetch(look_at(std::move(url), std::move(trust)));
  if (!response) co_return std::nullopt;
  co_return parse_http_date(response->field("date"));
}

/// A GET of its own: the issuer's may be the very one that hangs.
asio::awaitable<bool> shows_directory(base::Fetcher* fetcher, std::string url, std::string trust) {
  auto response = co_await fetcher->fetch(look_at(std::move(url), std::move(trust)));
  co_return response && response->status == 200 &&
      response->body.find("newOrder") != std::string::npos;
}

/// The root, loaded or made once, and what it signs.
class InternalIssuer {
 public:
  InternalIssuer(Storage& storage, const base::Clock& clock) : storage_(storage), clock_(clock) {}

  static asio::awaitable<Outcome<Issued>> obtain(std::shared_ptr<InternalIssuer> self,
                                                 std::vector<std::string> names);

 private:
  using Root = base::Result<tls::CertificatePtr>;

  bool lasts(const tls::CertificatePtr& root) const {
    return root && root->not_after() - clock_.wall() > root_left_min;
  }
  asio::awaitable<Root> root();
  asio::awaitable<Root> load_root();
  asio::awaitable<Root> make_root();

  Storage& storage_;
  const base::Clock& clock_;
  tls::CertificatePtr root_;  // as it is stored
  SingleFlight<Root> flight_;
};

Failure internal_failure(const base::Error& error, const std::string& name) {
  Failure failure;
  failure.kind = FailureClass::storage;
  failure.sentence = fmt::format("{}: the internal authority cannot sign: {}", name, error.context);
  return failure;
}

asio::awaitable<Outcome<Issued>> InternalIssuer::obtain(std::shared_ptr<InternalIssuer> self,
                                                        std::vector<std::string> names) {
  auto root = co_await self->root();
  if (!root) co_return internal_failure(root.error(), names.front());
  auto leaf = tls::InternalAuthority::issue(**root, names, internal_leaf_lifetime);
  if (!leaf) co_return internal_failure(leaf.error(), names.front());
  Issued issued;
  issued.certificate = *leaf;
  co_return issued;
}

asio::awaitable<InternalIssuer::Root> InternalIssuer::root() {
  if (lasts(root_)) co_return root_;
  // Named: GCC 12 destroys such a temporary twice inside a co_await expression.
  std::function<asio::awaitable<Root>()> work = [this] { return load_root(); };
  auto found = co_await flight_.join(std::move(work));
  co_return found;
}

asio::awaitable<InternalIssuer::Root> InternalIssuer::load_root() {
  if (lasts(root_)) co_return root_;
  auto files = co_await storage_.load_set(root_folder);
  if (!files && files.error().kind != base::ErrorKind::not_found) co_return files.error();
  if (files) {
    auto stored =
        tls::Certificate::from_pem((*files)["root.pem"], (*files)["root.key"], root_folder);
    if (stored && lasts(*stored)) {
      root_ = *stored;
      co_return root_;
    }
    if (!stored) base::log::warn("{}: a new root is made", stored.error().context);
  }
  auto made = co_await make_root();
  co_return made;
}

/// Stored before its first use: two roots would leave clients with the wrong one.
asio::awaitable<InternalIssuer::Root> InternalIssuer::make_root() {
  auto made = tls::InternalAuthority::create("Gatehouse internal authority");
  if (!made) co_return made.error();
  FileSet files;
  files["root.pem"] = (*made)->chain_pem();
  files["root.key"] = (*made)->key_pem();
  auto stored = co_await storage_.store_set(root_folder, std::move(files));
  if (!stored) co_return stored.error();
  root_ = *made;
  base::log::info(
      "internal authority: made a root, to be trusted by clients: {}/current/root.pem "
      "in the storage folder",
      root_folder);
  co_return root_;
}

/// As Client tells of what a CA does not offer.
template <class T>
asio::awaitable<Outcome<T>> unsupported(std::string why) {
  Failure failure;
  failure.status = 404;
  failure.type = "unsupported";
  failure.sentence = std::move(why);
  co_return failure;
}

/// Each name may be proved, but not all of them in one way.
Failure nothing_in_common(const std::vector<std::string>& names, const std::string& authority) {
  Failure failure;
  failure.kind = FailureClass::validation;
  failure.type = "caa";
  failure.local = true;
  failure.sentence = fmt::format(
      "{}: {} was not asked, because the CAA records of these names accept no challenge in common "
      "(accept the same validationmethods for all of them)",
      fmt::join(names, ", "), authority);
  return failure;
}

/// An issuer and the look at CAA records before it.
struct AcmeAuthority {
  AcmeAuthority(base::Fetcher& fetcher, Storage& s, Solvers solvers, const base::Clock& clock,
                config::CertificateAuthority authority, config::Acme given)
      : storage(s),
        settings(std::move(authority)),
        acme(std::move(given)),
        issuer(fetcher, storage, solvers, clock, settings, acme),
        caa(resolvers(), clock) {}

  static asio::awaitable<Outcome<Issued>> obtain(std::shared_ptr<AcmeAuthority> self,
                                                 Wanted wanted);
  asio::awaitable<Outcome<void>> check_caa(Wanted& wanted);
  asio::awaitable<std::vector<std::string>> caa_identities();
  dns::ResolverSettings resolvers() const;

  Storage& storage;
  config::CertificateAuthority settings;
  const config::Acme acme;  // the issuer keeps a reference to it
  Issuer issuer;
  CaaCheck caa;
};

asio::awaitable<Outcome<Issued>> AcmeAuthority::obtain(std::shared_ptr<AcmeAuthority> self,
                                                       Wanted wanted) {
  const auto checked = co_await self->check_caa(wanted);
  if (!checked) co_return checked.error();
  auto issued = co_await self->issuer.obtain(std::move(wanted));
  co_return issued;
}

/// Before the first request: a CA counts what it must refuse (CERTIFICATES section 5).
asio::awaitable<Outcome<void>> AcmeAuthority::check_caa(Wanted& wanted) {
  if (!acme.caa) co_return Outcome<void>();
  CaaApplicant applicant;
  applicant.identities = co_await caa_identities();
  if (applicant.identities.empty()) co_return Outcome<void>();
  applicant.authority = settings.name;
  applicant.challenges = acme.challenges;
  applicant.account = co_await stored_account_url(storage, settings, acme.email);
  auto accepted = co_await caa.run(wanted.names, std::move(applicant));
  if (!accepted) co_return accepted.error();
  if (accepted->empty()) co_return nothing_in_common(wanted.names, settings.name);
  // Any that the records do not accept would cost a failed validation.
  wanted.challenges = std::move(*accepted);
  co_return Outcome<void>();
}

/// What CAA records call this CA, as far as that is known without asking it.
asio::awaitable<std::vector<std::string>> AcmeAuthority::caa_identities() {
  if (!settings.caa_identities.empty()) co_return settings.caa_identities;
  auto known = known_caa_identities(settings.directory);
  if (!known.empty()) co_return known;
  auto kept = co_await stored_directory(storage, settings);
  if (kept) known = std::move(kept->directory.caa_identities);
  co_return known;
}

dns::ResolverSettings AcmeAuthority::resolvers() const {
  dns::ResolverSettings result;
  result.servers = acme.resolvers;
  return result;
}

asio::awaitable<void> nothing() {
  co_return;
}
asio::awaitable<bool> always() {
  co_return true;
}
asio::awaitable<std::optional<base::WallClock::time_point>> no_date() {
  co_return std::nullopt;
}

}  // namespace

Authority acme_authority(base::Fetcher& fetcher, Storage& storage, Solvers solvers,
                         const base::Clock& clock, const config::CertificateAuthority& authority,
                         config::SnapshotPtr snapshot) {
  const auto kept =
      std::make_shared<AcmeAuthority>(fetcher, storage, solvers, clock, authority, snapshot->acme);
  Authority made;
  made.name = authority.name;
  made.directory = authority.directory;
  made.obtain = [kept](Wanted wanted) { return AcmeAuthority::obtain(kept, std::move(wanted)); };
  made.forget = [kept](std::string id) { return kept->issuer.forget(std::move(id)); };
  made.probe = [&fetcher, url = authority.directory, trust = authority.trust] {
    return shows_directory(&fetcher, url, trust);
  };
  made.renewal_info = [kept](std::string certificate_id) {
    return kept->issuer.renewal_info(std::move(certificate_id));
  };
  made.revoke = [kept](tls::CertificatePtr certificate, int reason) {
    return kept->issuer.revoke(std::move(certificate), reason);
  };
  made.roll_over_account_key = [kept] { return kept->issuer.roll_over_account_key(); };
  made.orders_placed = [kept] { return kept->issuer.orders_placed(); };
  made.accounts_made = [kept] { return kept->issuer.accounts_made(); };
  made.date = [&fetcher, url = authority.directory, trust = authority.trust] {
    return date_of(&fetcher, url, trust);
  };
  return made;
}

Authority internal_authority(Storage& storage, const base::Clock& clock) {
  auto issuer = std::make_shared<InternalIssuer>(storage, clock);
  Authority made;
  made.name = internal_authority_name;
  made.obtain = [issuer](Wanted wanted) {
    return InternalIssuer::obtain(issuer, std::move(wanted.names));
  };
  made.forget = [](std::string) { return nothing(); };
  made.probe = [] { return always(); };
  made.renewal_info = [](std::string) {
    return unsupported<RenewalInfo>("the internal authority has no renewal information");
  };
  made.revoke = [](tls::CertificatePtr, int) {
    return unsupported<void>(
        "the internal authority keeps no list of revoked certificates, so no client would notice: "
        "have the certificate renewed, and if its key is known to others, make the clients trust a "
        "new root");
  };
  made.roll_over_account_key = [] {
    return unsupported<void>("the internal authority has no account");
  };
  made.orders_placed = [] { return uint64_t{0}; };
  made.date = [] { return no_date(); };
  return made;
}

}  // namespace gatehouse::acme
