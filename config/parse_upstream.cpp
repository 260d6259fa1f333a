#include "config/parse_upstream.hpp"

#include <algorithm>
#include <map>
#include <set>

#include <fmt/format.h>

#include "config/parse_site.hpp"
#include "config/suggestion.hpp"

namespace gatehouse::config {

namespace {

constexpr size_t group_name_bytes_max = 64;
constexpr size_t servers_max = 1000;
constexpr uint32_t weight_max = 1000;
constexpr uint32_t attempts_max = 10;
constexpr uint32_t connections_max = 10'000'000;

/// What the servers' schemes say, to be compared with `protocol`.
struct Schemes {
  std::set<UpstreamProtocol> written;
  bool none = false;  // some server has none
};

bool is_group_name(std::string_view name);
void parse_upstream(Reader& reader, Upstream& upstream);
uint16_t default_port(UpstreamProtocol protocol);

}  // namespace

void parse_upstreams(Reader& root, Draft& draft) {
  const auto* table = root.table("upstream");
  if (table == nullptr) return;
  for (const auto& member : table->members) {
    const auto path = Reader(*table, "upstream", draft.findings).path(member.name);
    if (member.value.kind != ValueKind::table) {
      draft.findings.add(
          member.mark, path,
          fmt::format("expected a section [upstream.NAME], found {}", describe(member.value.kind)));
      continue;
    }
    if (!is_group_name(member.name)) {
      draft.findings.add(member.mark, path,
                         fmt::format("the name may hold letters, digits, - and _ only, at most {}, "
                                     "and not be localhost",
                                     group_name_bytes_max));
      continue;
    }
    if (!draft.first_time("upstream." + member.name, member.value.mark)) continue;
    Upstream upstream;
    upstream.name = member.name;
    upstream.place = draft.findings.place(member.value.mark);
    Reader reader(member.value, path, draft.findings);
    parse_upstream(reader, upstream);
    reader.finish();
    draft.snapshot.upstreams.emplace(member.name, std::move(upstream));
  }
}

Parsed<Upstream> upstream_of_address(const std::string& text) {
  auto address = parse_server_address(text);
  if (!address) return address.error();
  Upstream upstream;
  upstream.name = text;
  upstream.protocol = address->protocol;
  auto& server = address->endpoint;
  if (server.unix_path.empty() && server.port == 0) server.port = default_port(upstream.protocol);
  upstream.servers.push_back(std::move(server));
  return upstream;
}

namespace {

bool is_group_name(std::string_view name) {
  return !name.empty() && name.size() <= group_name_bytes_max && name != "localhost" &&
         std::all_of(name.begin(), name.end(), [](char c) {
           return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
                  c == '-' || c == '_';
         });
}

uint16_t default_port(UpstreamProtocol protocol) {
  return is_encrypted(protocol) ? 443 : 80;
}

void add_server(Reader& reader, std::string_view text, const Mark& mark, const std::string& path,
                Endpoint settings, Upstream& upstream, Schemes& schemes) {
  auto address = parse_server_address(text);
  if (!address) {
    reader.findings().add(mark, path, address.error().text);
    return;
  }
  if (address->scheme) {
    schemes.written.insert(address->protocol);
  } else {
    schemes.none = true;
  }
  auto& endpoint = address->endpoint;
  endpoint.weight = settings.weight;
  endpoint.backup = settings.backup;
  upstream.servers.push_back(std::move(endpoint));
}

void parse_server_table(Reader& server, Reader& group, Upstream& upstream, Schemes& schemes) {
  Endpoint settings;
  server.read("weight", settings.weight, 1, weight_max);
  server.read("backup", settings.backup);
  std::string address;
  if (server.read("address", address)) {
    add_server(group, address, server.mark("address"), server.path("address"), settings, upstream,
               schemes);
  } else if (!server.has("address")) {
    group.findings().add(server.mark(), server.path("address"),
                         "is missing: write the server's address, such as \"10.0.0.1:8080\"");
  }
  server.finish();
}

Schemes parse_servers(Reader& reader, Upstream& upstream) {
  Schemes schemes;
  if (!reader.has("servers")) {
    reader.findings().add(reader.mark(), reader.path("servers"),
                          "is missing: name at least one server, such as [\"10.0.0.1:8080\"]");
    return schemes;
  }
  const auto take = [&](const Value& value, const std::string& path) {
    if (upstream.servers.size() == servers_max) {
      reader.findings().add(value.mark, path, fmt::format("more than {} servers", servers_max));
    } else if (value.kind == ValueKind::table) {
      Reader server(value, path, reader.findings());
      parse_server_table(server, reader, upstream, schemes);
    } else if (std::string text; value.kind != ValueKind::string) {
      reader.refuse_kind(value, path, "an address in quotes or a table with address");
    } else if (reader.expand(value, path, text)) {
      add_server(reader, text, value.mark, path, Endpoint{}, upstream, schemes);
    }
  };
  if (reader.each_value("servers", take) && !reader.given("servers")) {
    reader.refuse("servers", "is empty: name at least one server, such as \"10.0.0.1:8080\"");
  }
  return schemes;
}

/// http:// goes with both protocols in the clear, https:// with both over TLS.
bool agree(UpstreamProtocol scheme, UpstreamProtocol protocol) {
  return scheme == protocol ||
         (!is_http2(scheme) && is_encrypted(scheme) == is_encrypted(protocol));
}

/// https:// in front of the servers says what protocol = "https" says; they must not disagree.
void settle_protocol(Reader& reader, const Schemes& schemes, Upstream& upstream) {
  const bool explicit_protocol =
      reader.choose<UpstreamProtocol>("protocol", upstream.protocol,
                                      {{"http1", UpstreamProtocol::http1},
                                       {"https", UpstreamProtocol::https},
                                       {"h2c", UpstreamProtocol::h2c},
                                       {"h2", UpstreamProtocol::h2}});
  if (explicit_protocol) {
    for (const auto scheme : schemes.written) {
      if (agree(scheme, upstream.protocol)) continue;
      reader.refuse("protocol",
                    fmt::format("disagrees with a server written with {}://", scheme_of(scheme)));
    }
    return;
  }
  if (schemes.written.empty()) return;
  upstream.protocol = *schemes.written.rbegin();
  const bool only_http = upstream.protocol == UpstreamProtocol::http1;
  if (schemes.written.size() > 1 || (schemes.none && !only_http)) {
    reader.refuse("servers", fmt::format("some servers have {}:// and some have not: a group "
                                         "speaks one protocol, make two groups",
                                         scheme_of(upstream.protocol)));
  }
}

void settle_servers(Reader& reader, Upstream& upstream) {
  std::set<std::string> seen;
  for (auto& server : upstream.servers) {
    if (server.unix_path.empty() && server.port == 0) server.port = default_port(upstream.protocol);
    const auto identity = server.unix_path.empty() ? fmt::format("{} {}", server.host, server.port)
                                                   : server.unix_path;
    if (seen.insert(identity).second) continue;
    reader.refuse("servers", fmt::format("{} is in the list twice: give it a weight instead",
                                         in_quotes(server.text)));
  }
}

void parse_balance(Reader& reader, Upstream& upstream) {
  const auto later = [](std::string_view word) {
    return word.starts_with("hash_header:") || word.starts_with("cookie:");
  };
  reader.choose<Balance>("balance", upstream.balance,
                         {{"least_requests", Balance::least_requests},
                          {"round_robin", Balance::round_robin},
                          {"random_two", Balance::random_two},
                          {"hash_client", Balance::hash_client},
                          {"hash_uri", Balance::hash_uri}},
                         later);
}

void parse_host(Reader& reader, Upstream& upstream) {
  std::string text;
  if (!reader.read("host", text)) return;
  if (text == "request" || text == "server") {
    upstream.host = text;
    return;
  }
  const auto address = parse_server_address(text);
  if (!address || address->scheme || !address->endpoint.unix_path.empty()) {
    reader.refuse("host",
                  fmt::format("{} is neither \"request\", \"server\" nor a host", in_quotes(text)));
    return;
  }
  static constexpr std::string_view words[] = {"request", "server"};
  const auto near = nearest(text, words);
  if (!near.empty() && text.find_first_of(".:") == text.npos) {
    reader.refuse("host", fmt::format("{} is neither \"request\" nor \"server\", did you mean "
                                      "'{}'? (a literal host needs a dot or a port)",
                                      in_quotes(text), near));
    return;
  }
  upstream.host = text;
}

void parse_tls(Reader& reader, Upstream& upstream) {
  const auto* table = reader.table("tls");
  if (table == nullptr) return;
  Reader tls(*table, reader.path("tls"), reader.findings());
  tls.read_file_path("ca", upstream.tls.ca);
  if (tls.given("name") && tls.read("name", upstream.tls.name)) {
    const auto name = parse_host_glob(upstream.tls.name);
    if (!name || name->text.find('*') != std::string::npos) {
      tls.refuse("name", fmt::format("{} is no host name", in_quotes(upstream.tls.name)));
    } else {
      upstream.tls.name = name->text;
    }
  }
  tls.read("verify", upstream.tls.verify);
  parse_certificate_files(tls, "certificate", "key", upstream.tls.certificate, upstream.tls.key);
  const bool any = tls.given("ca") || tls.given("name") || tls.given("certificate") ||
                   tls.given("key") || !upstream.tls.verify;
  if (any && !is_encrypted(upstream.protocol)) {
    reader.refuse("tls",
                  "has no effect without protocol = \"https\" or \"h2\": add it, or remove tls");
  }
  tls.finish();
}

/// The proxy retries after failures to connect and resets. Retrying by status is not in this
/// version; the list's documented default says it, so that list is taken too.
void parse_retry_causes(Reader& retry) {
  static constexpr std::string_view causes[] = {"connect", "reset", "502", "503", "504"};
  std::set<std::string> given;
  bool known = true;
  const auto take = [&](const std::string& text, const Mark& mark, const std::string& path) {
    given.insert(text);
    if (std::find(std::begin(causes), std::end(causes), text) != std::end(causes)) return;
    known = false;
    retry.findings().add(mark, path, in_quotes(text) + " is no cause" + did_you_mean(text, causes));
  };
  if (!retry.each_string("on", take) || !known) return;
  const std::set<std::string> supported = {"connect", "reset"};
  const std::set<std::string> all(std::begin(causes), std::end(causes));
  if (given == supported || given == all) return;
  retry.refuse("on",
               "a choice of causes is not supported in this version: remove it, or write "
               "[\"connect\", \"reset\"]");
}

void parse_retry(Reader& reader, Upstream& upstream) {
  const auto* table = reader.table("retry");
  if (table == nullptr) return;
  Reader retry(*table, reader.path("retry"), reader.findings());
  retry.read("attempts", upstream.retry_attempts, 0, attempts_max);
  retry.read("budget", upstream.retry_budget, 0, 1);
  parse_retry_causes(retry);
  retry.finish();
}

void parse_upstream(Reader& reader, Upstream& upstream) {
  const auto schemes = parse_servers(reader, upstream);
  settle_protocol(reader, schemes, upstream);
  settle_servers(reader, upstream);
  parse_balance(reader, upstream);
  parse_host(reader, upstream);
  parse_tls(reader, upstream);
  parse_retry(reader, upstream);
  reader.read("max_connections", upstream.connections_max, 0, connections_max);
  if (reader.given("proxy_protocol")) {
    reader.choose<ProxyProtocol>("proxy_protocol", upstream.proxy_protocol,
                                 {{"v1", ProxyProtocol::v1}, {"v2", ProxyProtocol::v2}});
  }
  for (const std::string_view later : {"health", "outlier"}) {
    reader.unsupported(later);
  }
}

}  // namespace

}  // namespace gatehouse::config
