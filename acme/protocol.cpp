#include "acme/protocol.hpp"

#include <algorithm>
#include <array>

#include <boost/asio/ip/address.hpp>
#include <boost/json/parse.hpp>
#include <boost/json/serialize.hpp>
#include <boost/json/value.hpp>
#include <fmt/format.h>

#include "base/encoding.hpp"

namespace gatehouse::acme {

namespace json = boost::json;
using base::Error;
using base::ErrorKind;

namespace {

constexpr size_t url_bytes_max = 2048;
constexpr size_t token_bytes_max = 256;
constexpr size_t token_bytes_min = 16;
constexpr size_t identifier_bytes_max = 255;
constexpr size_t detail_bytes_max = 1024;
constexpr size_t address_bytes_max = 64;
constexpr size_t identifiers_max = 100;
constexpr size_t challenges_max = 32;
constexpr size_t orders_a_page_max = 1000;
constexpr size_t subproblems_max = 16;
constexpr size_t profiles_max = 32;
constexpr size_t caa_identities_max = 32;
constexpr int json_depth_max = 16;
constexpr size_t links_max = 8;

// RFC 5280 section 5.3.1. The others are a CA's, or for certificates of other kinds.
constexpr std::array<std::pair<std::string_view, int>, 5> revocation_reasons{
    {{"unspecified", 0},
     {"keyCompromise", 1},
     {"affiliationChanged", 3},
     {"superseded", 4},
     {"cessationOfOperation", 5}}};

/// Fails with what is wrong, in words that follow "the CA sent".
Error nonsense(std::string_view resource, std::string_view what) {
  return Error(ErrorKind::protocol, fmt::format("{} {}", resource, what));
}

Result<json::object> parse_object(std::string_view text, std::string_view resource) {
  json::parse_options options;
  options.max_depth = json_depth_max;
  boost::system::error_code error;
  json::value value = json::parse(text, error, {}, options);
  if (error) return nonsense(resource, "that is not JSON (" + error.message() + ")");
  if (!value.is_object()) return nonsense(resource, "that is not a JSON object");
  return std::move(value.as_object());
}

/// A string member; empty if it is missing or something else.
std::string_view text_of(const json::object& object, std::string_view key) {
  const auto* value = object.if_contains(key);
  const auto* text = value == nullptr ? nullptr : value->if_string();
  return text == nullptr ? std::string_view() : std::string_view(text->data(), text->size());
}

const json::array* array_of(const json::object& object, std::string_view key) {
  const auto* value = object.if_contains(key);
  return value == nullptr ? nullptr : value->if_array();
}

const json::object* object_of(const json::object& object, std::string_view key) {
  const auto* value = object.if_contains(key);
  return value == nullptr ? nullptr : value->if_object();
}

Result<std::string> url_of(const json::object& object, std::string_view key,
                           std::string_view base_url, std::string_view resource) {
  const std::string_view url = text_of(object, key);
  if (!usable_url(url, base_url)) {
    return nonsense(resource, fmt::format("whose \"{}\" is no usable address", key));
  }
  return std::string(url);
}

std::string optional_url(const json::object& object, std::string_view key,
                         std::string_view base_url) {
  const std::string_view url = text_of(object, key);
  return usable_url(url, base_url) ? std::string(url) : std::string();
}

std::string lower(std::string_view text) {
  std::string result(text);
  for (char& c : result) {
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
  }
  return result;
}

/// A CA's text for a log line: one line, no control characters, bounded.
std::string one_line(std::string_view text) {
  std::string result(text.substr(0, detail_bytes_max));
  for (char& c : result) {
    if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f) c = ' ';
  }
  return result;
}

Result<Identifier> parse_identifier(const json::object* object, std::string_view resource) {
  if (object == nullptr) return nonsense(resource, "without an identifier");
  Identifier result;
  result.type = text_of(*object, "type");
  result.value = lower(text_of(*object, "value"));
  if (result.type.empty() || result.value.empty() || result.value.size() > identifier_bytes_max) {
    return nonsense(resource, "with an identifier that makes no sense");
  }
  return result;
}

/// A domain name of letters, digits, hyphens and dots.
bool is_host(std::string_view text) {
  return !text.empty() && text.size() <= identifier_bytes_max &&
         std::all_of(text.begin(), text.end(), [](char c) {
           return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
                  c == '-' || c == '.';
         });
}

bool is_token(std::string_view token) {
  return token.size() >= token_bytes_min && token.size() <= token_bytes_max &&
         std::all_of(token.begin(), token.end(), [](char c) {
           return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
                  c == '-' || c == '_';
         });
}

Problem problem_of(const json::object& object, int status, bool nested) {
  constexpr std::string_view prefix = "urn:ietf:params:acme:error:";
  constexpr size_t type_bytes_max = 64;
  Problem result;
  result.status = status;
  std::string_view type = text_of(object, "type");
  if (type.starts_with(prefix)) {
    result.type = one_line(type.substr(prefix.size()).substr(0, type_bytes_max));
  }
  result.detail = one_line(text_of(object, "detail"));
  if (result.detail.empty()) result.detail = one_line(text_of(object, "title"));
  result.instance = one_line(text_of(object, "instance"));
  if (const auto* identifier = object_of(object, "identifier")) {
    result.identifier = one_line(text_of(*identifier, "value"));
  }
  const auto* parts = nested ? nullptr : array_of(object, "subproblems");
  for (size_t i = 0; parts != nullptr && i < std::min(parts->size(), subproblems_max); ++i) {
    if (const auto* part = (*parts)[i].if_object()) {
      result.subproblems.push_back(problem_of(*part, status, true));
    }
  }
  return result;
}

std::optional<Problem> error_of(const json::object& object) {
  const auto* error = object_of(object, "error");
  if (error == nullptr) return std::nullopt;
  return problem_of(*error, 0, false);
}

/// The last place the CA looked at, from its validationRecord (not in the RFC; LE and Pebble).
std::string address_used(const json::object& challenge) {
  const auto* records = array_of(challenge, "validationRecord");
  if (records == nullptr || records->empty()) return {};
  const auto* last = records->back().if_object();
  if (last == nullptr) return {};
  boost::system::error_code error;
  const auto text = text_of(*last, "addressUsed").substr(0, address_bytes_max);
  const auto address = boost::asio::ip::make_address(text, error);
  // Written anew: behind a '%' or a NUL anything may stand, and this goes into the log.
  return error ? std::string() : address.to_string();
}

OfferedChallenge challenge_of(const json::object& object, std::string_view base_url) {
  OfferedChallenge result;
  result.type = one_line(text_of(object, "type").substr(0, 64));
  result.url = optional_url(object, "url", base_url);
  result.status = one_line(text_of(object, "status").substr(0, 64));
  const std::string_view token = text_of(object, "token");
  if (is_token(token)) result.token = token;
  result.error = error_of(object);
  result.address_used = address_used(object);
  return result;
}

template <class Status, size_t count>
std::optional<Status> status_of(const json::object& object,
                                const std::array<std::pair<std::string_view, Status>, count>& all) {
  const std::string_view text = text_of(object, "status");
  for (const auto& [word, status] : all) {
    if (word == text) return status;
  }
  return std::nullopt;
}

Result<std::vector<std::string>> urls_of(const json::object& object, std::string_view key,
                                         size_t count_max, std::string_view base_url,
                                         std::string_view resource) {
  const auto* array = array_of(object, key);
  if (array == nullptr) return nonsense(resource, fmt::format("without \"{}\"", key));
  if (array->size() > count_max) {
    return nonsense(resource, fmt::format("with more than {} \"{}\"", count_max, key));
  }
  std::vector<std::string> result;
  for (const auto& value : *array) {
    const auto* text = value.if_string();
    const std::string_view url = text == nullptr ? std::string_view() : std::string_view(*text);
    if (!usable_url(url, base_url)) {
      return nonsense(resource, fmt::format("whose \"{}\" hold no usable address", key));
    }
    result.emplace_back(url);
  }
  return result;
}

std::string host_of(std::string_view url) {
  const size_t scheme = url.find("://");
  if (scheme != std::string_view::npos) url.remove_prefix(scheme + 3);
  return std::string(url.substr(0, url.find('/')));
}

}  // namespace

