#include <fcntl.h>
#include <filesystem>
#include <fstream>
#include <random>
#include <signal.h>
#include <sstream>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <thread>
#include <unistd.h>

#include <catch2/catch.hpp>

#include "acme/storage/file.hpp"
#include "tests/support/await.hpp"
#include "tests/support/result.hpp"

using namespace gatehouse;
using acme::Disk;
using acme::FileSet;
using acme::FileStorage;
using base::ErrorKind;
namespace fs = std::filesystem;

namespace {

struct Folder {
  explicit Folder(const fs::path& above = fs::temp_directory_path()) {
    std::string pattern = (above / "gatehouse-storage-XXXXXX").string();
    REQUIRE(::mkdtemp(pattern.data()) != nullptr);
    path = pattern;
  }
  ~Folder() {
    std::error_code ignored;
    fs::remove_all(path, ignored);
  }
  std::string file(const std::string& name) const { return path + "/" + name; }
  std::string path;
};

std::unique_ptr<Disk> opened(const std::string& path) {
  auto disk = Disk::open(path, Disk::Access::exclusive);
  if (!disk) FAIL(disk.error().context);
  return std::move(*disk);
}

std::string read(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  std::stringstream text;
  text << file.rdbuf();
  return text.str();
}

void write(const std::string& path, const std::string& bytes) {
  std::ofstream(path, std::ios::binary | std::ios::trunc) << bytes;
}

unsigned mode(const std::string& path) {
  struct stat about {};
  REQUIRE(::stat(path.c_str(), &about) == 0);
  return about.st_mode & 0777;
}

FileSet set_of(const std::string& mark) {
  return {{"cert.pem", mark + " certificate\n"},
          {"privkey.pem", mark + " key"},
          {"meta.json", "{\"mark\":\"" + mark + "\"}\n"}};
}

size_t count(const std::string& folder) {
  std::error_code code;
  size_t entries = 0;
  for (const auto& entry : fs::directory_iterator(folder, code))
    entries += entry.path().empty() ? 0 : 1;
  return entries;
}

}  // namespace

TEST_CASE("What is stored is loaded again, byte for byte") {
  const Folder folder;
  const auto disk = opened(folder.file("new/storage"));
  for (const std::string& bytes :
       {std::string(), std::string("x"), std::string("a\n"), std::string("a\n\n"),
        std::string("no end of line"), std::string("\0\xff\n#sha256 ", 12)}) {
    REQUIRE(disk->store("issuers/le/rate.json", bytes));
    CHECK(*disk->load("issuers/le/rate.json") == bytes);
  }
  REQUIRE(disk->store_set("certs/a.example", set_of("one")));
  CHECK(*disk->load_set("certs/a.example") == set_of("one"));
  CHECK(*disk->list("certs") == std::vector<std::string>{"a.example"});
  CHECK(disk->list("nothing")->empty());
}

TEST_CASE("Folders are 0700, files 0600, whatever the umask") {
  const Folder folder;
  const mode_t before = ::umask(0);
  const std::string root = folder.file("storage");
  {
    const auto disk = opened(root);
    REQUIRE(disk->store("orders/a/order.json", "{}"));
    REQUIRE(disk->store_set("certs/a", set_of("one")));
  }
  ::umask(before);
  for (const auto& entry : fs::recursive_directory_iterator(root)) {
    if (entry.is_symlink()) continue;
    INFO(entry.path());
    CHECK(mode(entry.path()) == (entry.is_directory() ? 0700U : 0600U));
  }
  CHECK(mode(root) == 0700U);
  ::chmod(root.c_str(), 0755);
  opened(root);
  CHECK(mode(root) == 0700U);
}

TEST_CASE("A set keeps its previous generation and no more") {
  const Folder folder;
  const auto disk = opened(folder.path);
  for (const char* mark : {"one", "two", "three", "four"})
    REQUIRE(disk->store_set("certs/a", set_of(mark)));
  CHECK(*disk->load_set("certs/a") == set_of("four"));
  CHECK(fs::read_symlink(folder.file("certs/a/current")) == "00000004");
  CHECK(fs::exists(folder.file("certs/a/00000003")));
  CHECK_FALSE(fs::exists(folder.file("certs/a/00000002")));
  CHECK(count(folder.file("tmp")) == 0);
}

