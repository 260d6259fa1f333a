// ACME's resources as plain data and their JSON (RFC 8555 section 7.1), problem documents
// included.
//
// Does not send or sign anything (client, jose), nor say what a problem means (problem). Input
// comes from the network: every length is limited, every URL checked, unknown members ignored.
// Pure, any thread.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "acme/times.hpp"
#include "base/error.hpp"

namespace gatehouse::acme {

using base::Result;

/// RFC 8555 section 7.1.1. URLs are whole and of the directory's own scheme or https.
struct Directory {
  std::string new_nonce;
  std::string new_account;
  std::string new_order;
  std::string revoke_certificate;  // empty: the CA revokes nothing over ACME
  std::string key_change;          // empty: account keys cannot be changed
  std::string renewal_info;        // RFC 9773; empty: the CA does not offer it
  std::string terms_of_service;    // may be empty
  std::string website;             // a page for people; may be empty
  bool external_account_required = false;
  std::vector<std::string> profiles;
  std::vector<std::string> caa_identities;  // lower case (RFC 8659's issuer domain names)
};

/// RFC 7807 with the subproblems of RFC 8555 section 6.7.1.
struct Problem {
  std::string type;    // without "urn:ietf:params:acme:error:"; "" when it is none of ACME's
  std::string detail;  // one line, verbatim but for control characters
  int status = 0;
  std::string identifier;  // of a subproblem
  std::string instance;    // a URL for the person, with userActionRequired
  std::vector<Problem> subproblems;
};

/// RFC 8555 section 7.1.2.
struct AccountObject {
  bool usable = true;  // false: "deactivated" by its owner, or "revoked" by the CA
  std::string orders;  // URL; empty: the CA keeps no list
};

struct Identifier {
  std::string type;   // "dns" or "ip"
  std::string value;  // lower case
  bool operator==(const Identifier&) const = default;
};

/// pending → ready → processing → valid, or invalid (RFC 8555 section 7.1.6).
enum class OrderStatus : uint8_t { pending, ready, processing, valid, invalid };

struct OrderObject {
  OrderStatus status = OrderStatus::pending;
  std::optional<WallTime> expires;
  std::vector<Identifier> identifiers;
  std::vector<std::string> authorizations;  // URLs
  std::string finalize;                     // URL
  std::string certificate;                  // URL, once valid
  std::optional<Problem> error;
};

enum class AuthorizationStatus : uint8_t {
  pending,
  valid,
  invalid,
  deactivated,
  expired,
  revoked,
};

/// One way to prove control of an identifier, as the CA offers it.
struct OfferedChallenge {
  std::string type;
  std::string url;
  std::string status;  // "pending", "processing", "valid", "invalid"
  std::string token;   // base64url, may be empty for types we do not know
  std::optional<Problem> error;
  std::string address_used;  // the CA's own record of where it looked, if it tells
};

struct Authorization {
  AuthorizationStatus status = AuthorizationStatus::pending;
  Identifier identifier;
  bool wildcard = false;
  std::optional<WallTime> expires;
  std::vector<OfferedChallenge> challenges;
};

/// Whole, of https, or of http if `base_url` is http too (a test CA); at most 2 KiB, without white
/// space, control characters, user or fragment.
bool usable_url(std::string_view url, std::string_view base_url);

/// Parsers of a response's body. `base_url` is the URL asked; addresses inside must be usable.
Result<Directory> parse_directory(std::string_view json, std::string_view base_url);
Result<OrderObject> parse_order(std::string_view json, std::string_view base_url);
Result<Authorization> parse_authorization(std::string_view json, std::string_view base_url);
Result<OfferedChallenge> parse_challenge(std::string_view json, std::string_view base_url);
Result<AccountObject> parse_account(std::string_view json, std::string_view base_url);
/// One page of an account's orders (RFC 8555 section 7.1.2.1).
Result<std::vector<std::string>> parse_order_list(std::string_view json, std::string_view base_url);
/// Never fails: a body that is no problem document gives a Problem without type.
Problem parse_problem(std::string_view json, int status);

std::string directory_json(const Directory& directory);

/// Payloads. An empty `profile` or `replaces` (RFC 9773 section 5) is left out.
std::string new_account_json(std::string_view email, std::string_view binding);
/// Finds the account of a key and makes none (RFC 8555 section 7.3.1).
std::string existing_account_json();
std::string new_order_json(const std::vector<std::string>& names, std::string_view profile,
                           std::string_view replaces);
std::string finalize_json(std::string_view request_der);
std::string revocation_json(std::string_view certificate_der, int reason);
/// The inner message's payload (RFC 8555 section 7.3.5); `old_jwk` is JSON.
std::string key_change_json(std::string_view account_url, std::string_view old_jwk);

/// The reasons that a certificate's owner may give (RFC 5280 section 5.3.1): 0, 1, 3, 4, 5.
bool is_revocation_reason(int reason);
/// By its name in RFC 5280, in any case, with or without hyphens: "keyCompromise".
std::optional<int> revocation_reason(std::string_view name);
/// For a message: "unspecified, keyCompromise, ...".
std::string revocation_reason_names();

/// "dns" for names, "ip" for addresses (RFC 8738); lower case.
Identifier identifier_of(std::string_view name);

/// Whether the order is for exactly these names, in any order.
bool is_for(const OrderObject& order, const std::vector<std::string>& names);

/// The targets of Link fields with that relation (RFC 8288), as far as they are whole URLs.
std::vector<std::string> links(std::string_view field, std::string_view relation,
                               std::string_view base_url);

}  // namespace gatehouse::acme
