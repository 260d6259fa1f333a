#include "acme/import/caddy.hpp"

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
    auto& problems = findings_.problems;
    for (const auto& issuer : tree_.folders("certificates", problems)) {
      const std::string all = "certificates/" + issuer;
      for (const auto& name : tree_.folders(all, problems)) {
        read_certificate(all + "/" + name, name, issuer == "local");
      }
    }
    for (const auto& issuer : tree_.folders("acme", problems)) {
      const std::string users = "acme/" + issuer + "/users";
      for (const auto& user : tree_.folders(users, problems)) read_account(users + "/" + user);
    }
    for (auto& account : findings_.accounts) {
      for (const auto& url : used_) account.users += url == account.url ? 1 : 0;
    }
    return std::move(findings_);
  }

 private:
  void read_certificate(const std::string& folder, const std::string& name, bool local) {
    if (findings_.certificates.size() >= found_certificates_max) return;
    const std::string base = folder + "/" + name;
    if (local) {
      findings_.problems.push_back(folder +
                                   ": of Caddy's own authority, which the clients of gatehouse do "
                                   "not know: left out");
      return;
    }
    const auto chain = tree_.read(base + ".crt");
    const auto key = tree_.read(base + ".key");
    if (!chain) return problem(chain.error());
    if (!key) return problem(key.error());
    FoundCertificate found;
    found.from = folder;
    found.chain_pem = *chain;
    found.key_pem = *key;
    if (const auto text = tree_.read(base + ".json")) {
      read_note(found, base + ".json", *text);
    } else if (text.error().kind != ErrorKind::not_found) {
      problem(text.error());
    }
    findings_.certificates.push_back(std::move(found));
  }

  /// CertMagic's note: {"sans": […], "issuer_data": {"url": …, "ca": …, "account": …}}.
  void read_note(FoundCertificate& found, const std::string& file, const std::string& text) {
    const auto note = parse_json_object(text, file);
    if (!note) return problem(note.error());
    const auto* data = json_object(*note, "issuer_data");
    if (data == nullptr) return;
    found.ca.directory = json_text(*data, "ca");
    found.ca.host = host_of_url(json_text(*data, "url"));
    if (const std::string account = json_text(*data, "account"); !account.empty()) {
      used_.push_back(account);
    }
  }

  /// USER/*.json and USER/*.key: "default" is the user without an e-mail address.
  void read_account(const std::string& folder) {
    for (const auto& file : tree_.list(folder)) {
      if (!file.ends_with(".key") || findings_.accounts.size() >= found_accounts_max) continue;
      const std::string base = folder + "/" + file.substr(0, file.size() - 4);
      const auto pem = tree_.read(base + ".key");
      if (!pem) {
        problem(pem.error());
        continue;
      }
      auto key = account_key_of_pem(*pem, base + ".key");
      if (!key) {
        problem(key.error());
        continue;
      }
      FoundAccount found{folder, std::move(*key), {}, {}, {}, 0};
      const std::string user = folder.substr(folder.rfind('/') + 1);
      if (user.find('@') != std::string::npos) found.email = user;
      if (const auto text = tree_.read(base + ".json")) {
        const auto registration = parse_json_object(*text, base + ".json");
        if (registration) found.url = json_text(*registration, "location");
        if (!registration) problem(registration.error());
      } else {
        problem(text.error());
      }
      found.ca.host = host_of_url(found.url);
      findings_.accounts.push_back(std::move(found));
    }
  }

  void problem(const base::Error& error) { findings_.problems.push_back(error.context); }

  const Tree& tree_;
  Findings findings_;
  std::vector<std::string> used_;  // URLs of accounts, one for each certificate
};

}  // namespace

Result<Findings> read_caddy(const std::string& path) {
  const auto tree = Tree::open(path);
  if (!tree) return tree.error();
  return Reading(*tree).run();
}

}  // namespace gatehouse::acme
