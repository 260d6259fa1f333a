// Folders of other ACME clients, made here as they really lay them out, taken over into a storage.
#include "acme/import/import.hpp"

#include <filesystem>
#include <fstream>
#include <sys/stat.h>
#include <unistd.h>

#include <catch2/catch.hpp>
#include <fmt/format.h>

#include "acme/account.hpp"
#include "acme/import/account_key.hpp"
#include "acme/import/caddy.hpp"
#include "acme/import/certbot.hpp"
#include "acme/import/lego.hpp"
#include "acme/import/traefik.hpp"
#include "acme/import/tree.hpp"
#include "acme/jose.hpp"
#include "acme/vault.hpp"
#include "base/encoding.hpp"
#include "tests/support/await.hpp"
#include "tests/support/memory_storage.hpp"
#include "tls/certificate_builder.hpp"
#include "tls/internal_authority.hpp"

namespace gatehouse::acme {

namespace {

using namespace std::chrono_literals;
using Catch::Contains;
using LineOutcome = ImportLine::Outcome;
namespace fs = std::filesystem;

constexpr const char* le = "https://acme-v02.api.letsencrypt.org/directory";
constexpr const char* le_account = "https://acme-v02.api.letsencrypt.org/acme/acct/123";

// The key of RFC 7515 appendix A.2, published: a secret of nobody. As certbot keeps one.
constexpr const char* rsa_jwk =
    R"({"n": "ofgWCuLjybRlzo0tZWJjNiuSfb4p4fAkd_wWJcyQoTbji9k0l8W26mPddxHmfHQp-Vaw-4qPCJrcS2m)"
    R"(JPMEzP1Pt0Bm4d4QlL-yRT-SFd2lZS-pCgNMsD1W_YpRPEwOWvG6b32690r2jZ47soMZo9wGzjb_7OMg0LOL-b)"
    R"(Sf63kpaSHSXndS5z5rexMdbBYUsLA9e-KXBdQOS-UTo7WTBEMa2R2CapHg665xsmtdVMTBQY4uDZlxvb3qCo5Z)"
    R"(wKh9kG4LT6_I5IhlJH7aGhyxXFvUK-DWNmoudF8NAco9_h9iaGNj8q2ethFkMLs91kzk2PAcDTW9gb54h4FRWy)"
    R"(uXpoQ", "e": "AQAB", "d": "Eq5xpGnNCivDflJsRQBXHx1hdR1k6Ulwe2JZD50LpXyWPEAeP88vLNO97Ij)"
    R"(lA7_GQ5sLKMgvfTeXZx9SE-7YwVol2NXOoAJe46sui395IW_GO-pWJ1O0BkTGoVEn2bKVRUCgu-GjBVaYLU6f3)"
    R"(l9kJfFNS3E0QbVdxzubSu3Mkqzjkn439X0M_V51gfpRLI9JYanrC4D4qAdGcopV_0ZHHzQlBjudU2QvXt4ehNY)"
    R"(TCBr6XCLQUShb1juUO1ZdiYoFaFQT5Tw8bGUl_x_jTj3ccPDVZFD9pIuhLhBOneufuBiB4cS98l2SR_RQyGWSe)"
    R"(WjnczT0QU91p1DhOVRuOopznQ", "p": "4BzEEOtIpmVdVEZNCqS7baC4crd0pqnRH_5IB3jw3bcxGn6QLvnE)"
    R"(tfdUdiYrqBdss1l58BQ3KhooKeQTa9AB0Hw_Py5PJdTJNPY8cQn7ouZ2KKDcmnPGBY5t7yLc1QlQ5xHdwW1Vhv)"
    R"(Kn-nXqhJTBgIPgtldC-KDV5z-y2XDwGUc", "q": "uQPEfgmVtjL0Uyyx88GZFF1fOunH3-7cepKmtH4pxhtC)"
    R"(oHqpWmT8YAmZxaewHgHAjLYsp1ZSe7zFYHj7C6ul7TjeLQeZD_YwD66t62wDmpe_HlB-TnBA-njbglfIsRLtXl)"
    R"(nDzQkv5dTltRJ11BKBBypeeF6689rjcJIDEz9RWdc", "dp": "BwKfV3Akq5_MFZDFZCnW-wzl-CCo83WoZvn)"
    R"(LQwCTeDv8uzluRSnm71I3QCLdhrqE2e9YkxvuxdBfpT_PI7Yz-FOKnu1R6HsJeDCjn12Sk3vmAktV2zb34MCdy)"
    R"(7cpdTh_YVr7tss2u6vneTwrA86rZtu5Mbr1C1XsmvkxHQAdYo0", "dq": "h_96-mK1R_7glhsum81dZxjTnY)"
    R"(ynPbZpHziZjeeHcXYsXaaMwkOlODsWa7I9xXDoRwbKgB719rrmI2oKr6N3Do9U0ajaHF-NKJnwgjMd2w9cjz3_)"
    R"(-kyNlxAr2v4IKhGNpmM5iIgOS1VZnOZ68m6_pbLBSp3nssTdlqvd0tIiTHU", "qi": "IYd7DHOhrWvxkwPQs)"
    R"(RM2tOgrjbcrfvtQJipd-DlcxyVuuM9sQLdgjVk2oy26F0EmpScGLq2MowX7fhd_QJQ3ydy5cY7YIBi87w93IKL)"
    R"(EdfnbJtoOPLUW0ITrJReOgo1cq9SbsxYawBgfp_gh6A5603k2-ZQwVK0JKSHuLFkuQ3U", "kty": "RSA"})";
