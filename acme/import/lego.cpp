#include "acme/import/lego.hpp"

#include <algorithm>

#include "acme/import/account_key.hpp"
#include "acme/import/tree.hpp"

namespace gatehouse::acme {

using base::ErrorKind;
using base::Result;

namespace {

class Reading {
 public:
  explicit Reading(const Tree& tree) : tree_(tree) {}

  Findings run() {
    for (const auto& file : tree_.list("certificates")) {
      if (file.ends_with(".crt") && !file.ends_with(".issuer.crt")) {
        read_certificate("certificates/" + file.substr(0, file.size() - 4));
      }
    }
    auto& problems = findings_.problems;
    for (const auto& server : tree_.folders("accounts", problems)) {
      const std::string folder = "accounts/" + server;
      for (const auto& user : tree_.folders(folder, problems)) {
        read_account(server, folder + "/" + user, user);
      }
    }
    return std::move(findings_);
  }

 private:
  void read_certificate(const std::string& base) {
    if (findings_.certificates.size() >= found_certificates_max) return;
    auto chain = tree_.read(base + ".crt");
    const auto key = tree_.read(base + ".key");
    if (!chain) return problem(chain.error());
    if (!key) return problem(key.error());
    FoundCertificate found;
    found.from = base;
    found.chain_pem = std::move(*chain);
    found.key_pem = *key;
    // With --no-bundle the issuer is in a file of its own only.
    const std::string_view mark = "-----BEGIN CERTIFICATE-----";
    const size_t first = found.chain_pem.find(mark);
    if (first != std::string::npos && found.chain_pem.find(mark, first + 1) == std::string::npos) {
      const auto issuer = tree_.read(base + ".issuer.crt");
      if (issuer) found.chain_pem += "\n" + *issuer;
    }
    if (const auto text = tree_.read(base + ".json")) {
      const auto note = parse_json_object(*text, base + ".json");
      if (note) found.ca.host = host_of_url(json_text(*note, "certUrl"));
      if (!note) problem(note.error());
    } else if (text.error().kind != ErrorKind::not_found) {
      problem(text.error());
    }
    findings_.certificates.push_back(std::move(found));
  }

  /// accounts/SERVER/MAIL/account.json and keys/MAIL.key; in SERVER a ':' is written as '_'.
  void read_account(const std::string& server, const std::string& folder, const std::string& user) {
    if (findings_.accounts.size() >= found_accounts_max) return;
    for (const auto& file : tree_.list(folder + "/keys")) {
      if (!file.ends_with(".key")) continue;
      const std::string path = folder + "/keys/" + file;
      const auto pem = tree_.read(path);
      if (!pem) return problem(pem.error());
      auto key = account_key_of_pem(*pem, path);
      if (!key) return problem(key.error());
      FoundAccount found{folder, std::move(*key), {}, user, {}, 0};
      found.ca.host = server;
      std::replace(found.ca.host.begin(), found.ca.host.end(), '_', ':');
      if (const auto text = tree_.read(folder + "/account.json")) {
        read_registration(found, folder + "/account.json", *text);
      } else {
        problem(text.error());
      }
      findings_.accounts.push_back(std::move(found));
      return;  // lego keeps one for each address
    }
    findings_.problems.push_back(folder + ": no account key in it");
  }

  void read_registration(FoundAccount& found, const std::string& file, const std::string& text) {
    const auto account = parse_json_object(text, file);
    if (!account) return problem(account.error());
    if (const std::string email = json_text(*account, "email"); !email.empty()) found.email = email;
    const auto* registration = json_object(*account, "registration");
    if (registration == nullptr) return;
    found.url = json_text(*registration, "uri");
    if (const std::string host = host_of_url(found.url); !host.empty()) found.ca.host = host;
  }

  void problem(const base::Error& error) { findings_.problems.push_back(error.context); }

  const Tree& tree_;
  Findings findings_;
};

}  // namespace

Result<Findings> read_lego(const std::string& path) {
  const auto tree = Tree::open(path);
  if (!tree) return tree.error();
  return Reading(*tree).run();
}

}  // namespace gatehouse::acme
