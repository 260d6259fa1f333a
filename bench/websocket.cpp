// WebSocket as load: an origin that echoes, and a client whose connections each have one message
// under way.
//
//   bench_websocket origin PORT
//   bench_websocket load ADDRESS PORT NAME PATH CONNECTIONS SECONDS BYTES
//
// The origin is plain, the client speaks TLS, opens by Upgrade, compares every byte that returns,
// and prints one line of JSON. BYTES is 126 to 65,535: one form of the frame's length.
#include <algorithm>
#include <cctype>
#include <cstdio>
#include <cstring>
#include <memory>
#include <vector>

#include <openssl/evp.h>
#include <openssl/sha.h>

#include "serve.hpp"

namespace {

// RFC 6455, section 1.3: the example's key and what accepts it.
constexpr std::string_view sample_key = "dGhlIHNhbXBsZSBub25jZQ==";
constexpr std::string_view sample_accept = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";
constexpr std::string_view key_suffix = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

std::string accept_of(const std::string& key) {
  std::string text = key + std::string(key_suffix);
  unsigned char digest[SHA_DIGEST_LENGTH];
  SHA1(reinterpret_cast<const unsigned char*>(text.data()), text.size(), digest);
  unsigned char encoded[32];
  int length = EVP_EncodeBlock(encoded, digest, sizeof digest);
  return {reinterpret_cast<char*>(encoded), static_cast<size_t>(length)};
}

/// The value of the field `name` (in lower case) in a head; empty if it is not there.
std::string field(const std::string& head, const std::string& name) {
  std::string lower = head;
  std::transform(lower.begin(), lower.end(), lower.begin(),
                 [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  size_t begin = lower.find("\r\n" + name + ":");
  if (begin == std::string::npos) return {};
  begin = head.find_first_not_of(' ', begin + name.size() + 3);
  return head.substr(begin, head.find("\r\n", begin) - begin);
}

// ---- origin

class Echo : public Peer {
 public:
  using Peer::Peer;

  /// False once the connection is over.
  bool on_readable() {
    char bytes[65536];
    auto come = read(bytes);
    if (!come) return false;
    in_.append(*come);
    std::string out;
    bool goes_on = upgraded_ || answer_head(out);
    size_t begin = 0;
    while (upgraded_ && goes_on)
      if (size_t length = echo_frame(begin, out, goes_on))
        begin += length;
      else
        break;
    in_.erase(0, begin);
    return (out.empty() || write(out)) && goes_on;
  }

 private:
  bool answer_head(std::string& out) {
    size_t end = in_.find("\r\n\r\n");
    if (end == std::string::npos) return true;
    std::string key = field(in_.substr(0, end + 2), "sec-websocket-key");
    in_.erase(0, end + 4);
    if (key.empty()) {
      out = "HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
      return false;
    }
    upgraded_ = true;
    out =
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        "Sec-WebSocket-Accept: " +
        accept_of(key) + "\r\n\r\n";
    return true;
  }

  /// Echoes the frame at `begin` and returns its length; 0 if it has not all come.
  size_t echo_frame(size_t begin, std::string& out, bool& goes_on) {
    if (in_.size() < begin + 2) return 0;
    auto byte = [&](size_t i) { return static_cast<uint8_t>(in_[begin + i]); };
    size_t length = byte(1) & 0x7f, head = 2;
    if (length == 127) fail("a message of 64 KiB or more");
    if (length == 126) {
      if (in_.size() < begin + 4) return 0;
      length = size_t{byte(2)} << 8 | byte(3);
      head = 4;
    }
    if (!(byte(1) & 0x80)) fail("a client's frame that is not masked");
    if (in_.size() < begin + head + 4 + length) return 0;
    goes_on = (byte(0) & 0xf) != 8;
    out += in_[begin];
    out += static_cast<char>(byte(1) & 0x7f);
    if (head == 4) out.append(in_, begin + 2, 2);
    const char* mask = &in_[begin + head];
    for (size_t i = 0; i < length; ++i)
      out += static_cast<char>(in_[begin + head + 4 + i] ^ mask[i % 4]);
    return head + 4 + length;
  }

  std::string in_;
  bool upgraded_ = false;
};

// ---- load

/// What every connection says and expects.
struct Script {
  std::string upgrade;
  std::string message;  // masked, as it is sent
  std::string echo;     // as it must come back
};

Script make_script(const Target& target, size_t bytes) {
  Script script;
  script.upgrade = "GET " + target.path + " HTTP/1.1\r\nHost: " + target.name +
                   "\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
                   "Sec-WebSocket-Key: " +
                   std::string(sample_key) + "\r\n\r\n";
  const char length[] = {static_cast<char>(bytes >> 8), static_cast<char>(bytes)};
  const char mask[] = {0x37, '\xfa', 0x21, 0x3d};
  script.message = std::string("\x82\xfe") + std::string(length, 2) + std::string(mask, 4);
  script.echo = std::string("\x82\x7e") + std::string(length, 2);
  for (size_t i = 0; i < bytes; ++i) {
    char c = static_cast<char>(i * 31 + 7);
    script.echo += c;
    script.message += static_cast<char>(c ^ mask[i % 4]);
  }
  return script;
}

struct Client : Connection {
  bool requested = false;
  bool upgraded = false;
  std::string head;
  size_t echoed = 0;  // bytes of the echo that have come
};

/// Small and one at a time: it fits into the socket's buffer.
void write_all(Client& c, const std::string& bytes) {
  if (SSL_write(c.ssl, bytes.data(), static_cast<int>(bytes.size())) <= 0)
    fail("a message could not be sent");
}

/// The bytes after the head of the response, if it is complete.
std::string_view take_head(Client& c, std::string_view bytes) {
  c.head += bytes;
  size_t end = c.head.find("\r\n\r\n");
  if (end == std::string::npos) return {};
  if (c.head.compare(0, 12, "HTTP/1.1 101") != 0 ||
      field(c.head, "sec-websocket-accept") != sample_accept)
    fail("no WebSocket: " + c.head);
  c.upgraded = true;
  return bytes.substr(bytes.size() - (c.head.size() - end - 4));
}

/// Runs until the connection waits; returns how many echoes came.
uint64_t step(Client& c, const Script& script) {
  ERR_clear_error();
  if (!c.requested) {
    if (int result = SSL_connect(c.ssl); result != 1) {
      if (wanted(c.ssl, result) == Next::failed) fail("a handshake failed");
      return 0;
    }
    write_all(c, script.upgrade);
    c.requested = true;
  }
  uint64_t done = 0;
  for (;;) {
    char buffer[16384];
    int result = SSL_read(c.ssl, buffer, sizeof buffer);
    if (result <= 0) {
      if (wanted(c.ssl, result) == Next::failed) fail("a connection ended");
      return done;
    }
    std::string_view bytes(buffer, static_cast<size_t>(result));
    if (!c.upgraded) {
      bytes = take_head(c, bytes);
      if (!c.upgraded) continue;
      write_all(c, script.message);
    }
    if (bytes.size() > script.echo.size() - c.echoed ||
        std::memcmp(bytes.data(), script.echo.data() + c.echoed, bytes.size()) != 0)
      fail("an echo is not what was sent");
    c.echoed += bytes.size();
    if (c.echoed < script.echo.size()) continue;
    c.echoed = 0;
    ++done;
    write_all(c, script.message);
  }
}

uint64_t load(const Target& target, size_t width, double seconds, size_t bytes) {
  SSL_CTX* context = client_context("http/1.1");
  Script script = make_script(target, bytes);
  int poll = epoll_create1(0);
  std::vector<std::unique_ptr<Client>> clients;
  for (size_t i = 0; i < width; ++i) {
    clients.push_back(std::make_unique<Client>());
    open_connection(*clients.back(), context, target, poll, clients.back().get());
  }
  uint64_t done = 0;
  auto until = Clock::now() + std::chrono::duration<double>(seconds);
  while (Clock::now() < until) {
    epoll_event events[256];
    int count = epoll_wait(poll, events, 256, 100);
    for (int i = 0; i < count; ++i) done += step(*static_cast<Client*>(events[i].data.ptr), script);
  }
  for (auto& c : clients)
    if (!c->upgraded) fail("a connection was not answered");
  clients.clear();
  SSL_CTX_free(context);
  return done;
}

}  // namespace

int main(int count, char** arguments) {
  std::string mode = count > 1 ? arguments[1] : "";
  allow_many_files();
  if (mode == "origin" && count == 3) serve<Echo>(std::atoi(arguments[2]));
  if (mode != "load" || count != 9)
    fail("usage: origin PORT, or load ADDRESS PORT NAME PATH CONNECTIONS SECONDS BYTES");
  auto bytes = static_cast<size_t>(std::atoi(arguments[8]));
  if (bytes < 126 || bytes > 65535) fail("BYTES is 126 to 65535");
  uint64_t done = load(parse_target(arguments + 2), static_cast<size_t>(std::atoi(arguments[6])),
                       std::atof(arguments[7]), bytes);
  std::printf("{\"messages\": %llu}\n", static_cast<unsigned long long>(done));
  return 0;
}
