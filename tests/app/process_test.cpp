#include "app/process.hpp"

#include <filesystem>
#include <fstream>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <catch2/catch.hpp>

using namespace gatehouse;

namespace {

class Folder {
 public:
  Folder() {
    char pattern[] = "/tmp/gatehouse-process-XXXXXX";
    path_ = ::mkdtemp(pattern);
  }
  ~Folder() { std::filesystem::remove_all(path_); }
  std::string file(const std::string& name) const { return path_ + "/" + name; }

 private:
  std::string path_;
};

struct stat status_of(const std::string& path) {
  struct stat status {};
  REQUIRE(::lstat(path.c_str(), &status) == 0);
  return status;
}

}  // namespace

TEST_CASE("The process takes all descriptors that it may have and writes no core") {
  app::prepare_process();
  rlimit limit{};
  REQUIRE(::getrlimit(RLIMIT_NOFILE, &limit) == 0);
  CHECK(limit.rlim_cur == limit.rlim_max);
  CHECK(::prctl(PR_GET_DUMPABLE) == 0);
}

TEST_CASE("A missing storage folder is made for its owner alone, parents included") {
  const Folder folder;
  const std::string storage = folder.file("a/b/storage");
  REQUIRE(app::prepare_storage_folder(storage, nullptr).has_value());
  CHECK((status_of(storage).st_mode & 0777) == 0700);
  CHECK(app::prepare_storage_folder(storage, nullptr).has_value());
}

TEST_CASE("A storage folder that cannot be made is named") {
  const auto outcome = app::prepare_storage_folder("/proc/gatehouse/storage", nullptr);
  REQUIRE(outcome.has_error());
  CHECK(outcome.error().context.find("/proc/gatehouse/storage") != std::string::npos);
}

TEST_CASE("Root gives its storage folder and its logs to the user, and nobody else's") {
  if (!base::running_as_root()) return;
  const Folder folder;
  const auto account = base::find_account("nobody");
  REQUIRE(account.has_value());
  const std::string storage = folder.file("storage");
  REQUIRE(app::prepare_storage_folder(storage, &*account).has_value());
  CHECK(status_of(storage).st_uid == account->user);
  app::hand_over_log(folder.file("log"), *account);
  CHECK(status_of(folder.file("log")).st_uid == account->user);
  std::ofstream(folder.file("other")) << "of somebody else";
  REQUIRE(::chown(folder.file("other").c_str(), 12345, 12345) == 0);
  app::hand_over_log(folder.file("other"), *account);
  CHECK(status_of(folder.file("other")).st_uid == 12345);
}

TEST_CASE("A link to a file of root's is no log to give away") {
  if (!base::running_as_root()) return;
  const Folder folder;
  const auto account = base::find_account("nobody");
  REQUIRE(account.has_value());
  std::ofstream(folder.file("precious")) << "root's";
  REQUIRE(::symlink(folder.file("precious").c_str(), folder.file("soft").c_str()) == 0);
  app::hand_over_log(folder.file("soft"), *account);
  CHECK(status_of(folder.file("precious")).st_uid == 0);
  REQUIRE(::link(folder.file("precious").c_str(), folder.file("hard").c_str()) == 0);
  app::hand_over_log(folder.file("hard"), *account);
  CHECK(status_of(folder.file("precious")).st_uid == 0);
}

TEST_CASE("Standard streams and no log at all are not files to create") {
  const Folder folder;
  const auto before = std::filesystem::current_path();
  std::filesystem::current_path(folder.file("."));
  base::Account account;
  for (const char* name : {"stdout", "stderr", "off"}) {
    app::hand_over_log(name, account);
    CHECK(!std::filesystem::exists(folder.file(name)));
  }
  std::filesystem::current_path(before);
}