bool usable_url(std::string_view url, std::string_view base_url) {
  const bool secure = url.starts_with("https://");
  if (!secure && !(url.starts_with("http://") && base_url.starts_with("http://"))) return false;
  if (url.size() > url_bytes_max) return false;
  const std::string_view rest = url.substr(secure ? 8 : 7);
  const std::string_view host = rest.substr(0, rest.find_first_of("/?"));
  if (host.empty() || host.find('@') != std::string_view::npos) return false;
  return std::all_of(url.begin(), url.end(), [](char c) {
    return c > 0x20 && c < 0x7f && c != '#' && c != '"' && c != '\\' && c != '<' && c != '>';
  });
}

Result<Directory> parse_directory(std::string_view text, std::string_view base_url) {
  const std::string resource = "a directory at " + host_of(base_url);
  const auto object = parse_object(text, resource);
  if (!object) return object.error();
  Directory result;
  for (const auto& [key, to] : {std::pair{"newNonce", &result.new_nonce},
                                {"newAccount", &result.new_account},
                                {"newOrder", &result.new_order}}) {
    auto url = url_of(*object, key, base_url, resource);
    if (!url) return url.error();
    *to = std::move(*url);
  }
  result.revoke_certificate = optional_url(*object, "revokeCert", base_url);
  result.key_change = optional_url(*object, "keyChange", base_url);
  result.renewal_info = optional_url(*object, "renewalInfo", base_url);
  const auto* meta = object_of(*object, "meta");
  if (meta == nullptr) return result;
  result.terms_of_service = one_line(text_of(*meta, "termsOfService"));
  const std::string_view website = text_of(*meta, "website");
  if (website.starts_with("https://") || website.starts_with("http://"))
    result.website = one_line(website);
  const auto* binding = meta->if_contains("externalAccountRequired");
  result.external_account_required = binding != nullptr && binding->is_bool() && binding->as_bool();
  if (const auto* profiles = object_of(*meta, "profiles")) {
    for (const auto& profile : *profiles) {
      if (result.profiles.size() >= profiles_max) break;
      result.profiles.push_back(one_line(profile.key()));
    }
  }
  const auto* identities = array_of(*meta, "caaIdentities");
  for (size_t i = 0; identities != nullptr && i < identities->size(); ++i) {
    if (result.caa_identities.size() >= caa_identities_max) break;
    const auto* identity = (*identities)[i].if_string();
    if (identity != nullptr && is_host(*identity)) {
      result.caa_identities.push_back(lower(*identity));
    }
  }
  return result;
}

