#include "acme/names.hpp"

#include <algorithm>

#include <boost/asio/ip/address.hpp>

#include "acme/registered_domain.hpp"
#include "base/encoding.hpp"
#include "tls/digest.hpp"

namespace gatehouse::acme {

namespace {

constexpr std::string_view wildcard_prefix = "_wildcard_.";
constexpr size_t id_max = 200;
constexpr size_t name_bytes_max = 253;
constexpr size_t labels_max = 10;
constexpr unsigned label_repeats_max = 2;

bool is_address(std::string_view name) {
  boost::system::error_code code;
  boost::asio::ip::make_address(std::string(name), code);
  return !code;
}

bool plausible_label(std::string_view label) {
  if (label.empty() || label.size() > 63 || label.front() == '-' || label.back() == '-')
    return false;
  // "ab--…" is reserved: only "xn--" has a meaning (RFC 5890 section 2.3.1).
  if (label.size() >= 4 && label.substr(2, 2) == "--" && !label.starts_with("xn--")) return false;
  return std::all_of(label.begin(), label.end(), [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-';
  });
}

bool all_digits(std::string_view label) {
  return std::all_of(label.begin(), label.end(), [](char c) { return c >= '0' && c <= '9'; });
}

Claim claim_of(const config::Site& site, const config::Snapshot& snapshot) {
  if (site.certificates == config::CertificateMode::off || snapshot.server.https.empty())
    return Claim::off;
  if (!site.certificate.empty()) return Claim::own;
  const auto& authorities = snapshot.acme.authorities;
  switch (site.certificates) {
    case config::CertificateMode::internal:
      return Claim::internal;
    case config::CertificateMode::on_demand:
      return Claim::on_demand;
    default:
      break;
  }
  // ca = ["internal"] is a CA without a directory.
  const bool own_authority = !authorities.empty() && authorities.front().directory.empty();
  return own_authority ? Claim::internal : Claim::automatic;
}

}  // namespace

std::string certificate_id(std::string_view name) {
  std::string id(name);
  if (name.starts_with("*.")) id = std::string(wildcard_prefix) + id.substr(2);
  if (id.size() <= id_max) return id;
  return id.substr(0, id_max - 34) + "+" + base::hex(tls::sha256(name)).substr(0, 32);
}

std::string name_of(std::string_view id) {
  if (id.find('+') != std::string_view::npos) return {};
  if (id.starts_with(wildcard_prefix)) return "*." + std::string(id.substr(wildcard_prefix.size()));
  return std::string(id);
}

std::string fallback_zone(std::string_view name) {
  if (name.starts_with("*.")) return std::string(name.substr(2));
  const size_t dot = name.find('.');
  if (dot == std::string_view::npos || is_address(name) || registered_domain(name) == name)
    return std::string(name);
  return std::string(name.substr(dot + 1));
}

bool plausible_name(std::string_view name) {
  if (name.empty() || name.size() > name_bytes_max) return false;
  std::vector<std::string_view> labels;
  for (size_t start = 0;;) {
    const size_t dot = name.find('.', start);
    const auto label = name.substr(start, dot - start);
    if (!plausible_label(label) || labels.size() == labels_max) return false;
    if (std::count(labels.begin(), labels.end(), label) >= label_repeats_max) return false;
    labels.push_back(label);
    if (dot == std::string_view::npos) break;
    start = dot + 1;
  }
  return !all_digits(labels.back());  // an address, or nothing that any root delegates
}

std::string requested_name(std::string_view text) {
  if (text.ends_with('.')) text.remove_suffix(1);
  std::string name(text);
  for (char& c : name)
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
  if (name.empty() || name.size() > name_bytes_max) return {};
  boost::system::error_code code;
  const auto address = boost::asio::ip::make_address(name, code);
  if (!code) return address.is_v6() && address.to_v6().scope_id() != 0 ? "" : address.to_string();
  std::string_view rest = name;
  if (rest.starts_with("*.")) rest.remove_prefix(2);
  for (;;) {
    const size_t dot = rest.find('.');
    const auto label = rest.substr(0, dot);
    // Underscores are no host name's, but sites have them.
    const bool well =
        !label.empty() && label.size() <= 63 && label.front() != '-' && label.back() != '-' &&
        std::all_of(label.begin(), label.end(), [](char c) {
          return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-' || c == '_';
        });
    if (!well) return {};
    if (dot == std::string_view::npos) return all_digits(label) ? std::string() : name;
    rest.remove_prefix(dot + 1);
  }
}

Claims::Claims(const config::Snapshot& snapshot, std::unordered_set<std::string> own)
    : own_(std::move(own)) {
  for (const auto& site : snapshot.sites) {
    const Claim claim = claim_of(site, snapshot);
    for (const auto& host : site.hosts) add(std::string(host.name()), claim);
  }
}

void Claims::add(const std::string& host, Claim claim) {
  if (host == "*") {
    if (any_ == Claim::none) any_ = claim;
    return;
  }
  if (own_.contains(host)) claim = Claim::own;
  // An address is never asked for by name: a site that has it is what makes it worth a certificate.
  if (claim == Claim::on_demand && is_address(host)) claim = Claim::off;
  const auto [place, added] = hosts_.emplace(host, claim);
  if (!added) return;  // the first site wins, as in routing
  if (claim == Claim::automatic || claim == Claim::internal) standing_.push_back(&*place);
}

Claims::Found Claims::find(std::string_view name) const {
  const std::string text(name);
  if (own_.contains(text)) return {Claim::own, text};
  if (const auto exact = hosts_.find(text); exact != hosts_.end()) return {exact->second, text};
  const size_t dot = text.find('.');
  if (dot != std::string::npos && !text.starts_with("*.")) {
    const std::string wildcard = "*" + text.substr(dot);
    if (const auto found = hosts_.find(wildcard); found != hosts_.end())
      return {found->second, found->second == Claim::on_demand ? text : wildcard};
  }
  if (any_ == Claim::none || is_address(text)) return {};
  return {any_, text};
}

}  // namespace gatehouse::acme