constexpr const char* rsa_thumbprint = "IsUn6_e04MaShXFIISMp4kG62LWzMIPy_MvSA5pJgX8";
// The same as Traefik keeps one: PKCS#1 DER in base64.
constexpr const char* rsa_der =
    R"(MIIEowIBAAKCAQEAofgWCuLjybRlzo0tZWJjNiuSfb4p4fAkd/wWJcyQoTbji9k0l8W26mPddxHmfHQp+Vaw+4)"
    R"(qPCJrcS2mJPMEzP1Pt0Bm4d4QlL+yRT+SFd2lZS+pCgNMsD1W/YpRPEwOWvG6b32690r2jZ47soMZo9wGzjb/7)"
    R"(OMg0LOL+bSf63kpaSHSXndS5z5rexMdbBYUsLA9e+KXBdQOS+UTo7WTBEMa2R2CapHg665xsmtdVMTBQY4uDZl)"
    R"(xvb3qCo5ZwKh9kG4LT6/I5IhlJH7aGhyxXFvUK+DWNmoudF8NAco9/h9iaGNj8q2ethFkMLs91kzk2PAcDTW9g)"
    R"(b54h4FRWyuXpoQIDAQABAoIBABKucaRpzQorw35SbEUAVx8dYXUdZOlJcHtiWQ+dC6V8ljxAHj/PLyzTveyI5Q)"
    R"(O/xkObCyjIL303l2cfUhPu2MFaJdjVzqACXuOrLot/eSFvxjvqVidTtAZExqFRJ9mylUVAoLvhowVWmC1On95f)"
    R"(ZCXxTUtxNEG1Xcc7m0rtzJKs45J+N/V9DP1edYH6USyPSWGp6wuA+KgHRnKKVf9GRx80JQY7nVNkL17eHoTWEw)"
    R"(ga+lwi0FEoW9Y7lDtWXYmKBWhUE+U8PGxlJf8f40493HDw1WRQ/aSLoS4QTp3rn7gYgeHEvfJdkkf0UMhlknlo)"
    R"(53M09EFPdadQ4TlUbjqKc50CgYEA4BzEEOtIpmVdVEZNCqS7baC4crd0pqnRH/5IB3jw3bcxGn6QLvnEtfdUdi)"
    R"(YrqBdss1l58BQ3KhooKeQTa9AB0Hw/Py5PJdTJNPY8cQn7ouZ2KKDcmnPGBY5t7yLc1QlQ5xHdwW1VhvKn+nXq)"
    R"(hJTBgIPgtldC+KDV5z+y2XDwGUcCgYEAuQPEfgmVtjL0Uyyx88GZFF1fOunH3+7cepKmtH4pxhtCoHqpWmT8YA)"
    R"(mZxaewHgHAjLYsp1ZSe7zFYHj7C6ul7TjeLQeZD/YwD66t62wDmpe/HlB+TnBA+njbglfIsRLtXlnDzQkv5dTl)"
    R"(tRJ11BKBBypeeF6689rjcJIDEz9RWdcCgYAHAp9XcCSrn8wVkMVkKdb7DOX4IKjzdahm+ctDAJN4O/y7OW5FKe)"
    R"(bvUjdAIt2GuoTZ71iTG+7F0F+lP88jtjP4U4qe7VHoewl4MKOfXZKTe+YCS1XbNvfgwJ3Ltyl1OH9hWvu2yza7)"
    R"(q+d5PCsDzqtm27kxuvULVeya+TEdAB1ijQKBgQCH/3r6YrVH/uCWGy6bzV1nGNOdjKc9tmkfOJmN54dxdixdpo)"
    R"(zCQ6U4OxZrsj3FcOhHBsqAHvX2uuYjagqvo3cOj1TRqNocX40omfCCMx3bD1yPPf/6TI2XECva/ggqEY2mYzmI)"
    R"(iA5LVVmc5nrybr+lssFKneeyxN2Wq93S0iJMdQKBgCGHewxzoa1r8ZMD0LETNrToK423K377UCYqXfg5XMclbr)"
    R"(jPbEC3YI1ZNqMtuhdBJqUnBi6tjKMF+34Xf0CUN8ncuXGO2CAYvO8PdyCixHX52ybaDjy1FtCE6yUXjoKNXKvU)"
    R"(m7MWGsAYH6f4IegOetN5NvmUMFStCSkh7ixZLkN1)";