std::string directory_json(const Directory& directory) {
  json::object profiles;
  for (const auto& profile : directory.profiles) profiles[profile] = "";
  json::object meta;
  meta["termsOfService"] = directory.terms_of_service;
  meta["website"] = directory.website;
  meta["externalAccountRequired"] = directory.external_account_required;
  meta["profiles"] = std::move(profiles);
  meta["caaIdentities"] =
      json::array(directory.caa_identities.begin(), directory.caa_identities.end());
  json::object object;
  object["newNonce"] = directory.new_nonce;
  object["newAccount"] = directory.new_account;
  object["newOrder"] = directory.new_order;
  object["revokeCert"] = directory.revoke_certificate;
  object["keyChange"] = directory.key_change;
  object["renewalInfo"] = directory.renewal_info;
  object["meta"] = std::move(meta);
  return json::serialize(object);
}

Result<OrderObject> parse_order(std::string_view text, std::string_view base_url) {
  constexpr std::array<std::pair<std::string_view, OrderStatus>, 5> statuses{
      {{"pending", OrderStatus::pending},
       {"ready", OrderStatus::ready},
       {"processing", OrderStatus::processing},
       {"valid", OrderStatus::valid},
       {"invalid", OrderStatus::invalid}}};
  const std::string resource = "an order";
  const auto object = parse_object(text, resource);
  if (!object) return object.error();
  const auto status = status_of(*object, statuses);
  if (!status) return nonsense(resource, "of unknown status");
  OrderObject result;
  result.status = *status;
  result.expires = parse_timestamp(text_of(*object, "expires"));
  const auto* identifiers = array_of(*object, "identifiers");
  if (identifiers == nullptr || identifiers->empty() || identifiers->size() > identifiers_max) {
    return nonsense(resource, "without a sensible list of identifiers");
  }
  for (const auto& value : *identifiers) {
    auto identifier = parse_identifier(value.if_object(), resource);
    if (!identifier) return identifier.error();
    result.identifiers.push_back(std::move(*identifier));
  }
  auto authorizations = urls_of(*object, "authorizations", identifiers_max, base_url, resource);
  if (!authorizations) return authorizations.error();
  result.authorizations = std::move(*authorizations);
  auto finalize = url_of(*object, "finalize", base_url, resource);
  if (!finalize) return finalize.error();
  result.finalize = std::move(*finalize);
  result.certificate = optional_url(*object, "certificate", base_url);
  if (result.status == OrderStatus::valid && result.certificate.empty()) {
    return nonsense(resource, "that is valid but names no certificate");
  }
  result.error = error_of(*object);
  return result;
}

