// A ClientHello: every prefix of it wants more or says what the whole says, and it says the same
// however it is cut into records.
#include "tls/client_hello.hpp"

#include <algorithm>
#include <memory>
#include <string>
#include <vector>

#include <fmt/format.h>

#include "tests/fuzz/target.hpp"

namespace gatehouse {

namespace tls {

namespace {

constexpr size_t record_header_size = 5;
constexpr size_t message_header_size = 4;

/// The verdict, and what was understood.
struct Verdict {
  HelloStatus status;
  std::string text;
  bool operator==(const Verdict&) const = default;
};

std::string text_of(const ClientHello& hello) {
  return fmt::format("{} {}{}{}{}{}", hello.server_name, hello.has_alpn, hello.offers_http1,
                     hello.offers_h2, hello.offers_acme, hello.tls13);
}

void check_name(const std::string& name) {
  ASSERT(name.size() <= 253);
  ASSERT(name.empty() || (name.front() != '.' && name.back() != '.'));
  for (const char c : name) {
    const bool word = (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9');
    ASSERT(word || c == '-' || c == '_' || c == '.');
  }
}

/// Reads from memory of exactly that size.
Verdict judge(std::string_view bytes) {
  const auto exact = std::make_unique<uint8_t[]>(bytes.size());
  std::copy(bytes.begin(), bytes.end(), exact.get());
  ClientHello hello;
  const auto status = parse_client_hello({exact.get(), bytes.size()}, hello);
  if (status != HelloStatus::complete) ASSERT(text_of(hello) == text_of(ClientHello{}));
  check_name(hello.server_name);
  const bool offers = hello.offers_http1 || hello.offers_h2 || hello.offers_acme;
  ASSERT(hello.has_alpn || !offers);
  return {status, text_of(hello)};
}

void check_prefixes(std::string_view bytes, const Verdict& whole) {
  const size_t step = std::max<size_t>(1, bytes.size() / 64);
  for (size_t size = bytes.size() % step; size < bytes.size(); size += step) {
    const Verdict prefix = judge(bytes.substr(0, size));
    ASSERT(prefix.status == HelloStatus::need_more || prefix == whole);
  }
}

/// The message of a first record that holds it all; else nothing.
std::string_view message_of(std::string_view bytes) {
  if (bytes.size() < record_header_size + message_header_size) return {};
  const auto at = [&](size_t i) { return static_cast<size_t>(static_cast<uint8_t>(bytes[i])); };
  const size_t record = at(3) << 8 | at(4);
  const size_t message = message_header_size + (at(6) << 16 | at(7) << 8 | at(8));
  if (message > record || record_header_size + message > bytes.size()) return {};
  return bytes.substr(record_header_size, message);
}

void check_records(std::string_view message, const Verdict& whole) {
  constexpr size_t records = 7;
  const size_t size = message.size() / records + 1;
  std::string cut;
  for (size_t at = 0; at < message.size(); at += size) {
    const std::string_view fragment = message.substr(at, size);
    cut += {22, 3, 1, static_cast<char>(fragment.size() >> 8), static_cast<char>(fragment.size())};
    cut += fragment;
  }
  ASSERT(judge(cut) == whole);
}

}  // namespace

}  // namespace tls

void fuzz(std::string_view input) {
  const auto whole = tls::judge(input);
  tls::check_prefixes(input, whole);
  if (whole.status != tls::HelloStatus::complete) return;
  ASSERT(tls::judge(std::string(input) + "behind it") == whole);
  const auto message = tls::message_of(input);
  if (!message.empty()) tls::check_records(message, whole);
}

}  // namespace gatehouse