// Scalar 379.
constexpr const char* ec_jwk =
    R"({"kty": "EC", "crv": "P-256", "d": "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAXs", "x":)"
    R"( "AFVDiUrz0A7X10Cr29dclrBod7eH219w7qeLkKjXwAo", "y": "u0yFo9jqKe-q-iRAaRLdhNWxTcMr9lbv)"
    R"(bGvVil2UP5I"})";

struct Folder {
  Folder() {
    std::string pattern = (fs::temp_directory_path() / "gatehouse-import-XXXXXX").string();
    REQUIRE(::mkdtemp(pattern.data()) != nullptr);
    path = pattern;
  }
  ~Folder() {
    std::error_code ignored;
    fs::remove_all(path, ignored);
  }
  void write(const std::string& name, const std::string& bytes) const {
    fs::create_directories(fs::path(path + "/" + name).parent_path());
    std::ofstream(path + "/" + name, std::ios::binary | std::ios::trunc) << bytes;
  }
  void link(const std::string& name, const std::string& target) const {
    fs::create_directories(fs::path(path + "/" + name).parent_path());
    fs::create_symlink(target, path + "/" + name);
  }
  std::string path;
};

const tls::Certificate& root() {
  static const auto made = tls::InternalAuthority::create("Some CA").value();
  return *made;
}

const WallTime now = std::chrono::floor<std::chrono::seconds>(base::WallClock::now());

tls::CertificatePtr leaf(const std::vector<std::string>& names, std::chrono::hours began = 24h,
                         std::chrono::hours left = 24h * 60) {
  tls::CertificateDraft draft;
  draft.common_name = names.front();
  draft.names = names;
  draft.not_before = now - began;
  draft.not_after = now + left;
  return tls::build_with_key(draft, &root()).value();
}

/// As certbot makes them: live/ has links to the newest of archive/.
void certbot_lineage(const Folder& folder, const std::string& name, const tls::Certificate& made,
                     const std::string& server = le) {
  for (const auto& [file, bytes] : {std::pair{"cert", made.chain_pem()},
                                    {"chain", root().chain_pem()},
                                    {"fullchain", made.chain_pem() + root().chain_pem()},
                                    {"privkey", made.key_pem()}}) {
    folder.write(fmt::format("archive/{}/{}2.pem", name, file), bytes);
    folder.link(fmt::format("live/{}/{}.pem", name, file),
                fmt::format("../../archive/{}/{}2.pem", name, file));
  }
  folder.write("live/README", "This directory contains your keys and certificates.\n");
  folder.write(
      "renewal/" + name + ".conf",
      fmt::format("# renew_before_expiry = 30 days\nversion = 2.1.0\narchive_dir = "
                  "{0}/archive/{1}\ncert = {0}/live/{1}/cert.pem\n\n[renewalparams]\n"
                  "account = 0123abcd\nserver = {2}\nauthenticator = webroot\n[[webroot_map]]\n"
                  "{1} = /var/www\n",
                  folder.path, name, server));
}

void certbot_account(const Folder& folder, const std::string& key = rsa_jwk) {
  const std::string account = "accounts/acme-v02.api.letsencrypt.org/directory/0123abcd/";
  folder.write(account + "private_key.json", key);
  folder.write(account + "regr.json", fmt::format(R"({{"body": {{}}, "uri": "{}"}})", le_account));
  folder.write(account + "meta.json", R"({"creation_host": "web1"})");
}

