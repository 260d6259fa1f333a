#include "tests/support/pebble.hpp"

#include <arpa/inet.h>
#include <chrono>
#include <csignal>
#include <cstdlib>
#include <fcntl.h>
#include <filesystem>
#include <fstream>
#include <netinet/in.h>
#include <sstream>
#include <stdexcept>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <thread>
#include <unistd.h>

#include <fmt/format.h>

namespace gatehouse::test {

namespace {

sockaddr_in loopback(uint16_t port) {
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  address.sin_port = htons(port);
  return address;
}

/// A socket at the port, or -1: somebody else has it. `shared`: neither old connections count, nor
/// who does the same and does not listen.
int bound(uint16_t port, bool shared) {
  const int socket = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  const int reuse = shared ? 1 : 0;
  ::setsockopt(socket, SOL_SOCKET, SO_REUSEADDR, &reuse, sizeof reuse);
  const sockaddr_in address = loopback(port);
  if (::bind(socket, reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0)
    return socket;
  ::close(socket);
  return -1;
}

bool answers(uint16_t port) {
  const int socket = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  const sockaddr_in address = loopback(port);
  const bool connected =
      ::connect(socket, reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0;
  ::close(socket);
  return connected;
}

std::string slurp(const std::string& path) {
  const std::ifstream file(path);
  std::ostringstream text;
  text << file.rdbuf();
  return text.str();
}

/// Until the process listens; throws if it ended instead.
void await_port(uint16_t port, pid_t process, const std::string& what, const std::string& log) {
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(30);
  while (!answers(port)) {
    if (::waitpid(process, nullptr, WNOHANG) != 0) {
      throw std::runtime_error(what + " ended at once; is Debian's package pebble installed? " +
                               slurp(log));
    }
    if (std::chrono::steady_clock::now() > deadline) {
      throw std::runtime_error(what + " does not listen: " + slurp(log));
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  }
}

void end(pid_t& process) {
  if (process <= 0) return;
  ::kill(process, SIGKILL);
  ::waitpid(process, nullptr, 0);
  process = -1;
}

}  // namespace

uint16_t free_port() {
  // As tools/ports.py: below the ports of outgoing connections, in blocks of which a process takes
  // one. Its first port stays bound as a sign to the others, which thus never look at a port that
  // is ours and not bound yet.
  constexpr uint16_t lowest = 12000;
  constexpr uint16_t blocks = 100;
  constexpr uint16_t block_ports = 200;
  static uint16_t first = 0;
  static uint16_t last = 0;
  for (uint16_t block = 0; first == 0 && block < blocks; ++block) {
    const uint16_t port = lowest + block * block_ports;
    if (bound(port, false) >= 0) first = last = port;  // until the process ends
  }
  for (uint16_t looks = 0; first != 0 && looks < block_ports; ++looks) {
    last = last + 1 < first + block_ports ? last + 1 : first + 1;
    const int socket = bound(last, true);
    if (socket < 0) continue;
    ::close(socket);
    return last;
  }
  throw std::runtime_error("no free port");
}

Pebble::Pebble(PebbleSettings settings)
    : settings_(settings),
      acme_port_(free_port()),
      management_port_(free_port()),
      http_port_(settings.http_port == 0 ? free_port() : settings.http_port),
      tls_port_(settings.tls_port == 0 ? free_port() : settings.tls_port),
      dns_port_(free_port()),
      dns_control_port_(free_port()) {
  std::string pattern = (std::filesystem::temp_directory_path() / "pebble-XXXXXX").string();
  if (::mkdtemp(pattern.data()) == nullptr) throw std::runtime_error("no temporary folder");
  folder_ = pattern;
  try {
    write_settings();
    start();
  } catch (...) {
    stop();
    std::filesystem::remove_all(folder_);
    throw;
  }
}

Pebble::~Pebble() {
  stop();
  std::error_code ignored;
  std::filesystem::remove_all(folder_, ignored);
}

std::string Pebble::directory() const {
  return fmt::format("https://localhost:{}/dir", acme_port_);
}

std::string Pebble::log() const {
  return slurp(folder_ + "/pebble.log");
}

void Pebble::restart() {
  end(pebble_);
  start();
}

void Pebble::write_settings() const {
  std::ofstream config(folder_ + "/config.json");
  config << fmt::format(
      R"({{"pebble": {{"listenAddress": "127.0.0.1:{}", "managementListenAddress": "127.0.0.1:{}",
"certificate": "{}/cert.pem", "privateKey": "{}/key.pem", "httpPort": {}, "tlsPort": {},
"ocspResponderURL": "", "externalAccountBindingRequired": {},
"externalAccountMACKeys": {{"kid-1": "{}"}}}}}})",
      acme_port_, management_port_, folder_, folder_, http_port_, tls_port_,
      settings_.binding_required, pebble_binding_key);
  config.close();
  const pid_t maker =
      spawn({"openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1",
             "-nodes", "-days", "2", "-subj", "/CN=localhost", "-addext",
             "subjectAltName=DNS:localhost,IP:127.0.0.1", "-keyout", folder_ + "/key.pem", "-out",
             folder_ + "/cert.pem"},
            folder_ + "/openssl.log");
  int status = 0;
  if (::waitpid(maker, &status, 0) != maker || status != 0) {
    throw std::runtime_error("openssl could not make a certificate: " +
                             slurp(folder_ + "/openssl.log"));
  }
}

