#include "config/parse_server.hpp"

#include <algorithm>
#include <string_view>

#include <fmt/format.h>

#include "config/files.hpp"
#include "config/suggestion.hpp"

namespace gatehouse::config {

namespace {

using std::chrono::hours;
using std::chrono::milliseconds;

constexpr uint32_t workers_max = 1024;
constexpr uint32_t listeners_max = 1024;
constexpr uint32_t connections_max = 10'000'000;
constexpr Duration wait_min = milliseconds(1);
constexpr Duration wait_max = hours(24 * 30);
constexpr Duration grace_max = hours(24);
constexpr uint64_t header_bytes_min = 1024;
constexpr uint64_t header_bytes_max = 64 * 1024;
constexpr uint32_t fields_min = 8;
constexpr uint32_t fields_max = 10'000;
constexpr uint64_t body_bytes_max = uint64_t{1} << 62;
constexpr uint64_t body_rate_max = 1024 * 1024;
constexpr uint32_t streams_max = 10'000;

void parse_server(Reader& reader, Draft& draft);
void parse_log(Reader& reader, Log& log);
void parse_timeouts(Reader& reader, Timeouts& timeouts);
void parse_limits(Reader& reader, Limits& limits);

}  // namespace

void parse_server_sections(Reader& root, Draft& draft) {
  const auto section = [&](std::string_view name, auto parse, auto& target) {
    const auto* table = root.table(name);
    if (table == nullptr || !draft.first_time(std::string(name), table->mark)) return;
    Reader reader(*table, std::string(name), draft.findings);
    parse(reader, target);
    reader.finish();
  };
  section("server", parse_server, draft);
  section("log", parse_log, draft.snapshot.log);
  section("timeouts", parse_timeouts, draft.snapshot.timeouts);
  section("limits", parse_limits, draft.snapshot.limits);
}

namespace {

void parse_listeners(Reader& reader, std::string_view key, std::vector<ListenAddress>& target,
                     Draft& draft) {
  std::vector<ListenAddress> result;
  const auto take = [&](const std::string& text, const Mark& mark, const std::string& path) {
    auto address = parse_listen_address(text);
    if (!address) {
      draft.findings.add(mark, path, address.error().text);
    } else if (result.size() == listeners_max) {
      draft.findings.add(mark, path, fmt::format("more than {} addresses", listeners_max));
    } else {
      draft.listeners.push_back({*address, mark, path});
      result.push_back(std::move(*address));
    }
  };
  if (reader.each_string(key, take)) target = std::move(result);
}

/// "file:/path" → "/path".
void parse_storage(Reader& reader, std::string& target) {
  std::string text;
  if (!reader.read("storage", text)) return;
  for (const std::string_view later : {"etcd:", "redis:", "rediss:", "s3:"}) {
    if (text.starts_with(later)) {
      reader.refuse("storage", fmt::format("storage in {} is not supported in this version: use "
                                           "\"file:/var/lib/gatehouse\"",
                                           later.substr(0, later.size() - 1)));
      return;
    }
  }
  if (!text.starts_with("file:") || text.size() == 5) {
    const auto example = text.find(':') == text.npos && !text.empty() && text != "file"
                             ? "file:" + text
                             : std::string("file:/var/lib/gatehouse");
    reader.refuse("storage",
                  fmt::format("{} is no storage: write \"{}\"", in_quotes(text), example));
    return;
  }
  target = resolve_path(std::string_view(text).substr(5),
                        reader.findings().source(reader.mark()).folder);
}

void parse_admin(Reader& reader, Draft& draft) {
  auto& server = draft.snapshot.server;
  const bool from_file = reader.read_secret_file("admin_token_file", server.admin_token);
  std::string token;
  if (reader.read_secret("admin_token", token)) {
    if (from_file) {
      reader.refuse("admin_token", "given together with admin_token_file: keep one of the two");
    }
    server.admin_token = std::move(token);
  }
  if (server.admin_token.find(' ') != std::string::npos || !is_field_value(server.admin_token)) {
    const auto* key = from_file ? "admin_token_file" : "admin_token";
    reader.refuse(key,
                  "the token holds white space or control characters: it must fit in one "
                  "Authorization field");
  }
  std::string text;
  if (!reader.read("admin", text)) return;
  const auto address = parse_listen_address(text);
  if (!address) {
    reader.refuse("admin", address.error().text);
    return;
  }
  server.admin = text;
  draft.listeners.push_back({*address, reader.mark("admin"), reader.path("admin")});
  if (address->unix_path.empty() && server.admin_token.empty() && !reader.has("admin_token_file") &&
      !reader.has("admin_token")) {
    reader.refuse("admin",
                  "an admin address over TCP needs admin_token_file: name a file with a "
                  "secret token, or use \"unix:/run/gatehouse/admin.sock\"");
  }
}

void parse_proxy_protocol(Reader& reader, Server& server) {
  reader.read("proxy_protocol", server.proxy_protocol);
  if (!server.proxy_protocol || reader.given("trusted_proxies")) return;
  const auto on_unix = [](const ListenAddress& address) { return !address.unix_path.empty(); };
  if (std::any_of(server.http.begin(), server.http.end(), on_unix)) return;
  if (std::any_of(server.https.begin(), server.https.end(), on_unix)) return;
  reader.refuse("proxy_protocol",
                "believes nobody without trusted_proxies: name the networks of the proxies, such "
                "as [\"10.0.0.0/8\"]");
}

void parse_server(Reader& reader, Draft& draft) {
  auto& server = draft.snapshot.server;
  draft.http_given = reader.has("http");
  draft.http_off = draft.http_given && !reader.given("http");
  parse_listeners(reader, "http", server.http, draft);
  draft.https_given = reader.has("https");
  draft.https_off = draft.https_given && !reader.given("https");
  parse_listeners(reader, "https", server.https, draft);
  reader.read("workers", server.workers, 0, workers_max);
  reader.read("user", server.user);
  reader.read("h2c", server.h2c);
  parse_storage(reader, server.storage);
  parse_admin(reader, draft);
  reader.read("trusted_proxies", server.trusted_proxies);
  parse_proxy_protocol(reader, server);
  reader.read("grace", server.grace, Duration(0), grace_max);
}

void parse_log_target(Reader& reader, std::string_view key, bool may_be_off, std::string& target) {
  std::string text;
  if (!reader.read(key, text)) return;
  if (text == "stdout" || text == "stderr" || (may_be_off && text == "off")) {
    target = text;
    return;
  }
  const auto words = may_be_off ? "\"stdout\", \"stderr\", \"off\"" : "\"stdout\", \"stderr\"";
  if (text.empty()) {
    reader.refuse(key, fmt::format("is empty: write {} or a path", words));
    return;
  }
  static constexpr std::string_view known[] = {"stdout", "stderr", "off", "none"};
  if (text.find_first_of("/.") == text.npos) {
    // A word without a slash or a dot is a slip more often than a file.
    const auto suggestion = did_you_mean(text, known);
    reader.refuse(key, fmt::format("{} is neither {} nor a path{}: for a file write \"./{}\"",
                                   in_quotes(text), words, suggestion, text));
    return;
  }
  reader.read_path(key, target);
}

void parse_log(Reader& reader, Log& log) {
  reader.choose<LogLevel>("level", log.level,
                          {{"trace", LogLevel::trace},
                           {"debug", LogLevel::debug},
                           {"info", LogLevel::info},
                           {"warn", LogLevel::warn},
                           {"error", LogLevel::error}});
  reader.choose<bool>("format", log.json, {{"text", false}, {"json", true}});
  parse_log_target(reader, "file", false, log.file);
  parse_log_target(reader, "access", true, log.access);
  reader.choose<AccessFormat>("access_format", log.access_format,
                              {{"json", AccessFormat::json}, {"common", AccessFormat::common}});
  std::vector<std::string> redact;
  const auto take = [&](const std::string& text, const Mark& mark, const std::string& path) {
    if (!is_token(text)) {
      reader.findings().add(mark, path, fmt::format("{} is no field name", in_quotes(text)));
    }
    redact.push_back(lower_case(text));
  };
  if (reader.each_string("redact", take)) log.redact = std::move(redact);
}

void parse_timeouts(Reader& reader, Timeouts& timeouts) {
  reader.read("handshake", timeouts.handshake, wait_min, wait_max);
  reader.read("request_header", timeouts.request_header, wait_min, wait_max);
  reader.read("idle", timeouts.idle, wait_min, wait_max);
  reader.read("body", timeouts.body, wait_min, wait_max);
  reader.read("upstream_connect", timeouts.upstream_connect, wait_min, wait_max);
  reader.read("upstream_response", timeouts.upstream_response, wait_min, wait_max);
  reader.read("upstream_idle", timeouts.upstream_idle, wait_min, wait_max);
  reader.read("tunnel", timeouts.tunnel, wait_min, wait_max);
}

void parse_limits(Reader& reader, Limits& limits) {
  reader.read("connections", limits.connections, 1, connections_max);
  reader.read("connections_per_client", limits.connections_per_client, 0, connections_max);
  reader.read_size("request_header", limits.request_header, header_bytes_min, header_bytes_max);
  reader.read("request_fields", limits.request_fields, fields_min, fields_max);
  reader.read_size("request_body", limits.request_body, 0, body_bytes_max);
  reader.read_size("request_body_rate", limits.request_body_rate, 0, body_rate_max);
  reader.read("http2_streams", limits.http2_streams, 1, streams_max);
}

}  // namespace

}  // namespace gatehouse::config
