#include "app/custom_certificates.hpp"

#include <filesystem>
#include <sys/stat.h>

#include <catch2/catch.hpp>

#include "app/certificate_export.hpp"
#include "app/stored_certificates.hpp"
#include "tests/support/await.hpp"
#include "tests/support/memory_storage.hpp"
#include "tests/support/result.hpp"
#include "tls/certificate_builder.hpp"
#include "tls/internal_authority.hpp"

using namespace gatehouse;
using namespace std::chrono_literals;
using app::check_custom;
using base::ErrorKind;
namespace asio = boost::asio;

namespace {

const auto now = base::WallClock::now();

tls::CertificatePtr issue(const std::vector<std::string>& names, std::chrono::hours from = -1h,
                          std::chrono::hours to = 24h) {
  static const tls::CertificatePtr root = *tls::InternalAuthority::create("A root");
  tls::CertificateDraft draft;
  draft.common_name = names.front();
  draft.names = names;
  draft.not_before = now + from;
  draft.not_after = now + to;
  auto made = tls::build_with_key(draft, root.get());
  REQUIRE(made);
  return *made;
}

std::string complaint(const std::string& name, const std::string& chain, const std::string& key) {
  const auto checked = check_custom(name, chain, key, now);
  REQUIRE(!checked);
  CHECK(checked.error().kind == ErrorKind::invalid);
  return checked.error().context;
}

bool contains(const std::string& text, std::string_view words) {
  UNSCOPED_INFO(text);
  return text.find(words) != std::string::npos;
}

struct Folder {
  Folder() {
    char pattern[] = "/tmp/gatehouse-export-XXXXXX";
    path = ::mkdtemp(pattern);
  }
  ~Folder() { std::filesystem::remove_all(path); }
  std::string path;
};

}  // namespace

TEST_CASE("A custom certificate is checked for its key, its names and its dates") {
  const auto good = issue({"a.example", "*.b.example"});
  const auto other = issue({"a.example"});
  CHECK(check_custom("a.example", good->chain_pem(), good->key_pem(), now));
  CHECK(check_custom("x.b.example", good->chain_pem(), good->key_pem(), now));
  CHECK(check_custom("*.b.example", good->chain_pem(), good->key_pem(), now));
  CHECK(contains(complaint("a.example", good->chain_pem(), other->key_pem()), "key"));
  CHECK(contains(complaint("c.example", good->chain_pem(), good->key_pem()), "cover"));
  CHECK(contains(complaint("x.y.b.example", good->chain_pem(), good->key_pem()), "cover"));
  const auto past = issue({"a.example"}, -48h, -24h);
  CHECK(contains(complaint("a.example", past->chain_pem(), past->key_pem()), "expired"));
  const auto future = issue({"a.example"}, 24h, 48h);
  CHECK(
      contains(complaint("a.example", future->chain_pem(), future->key_pem()), "not valid before"));
}

TEST_CASE("A chain out of order and text that is no PEM are refused, the key in no complaint") {
  const auto good = issue({"a.example"});
  const auto other = issue({"b.example"});
  const std::string mixed = good->chain_pem() + other->chain_pem();
  CHECK(contains(complaint("a.example", mixed, good->key_pem()), "chain"));
  CHECK(contains(complaint("a.example", other->chain_pem() + good->chain_pem(), good->key_pem()),
                 "first in the chain"));
  const std::string key = good->key_pem();
  for (const std::string& chain : {std::string("garbage"), std::string("\0\0", 2), key,
                                   std::string("-----BEGIN CERTIFICATE-----\nAAAA\n")}) {
    const std::string words = complaint("a.example", chain, key);
    CHECK(words.find(key.substr(40, 40)) == std::string::npos);
  }
  complaint("a.example", good->chain_pem(), "garbage");
  complaint("a.example", good->chain_pem(), good->chain_pem());
}

