#include "acme/transport.hpp"

#include <algorithm>
#include <cstdlib>

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/this_coro.hpp>
#include <boost/json/object.hpp>
#include <boost/json/parse.hpp>
#include <boost/json/serialize.hpp>
#include <fmt/format.h>

#include "acme/jose.hpp"
#include "acme/protocol.hpp"
#include "acme/single_flight.hpp"
#include "base/log.hpp"

namespace gatehouse::acme {

namespace asio = boost::asio;
namespace json = boost::json;
using asio::awaitable;
using base::FetchRequest;
using base::FetchResponse;
using std::chrono::milliseconds;

namespace {

constexpr std::chrono::seconds connect_timeout{10};
constexpr size_t response_bytes_max = 1024 * 1024;
constexpr std::chrono::hours directory_age_max{24};
constexpr size_t nonces_max = 16;
constexpr size_t nonce_bytes_max = 256;
constexpr std::chrono::minutes nonce_age_max{5};
constexpr int bad_nonce_tries_max = 10;
constexpr std::chrono::seconds clock_skew_warning{60};

struct Nonce {
  std::string text;
  base::Monotonic::time_point since;
};

bool is_nonce(std::string_view text) {
  return !text.empty() && text.size() <= nonce_bytes_max &&
         std::all_of(text.begin(), text.end(), [](char c) {
           return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
                  c == '-' || c == '_';
         });
}

bool is_success(const FetchResponse& response) {
  return response.status >= 200 && response.status < 300;
}

Failure named(Failure failure, const Errand& errand) {
  if (errand.attempt.names.empty()) return failure;
  failure.sentence = errand.attempt.names + ": " + failure.sentence;
  return failure;
}

std::string directory_path(const config::CertificateAuthority& authority) {
  return "issuers/" + authority.name + "/directory.json";
}

/// The same errand without names: its outcome is shared by those who wait for it.
Errand shared(const Errand& errand) {
  Errand result = errand;
  result.attempt.names.clear();
  return result;
}

}  // namespace

struct Transport::State : std::enable_shared_from_this<State> {
  State(base::Fetcher& f, Storage& s, const base::Clock& c, config::CertificateAuthority a)
      : fetcher(f), storage(s), clock(c), authority(std::move(a)) {}

  base::Fetcher& fetcher;
  Storage& storage;
  const base::Clock& clock;
  config::CertificateAuthority authority;
  std::optional<Directory> directory;
  WallTime directory_since;
  SingleFlight<Outcome<Directory>> directory_flight;
  std::vector<Nonce> nonces;  // the newest at the end
  bool prefetching = false;
  bool stored_directory_read = false;

  std::string path() const { return directory_path(authority); }
  bool directory_fresh() const;
  void keep_nonce(std::string_view text);
  bool holds_nonce();
  std::optional<std::string> take_nonce();
  Failure refusal(const FetchResponse& response, const Errand& errand) const;
  std::optional<milliseconds> retry_after(const FetchResponse& response) const;

