#include "tls/certificate_files.hpp"

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <sys/stat.h>
#include <unistd.h>

#include <boost/asio/io_context.hpp>
#include <catch2/catch.hpp>

#include "base/log.hpp"
#include "tls/certificate_builder.hpp"
#include "tls/internal_authority.hpp"
#include "tls/pem_file.hpp"

using namespace gatehouse;
using namespace gatehouse::tls;
using namespace std::chrono_literals;

namespace {

CertificatePtr fresh() {
  return make_self_signed({"a.example"}, 24h).value();
}

CertificatePtr expired() {
  CertificateDraft draft;
  draft.common_name = "a.example";
  draft.names = {"a.example"};
  draft.not_before = base::WallClock::now() - 48h;
  draft.not_after = base::WallClock::now() - 24h;
  return build_with_key(draft, nullptr).value();
}

/// A folder, the watcher on it, and what it said.
class Scene {
 public:
  Scene() {
    std::string pattern = (std::filesystem::temp_directory_path() / "files-XXXXXX").string();
    folder_ = ::mkdtemp(pattern.data());
    base::log::Settings settings;
    settings.file = path("log");
    REQUIRE(base::log::configure(settings).empty());
  }
  ~Scene() {
    base::log::configure({});
    std::filesystem::permissions(folder_, std::filesystem::perms::owner_all);
    std::filesystem::remove_all(folder_);
  }

  std::string path(const std::string& name) const { return folder_ + "/" + name; }

  /// Replaced as a whole, as careful tools do: a new inode.
  void write(const std::string& name, const std::string& text) const {
    std::ofstream(path(name + ".new")) << text;
    std::filesystem::permissions(path(name + ".new"), std::filesystem::perms::owner_read |
                                                          std::filesystem::perms::owner_write);
    std::filesystem::rename(path(name + ".new"), path(name));
  }
  CertificateFilePair write_pair(const std::string& name, const Certificate& certificate) const {
    write(name + ".pem", certificate.chain_pem());
    write(name + ".key", certificate.key_pem());
    return {path(name + ".pem"), path(name + ".key"), false};
  }

  std::string log() const {
    std::ifstream file(path("log"));
    return {std::istreambuf_iterator<char>(file), {}};
  }
  int logged(const std::string& part) const {
    const std::string text = log();
    int count = 0;
    for (size_t at = text.find(part); at != std::string::npos; at = text.find(part, at + 1)) {
      ++count;
    }
    return count;
  }

  /// Runs the control loop until `done`, or fails.
  template <class Done>
  void run_until(Done done) {
    const auto limit = std::chrono::steady_clock::now() + 10s;
    while (!done() && std::chrono::steady_clock::now() < limit) {
      control.restart();
      control.run_one_for(100ms);
    }
    INFO(log());
    REQUIRE(done());
  }
  /// Lets `count` more looks at the files happen.
  void run_polls(int count) {
    for (int i = 0; i < count; ++i) {
      control.restart();
      REQUIRE(control.run_one_for(5s) == 1);
    }
  }

  boost::asio::io_context control;
  std::vector<std::pair<CertificateFilePair, CertificatePtr>> loaded;
  CertificateFiles files{control,
                         [this](const CertificateFilePair& pair, const CertificatePtr& made) {
                           loaded.emplace_back(pair, made);
                         },
                         2ms};

 private:
  std::string folder_;
};

bool has(const std::string& text, std::string_view part) {
  INFO(text);
  return text.find(part) != std::string::npos;
}

}  // namespace

TEST_CASE("pairs are loaded at once and handed on") {
  Scene scene;
  const auto first = fresh();
  const auto second = fresh();
  const auto pair = scene.write_pair("a", *first);
  auto fallback = scene.write_pair("b", *second);
  fallback.fallback = true;
  CHECK(scene.files.watch({pair, fallback, pair}).empty());
  REQUIRE(scene.loaded.size() == 2);
  CHECK(scene.loaded[0].first == pair);
  CHECK(scene.loaded[0].second->fingerprint() == first->fingerprint());
  CHECK(scene.loaded[1].first.fallback);
  CHECK(scene.files.find(pair) == scene.loaded[0].second);
  CHECK(scene.files.find({"x", "y", false}) == nullptr);
  CHECK(scene.log().empty());
}