/// The storage that things are taken over into.
struct Taking {
  Taking() {
    settings.email = "ops@example.com";
    add_authority("letsencrypt", le);
  }
  void add_authority(const std::string& name, const std::string& directory) {
    config::CertificateAuthority authority;
    authority.name = name;
    authority.directory = directory;
    settings.authorities.push_back(authority);
  }
  ImportReport take(const base::Result<Findings>& findings, bool dry_run = false) {
    REQUIRE(findings.has_value());
    ImportOrder order{settings, hosts, now, dry_run};
    return test::await(control, import_findings(&storage, *findings, order));
  }
  tls::CertificatePtr stored(const std::string& id) {
    const auto found = storage.folders.find("certs/" + id);
    if (found == storage.folders.end()) return nullptr;
    auto files = found->second.back();
    return tls::Certificate::from_pem(files["fullchain.pem"], files["privkey.pem"], id).value();
  }
  std::string account(const std::string& file, const std::string& authority = "letsencrypt") {
    const auto found = storage.files.find(account_folder(authority, settings.email) + file);
    return found == storage.files.end() ? std::string() : found->second;
  }

  boost::asio::io_context control;
  test::MemoryStorage storage;
  config::Acme settings;
  std::vector<std::string> hosts;
};

size_t count(const ImportReport& report, LineOutcome outcome) {
  return static_cast<size_t>(
      std::count_if(report.lines.begin(), report.lines.end(),
                    [&](const ImportLine& line) { return line.outcome == outcome; }));
}

std::string all_problems(const ImportReport& report) {
  std::string text;
  for (const auto& problem : report.problems) text += problem + "\n";
  return text;
}

}  // namespace

// ---------------------------------------------------------------- certbot

TEST_CASE("certbot's lineages and its RSA account are taken over, under every name") {
  Folder folder;
  const auto shop = leaf({"shop.example.com", "www.shop.example.com"});
  const auto wild = leaf({"*.example.org", "example.org"});
  certbot_lineage(folder, "shop.example.com", *shop);
  certbot_lineage(folder, "example.org-0001", *wild);
  certbot_account(folder);
  Taking taking;
  const auto report = taking.take(read_certbot(folder.path));
  INFO(all_problems(report));
  CHECK(report.problems.empty());
  CHECK(report.advice.empty());
  CHECK(count(report, LineOutcome::imported) == 5);
  for (const auto* id : {"shop.example.com", "www.shop.example.com"}) {
    REQUIRE(taking.stored(id));
    CHECK(taking.stored(id)->fingerprint() == shop->fingerprint());
    CHECK(taking.stored(id)->renewal_id() == shop->renewal_id());
  }
  CHECK(taking.stored("_wildcard_.example.org"));
  CHECK(taking.stored("example.org"));
  const auto note =
      read_description(taking.storage.folders.at("certs/shop.example.com").back().at("meta.json"));
  CHECK(note->authority == "letsencrypt");
  CHECK(note->name == "shop.example.com");
  const auto key = tls::PrivateKey::from_pem(taking.account("/key.pem"), "test").value();
  CHECK(thumbprint(key).value() == rsa_thumbprint);
  CHECK_THAT(taking.account("/account.json"), Contains("acct") && Contains("123"));
}

TEST_CASE("an account that certbot links from a CA's former address is one account") {
  Folder folder;
  certbot_account(folder);
  fs::create_directories(folder.path + "/accounts/acme-v01.api.letsencrypt.org");
  fs::rename(folder.path + "/accounts/acme-v02.api.letsencrypt.org/directory",
             folder.path + "/accounts/acme-v01.api.letsencrypt.org/directory");
  folder.link("accounts/acme-v02.api.letsencrypt.org/directory",
              "../acme-v01.api.letsencrypt.org/directory");
  Taking taking;
  const auto report = taking.take(read_certbot(folder.path));
  INFO(all_problems(report));
  CHECK(report.problems.empty());
  CHECK(report.advice.empty());
  CHECK(count(report, LineOutcome::imported) == 1);
  CHECK_FALSE(taking.account("/key.pem").empty());
}