Result<Authorization> parse_authorization(std::string_view text, std::string_view base_url) {
  constexpr std::array<std::pair<std::string_view, AuthorizationStatus>, 6> statuses{
      {{"pending", AuthorizationStatus::pending},
       {"valid", AuthorizationStatus::valid},
       {"invalid", AuthorizationStatus::invalid},
       {"deactivated", AuthorizationStatus::deactivated},
       {"expired", AuthorizationStatus::expired},
       {"revoked", AuthorizationStatus::revoked}}};
  const std::string resource = "an authorization";
  const auto object = parse_object(text, resource);
  if (!object) return object.error();
  const auto status = status_of(*object, statuses);
  if (!status) return nonsense(resource, "of unknown status");
  Authorization result;
  result.status = *status;
  auto identifier = parse_identifier(object_of(*object, "identifier"), resource);
  if (!identifier) return identifier.error();
  result.identifier = std::move(*identifier);
  const auto* wildcard = object->if_contains("wildcard");
  result.wildcard = wildcard != nullptr && wildcard->is_bool() && wildcard->as_bool();
  result.expires = parse_timestamp(text_of(*object, "expires"));
  const auto* challenges = array_of(*object, "challenges");
  if (challenges == nullptr || challenges->size() > challenges_max) {
    return nonsense(resource, "without a sensible list of challenges");
  }
  for (const auto& value : *challenges) {
    if (const auto* challenge = value.if_object()) {
      result.challenges.push_back(challenge_of(*challenge, base_url));
    }
  }
  return result;
}

Result<OfferedChallenge> parse_challenge(std::string_view text, std::string_view base_url) {
  const auto object = parse_object(text, "a challenge");
  if (!object) return object.error();
  auto result = challenge_of(*object, base_url);
  if (result.type.empty() || result.status.empty()) {
    return nonsense("a challenge", "without type or status");
  }
  return result;
}

Result<AccountObject> parse_account(std::string_view text, std::string_view base_url) {
  const auto object = parse_object(text, "an account");
  if (!object) return object.error();
  AccountObject result;
  const std::string_view status = text_of(*object, "status");
  result.usable = status != "deactivated" && status != "revoked";
  result.orders = optional_url(*object, "orders", base_url);
  return result;
}

Result<std::vector<std::string>> parse_order_list(std::string_view text,
                                                  std::string_view base_url) {
  const auto object = parse_object(text, "a list of orders");
  if (!object) return object.error();
  const auto* orders = object->if_contains("orders");
  if (orders != nullptr && orders->is_null()) return std::vector<std::string>();
  return urls_of(*object, "orders", orders_a_page_max, base_url, "a list of orders");
}

