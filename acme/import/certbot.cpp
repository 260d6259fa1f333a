#include "acme/import/certbot.hpp"

#include <map>
#include <optional>

#include <fmt/format.h>

#include "acme/import/account_key.hpp"
#include "acme/import/tree.hpp"

namespace gatehouse::acme {

using base::ErrorKind;
using base::Result;

namespace {

constexpr size_t folder_depth_max = 6;  // accounts/HOST/PATH…/ID

/// What renewal/<lineage>.conf says; it is an INI file of ConfigObj.
struct Renewal {
  std::string server;
  std::string account;
};

std::string_view trimmed(std::string_view text) {
  const size_t first = text.find_first_not_of(" \t\r\"'");
  if (first == std::string_view::npos) return {};
  return text.substr(first, text.find_last_not_of(" \t\r\"'") - first + 1);
}

Renewal parse_renewal(std::string_view text) {
  Renewal renewal;
  while (!text.empty()) {
    const size_t end = text.find('\n');
    const std::string_view line = text.substr(0, end);
    text.remove_prefix(end == std::string_view::npos ? text.size() : end + 1);
    const size_t equals = line.find('=');
    if (equals == std::string_view::npos || trimmed(line).starts_with('#')) continue;
    const std::string_view key = trimmed(line.substr(0, equals));
    const std::string_view value = trimmed(line.substr(equals + 1));
    if (key == "server") renewal.server = value;
    if (key == "account") renewal.account = value;
  }
  return renewal;
}

class Reading {
 public:
  explicit Reading(const Tree& tree) : tree_(tree) {}

  Findings run() {
    for (const auto& lineage : tree_.folders("live", findings_.problems)) read_lineage(lineage);
    read_accounts("accounts", 0);
    for (auto& account : findings_.accounts) account.users = users_[id_of(account)];
    return std::move(findings_);
  }

 private:
  static std::string id_of(const FoundAccount& account) {
    return account.from.substr(account.from.rfind('/') + 1);
  }

  void read_lineage(const std::string& lineage) {
    if (findings_.certificates.size() >= found_certificates_max) return;
    const std::string folder = "live/" + lineage;
    const auto chain = tree_.read(folder + "/fullchain.pem");
    const auto key = tree_.read(folder + "/privkey.pem");
    if (!chain) return problem(chain.error());
    if (!key) return problem(key.error());
    FoundCertificate found;
    found.from = folder;
    found.chain_pem = *chain;
    found.key_pem = *key;
    // Without it the certificate is as good: only its CA is not known.
    if (const auto text = tree_.read("renewal/" + lineage + ".conf")) {
      const Renewal renewal = parse_renewal(*text);
      found.ca.directory = renewal.server;
      ++users_[renewal.account];
    } else {
      problem(text.error());
    }
    findings_.certificates.push_back(std::move(found));
  }

  /// accounts/HOST/PATH/ID, where HOST/PATH is the directory's URL.
  void read_accounts(const std::string& folder, size_t depth) {
    for (const auto& name : tree_.folders(folder, findings_.problems)) {
      const std::string below = folder + "/" + name;
      const auto key = tree_.read(below + "/private_key.json");
      if (!key && key.error().kind == ErrorKind::not_found) {
        if (depth < folder_depth_max) read_accounts(below, depth + 1);
      } else if (!key) {
        problem(key.error());
      } else {
        read_account(folder, below, *key);
      }
    }
  }

  void read_account(const std::string& server, const std::string& folder, const std::string& text) {
    if (findings_.accounts.size() >= found_accounts_max) return;
    const std::string file = folder + "/private_key.json";
    const auto jwk = parse_json_object(text, file);
    if (!jwk) return problem(jwk.error());
    auto key = key_of_jwk(*jwk, file);
    if (!key) return problem(key.error());
    FoundAccount found{folder, std::move(*key), {}, {}, {}, 0};
    constexpr std::string_view prefix = "accounts/";
    found.ca.directory = "https://" + server.substr(prefix.size());
    if (const auto registration = tree_.read(folder + "/regr.json")) {
      read_registration(found, folder + "/regr.json", *registration);
    } else {
      problem(registration.error());
    }
    findings_.accounts.push_back(std::move(found));
  }

  void read_registration(FoundAccount& found, const std::string& file, const std::string& text) {
    const auto registration = parse_json_object(text, file);
    if (!registration) return problem(registration.error());
    found.url = json_text(*registration, "uri");
    const auto* body = json_object(*registration, "body");
    const auto* contact = body == nullptr ? nullptr : body->if_contains("contact");
    const auto* contacts = contact == nullptr ? nullptr : contact->if_array();
    if (contacts == nullptr || contacts->empty() || !contacts->front().is_string()) return;
    const std::string_view first = contacts->front().get_string();
    if (first.starts_with("mailto:")) found.email = first.substr(7);
  }

  void problem(const base::Error& error) { findings_.problems.push_back(error.context); }

  const Tree& tree_;
  Findings findings_;
  std::map<std::string, int> users_;  // by the account's id
};

}  // namespace

Result<Findings> read_certbot(const std::string& path) {
  const auto tree = Tree::open(path);
  if (!tree) return tree.error();
  return Reading(*tree).run();
}

}  // namespace gatehouse::acme