TEST_CASE("a second import changes nothing, and what is newer stays") {
  Folder folder;
  certbot_lineage(folder, "a.example.com", *leaf({"a.example.com"}));
  certbot_account(folder);
  Taking taking;
  taking.take(read_certbot(folder.path));
  const int stores = taking.storage.stores;
  auto report = taking.take(read_certbot(folder.path));
  CHECK(taking.storage.stores == stores);
  CHECK(count(report, LineOutcome::imported) == 0);
  CHECK(report.problems.empty());

  const auto newer = leaf({"a.example.com"}, 2h);
  Vault vault(taking.storage);
  CertificateNote note;
  note.name = "a.example.com";
  note.authority = "letsencrypt";
  REQUIRE(test::await(taking.control, vault.save("a.example.com", newer, note)).has_value());
  report = taking.take(read_certbot(folder.path));
  CHECK(taking.stored("a.example.com")->fingerprint() == newer->fingerprint());
  CHECK_THAT(report.lines.front().note, Contains("newer"));
}

TEST_CASE("a newer certificate than the stored one takes its place") {
  Taking taking;
  Vault vault(taking.storage);
  CertificateNote note;
  note.name = "a.example.com";
  note.authority = "letsencrypt";
  const auto old = leaf({"a.example.com"}, 24h * 50);
  REQUIRE(test::await(taking.control, vault.save("a.example.com", old, note)).has_value());
  Folder folder;
  const auto fresh = leaf({"a.example.com"});
  certbot_lineage(folder, "a.example.com", *fresh);
  taking.take(read_certbot(folder.path));
  CHECK(taking.stored("a.example.com")->fingerprint() == fresh->fingerprint());
}

TEST_CASE("of two lineages for one name the one that began last is taken") {
  Folder folder;
  const auto old = leaf({"a.example.com", "b.example.com"}, 24h * 30);
  const auto fresh = leaf({"a.example.com"}, 1h);
  certbot_lineage(folder, "a.example.com", *old);
  certbot_lineage(folder, "a.example.com-0001", *fresh);
  Taking taking;
  taking.take(read_certbot(folder.path));
  CHECK(taking.stored("a.example.com")->fingerprint() == fresh->fingerprint());
  CHECK(taking.stored("b.example.com")->fingerprint() == old->fingerprint());
}

TEST_CASE("a dry run says the same and changes nothing") {
  Folder folder;
  certbot_lineage(folder, "a.example.com", *leaf({"a.example.com"}));
  certbot_account(folder);
  Taking taking;
  const auto report = taking.take(read_certbot(folder.path), true);
  CHECK(count(report, LineOutcome::imported) == 2);
  CHECK(taking.storage.files.empty());
  CHECK(taking.storage.folders.empty());
  CHECK(taking.storage.stores == 0);
  ImportOrder order{taking.settings, {}, now, true};
  auto findings = read_certbot(folder.path).value();
  const auto without =
      test::await(taking.control, import_findings(nullptr, std::move(findings), order));
  CHECK(count(without, LineOutcome::imported) == 2);
}

TEST_CASE("expired certificates are passed over with a word, in the future ones too") {
  Folder folder;
  certbot_lineage(folder, "old.example.com", *leaf({"old.example.com"}, 24h * 100, -24h));
  certbot_lineage(folder, "early.example.com", *leaf({"early.example.com"}, -48h));
  certbot_lineage(folder, "good.example.com", *leaf({"good.example.com"}));
  Taking taking;
  const auto report = taking.take(read_certbot(folder.path));
  CHECK(count(report, LineOutcome::expired) == 1);
  CHECK_THAT(all_problems(report), Contains("live/early.example.com: it is not valid before"));
  CHECK(taking.stored("good.example.com"));
  CHECK_FALSE(taking.stored("old.example.com"));
  CHECK_FALSE(taking.stored("early.example.com"));
}