void Pebble::start() {
  const std::string dns_log = folder_ + "/dns.log";
  if (dns_ < 0) {
    dns_ =
        spawn({"pebble-challtestsrv", "-management", fmt::format("127.0.0.1:{}", dns_control_port_),
               "-dns01", fmt::format("127.0.0.1:{}", dns_port_), "-defaultIPv4", "127.0.0.1",
               "-defaultIPv6", "", "-http01", "", "-https01", "", "-tlsalpn01", ""},
              dns_log);
    await_port(dns_port_, dns_, "pebble-challtestsrv", dns_log);
  }
  pebble_ = spawn({"pebble", "-config", folder_ + "/config.json", "-strict", "-dnsserver",
                   fmt::format("127.0.0.1:{}", dns_port_)},
                  folder_ + "/pebble.log");
  await_port(acme_port_, pebble_, "pebble", folder_ + "/pebble.log");
}

void Pebble::stop() {
  end(pebble_);
  end(dns_);
}

pid_t Pebble::spawn(const std::vector<std::string>& command, const std::string& log) const {
  std::vector<char*> arguments;
  for (const auto& word : command) arguments.push_back(const_cast<char*>(word.c_str()));
  arguments.push_back(nullptr);
  const pid_t process = ::fork();
  if (process < 0) throw std::runtime_error("cannot fork");
  if (process > 0) return process;
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);  // also when the test crashes
  const int output = ::open(log.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
  ::dup2(output, 1);
  ::dup2(output, 2);
  ::setenv("GOMAXPROCS", "1", 1);  // its threads may wait for each other's locks for ever
  ::setenv("PEBBLE_VA_NOSLEEP", "1", 1);
  ::setenv("PEBBLE_VA_ALWAYS_VALID", settings_.always_valid ? "1" : "0", 1);
  ::setenv("PEBBLE_WFE_NONCEREJECT", std::to_string(settings_.nonce_rejections_percent).c_str(), 1);
  ::setenv("PEBBLE_AUTHZREUSE", std::to_string(settings_.authorization_reuse_percent).c_str(), 1);
  ::setenv("PEBBLE_ALTERNATE_ROOTS", std::to_string(settings_.alternate_roots).c_str(), 1);
  ::execvp(arguments[0], arguments.data());
  ::_exit(127);
}

}  // namespace gatehouse::test