Problem parse_problem(std::string_view text, int status) {
  const auto object = parse_object(text, "a problem");
  if (object) return problem_of(*object, status, false);
  Problem result;
  result.status = status;
  return result;
}

std::string new_account_json(std::string_view email, std::string_view binding) {
  json::object object;
  object["termsOfServiceAgreed"] = true;
  if (!email.empty()) object["contact"] = json::array{fmt::format("mailto:{}", email)};
  if (!binding.empty()) object["externalAccountBinding"] = json::parse(json::string_view(binding));
  return json::serialize(object);
}

std::string existing_account_json() {
  return R"({"onlyReturnExisting":true})";
}

std::string new_order_json(const std::vector<std::string>& names, std::string_view profile,
                           std::string_view replaces) {
  json::array identifiers;
  for (const auto& name : names) {
    const Identifier identifier = identifier_of(name);
    identifiers.push_back({{"type", identifier.type}, {"value", identifier.value}});
  }
  json::object object;
  object["identifiers"] = std::move(identifiers);
  if (!profile.empty()) object["profile"] = json::string(profile);
  if (!replaces.empty()) object["replaces"] = json::string(replaces);
  return json::serialize(object);
}

std::string finalize_json(std::string_view request_der) {
  return fmt::format(R"({{"csr":"{}"}})", base::base64url(request_der));
}

std::string revocation_json(std::string_view certificate_der, int reason) {
  return fmt::format(R"({{"certificate":"{}","reason":{}}})", base::base64url(certificate_der),
                     reason);
}

std::string key_change_json(std::string_view account_url, std::string_view old_jwk) {
  return fmt::format(R"({{"account":{},"oldKey":{}}})", json::serialize(json::string(account_url)),
                     old_jwk);
}

bool is_revocation_reason(int reason) {
  return std::any_of(revocation_reasons.begin(), revocation_reasons.end(),
                     [reason](const auto& known) { return known.second == reason; });
}

std::optional<int> revocation_reason(std::string_view name) {
  std::string plain = lower(name);
  std::erase(plain, '-');
  for (const auto& [known, reason] : revocation_reasons) {
    if (lower(known) == plain) return reason;
  }
  return std::nullopt;
}

std::string revocation_reason_names() {
  std::string text;
  for (const auto& known : revocation_reasons) {
    if (!text.empty()) text += ", ";
    text += known.first;
  }
  return text;
}

Identifier identifier_of(std::string_view name) {
  boost::system::error_code error;
  const auto address = boost::asio::ip::make_address(name, error);
  if (!error) return Identifier{"ip", address.to_string()};
  return Identifier{"dns", lower(name)};
}

bool is_for(const OrderObject& order, const std::vector<std::string>& names) {
  const auto listed = [&](const Identifier& wanted) {
    return std::find(order.identifiers.begin(), order.identifiers.end(), wanted) !=
           order.identifiers.end();
  };
  return order.identifiers.size() == names.size() &&
         std::all_of(names.begin(), names.end(),
                     [&](const std::string& name) { return listed(identifier_of(name)); });
}

std::vector<std::string> links(std::string_view field, std::string_view relation,
                               std::string_view base_url) {
  std::vector<std::string> result;
  while (!field.empty() && result.size() < links_max) {
    const size_t open = field.find('<');
    const size_t close = field.find('>', open);
    if (open == std::string_view::npos || close == std::string_view::npos) break;
    const std::string_view target = field.substr(open + 1, close - open - 1);
    const size_t end = std::min(field.find('<', close), field.size());
    const std::string parameters = lower(field.substr(close + 1, end - close - 1));
    const bool matches =
        parameters.find(fmt::format("rel=\"{}\"", relation)) != std::string::npos ||
        parameters.find(fmt::format("rel={}", relation)) != std::string::npos;
    if (matches && usable_url(target, base_url)) result.emplace_back(target);
    field.remove_prefix(end);
  }
  return result;
}

}  // namespace gatehouse::acme