TEST_CASE("Custom certificates are stored, read again, replaced and removed") {
  asio::io_context control;
  test::MemoryStorage storage;
  app::CustomCertificates custom(storage);
  const auto first = issue({"a.example"}), second = issue({"a.example"});
  const auto wildcard = issue({"*.b.example"});
  CHECK(test::await(control, custom.put("a.example", first)));
  CHECK(test::await(control, custom.put("*.b.example", wildcard)));
  CHECK(test::await(control, custom.put("a.example", second)));

  app::CustomCertificates next(storage);
  test::await(control, next.read());
  REQUIRE(next.all().size() == 2);
  CHECK(next.all().at("a.example")->fingerprint() == second->fingerprint());
  CHECK(next.all().at("*.b.example")->fingerprint() == wildcard->fingerprint());
  CHECK(test::await(control, next.remove("a.example")));
  const auto again = test::await(control, next.remove("a.example"));
  REQUIRE(!again);
  CHECK(again.error().kind == ErrorKind::not_found);

  app::CustomCertificates last(storage);
  test::await(control, last.read());
  CHECK(last.all().size() == 1);
}

TEST_CASE("What storage refuses is not served, what is damaged is left out") {
  asio::io_context control;
  test::MemoryStorage storage;
  app::CustomCertificates custom(storage);
  storage.permit = [](const std::string&, const std::string&) { return false; };
  CHECK(!test::await(control, custom.put("a.example", issue({"a.example"}))));
  CHECK(custom.all().empty());
  storage.permit = nullptr;
  CHECK(test::await(control, custom.put("a.example", issue({"a.example"}))));
  storage.folders["custom/b.example"].push_back({{"fullchain.pem", "x"}, {"privkey.pem", "y"}});
  app::CustomCertificates next(storage);
  test::await(control, next.read());
  CHECK(next.all().size() == 1);
}

TEST_CASE("An export holds four files, the key for its owner alone, and replaces none unasked") {
  Folder folder;
  const std::string target = folder.path + "/new";
  const acme::FileSet files = {{"cert.pem", "C"},
                               {"chain.pem", ""},
                               {"fullchain.pem", "F"},
                               {"privkey.pem", "K"},
                               {"meta.json", "{}"}};
  const auto written = app::write_certificate(files, target, false);
  REQUIRE(written);
  CHECK(written->size() == 4);
  struct stat status {};
  REQUIRE(::stat((target + "/privkey.pem").c_str(), &status) == 0);
  CHECK((status.st_mode & 0777) == 0600);
  CHECK(!std::filesystem::exists(target + "/meta.json"));
  const auto again = app::write_certificate(files, target, false);
  REQUIRE(!again);
  CHECK(contains(again.error().context, "--force"));
  CHECK(app::write_certificate(files, target, true));
  size_t count = 0;
  for (const auto& file : std::filesystem::directory_iterator(target)) count += file.exists();
  CHECK(count == 4);
}

TEST_CASE("An export to where nothing can be written names the place") {
  const acme::FileSet files = {
      {"cert.pem", "C"}, {"chain.pem", ""}, {"fullchain.pem", "F"}, {"privkey.pem", "K"}};
  for (const char* const target : {"/proc/no/where", "/dev/null", "/proc"}) {
    const auto refused = app::write_certificate(files, target, false);
    REQUIRE(!refused);
    CHECK(contains(refused.error().context, target));
  }
  Folder folder;
  // A link would lead the key elsewhere.
  std::filesystem::create_symlink("/tmp/gatehouse-elsewhere", folder.path + "/privkey.pem");
  CHECK(!app::write_certificate(files, folder.path, false));
  CHECK(app::write_certificate(files, folder.path, true));
  CHECK(!std::filesystem::is_symlink(folder.path + "/privkey.pem"));
  CHECK(!std::filesystem::exists("/tmp/gatehouse-elsewhere"));
}

TEST_CASE("An unknown name comes with the nearest one that is known") {
  acme::CertificateStatus known;
  known.name = "example.com";
  const auto error = app::unknown_certificate("exmaple.com", {known});
  CHECK(error.kind == ErrorKind::not_found);
  CHECK(error.context == "there is no certificate for exmaple.com, did you mean 'example.com'?");
  CHECK(app::unknown_certificate("far.away", {known}).context ==
        "there is no certificate for far.away");
}

TEST_CASE("A storage that is not there has no details, files or root") {
  for (const std::string& context : {app::stored_details("/no/such/folder", "a").error().context,
                                     app::stored_files("/no/such/folder", "a").error().context,
                                     app::stored_root("/no/such/folder").error().context})
    CHECK(contains(context, "/no/such/folder"));
}