TEST_CASE("what is damaged, missing, huge, foreign or outside is one line each; the rest goes on") {
  Folder folder;
  Folder outside;
  const auto good = leaf({"good.example.com"});
  certbot_lineage(folder, "good.example.com", *good);
  certbot_lineage(folder, "mismatch.example.com", *leaf({"mismatch.example.com"}));
  folder.write("archive/mismatch.example.com/privkey2.pem", good->key_pem());
  certbot_lineage(folder, "torn.example.com", *leaf({"torn.example.com"}));
  folder.write("archive/torn.example.com/fullchain2.pem", good->chain_pem().substr(0, 200));
  certbot_lineage(folder, "huge.example.com", *leaf({"huge.example.com"}));
  folder.write("archive/huge.example.com/fullchain2.pem",
               std::string(imported_file_bytes_max + 1, 'x'));
  certbot_lineage(folder, "gone.example.com", *leaf({"gone.example.com"}));
  fs::remove(folder.path + "/archive/gone.example.com/privkey2.pem");
  outside.write("key.pem", good->key_pem());
  certbot_lineage(folder, "link.example.com", *good);
  fs::remove(folder.path + "/live/link.example.com/privkey.pem");
  folder.link("live/link.example.com/privkey.pem", outside.path + "/key.pem");
  folder.link("live/away.example.com", outside.path);
  certbot_lineage(folder, "fifo.example.com", *leaf({"fifo.example.com"}));
  fs::remove(folder.path + "/archive/fifo.example.com/privkey2.pem");
  REQUIRE(::mkfifo((folder.path + "/archive/fifo.example.com/privkey2.pem").c_str(), 0600) == 0);
  certbot_lineage(folder, "self.example.com",
                  *tls::make_self_signed({"self.example.com"}, 24h).value());
  certbot_account(folder, R"({"kty": "RSA", "n": "AQAB"})");
  Taking taking;
  const auto report = taking.take(read_certbot(folder.path));
  const std::string problems = all_problems(report);
  INFO(problems);
  CHECK(count(report, LineOutcome::imported) == 1);
  CHECK(taking.stored("good.example.com"));
  CHECK(report.problems.size() == 9);
  CHECK_THAT(problems, Contains("live/mismatch.example.com: the private key does not belong"));
  CHECK_THAT(problems, Contains("live/torn.example.com"));
  CHECK_THAT(problems, Contains("live/huge.example.com/fullchain.pem") && Contains("more than"));
  CHECK_THAT(problems, Contains("live/gone.example.com/privkey.pem"));
  CHECK_THAT(problems, Contains("live/link.example.com/privkey.pem: a symbolic link that leads"));
  CHECK_THAT(problems, Contains("live/away.example.com: a symbolic link that leads out"));
  CHECK_THAT(problems, Contains("live/fifo.example.com/privkey.pem: not a plain file"));
  CHECK_THAT(problems, Contains("live/self.example.com: a self-signed"));
  CHECK_THAT(problems, Contains("private_key.json: \"e\" of the key is missing"));
  for (const auto& problem : report.problems) CHECK(problem.find('\n') == std::string::npos);
}