TEST_CASE("a changed pair is loaded and handed on once") {
  Scene scene;
  const auto pair = scene.write_pair("a", *fresh());
  REQUIRE(scene.files.watch({pair}).empty());
  scene.run_polls(3);
  CHECK(scene.loaded.size() == 1);

  const auto next = fresh();
  scene.write_pair("a", *next);
  scene.run_until([&] { return scene.loaded.size() == 2; });
  CHECK(scene.loaded[1].second->fingerprint() == next->fingerprint());
  CHECK(scene.files.find(pair) == scene.loaded[1].second);
  scene.run_polls(4);
  CHECK(scene.loaded.size() == 2);
  CHECK(scene.logged("changed and loaded") == 1);
}

TEST_CASE("files written in place are noticed too") {
  Scene scene;
  const auto pair = scene.write_pair("a", *fresh());
  REQUIRE(scene.files.watch({pair}).empty());
  const auto next = fresh();
  std::ofstream(pair.certificate) << next->chain_pem();
  std::ofstream(pair.key) << next->key_pem();
  scene.run_until([&] { return scene.loaded.size() == 2; });
}

TEST_CASE("a certificate behind a symbolic link is noticed when the link is turned") {
  Scene scene;
  const auto before = scene.write_pair("v1", *fresh());
  const auto after = scene.write_pair("v2", *fresh());
  const CertificateFilePair pair{scene.path("live.pem"), scene.path("live.key"), false};
  std::filesystem::create_symlink(before.certificate, pair.certificate);
  std::filesystem::create_symlink(before.key, pair.key);
  REQUIRE(scene.files.watch({pair}).empty());
  std::filesystem::remove(pair.certificate);
  std::filesystem::remove(pair.key);
  std::filesystem::create_symlink(after.certificate, pair.certificate);
  std::filesystem::create_symlink(after.key, pair.key);
  scene.run_until([&] { return scene.loaded.size() == 2; });
}

TEST_CASE("a broken change is logged once and the pair loaded before stays") {
  Scene scene;
  const auto pair = scene.write_pair("a", *fresh());
  REQUIRE(scene.files.watch({pair}).empty());
  const auto served = scene.files.find(pair);

  const auto next = fresh();
  scene.write("a.pem", next->chain_pem());  // the key comes later
  scene.run_until([&] { return scene.logged("stays in use") == 1; });
  scene.run_polls(5);
  CHECK(scene.logged("stays in use") == 1);
  CHECK(scene.logged("does not belong") == 1);
  CHECK(scene.files.find(pair) == served);

  scene.write("a.key", next->key_pem());
  scene.run_until([&] { return scene.loaded.size() == 2; });
  CHECK(scene.files.find(pair)->fingerprint() == next->fingerprint());
}

TEST_CASE("files that vanish or turn to rubbish leave the pair in use") {
  Scene scene;
  const auto pair = scene.write_pair("a", *fresh());
  REQUIRE(scene.files.watch({pair}).empty());
  std::filesystem::remove(pair.certificate);
  scene.run_until([&] { return scene.logged("no such file") == 1; });
  scene.write("a.pem", "rubbish");
  scene.run_until([&] { return scene.logged("no certificate in PEM form") == 1; });
  CHECK(scene.loaded.size() == 1);
  CHECK(scene.files.find(pair) != nullptr);
}

TEST_CASE("an expired certificate does not replace a valid one") {
  Scene scene;
  const auto pair = scene.write_pair("a", *fresh());
  REQUIRE(scene.files.watch({pair}).empty());
  scene.write_pair("a", *expired());
  scene.run_until([&] { return scene.logged("the new certificate has expired") == 1; });
  CHECK(scene.loaded.size() == 1);
}

TEST_CASE("a certificate that has expired at the start is served with a warning") {
  Scene scene;
  const auto pair = scene.write_pair("a", *expired());
  CHECK(scene.files.watch({pair}).empty());
  CHECK(scene.loaded.size() == 1);
  CHECK(scene.logged("clients will refuse this certificate: it expired on") == 1);
}

TEST_CASE("a key that every user can read is warned of") {
  Scene scene;
  const auto pair = scene.write_pair("a", *fresh());
  std::filesystem::permissions(pair.key, std::filesystem::perms::others_read,
                               std::filesystem::perm_options::add);
  CHECK(scene.files.watch({pair}).empty());
  CHECK(scene.logged("chmod 600") == 1);
}

