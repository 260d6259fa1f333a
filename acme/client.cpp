#include "acme/client.hpp"

#include <fmt/format.h>

#include "acme/jose.hpp"

namespace gatehouse::acme {

using base::FetchResponse;
using boost::asio::awaitable;

namespace {

constexpr std::chrono::seconds finalize_timeout{90};
constexpr size_t alternates_max = 8;

/// The parsed body with the fields that matter, or what is wrong with it.
template <class T>
Outcome<Reply<T>> reply_of(base::Result<T> parsed, const FetchResponse& response,
                           const Transport& transport, const Errand& errand) {
  const std::string& base_url = transport.authority().directory;
  if (!parsed) return nonsense_failure(parsed.error().context, errand.attempt);
  Reply<T> reply;
  reply.value = std::move(*parsed);
  if (usable_url(response.field("location"), base_url)) {
    reply.location = response.field("location");
  }
  reply.retry_after = transport.retry_after(response);
  return reply;
}

std::vector<std::string> links_of(const FetchResponse& response, std::string_view relation,
                                  const std::string& url) {
  std::vector<std::string> result;
  for (const auto& [key, value] : response.fields) {
    if (key != "link") continue;
    for (auto& link : links(value, relation, url)) {
      if (result.size() < alternates_max) result.push_back(std::move(link));
    }
  }
  return result;
}

Failure account_failure(const base::Error& error, const Errand& errand) {
  Failure failure;
  failure.kind = FailureClass::account;
  failure.sentence = fmt::format("{}: {}", errand.attempt.authority, error.context);
  return failure;
}

}  // namespace

Client::Client(base::Fetcher& fetcher, Storage& storage, const base::Clock& clock,
               config::CertificateAuthority authority)
    : transport_(fetcher, storage, clock, std::move(authority)) {}

awaitable<Outcome<FetchResponse>> Client::read(AccountPtr account, std::string url,
                                               std::string accept, const Errand& errand) {
  Message message;
  message.key = &account->key;
  message.account = account->url;
  message.url = std::move(url);
  message.accept = std::move(accept);
  co_return co_await transport_.post(std::move(message), errand);
}

awaitable<Outcome<AccountPtr>> Client::new_account(tls::PrivateKey key, const Errand& errand) {
  const auto& authority = transport_.authority();
  const auto print = thumbprint(key);
  if (!print) co_return account_failure(print.error(), errand);
  auto directory = co_await transport_.directory(errand);
  for (bool again = false; directory; again = true) {
    std::string binding;
    if (!authority.eab_kid.empty()) {
      auto bound = external_account_binding(key, authority.eab_kid, authority.eab_hmac_key,
                                            directory->new_account);
      if (!bound) co_return account_failure(bound.error(), errand);
      binding = std::move(*bound);
    }
    Message message;
    message.key = &key;
    message.url = directory->new_account;
    message.payload = new_account_json(errand.attempt.email, binding);
    const auto response = co_await transport_.post(std::move(message), errand);
    if (!response && response.error().status == 404 && !again) {
      directory = co_await transport_.refetch_directory(errand);
      continue;
    }
    if (!response) co_return response.error();
    Account account{std::move(key), std::string(response->field("location")), {}, *print};
    auto orders = parse_account_orders(response->body, directory->new_account);
    if (orders) account.orders = std::move(*orders);
    if (!usable_url(account.url, directory->new_account)) {
      co_return nonsense_failure("an account without its address", errand.attempt);
    }
    co_return std::make_shared<const Account>(std::move(account));
  }
  co_return directory.error();
}

awaitable<Outcome<Reply<OrderObject>>> Client::new_order(AccountPtr account,
                                                         std::vector<std::string> names,
                                                         std::string profile,
                                                         const Errand& errand) {
  auto directory = co_await transport_.directory(errand);
  for (bool again = false; directory; again = true) {
    Message message;
    message.key = &account->key;
    message.account = account->url;
    message.url = directory->new_order;
    message.payload = new_order_json(names, profile);
    const auto response = co_await transport_.post(std::move(message), errand);
    const bool moved = !response && response.error().status == 404 &&
                       response.error().type != "accountDoesNotExist";
    if (moved && !again) {
      directory = co_await transport_.refetch_directory(errand);
      continue;
    }
    if (!response) co_return response.error();
    auto parsed = parse_order(response->body, directory->new_order);
    co_return reply_of(std::move(parsed), *response, transport_, errand);
  }
  co_return directory.error();
}

awaitable<Outcome<Reply<OrderObject>>> Client::order(AccountPtr account, std::string url,
                                                     const Errand& errand) {
  const auto response = co_await read(std::move(account), url, {}, errand);
  if (!response) co_return response.error();
  co_return reply_of(parse_order(response->body, url), *response, transport_, errand);
}

awaitable<Outcome<OrderPage>> Client::orders(AccountPtr account, std::string url,
                                             const Errand& errand) {
  const auto response = co_await read(std::move(account), url, {}, errand);
  if (!response) co_return response.error();
  auto listed = parse_order_list(response->body, url);
  if (!listed) co_return nonsense_failure(listed.error().context, errand.attempt);
  OrderPage page;
  page.orders = std::move(*listed);
  const auto next = links_of(*response, "next", url);
  if (!next.empty()) page.next = next.front();
  co_return page;
}

awaitable<Outcome<Reply<Authorization>>> Client::authorization(AccountPtr account, std::string url,
                                                               const Errand& errand) {
  const auto response = co_await read(std::move(account), url, {}, errand);
  if (!response) co_return response.error();
  co_return reply_of(parse_authorization(response->body, url), *response, transport_, errand);
}

awaitable<Outcome<Reply<OfferedChallenge>>> Client::accept(AccountPtr account, std::string url,
                                                           const Errand& errand) {
  Message message;
  message.key = &account->key;
  message.account = account->url;
  message.url = url;
  message.payload = "{}";
  const auto response = co_await transport_.post(std::move(message), errand);
  if (!response) co_return response.error();
  co_return reply_of(parse_challenge(response->body, url), *response, transport_, errand);
}

awaitable<Outcome<Reply<OrderObject>>> Client::finalize(AccountPtr account, std::string url,
                                                        std::string request_der,
                                                        const Errand& errand) {
  Message message;
  message.key = &account->key;
  message.account = account->url;
  message.url = url;
  message.payload = finalize_json(request_der);
  message.timeout = finalize_timeout;
  const auto response = co_await transport_.post(std::move(message), errand);
  if (!response) co_return response.error();
  co_return reply_of(parse_order(response->body, url), *response, transport_, errand);
}

awaitable<Outcome<DownloadedChain>> Client::certificate(AccountPtr account, std::string url,
                                                        const Errand& errand) {
  auto response =
      co_await read(std::move(account), url, "application/pem-certificate-chain", errand);
  if (!response) co_return response.error();
  DownloadedChain chain;
  chain.alternates = links_of(*response, "alternate", url);
  chain.pem = std::move(response->body);
  co_return chain;
}

}  // namespace gatehouse::acme
