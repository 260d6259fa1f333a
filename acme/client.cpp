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

/// Of the account or its settings, whose words name no certificate: the caller puts it in front.
Failure account_failure(const base::Error& error, const Errand& errand) {
  Failure failure;
  failure.kind = FailureClass::account;
  failure.sentence = fmt::format("{}: {}", errand.attempt.authority, error.context);
  return failure;
}

/// The CA has no such resource: `what` follows its name.
Failure unsupported(const Errand& errand, std::string_view what) {
  Failure failure;
  failure.status = 404;
  failure.type = "unsupported";
  failure.sentence = errand.attempt.names.empty() ? "" : errand.attempt.names + ": ";
  failure.sentence += fmt::format("{} {}", errand.attempt.authority, what);
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

/// A signed message to one of the directory's addresses. Where nothing is found there, the CA may
/// have moved since the directory was kept: it is fetched again, once.
awaitable<Outcome<FetchResponse>> Client::ask(std::string Directory::*resource, Message message,
                                              Payload payload, const Errand& errand) {
  auto directory = co_await transport_.directory(errand);
  for (bool again = false; directory; again = true) {
    message.url = (*directory).*resource;
    if (message.url.empty()) co_return unsupported(errand, "does not offer this over ACME");
    auto text = payload(message.url);
    if (!text) co_return account_failure(text.error(), errand);
    message.payload = std::move(*text);
    auto response = co_await transport_.post(message, errand);
    const bool moved = !response && response.error().status == 404 &&
                       response.error().type != "accountDoesNotExist";
    if (!moved || again) co_return response;
    directory = co_await transport_.refetch_directory(errand);
  }
  co_return directory.error();
}

// ---------------------------------------------------------------- accounts

awaitable<Outcome<AccountPtr>> Client::account_of(tls::PrivateKey key, Payload payload,
                                                  const Errand& errand) {
  const auto print = thumbprint(key);
  if (!print) co_return account_failure(print.error(), errand);
  Message message;
  message.key = &key;
  const auto response =
      co_await ask(&Directory::new_account, std::move(message), std::move(payload), errand);
  if (!response) co_return response.error();
  const std::string& base_url = transport_.authority().directory;
  const auto object = parse_account(response->body, base_url);
  if (object && !object->usable) {
    const auto directory = co_await transport_.directory(errand);
    std::string said = "the account is deactivated: remove its folder in storage to make a new one";
    if (directory && !directory->website.empty()) said += ", or see " + directory->website;
    co_return account_failure(base::Error(base::ErrorKind::invalid, std::move(said)), errand);
  }
  Account account{std::move(key), std::string(response->field("location")), {}, *print};
  if (object) account.orders = object->orders;
  if (!usable_url(account.url, base_url)) {
    co_return nonsense_failure("an account without its address", errand.attempt);
  }
  co_return std::make_shared<const Account>(std::move(account));
}

awaitable<Outcome<AccountPtr>> Client::new_account(tls::PrivateKey key, const Errand& errand) {
  const auto& authority = transport_.authority();
  Payload payload = [key, &authority, email = errand.attempt.email](
                        const std::string& url) -> base::Result<std::string> {
    if (authority.eab_kid.empty()) return new_account_json(email, {});
    auto bound = external_account_binding(key, authority.eab_kid, authority.eab_hmac_key, url);
    if (!bound) return bound.error();
    return new_account_json(email, *bound);
  };
  co_return co_await account_of(std::move(key), std::move(payload), errand);
}

awaitable<Outcome<AccountPtr>> Client::existing_account(tls::PrivateKey key, const Errand& errand) {
  Payload payload = [](const std::string&) { return existing_account_json(); };
  co_return co_await account_of(std::move(key), std::move(payload), errand);
}

awaitable<Outcome<AccountPtr>> Client::change_key(AccountPtr account, tls::PrivateKey key,
                                                  const Errand& errand) {
  const auto print = thumbprint(key);
  if (!print) co_return account_failure(print.error(), errand);
  Payload payload = [account, key](const std::string& url) -> base::Result<std::string> {
    const auto old_jwk = public_jwk(account->key);
    if (!old_jwk) return old_jwk.error();
    // Signed by the new key, which shows itself; without a nonce (section 7.3.5).
    JwsHeader header;
    header.url = url;
    return sign(key, header, key_change_json(account->url, *old_jwk));
  };
  Message message;
  message.key = &account->key;
  message.account = account->url;
  const auto response =
      co_await ask(&Directory::key_change, std::move(message), std::move(payload), errand);
  if (!response) co_return response.error();
  co_return std::make_shared<const Account>(
      Account{std::move(key), account->url, account->orders, *print});
}

// ---------------------------------------------------------------- orders

awaitable<Outcome<Reply<OrderObject>>> Client::new_order(AccountPtr account, OrderRequest request,
                                                         const Errand& errand) {
  Message message;
  message.key = &account->key;
  message.account = account->url;
  Payload payload = [&request](const std::string&) {
    return new_order_json(request.names, request.profile, request.replaces);
  };
  const auto response =
      co_await ask(&Directory::new_order, std::move(message), std::move(payload), errand);
  if (!response) co_return response.error();
  auto parsed = parse_order(response->body, transport_.authority().directory);
  co_return reply_of(std::move(parsed), *response, transport_, errand);
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

// ---------------------------------------------------------------- certificates

awaitable<Outcome<void>> Client::revoke(Message message, std::string certificate_der, int reason,
                                        const Errand& errand) {
  Payload payload = [&certificate_der, reason](const std::string&) {
    return revocation_json(certificate_der, reason);
  };
  const auto response =
      co_await ask(&Directory::revoke_certificate, std::move(message), std::move(payload), errand);
  if (!response && response.error().type != "alreadyRevoked") co_return response.error();
  co_return Outcome<void>();
}

awaitable<Outcome<void>> Client::revoke(AccountPtr account, std::string certificate_der, int reason,
                                        const Errand& errand) {
  Message message;
  message.key = &account->key;
  message.account = account->url;
  co_return co_await revoke(std::move(message), std::move(certificate_der), reason, errand);
}

awaitable<Outcome<void>> Client::revoke(tls::PrivateKey certificate_key,
                                        std::string certificate_der, int reason,
                                        const Errand& errand) {
  Message message;
  message.key = &certificate_key;
  co_return co_await revoke(std::move(message), std::move(certificate_der), reason, errand);
}

awaitable<Outcome<RenewalInfo>> Client::renewal_info(std::string certificate_id,
                                                     const Errand& errand) {
  const auto directory = co_await transport_.directory(errand);
  if (!directory) co_return directory.error();
  if (directory->renewal_info.empty()) {
    co_return unsupported(errand, "offers no renewal information");
  }
  if (!is_renewal_id(certificate_id)) {
    co_return unsupported(errand, "cannot be asked about a certificate that names no issuer's key");
  }
  const bool slash = directory->renewal_info.ends_with('/');
  const std::string path = (slash ? "" : "/") + certificate_id;
  auto response = co_await transport_.get(directory->renewal_info + path, errand);
  if (!response && response.error().status == 404) {
    // The certificate is not this CA's, or the CA has moved since the directory was kept.
    const auto current = co_await transport_.refetch_directory(errand);
    if (!current || current->renewal_info.empty() ||
        current->renewal_info == directory->renewal_info) {
      co_return response.error();
    }
    response = co_await transport_.get(current->renewal_info + path, errand);
  }
  if (!response) co_return response.error();
  auto parsed = parse_renewal_info(response->body);
  if (!parsed) co_return nonsense_failure(parsed.error().context, errand.attempt);
  parsed->retry_after = transport_.retry_after(*response);
  co_return std::move(*parsed);
}

}  // namespace gatehouse::acme