TEST_CASE("Every damaged file of a set is found, quarantined, and the generation before it used") {
  const std::vector<std::string> files{"cert.pem", "privkey.pem", "meta.json", "SHA256SUMS"};
  const std::vector<std::string> damages{"truncated", "empty", "flipped", "missing", "longer"};
  for (const auto& name : files)
    for (const auto& damage : damages) {
      INFO(name << " " << damage);
      const Folder folder;
      const auto disk = opened(folder.path);
      REQUIRE(disk->store_set("certs/a", set_of("old")));
      REQUIRE(disk->store_set("certs/a", set_of("new")));
      const std::string path = folder.file("certs/a/00000002/" + name);
      std::string bytes = read(path);
      if (damage == "truncated") bytes.pop_back();
      if (damage == "empty") bytes.clear();
      if (damage == "flipped") bytes[bytes.size() / 2] ^= 0x10;
      if (damage == "longer") bytes += "x";
      if (damage == "missing")
        fs::remove(path);
      else
        write(path, bytes);
      auto loaded = disk->load_set("certs/a");
      REQUIRE(loaded);
      CHECK(*loaded == set_of("old"));
      CHECK(fs::exists(folder.file("quarantine/certs_a_00000002")));
      CHECK(fs::read_symlink(folder.file("certs/a/current")) == "00000001");
      // And the next one is a new generation, not the damaged number's ghost.
      REQUIRE(disk->store_set("certs/a", set_of("newer")));
      CHECK(*disk->load_set("certs/a") == set_of("newer"));
    }
}

TEST_CASE("A bit flipped anywhere in a set is noticed") {
  const Folder folder;
  const auto disk = opened(folder.path);
  for (const std::string& name : {std::string("cert.pem"), std::string("SHA256SUMS")}) {
    REQUIRE(disk->store_set("certs/a", set_of("only")));
    const std::string generation = fs::read_symlink(folder.file("certs/a/current"));
    const std::string path = folder.file("certs/a/" + generation + "/" + name);
    const std::string bytes = read(path);
    for (size_t at = 0; at < bytes.size(); ++at) {
      std::string damaged = bytes;
      damaged[at] = static_cast<char>(damaged[at] ^ 1);
      write(path, damaged);
      auto beside = Disk::open(folder.path, Disk::Access::read_only);
      REQUIRE(beside);
      auto loaded = (*beside)->load_set("certs/a");
      INFO(name << " byte " << at);
      CHECK_FALSE((loaded && *loaded != set_of("only")));
    }
    write(path, bytes);
  }
}

TEST_CASE("When no generation is whole there is none") {
  const Folder folder;
  const auto disk = opened(folder.path);
  CHECK(disk->load_set("certs/a").error().kind == ErrorKind::not_found);
  REQUIRE(disk->store_set("certs/a", set_of("one")));
  write(folder.file("certs/a/00000001/cert.pem"), "");
  CHECK(disk->load_set("certs/a").error().kind == ErrorKind::not_found);
  CHECK(count(folder.file("quarantine")) == 1);
  REQUIRE(disk->store_set("certs/a", set_of("two")));
  CHECK(*disk->load_set("certs/a") == set_of("two"));
}

TEST_CASE("A lost or senseless 'current' is replaced by the newest whole generation") {
  const Folder folder;
  const auto disk = opened(folder.path);
  REQUIRE(disk->store_set("certs/a", set_of("one")));
  REQUIRE(disk->store_set("certs/a", set_of("two")));
  fs::remove(folder.file("certs/a/current"));
  CHECK(*disk->load_set("certs/a") == set_of("two"));
  fs::remove(folder.file("certs/a/current"));
  fs::create_symlink("../../../etc", folder.file("certs/a/current"));
  CHECK(*disk->load_set("certs/a") == set_of("two"));
  CHECK(fs::read_symlink(folder.file("certs/a/current")) == "00000002");
}