TEST_CASE("every mistake is told at once, and none changes what is watched") {
  Scene scene;
  const auto good = scene.write_pair("good", *fresh());
  REQUIRE(scene.files.watch({good}).empty());
  const auto other = scene.write_pair("other", *fresh());
  scene.write("words.pem", "words");
  const auto mistakes = scene.files.watch({other,
                                           {scene.path("gone.pem"), other.key, false},
                                           {scene.path("words.pem"), other.key, false},
                                           {other.certificate, good.key, false},
                                           {other.certificate, "", false}});
  REQUIRE(mistakes.size() == 4);
  CHECK(has(mistakes[0].context, "gone.pem: no such file"));
  CHECK(has(mistakes[1].context, "words.pem"));
  CHECK(has(mistakes[1].context, "no certificate in PEM form"));
  CHECK(has(mistakes[2].context, "does not belong"));
  CHECK(has(mistakes[3].context, "name both"));
  CHECK(scene.loaded.size() == 1);
  CHECK(scene.files.find(good) != nullptr);
  CHECK(scene.files.find(other) == nullptr);
}

TEST_CASE("a reload keeps the pairs that did not change and loads the new ones") {
  Scene scene;
  const auto kept = scene.write_pair("kept", *fresh());
  const auto removed = scene.write_pair("removed", *fresh());
  REQUIRE(scene.files.watch({kept, removed}).empty());
  const auto before = scene.files.find(kept);
  const auto added = scene.write_pair("added", *fresh());
  REQUIRE(scene.files.watch({added, kept}).empty());
  REQUIRE(scene.loaded.size() == 3);
  CHECK(scene.loaded[2].first == added);
  CHECK(scene.files.find(kept) == before);
  CHECK(scene.files.find(removed) == nullptr);
  scene.write_pair("removed", *fresh());
  scene.write_pair("kept", *fresh());
  scene.run_until([&] { return scene.loaded.size() == 4; });
  CHECK(scene.loaded[3].first == kept);
  scene.run_polls(4);
  CHECK(scene.loaded.size() == 4);
}

TEST_CASE("the function may watch other pairs from within its call") {
  Scene scene;
  const auto one = scene.write_pair("one", *fresh());
  const auto other = scene.write_pair("other", *fresh());
  int calls = 0;
  CertificateFiles* self = nullptr;
  CertificateFiles files(
      scene.control,
      [&](const CertificateFilePair&, const CertificatePtr&) {
        if (++calls == 1) CHECK(self->watch({other}).empty());
      },
      2ms);
  self = &files;
  REQUIRE(files.watch({one, other}).empty());
  CHECK(calls == 2);
  CHECK(files.find(one) == nullptr);
}

TEST_CASE("a watcher that ended makes no more calls") {
  Scene scene;
  const auto pair = scene.write_pair("a", *fresh());
  int calls = 0;
  {
    CertificateFiles files(
        scene.control, [&](const CertificateFilePair&, const CertificatePtr&) { ++calls; }, 1ms);
    REQUIRE(files.watch({pair}).empty());
  }
  scene.write_pair("a", *fresh());
  scene.control.run();
  CHECK(calls == 1);
}

TEST_CASE("files that are no PEM files are refused without reading on") {
  Scene scene;
  CHECK(has(read_pem_file(scene.path("")).error().context, "not a regular file"));
  CHECK(read_pem_file(scene.path("gone")).error().kind == base::ErrorKind::not_found);
  scene.write("file", "text");
  CHECK(read_pem_file(scene.path("file/below")).error().kind == base::ErrorKind::not_found);
  CHECK(read_pem_file(scene.path("file")).value() == "text");
  REQUIRE(::mkfifo(scene.path("fifo").c_str(), 0600) == 0);
  CHECK(has(read_pem_file(scene.path("fifo")).error().context, "not a regular file"));
  std::filesystem::resize_file(scene.path("file"), pem_file_max + 1);
  CHECK(read_pem_file(scene.path("file")).error().kind == base::ErrorKind::limit);
  scene.write("empty", "");
  CHECK(read_pem_file(scene.path("empty")).value().empty());
}

TEST_CASE("a file that may not be read says whose it must be") {
  if (::geteuid() == 0) return;  // root may read everything
  Scene scene;
  scene.write("secret", "text");
  std::filesystem::permissions(scene.path("secret"), std::filesystem::perms::none);
  const auto text = read_pem_file(scene.path("secret"));
  REQUIRE_FALSE(text.has_value());
  CHECK(text.error().kind == base::ErrorKind::denied);
  CHECK(has(text.error().context, "change its owner or mode"));
}
