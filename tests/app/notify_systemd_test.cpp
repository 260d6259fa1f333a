#include "app/notify_systemd.hpp"

#include <cstdlib>
#include <cstring>
#include <string>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <catch2/catch.hpp>

using namespace gatehouse::app;

namespace {

/// What systemd is told, instead of systemd.
class NotifySocket {
 public:
  NotifySocket() : descriptor_(::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0)) {
    const std::string name = "gatehouse-notify-" + std::to_string(::getpid());
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    std::memcpy(address.sun_path + 1, name.data(), name.size());  // abstract: no file to remove
    const auto size = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + 1 + name.size());
    REQUIRE(::bind(descriptor_, reinterpret_cast<sockaddr*>(&address), size) == 0);
    ::setenv("NOTIFY_SOCKET", ("@" + name).c_str(), 1);
  }
  ~NotifySocket() {
    ::unsetenv("NOTIFY_SOCKET");
    ::close(descriptor_);
  }
  std::string received() const {
    char bytes[512];
    const ssize_t count = ::recv(descriptor_, bytes, sizeof(bytes), 0);
    return count > 0 ? std::string(bytes, static_cast<size_t>(count)) : "";
  }

 private:
  int descriptor_;
};

}  // namespace

TEST_CASE("systemd is told of the start, a reload and the end") {
  const NotifySocket systemd;
  notify_ready();
  CHECK(systemd.received() == "READY=1");
  notify_reloading();
  CHECK(systemd.received().starts_with("RELOADING=1\nMONOTONIC_USEC="));
  notify_stopping();
  CHECK(systemd.received() == "STOPPING=1");
}

TEST_CASE("Without systemd nothing happens") {
  ::unsetenv("NOTIFY_SOCKET");
  notify_ready();
  notify_reloading();
  notify_stopping();
}