TEST_CASE("A damaged single file is quarantined and said to be corrupt, once") {
  const Folder folder;
  const auto disk = opened(folder.path);
  for (const std::string& damage :
       std::vector<std::string>{"truncated", "empty", "flipped", "unsealed"}) {
    INFO(damage);
    REQUIRE(disk->store("orders/a/order.json", "{\"url\":\"https://ca/order/1\"}"));
    const std::string path = folder.file("orders/a/order.json");
    std::string bytes = read(path);
    if (damage == "truncated") bytes.resize(bytes.size() - 3);
    if (damage == "empty") bytes.clear();
    if (damage == "flipped") bytes[4] ^= 4;
    if (damage == "unsealed") bytes = "{}";
    write(path, bytes);
    const auto loaded = disk->load("orders/a/order.json");
    REQUIRE_FALSE(loaded);
    CHECK(loaded.error().kind == ErrorKind::corrupt);
    CHECK(loaded.error().context.find(path) != std::string::npos);
    CHECK(loaded.error().context.find("quarantine") != std::string::npos);
    CHECK(disk->load("orders/a/order.json").error().kind == ErrorKind::not_found);
  }
  CHECK(count(folder.file("quarantine")) == 4);
}

TEST_CASE("No path leads out of the storage folder") {
  const Folder folder;
  const auto disk = opened(folder.path);
  for (const std::string& path :
       {std::string(""), std::string("/etc/passwd"), std::string("../x"), std::string("a/../b"),
        std::string("a//b"), std::string("a/"), std::string("."), std::string(".hidden"),
        std::string("a/.tmp"), std::string("a\nb"), std::string("a\0b", 3), std::string("a b"),
        std::string(300, 'x'), "a/" + std::string(2000, 'x')}) {
    INFO(path);
    CHECK(disk->load(path).error().kind == ErrorKind::invalid);
    CHECK(disk->store(path, "x").error().kind == ErrorKind::invalid);
    CHECK(disk->store_set(path, set_of("x")).error().kind == ErrorKind::invalid);
    CHECK(disk->load_set(path).error().kind == ErrorKind::invalid);
    CHECK(disk->list(path).error().kind == ErrorKind::invalid);
    CHECK(disk->move(path, "b").error().kind == ErrorKind::invalid);
  }
  CHECK_FALSE(disk->store_set("certs/a", {{"../x", "y"}}));
  CHECK_FALSE(disk->store_set("certs/a", {{"x/y", "y"}}));
  CHECK_FALSE(disk->store_set("certs/a", {{"SHA256SUMS", "y"}}));
  CHECK_FALSE(disk->store_set("certs/a", {}));
  CHECK(disk->load_set("certs/a").error().kind == ErrorKind::not_found);
}

TEST_CASE("A file that became a link or a device is not read") {
  const Folder folder;
  const auto disk = opened(folder.path);
  REQUIRE(disk->store("a/b", "x"));
  fs::remove(folder.file("a/b"));
  fs::create_symlink("/etc/passwd", folder.file("a/b"));
  CHECK_FALSE(disk->load("a/b"));
  fs::remove_all(folder.file("a"));
  REQUIRE(disk->store("a/c", "x"));
  fs::remove(folder.file("a/c"));
  REQUIRE(::mkfifo(folder.file("a/c").c_str(), 0600) == 0);
  CHECK_FALSE(disk->load("a/c"));
}

TEST_CASE("Moving replaces nothing; removing what is not there is well") {
  const Folder folder;
  const auto disk = opened(folder.path);
  REQUIRE(disk->store_set("certs/a", set_of("one")));
  REQUIRE(disk->store_set("archive/b", set_of("kept")));
  CHECK(disk->move("certs/none", "archive/none").error().kind == ErrorKind::not_found);
  CHECK_FALSE(disk->move("certs/a", "archive/b"));
  CHECK(*disk->load_set("archive/b") == set_of("kept"));
  REQUIRE(disk->move("certs/a", "archive/a"));
  CHECK(*disk->load_set("archive/a") == set_of("one"));
  CHECK(disk->load_set("certs/a").error().kind == ErrorKind::not_found);
  REQUIRE(disk->move("archive/a", ""));
  REQUIRE(disk->move("archive/a", ""));
  CHECK(*disk->list("archive") == std::vector<std::string>{"b"});
}