  awaitable<Outcome<FetchResponse>> fetch(FetchRequest request, milliseconds timeout,
                                          const Errand& errand);
  awaitable<void> read_stored_directory();
  awaitable<void> store_directory();
  awaitable<Outcome<Directory>> current_directory(Errand errand);
  awaitable<Outcome<Directory>> fetch_directory(Errand errand);
  awaitable<Outcome<Directory>> join_directory(const Errand& errand);
  awaitable<Outcome<Directory>> refetch(const Errand& errand);
  awaitable<Outcome<std::string>> nonce(const Errand& errand);
  awaitable<Outcome<std::string>> fetch_nonce(const Errand& errand);
  awaitable<Outcome<FetchResponse>> post(Message message, const Errand& errand);
  awaitable<Outcome<FetchResponse>> get(std::string url, const Errand& errand);
  static awaitable<void> prefetch(std::shared_ptr<State> self);
};

// ---------------------------------------------------------------- the wire

awaitable<Outcome<FetchResponse>> Transport::State::fetch(FetchRequest request,
                                                          milliseconds timeout,
                                                          const Errand& errand) {
  const auto left = std::chrono::duration_cast<milliseconds>(errand.deadline - clock.monotonic());
  if (left <= milliseconds(0)) {
    co_return transport_failure(
        base::Error(base::ErrorKind::timeout, "the time for one certificate ran out"),
        errand.attempt);
  }
  request.connect_timeout = std::min<milliseconds>(connect_timeout, left);
  request.timeout = std::min(timeout, left);
  request.response_body_max = response_bytes_max;
  request.ca_file = authority.trust;
  auto response = co_await fetcher.fetch(std::move(request));
  if (!response) co_return transport_failure(response.error(), errand.attempt);
  co_return std::move(*response);
}

Failure Transport::State::refusal(const FetchResponse& response, const Errand& errand) const {
  if (response.status >= 300 && response.status < 400) {
    return nonsense_failure(
        fmt::format("a redirect ({}), which an ACME server must not", response.status),
        errand.attempt);
  }
  const auto problem = parse_problem(response.body, response.status);
  Attempt attempt = errand.attempt;
  if (directory) attempt.website = directory->website;
  return failure_of(problem, attempt, clock.wall(), retry_after(response));
}

std::optional<milliseconds> Transport::State::retry_after(const FetchResponse& response) const {
  return parse_retry_after(response.field("retry-after"), clock.wall());
}

// ---------------------------------------------------------------- directory

awaitable<std::optional<KeptDirectory>> stored_directory(
    Storage& storage, const config::CertificateAuthority& authority) {
  const auto bytes = co_await storage.load(directory_path(authority));
  if (!bytes) co_return std::nullopt;
  boost::system::error_code error;
  const json::value stored = json::parse(*bytes, error);
  const auto* object = error ? nullptr : stored.if_object();
  if (object == nullptr) co_return std::nullopt;
  const auto* url = object->if_contains("url");
  const auto* since = object->if_contains("fetched");
  const auto* content = object->if_contains("directory");
  if (url == nullptr || since == nullptr || content == nullptr || !url->is_string() ||
      !since->is_string() || std::string_view(url->as_string()) != authority.directory) {
    co_return std::nullopt;
  }
  const auto time = parse_timestamp(since->as_string());
  auto parsed = parse_directory(json::serialize(*content), authority.directory);
  if (!time || !parsed) co_return std::nullopt;
  KeptDirectory kept;
  kept.directory = std::move(*parsed);
  kept.since = *time;
  co_return kept;
}

bool Transport::State::directory_fresh() const {
  const auto age = clock.wall() - directory_since;
  return directory && age < directory_age_max && age > -std::chrono::hours(1);
}

awaitable<void> Transport::State::read_stored_directory() {
  stored_directory_read = true;
  auto kept = co_await stored_directory(storage, authority);
  if (!kept) co_return;
  directory = std::move(kept->directory);
  directory_since = kept->since;
}

awaitable<void> Transport::State::store_directory() {
  json::object object;
  object["url"] = authority.directory;
  object["fetched"] = timestamp(directory_since);
  object["directory"] = json::parse(directory_json(*directory));
  const auto stored = co_await storage.store(path(), json::serialize(object));
  // Only a convenience for the next start.
  if (!stored) base::log::warn("{}: {}", path(), stored.error().context);
}

awaitable<Outcome<Directory>> Transport::State::current_directory(Errand errand) {
  if (!stored_directory_read) co_await read_stored_directory();
  if (directory_fresh()) co_return *directory;
  co_return co_await fetch_directory(std::move(errand));
}

awaitable<Outcome<Directory>> Transport::State::fetch_directory(Errand errand) {
  FetchRequest request;
  request.url = authority.directory;
  auto response = co_await fetch(std::move(request), response_timeout, errand);
  if (!response) co_return response.error();
  if (!is_success(*response)) co_return refusal(*response, errand);
  auto parsed = parse_directory(response->body, authority.directory);
  if (!parsed) co_return nonsense_failure(parsed.error().context, errand.attempt);
  if (const auto date = parse_http_date(response->field("date"))) {
    const auto skew = std::chrono::duration_cast<std::chrono::seconds>(clock.wall() - *date);
    if (std::chrono::abs(skew) > clock_skew_warning) {
      base::log::warn(
          "this machine's clock is {} s {} that of {}: set it, or certificates will "
          "be renewed at the wrong time",
          std::chrono::abs(skew).count(), skew.count() > 0 ? "ahead of" : "behind", authority.name);
    }
  }
  directory = *parsed;
  directory_since = clock.wall();
  co_await store_directory();
  // Not *directory: somebody may have thrown it away meanwhile.
  co_return *parsed;
}

awaitable<Outcome<Directory>> Transport::State::join_directory(const Errand& errand) {
  const auto self = shared_from_this();
  const Errand common = shared(errand);
  // Named: GCC 12 destroys such a temporary twice inside a co_await expression.
  std::function<awaitable<Outcome<Directory>>()> work = [self, common] {
    return self->current_directory(common);
  };
  auto found = co_await directory_flight.join(std::move(work));
  if (!found) co_return named(found.error(), errand);
  co_return found;
}

awaitable<Outcome<Directory>> Transport::State::refetch(const Errand& errand) {
  directory.reset();
  co_return co_await join_directory(errand);
}

// ---------------------------------------------------------------- nonces

void Transport::State::keep_nonce(std::string_view text) {
  if (!is_nonce(text)) return;
  nonces.push_back(Nonce{std::string(text), clock.monotonic()});
  if (nonces.size() > nonces_max) nonces.erase(nonces.begin());
}

bool Transport::State::holds_nonce() {
  // The newest is the last: if it is too old, so are the others.
  const bool stale = !nonces.empty() && clock.monotonic() - nonces.back().since > nonce_age_max;
  if (stale) nonces.clear();
  return !nonces.empty();
}

std::optional<std::string> Transport::State::take_nonce() {
  if (!holds_nonce()) return std::nullopt;
  std::string newest = std::move(nonces.back().text);
  nonces.pop_back();
  return newest;
}

awaitable<Outcome<std::string>> Transport::State::fetch_nonce(const Errand& errand) {
  auto found = co_await join_directory(errand);
  for (bool again = false; found; again = true) {
    FetchRequest request;
    request.method = "HEAD";
    request.url = found->new_nonce;
    const auto response = co_await fetch(request, response_timeout, errand);
    if (!response) co_return response.error();
    if (response->status == 404 && !again) {  // the CA has moved since the directory was kept
      found = co_await refetch(errand);
      continue;
    }
    if (!is_success(*response)) co_return refusal(*response, errand);
    const std::string_view text = response->field("replay-nonce");
    if (!is_nonce(text)) {
      co_return nonsense_failure("an answer to newNonce without a nonce", errand.attempt);
    }
    co_return std::string(text);
  }
  co_return found.error();
}

awaitable<Outcome<std::string>> Transport::State::nonce(const Errand& errand) {
  if (auto held = take_nonce()) co_return std::move(*held);
  co_return co_await fetch_nonce(errand);
}

awaitable<void> Transport::State::prefetch(std::shared_ptr<State> self) {
  Errand errand;
  errand.attempt.authority = self->authority.name;
  errand.deadline = self->clock.monotonic() + response_timeout;
  const auto fetched = co_await self->fetch_nonce(errand);
  self->prefetching = false;
  if (fetched) self->keep_nonce(*fetched);
  // A failure is the next request's to find and to tell.
}

// ---------------------------------------------------------------- signed requests

awaitable<Outcome<FetchResponse>> Transport::State::post(Message message, const Errand& errand) {
  std::string next_nonce;
  for (int tries = 1;; ++tries) {
    if (next_nonce.empty()) {
      auto fetched = co_await nonce(errand);
      if (!fetched) co_return fetched.error();
      next_nonce = std::move(*fetched);
    }
    JwsHeader header;
    header.url = message.url;
    header.nonce = std::exchange(next_nonce, {});
    header.account = message.account;
    auto body = sign(*message.key, header, message.payload);
    if (!body) {
      Failure failure;
      failure.sentence = errand.attempt.names + ": " + body.error().context;
      co_return failure;
    }
    FetchRequest request;
    request.method = "POST";
    request.url = message.url;
    request.fields.emplace_back("Content-Type", "application/jose+json");
    if (!message.accept.empty()) request.fields.emplace_back("Accept", message.accept);
    request.body = std::move(*body);
    auto response = co_await fetch(std::move(request), message.timeout, errand);
    if (!response) co_return response.error();
    if (is_success(*response)) {
      keep_nonce(response->field("replay-nonce"));
      co_return std::move(*response);
    }
    const bool bad_nonce = parse_problem(response->body, response->status).type == "badNonce";
    if (!bad_nonce || tries >= bad_nonce_tries_max) {
      keep_nonce(response->field("replay-nonce"));
      co_return refusal(*response, errand);
    }
    // The nonce of the error itself is the surest one (RFC 8555 section 6.5).
    if (is_nonce(response->field("replay-nonce"))) next_nonce = response->field("replay-nonce");
  }
}

awaitable<Outcome<FetchResponse>> Transport::State::get(std::string url, const Errand& errand) {
  FetchRequest request;
  request.url = std::move(url);
  auto response = co_await fetch(std::move(request), response_timeout, errand);
  if (response && !is_success(*response)) co_return refusal(*response, errand);
  co_return response;
}

// ---------------------------------------------------------------- outside

Transport::Transport(base::Fetcher& fetcher, Storage& storage, const base::Clock& clock,
                     config::CertificateAuthority authority)
    : state_(std::make_shared<State>(fetcher, storage, clock, std::move(authority))) {}

Transport::~Transport() = default;

const config::CertificateAuthority& Transport::authority() const {
  return state_->authority;
}

awaitable<Outcome<Directory>> Transport::directory(const Errand& errand) {
  return state_->join_directory(errand);
}

awaitable<Outcome<Directory>> Transport::refetch_directory(const Errand& errand) {
  return state_->refetch(errand);
}

awaitable<void> Transport::prefetch_nonce() {
  if (state_->prefetching || state_->holds_nonce()) co_return;
  state_->prefetching = true;
  const auto executor = co_await asio::this_coro::executor;
  asio::co_spawn(executor, State::prefetch(state_), asio::detached);
}

awaitable<Outcome<FetchResponse>> Transport::post(Message message, const Errand& errand) {
  return state_->post(std::move(message), errand);
}

awaitable<Outcome<FetchResponse>> Transport::get(std::string url, const Errand& errand) {
  return state_->get(std::move(url), errand);
}

std::optional<milliseconds> Transport::retry_after(const FetchResponse& response) const {
  return state_->retry_after(response);
}

}  // namespace gatehouse::acme