TEST_CASE("CAs that are not configured are named with the lines to add") {
  Folder folder;
  certbot_lineage(folder, "a.example.com", *leaf({"a.example.com"}),
                  "https://ca.corp.example/acme");
  certbot_lineage(folder, "b.example.com", *leaf({"b.example.com"}),
                  "https://acme.zerossl.com/v2/DV90");
  folder.write("accounts/ca.corp.example/acme/77/private_key.json", ec_jwk);
  folder.write(
      "accounts/ca.corp.example/acme/77/regr.json",
      R"({"body": {"contact": ["mailto:x@example.com"]}, "uri": "https://ca.corp.example/1"})");
  Taking taking;
  auto report = taking.take(read_certbot(folder.path));
  CHECK(taking.stored("a.example.com"));
  CHECK_THAT(report.advice,
             Contains("ca = [\"letsencrypt\", \"ca-corp-example\", \"zerossl\"]") &&
                 Contains("[ca.ca-corp-example]\ndirectory = \"https://ca.corp.example/acme\""));
  CHECK_THAT(all_problems(report), Contains("an account at ca-corp-example, which is not in"));

  taking.add_authority("corp", "https://ca.corp.example/acme");
  report = taking.take(read_certbot(folder.path));
  CHECK(report.problems.empty());
  CHECK_FALSE(taking.account("/key.pem", "corp").empty());
  CHECK_THAT(report.lines.back().note, Contains("x@example.com"));
}

TEST_CASE("certificates from a CA's staging are left out unless it is what is configured") {
  Folder folder;
  constexpr const char* staging = "https://acme-staging-v02.api.letsencrypt.org/directory";
  certbot_lineage(folder, "a.example.com", *leaf({"a.example.com"}), staging);
  Taking taking;
  auto report = taking.take(read_certbot(folder.path));
  CHECK_FALSE(taking.stored("a.example.com"));
  CHECK_THAT(all_problems(report), Contains("staging"));
  CHECK(report.advice.empty());
  taking.settings.authorities.clear();
  taking.add_authority("letsencrypt-staging", staging);
  report = taking.take(read_certbot(folder.path));
  CHECK(taking.stored("a.example.com"));
}

TEST_CASE("a full disk is told for each certificate, and nothing is half taken over") {
  Folder folder;
  certbot_lineage(folder, "a.example.com", *leaf({"a.example.com"}));
  certbot_account(folder);
  Taking taking;
  taking.storage.permit = [](const std::string&, const std::string&) { return false; };
  const auto report = taking.take(read_certbot(folder.path));
  CHECK(report.problems.size() == 2);
  CHECK_THAT(all_problems(report), Contains("a.example.com: ") && Contains("No space left"));
}

TEST_CASE("a configured host that only a wildcard covers gets its certificate too") {
  Folder folder;
  const auto wild = leaf({"*.example.com"});
  certbot_lineage(folder, "example.com", *wild);
  Taking taking;
  taking.hosts = {"shop.example.com", "other.example.net"};
  taking.take(read_certbot(folder.path));
  REQUIRE(taking.stored("shop.example.com"));
  CHECK(taking.stored("shop.example.com")->fingerprint() == wild->fingerprint());
  CHECK_FALSE(taking.stored("other.example.net"));
}

// ---------------------------------------------------------------- Caddy

TEST_CASE("Caddy's certificates and account are taken over; its own authority's are not") {
  Folder folder;
  const auto made = leaf({"shop.example.com"});
  const std::string issuer = "acme-v02.api.letsencrypt.org-directory";
  const auto certificate = [&](const std::string& from, const std::string& name) {
    const std::string base = fmt::format("certificates/{}/{}/{}", from, name, name);
    folder.write(base + ".crt", made->chain_pem() + root().chain_pem());
    folder.write(base + ".key", made->key_pem());
    folder.write(base + ".json", fmt::format(R"({{"sans": ["shop.example.com"], "issuer_data":
      {{"url": "https://acme-v02.api.letsencrypt.org/acme/cert/1", "ca": "{}",
       "account": "{}"}}}})",
                                             le, le_account));
  };
  certificate(issuer, "shop.example.com");
  certificate("local", "localhost");
  const auto key = tls::PrivateKey::generate(config::KeyType::p256).value();
  for (const auto* user : {"ops@example.com", "default"}) {
    const std::string base =
        fmt::format("acme/{}/users/{}/{}", issuer, user, std::string(user).substr(0, 3));
    const auto other = tls::PrivateKey::generate(config::KeyType::p256).value();
    folder.write(base + ".key", user == std::string("default") ? other.to_pem() : key.to_pem());
    folder.write(base + ".json", fmt::format(R"({{"status": "valid", "contact": ["mailto:{}"],
                               "location": "{}"}})",
                                             user, le_account));
  }
  Taking taking;
  const auto report = taking.take(read_caddy(folder.path));
  CHECK(taking.stored("shop.example.com"));
  CHECK(report.problems.size() == 1);
  CHECK_THAT(all_problems(report), Contains("Caddy's own authority"));
  CHECK(taking.account("/key.pem") == key.to_pem());
  CHECK_THAT(taking.account("/account.json"), Contains("123"));
  CHECK(count(report, LineOutcome::kept) == 1);  // the other user
}

TEST_CASE("an empty folder, one that is none and one that is not there are told apart") {
  Folder folder;
  CHECK(read_caddy(folder.path)->certificates.empty());
  folder.write("file", "x");
  CHECK_THAT(read_caddy(folder.path + "/file").error().context, Contains("not a folder"));
  CHECK(read_certbot(folder.path + "/nowhere").error().kind == base::ErrorKind::not_found);
  CHECK(read_lego(folder.path + "/nowhere").has_error());
  CHECK(read_traefik(folder.path + "/nowhere").has_error());
}

// ---------------------------------------------------------------- Traefik

TEST_CASE("Traefik's resolvers with their accounts and certificates are taken over") {
  Folder folder;
  const auto made = leaf({"shop.example.com", "www.shop.example.com"});
  const std::string chain = base::base64(made->chain_pem() + root().chain_pem());
  const std::string key = base::base64(made->key_pem());
  const auto store = fmt::format(
      R"({{"letsencrypt": {{"Account": {{"Email": "ops@example.com",
       "Registration": {{"body": {{"status": "valid"}}, "uri": "{}"}},
       "PrivateKey": "{}", "KeyType": "4096"}},
      "Certificates": [
       {{"domain": {{"main": "shop.example.com", "sans": ["www.shop.example.com"]}},
         "certificate": "{}", "key": "{}", "Store": "default"}},
       {{"domain": {{"main": "bad.example.com"}}, "certificate": "%%", "key": ""}},
       7]}},
      "unused": {{"Account": null, "Certificates": null}}}})",
      le_account, rsa_der, chain, key);
  folder.write("acme.json", store);
  Taking taking;
  const auto report = taking.take(read_traefik(folder.path + "/acme.json"));
  INFO(all_problems(report));
  CHECK(taking.stored("shop.example.com"));
  CHECK(taking.stored("www.shop.example.com"));
  CHECK(report.problems.size() == 2);
  CHECK_THAT(all_problems(report),
             Contains("letsencrypt.Certificates[1]") && Contains("letsencrypt.Certificates[2]"));
  const auto account = tls::PrivateKey::from_pem(taking.account("/key.pem"), "test").value();
  CHECK(thumbprint(account).value() == rsa_thumbprint);
}