TEST_CASE("One gatehouse a folder: the second is told which folder and what to do") {
  const Folder folder;
  {
    const auto first = opened(folder.path);
    const auto second = Disk::open(folder.path, Disk::Access::exclusive);
    REQUIRE_FALSE(second);
    CHECK(second.error().kind == ErrorKind::unavailable);
    CHECK(second.error().context.find(folder.path) != std::string::npos);
    CHECK(second.error().context.find("another gatehouse") != std::string::npos);
    CHECK(second.error().context.find(std::to_string(::getpid())) != std::string::npos);
    // Looking is allowed.
    REQUIRE(first->store_set("certs/a", set_of("one")));
    auto beside = Disk::open(folder.path, Disk::Access::read_only);
    REQUIRE(beside);
    CHECK(*(*beside)->load_set("certs/a") == set_of("one"));
    CHECK((*beside)->store("x", "y").error().kind == ErrorKind::denied);
  }
  opened(folder.path);
}

TEST_CASE("A folder that cannot be used is named with the way out") {
  const Folder folder;
  write(folder.file("file"), "in the way");
  const auto blocked = Disk::open(folder.file("file/storage"), Disk::Access::exclusive);
  REQUIRE_FALSE(blocked);
  CHECK(blocked.error().context.find(folder.file("file")) != std::string::npos);
  CHECK(blocked.error().context.find("server.storage") != std::string::npos);
  CHECK(blocked.error().context.find('\n') == std::string::npos);

  const auto unwritable = Disk::open("/proc/gatehouse", Disk::Access::exclusive);
  REQUIRE_FALSE(unwritable);
  CHECK(unwritable.error().context.find("/proc/gatehouse") != std::string::npos);

  CHECK_FALSE(Disk::open("", Disk::Access::exclusive));
  CHECK(Disk::open(folder.file("none"), Disk::Access::read_only).error().kind ==
        ErrorKind::not_found);

  opened(folder.file("newer"));
  write(folder.file("newer/VERSION"), "7\n");
  const auto newer = Disk::open(folder.file("newer"), Disk::Access::exclusive);
  REQUIRE_FALSE(newer);
  CHECK(newer.error().context.find("VERSION") != std::string::npos);
}

TEST_CASE("What a crash left half written is gone after the next start") {
  const Folder folder;
  { opened(folder.path)->store_set("certs/a", set_of("one")).value(); }
  fs::create_directories(folder.file("tmp/17"));
  write(folder.file("tmp/17/privkey.pem"), "half");
  fs::create_directories(folder.file("certs/a/00000002"));  // renamed, never pointed to
  write(folder.file("certs/a/00000002/cert.pem"), "half");
  const auto disk = opened(folder.path);
  CHECK(count(folder.file("tmp")) == 0);
  CHECK(*disk->load_set("certs/a") == set_of("one"));
  REQUIRE(disk->store_set("certs/a", set_of("two")));
  CHECK(*disk->load_set("certs/a") == set_of("two"));
}

namespace {

/// Stores sets and files in a loop, acknowledging each to `pipe`.
[[noreturn]] void store_until_killed(const std::string& root, int pipe, unsigned from) {
  auto disk = Disk::open(root, Disk::Access::exclusive);
  if (!disk) ::_exit(3);
  for (unsigned number = from + 1;; ++number) {
    const std::string mark = std::to_string(number);
    if (!(*disk)->store("orders/a/order.json", mark)) ::_exit(4);
    if (!(*disk)->store_set("certs/a", set_of(mark))) ::_exit(5);
    if (::write(pipe, &number, sizeof number) != sizeof number) ::_exit(6);
  }
}

}  // namespace