TEST_CASE("an acme.json that is no store of Traefik 2 or 3 is refused in one line") {
  Folder folder;
  for (const std::string text : {"", "[]", "{", R"({"Account": {}, "Certificates": []})"}) {
    folder.write("acme.json", text);
    const auto findings = read_traefik(folder.path + "/acme.json");
    REQUIRE(findings.has_error());
    CHECK_THAT(findings.error().context, Contains("acme.json: "));
  }
  folder.write("acme.json", "{}");
  CHECK(read_traefik(folder.path + "/acme.json")->certificates.empty());
  CHECK(read_traefik(folder.path).has_error());
}

// ---------------------------------------------------------------- lego

TEST_CASE("lego's certificates and accounts are taken over, with the issuer of a bare leaf") {
  Folder folder;
  const auto made = leaf({"*.example.com"});
  const std::string base = "certificates/_.example.com";
  folder.write(base + ".crt", made->chain_pem());
  folder.write(base + ".issuer.crt", root().chain_pem());
  folder.write(base + ".key", made->key_pem());
  folder.write(base + ".json",
               R"({"domain": "*.example.com", "certUrl": "https://ca.example:14000/certZ/1"})");
  const std::string user = "accounts/ca.example_14000/ops@example.com/";
  const auto key = tls::PrivateKey::generate(config::KeyType::p384).value();
  folder.write(user + "keys/ops@example.com.key", key.to_pem());
  folder.write(user + "account.json",
               R"({"email": "ops@example.com", "registration":
                 {"body": {"status": "valid"}, "uri": "https://ca.example:14000/my-account/5"}})");
  Taking taking;
  taking.add_authority("corp", "https://ca.example:14000/dir");
  const auto report = taking.take(read_lego(folder.path));
  INFO(all_problems(report));
  CHECK(report.problems.empty());
  const auto stored = taking.stored("_wildcard_.example.com");
  REQUIRE(stored);
  CHECK_THAT(stored->chain_pem(), Contains(root().chain_pem()));
  CHECK(taking.account("/key.pem", "corp") == key.to_pem());
  CHECK_THAT(taking.account("/account.json", "corp"), Contains("my-account"));
}

// ---------------------------------------------------------------- keys

TEST_CASE("private JWKs of RSA and EC give the keys that they describe, or one line") {
  const auto read = [](const std::string& text) {
    return key_of_jwk(parse_json_object(text, "FILE").value(), "FILE");
  };
  CHECK(thumbprint(read(rsa_jwk).value()).value() == rsa_thumbprint);
  CHECK(public_jwk(read(ec_jwk).value()).has_value());
  std::string other = ec_jwk;
  other.replace(other.find("\"x\": \"") + 6, 4, "AAAA");
  CHECK_THAT(read(other).error().context, Contains("FILE: the halves of the key do not belong"));
  for (const auto* text :
       {"{}", R"({"kty":"oct","k":"AAAA"})", R"({"kty":"EC","crv":"P-521","d":"AQ"})",
        R"({"kty":"EC","crv":"P-256"})", R"({"kty":"EC","crv":"P-256","d":"AA"})",
        R"({"kty":"RSA","n":5})"}) {
    INFO(text);
    const auto key = read(text);
    REQUIRE(key.has_error());
    CHECK_THAT(key.error().context, Contains("FILE: "));
  }
  CHECK(key_of_der("", "FILE").has_error());
  CHECK(key_of_der("%", "FILE").has_error());
  CHECK(key_of_der("AAAA", "FILE").has_error());
  CHECK(thumbprint(key_of_der(rsa_der, "FILE").value()).value() == rsa_thumbprint);
}

}  // namespace gatehouse::acme