TEST_CASE("200 kill -9 at random moments lose nothing that was acknowledged") {
  const Folder folder;
  opened(folder.path);
  std::mt19937 random(20240229);
  // Two rounds of the child's loop at this disk's pace, whatever that is.
  const auto begin = std::chrono::steady_clock::now();
  { opened(folder.path)->store_set("certs/a", set_of("0")).value(); }
  const auto pace = std::chrono::duration_cast<std::chrono::microseconds>(
      std::chrono::steady_clock::now() - begin);
  std::uniform_int_distribution<int64_t> microseconds(0, 2 * pace.count() + 2000);
  unsigned acknowledged = 0;
  for (int round = 0; round < 200; ++round) {
    int ends[2];
    REQUIRE(::pipe2(ends, O_CLOEXEC) == 0);
    const pid_t child = ::fork();
    if (child == 0) store_until_killed(folder.path, ends[1], acknowledged);
    ::close(ends[1]);
    ::usleep(static_cast<useconds_t>(microseconds(random)));
    REQUIRE(::kill(child, SIGKILL) == 0);
    int status = 0;
    REQUIRE(::waitpid(child, &status, 0) == child);
    REQUIRE(WIFSIGNALED(status));
    unsigned number = 0;
    while (::read(ends[0], &number, sizeof number) == sizeof number) acknowledged = number;
    ::close(ends[0]);

    const auto disk = opened(folder.path);  // at once: nothing waits for a stale lock
    auto set = disk->load_set("certs/a");
    REQUIRE(set);
    const std::string mark = set->at("privkey.pem").substr(0, set->at("privkey.pem").find(' '));
    CHECK(*set == set_of(mark));
    CHECK(static_cast<unsigned>(std::stoul(mark)) >= acknowledged);
    auto single = disk->load("orders/a/order.json");
    if (acknowledged > 0) REQUIRE(single);
    if (single) CHECK(std::stoul(*single) >= acknowledged);
    acknowledged = static_cast<unsigned>(std::stoul(mark));
  }
  CHECK(acknowledged > 0);
  CHECK(count(folder.file("quarantine")) == 0);
}

TEST_CASE("A full disk changes nothing and says where") {
  const Folder folder;
  const std::string large(2 * 1024 * 1024, 'x');
  const bool mounted = ::mount("tmpfs", folder.path.c_str(), "tmpfs", 0, "size=1m") == 0;
  rlimit before{};
  const auto full = [&](bool yes) {
    if (mounted) return;  // a disk of 1 MiB; else files of 256 KiB at most
    rlimit limit = before;
    if (yes) limit.rlim_cur = 256 * 1024;
    ::setrlimit(RLIMIT_FSIZE, &limit);
  };
  ::getrlimit(RLIMIT_FSIZE, &before);
  auto* handler = ::signal(SIGXFSZ, SIG_IGN);
  {
    const auto disk = opened(folder.path);
    REQUIRE(disk->store_set("certs/a", set_of("one")));
    REQUIRE(disk->store("x", "small"));
    full(true);
    FileSet big = set_of("two");
    big["cert.pem"] = large;
    const auto set = disk->store_set("certs/a", big);
    const auto single = disk->store("x", large);
    full(false);
    REQUIRE_FALSE(set);
    REQUIRE_FALSE(single);
    CHECK(set.error().kind == ErrorKind::io);
    CHECK(set.error().context.find(folder.path) != std::string::npos);
    CHECK(set.error().context.find("free some space") != std::string::npos);
    CHECK(*disk->load_set("certs/a") == set_of("one"));
    CHECK(*disk->load("x") == "small");
    CHECK(count(folder.file("tmp")) == 0);
    REQUIRE(disk->store_set("certs/a", set_of("three")));
    CHECK(*disk->load_set("certs/a") == set_of("three"));
  }
  ::signal(SIGXFSZ, handler);
  if (mounted) ::umount(folder.path.c_str());
}

TEST_CASE("100,000 names are listed in under a second") {
  // In memory where there is such a place: making 100,000 folders on a disk takes minutes.
  const Folder folder(::access("/dev/shm", W_OK) == 0 ? fs::path("/dev/shm")
                                                      : fs::temp_directory_path());
  const auto disk = opened(folder.path);
  REQUIRE(disk->store_set("certs/a", set_of("one")));
  for (int number = 0; number < 100'000; ++number)
    ::mkdir(folder.file("certs/n" + std::to_string(number)).c_str(), 0700);
  const auto begin = std::chrono::steady_clock::now();
  CHECK(disk->list("certs")->size() == 100'001);
  CHECK(std::chrono::steady_clock::now() - begin < std::chrono::seconds(1));
}

TEST_CASE("The storage thread works in order and resumes on the caller's") {
  const Folder folder;
  boost::asio::io_context control;
  auto storage = FileStorage::open(folder.path);
  REQUIRE(storage);
  const auto script = [](acme::Storage& files,
                         std::thread::id home) -> boost::asio::awaitable<bool> {
    for (int number = 0; number < 20; ++number) {
      auto stored = co_await files.store("a/b", std::to_string(number));
      if (!stored || std::this_thread::get_id() != home) co_return false;
    }
    auto loaded = co_await files.load("a/b");
    auto stored = co_await files.store_set("certs/a", set_of("one"));
    auto set = co_await files.load_set("certs/a");
    auto moved = co_await files.move("certs/a", "archive/a");
    auto names = co_await files.list("archive");
    auto missing = co_await files.load("none");
    co_return loaded&&* loaded == "19" && stored&& set&&* set == set_of("one") &&
        moved&& names&&* names == std::vector<std::string>{"a"} && !missing &&
        missing.error().kind == ErrorKind::not_found;
  };
  CHECK(test::await(control, script(**storage, std::this_thread::get_id())));
}

TEST_CASE("The current generation is told without reading it") {
  const Folder folder;
  const auto disk = opened(folder.path);
  CHECK(disk->current("certs/a").empty());
  REQUIRE(disk->store_set("certs/a", set_of("one")));
  CHECK(disk->current("certs/a") == "00000001");
  REQUIRE(disk->store_set("certs/a", set_of("two")));
  CHECK(disk->current("certs/a") == "00000002");
  CHECK(disk->current("../a").empty());
  fs::remove(folder.file("certs/a/current"));
  fs::create_symlink("/etc", folder.file("certs/a/current"));
  CHECK(disk->current("certs/a").empty());
}

TEST_CASE("Files where folders should be are damage, and are kept") {
  const Folder folder;
  const auto disk = opened(folder.path);
  const auto store_two = [&](const std::string& set) {
    REQUIRE(disk->store_set(set, set_of("one")));
    REQUIRE(disk->store_set(set, set_of("two")));
  };
  store_two("certs/generation");
  fs::remove_all(folder.file("certs/generation/00000002"));
  write(folder.file("certs/generation/00000002"), "in the way");
  CHECK(*disk->load_set("certs/generation") == set_of("one"));
  CHECK(read(folder.file("quarantine/certs_generation_00000002")) == "in the way");

  write(folder.file("certs/set"), "no folder at all");
  CHECK(disk->load_set("certs/set").error().kind == ErrorKind::not_found);
  REQUIRE(disk->store_set("certs/set", set_of("one")));
  CHECK(*disk->load_set("certs/set") == set_of("one"));
  CHECK(read(folder.file("quarantine/certs_set")) == "no folder at all");
}

TEST_CASE("What cannot be moved to quarantine stays where it is, and is not removed") {
  const Folder folder;
  const auto disk = opened(folder.path);
  REQUIRE(disk->store_set("certs/a", set_of("one")));
  REQUIRE(disk->store_set("certs/a", set_of("two")));
  write(folder.file("certs/a/00000002/meta.json"), "torn");
  fs::remove_all(folder.file("quarantine"));
  write(folder.file("quarantine"), "no folder");
  CHECK(*disk->load_set("certs/a") == set_of("one"));
  CHECK(read(folder.file("certs/a/00000002/meta.json")) == "torn");
  // The next write has a place of its own beside it.
  REQUIRE(disk->store_set("certs/a", set_of("three")));
  CHECK(*disk->load_set("certs/a") == set_of("three"));
}
