#include "config/parse_acme.hpp"

#include <algorithm>

#include <fmt/format.h>

#include "config/suggestion.hpp"

namespace gatehouse::config {

namespace {

using std::chrono::hours;
using std::chrono::milliseconds;
using std::chrono::minutes;

constexpr Duration renew_before_max = hours(24 * 3650);
constexpr Duration on_demand_wait_max = minutes(10);
constexpr size_t authority_name_bytes_max = 48;  // "-staging" is added to it
constexpr size_t authorities_max = 8;
constexpr size_t url_bytes_max = 2048;
constexpr size_t resolvers_max = 8;
constexpr size_t caa_identities_max = 16;
constexpr uint16_t dns_port = 53;

void parse_acme(Reader& reader, Draft& draft);
void parse_authorities(const Value& table, Draft& draft);
void parse_on_demand(Reader& reader, Draft& draft);

}  // namespace

void parse_acme_sections(Reader& root, Draft& draft) {
  if (const auto* table = root.table("acme")) {
    if (draft.first_time("acme", table->mark)) {
      Reader reader(*table, "acme", draft.findings);
      parse_acme(reader, draft);
      reader.finish();
    }
  }
  if (const auto* table = root.table("ca")) parse_authorities(*table, draft);
  if (const auto* table = root.table("on_demand")) {
    if (draft.first_time("on_demand", table->mark)) {
      Reader reader(*table, "on_demand", draft.findings);
      parse_on_demand(reader, draft);
      reader.finish();
    }
  }
}

std::optional<CertificateAuthority> built_in_authority(std::string_view name) {
  static constexpr std::string_view production = "https://acme-v02.api.letsencrypt.org/directory";
  static constexpr std::string_view staging =
      "https://acme-staging-v02.api.letsencrypt.org/directory";
  CertificateAuthority authority;
  authority.name = name;
  if (name == "letsencrypt") {
    authority.directory = production;
    authority.staging = staging;
  } else if (name == "letsencrypt-staging") {
    authority.directory = staging;
  } else if (name == "zerossl") {
    authority.directory = "https://acme.zerossl.com/v2/DV90";
  } else if (name == "google") {
    authority.directory = "https://dv.acme-v02.api.pki.goog/directory";
    authority.staging = "https://dv.acme-v02.test-api.pki.goog/directory";
  } else if (name != "internal") {
    return std::nullopt;
  }
  return authority;
}

std::string url_problem(std::string_view url, bool plain_http_allowed) {
  const auto wanted = plain_http_allowed ? "http:// or https://" : "https://";
  if (url.size() > url_bytes_max) return fmt::format("a URL longer than {} bytes", url_bytes_max);
  for (const char c : url) {
    if (static_cast<unsigned char>(c) <= 0x20 || static_cast<unsigned char>(c) >= 0x7f) {
      return fmt::format("{} is no URL: it holds white space or other than ASCII", in_quotes(url));
    }
  }
  const bool https = url.starts_with("https://");
  if (!https && !(plain_http_allowed && url.starts_with("http://"))) {
    return fmt::format("{} is no URL that starts with {}", in_quotes(url), wanted);
  }
  auto rest = url.substr(https ? 8 : 7);
  auto host = rest.substr(0, rest.find_first_of("/?#"));
  if (host.find('@') != host.npos) {
    return fmt::format("{} holds a user name: leave it out", in_quotes(url));
  }
  const auto address = parse_server_address(host);
  if (!address || !address->endpoint.unix_path.empty()) {
    return fmt::format("{} is no URL: it lacks a valid host", in_quotes(url));
  }
  return {};
}

namespace {

void read_url(Reader& reader, std::string_view key, bool plain_http_allowed, std::string& target) {
  std::string text;
  if (!reader.read(key, text) || text.empty()) return;
  if (auto problem = url_problem(text, plain_http_allowed); !problem.empty()) {
    reader.refuse(key, std::move(problem));
    return;
  }
  target = std::move(text);
}

void parse_challenges(Reader& reader, Draft& draft) {
  static constexpr std::string_view known[] = {"http-01", "tls-alpn-01", "dns-01",
                                               "dns-persist-01"};
  std::vector<std::string> result;
  const auto take = [&](const std::string& text, const Mark& mark, const std::string& path) {
    std::string problem;
    if (std::find(std::begin(known), std::end(known), text) == std::end(known)) {
      problem = in_quotes(text) + " is no challenge" + did_you_mean(text, known);
    } else if (text.starts_with("dns-")) {
      problem = text + " is not supported in this version: use http-01 or tls-alpn-01";
    } else if (std::find(result.begin(), result.end(), text) != result.end()) {
      problem = text + " is in the list twice";
    }
    if (problem.empty()) {
      result.push_back(text);
      draft.challenges.push_back({text, mark, path});
    } else {
      reader.findings().add(mark, path, std::move(problem));
    }
  };
  if (!reader.each_string("challenges", take)) return;
  if (!reader.given("challenges")) {
    reader.refuse("challenges", "is empty: name http-01, tls-alpn-01 or both");
  }
  draft.snapshot.acme.challenges = std::move(result);
}

void parse_resolvers(Reader& reader, Acme& acme) {
  std::vector<NameServer> result;
  const auto take = [&](const std::string& text, const Mark& mark, const std::string& path) {
    const auto parsed = parse_server_address(text);
    boost::system::error_code error =
        boost::system::errc::make_error_code(boost::system::errc::invalid_argument);
    NameServer server;
    if (parsed && !parsed->scheme && parsed->endpoint.unix_path.empty()) {
      server.address = boost::asio::ip::make_address(parsed->endpoint.host, error);
      server.port = parsed->endpoint.port == 0 ? dns_port : parsed->endpoint.port;
    }
    if (error) {
      reader.findings().add(mark, path,
                            fmt::format("{} is no address of a DNS resolver: write one, such as "
                                        "\"10.0.0.53\" or \"[::1]:5353\"",
                                        in_quotes(text)));
      return;
    }
    result.push_back(server);
  };
  if (!reader.each_string("resolvers", take)) return;
  if (result.size() > resolvers_max) {
    reader.refuse("resolvers", fmt::format("names {} resolvers: at most {} are asked",
                                           result.size(), resolvers_max));
    return;
  }
  acme.resolvers = std::move(result);
}

void parse_acme(Reader& reader, Draft& draft) {
  auto& acme = draft.snapshot.acme;
  if (reader.read("email", acme.email) && !acme.email.empty()) {
    const auto at = acme.email.find('@');
    const bool odd = acme.email.find_first_of(" \t\r\n,;<>") != acme.email.npos;
    if (odd || at == 0 || at == acme.email.npos || at + 1 == acme.email.size()) {
      reader.refuse("email", fmt::format("{} is no e-mail address: write one, such as "
                                         "ops@example.com",
                                         in_quotes(acme.email)));
    }
  }
  const auto take = [&](const std::string& text, const Mark& mark, const std::string& path) {
    draft.ca_uses.push_back({text, mark, path});
  };
  if (reader.each_string("ca", take)) {
    if (draft.ca_uses.empty()) {
      reader.refuse("ca", "is empty: name one authority, such as \"letsencrypt\"");
    }
    if (draft.ca_uses.size() > authorities_max) {
      reader.refuse("ca", fmt::format("names {} authorities: {} are enough", draft.ca_uses.size(),
                                      authorities_max));
    }
  }
  parse_challenges(reader, draft);
  reader.choose<KeyType>("key_type", acme.key_type,
                         {{"p256", KeyType::p256},
                          {"p384", KeyType::p384},
                          {"rsa2048", KeyType::rsa2048},
                          {"rsa4096", KeyType::rsa4096}});
  Duration renew_before{};
  const bool own_time = reader.given("renew_before");  // "": the default, no duration
  if (own_time && reader.read("renew_before", renew_before, milliseconds(1), renew_before_max)) {
    acme.renew_before = renew_before;
  }
  reader.read("preferred_chain", acme.preferred_chain);
  reader.read("caa", acme.caa);
  parse_resolvers(reader, acme);
  reader.unsupported("dns");
}

bool is_authority_name(std::string_view name) {
  return !name.empty() && name.size() <= authority_name_bytes_max &&
         std::all_of(name.begin(), name.end(), [](char c) {
           return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-';
         });
}

void parse_binding(Reader& reader, const char* name, std::string& kid, std::string& key) {
  const auto* table = reader.table(name);
  if (table == nullptr) return;
  Reader eab(*table, reader.path(name), reader.findings());
  eab.read_secret("kid", kid);
  const bool from_file = eab.read_secret_file("hmac_key_file", key);
  if (eab.read_secret("hmac_key", key) && from_file) {
    eab.refuse("hmac_key", "given together with hmac_key_file: keep one of the two");
  }
  const auto* key_name = from_file ? "hmac_key_file" : "hmac_key";
  const bool base64url = std::all_of(key.begin(), key.end(), [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' ||
           c == '_';
  });
  if (!base64url) {
    eab.refuse(key_name,
               "the key is not base64url: copy it as the CA shows it, without = at the "
               "end and without line breaks");
  }
  const bool key_given = eab.given("hmac_key") || eab.given("hmac_key_file");
  if (key_given && !eab.given("kid")) {
    reader.refuse(name, "lacks its kid: an account binding needs kid and hmac_key_file");
  }
  if (!key_given && eab.given("kid")) {
    reader.refuse(name, "lacks its key: an account binding needs kid and hmac_key_file");
  }
  eab.finish();
}

/// As an issue property names a CA (RFC 8659 section 4.2).
bool is_caa_identity(std::string_view text) {
  const auto host = parse_host_glob(text);
  boost::system::error_code not_an_address;
  boost::asio::ip::make_address(std::string(text), not_an_address);
  return host && not_an_address && text.find_first_of("*[]") == text.npos;
}

void parse_caa_identities(Reader& reader, CertificateAuthority& authority) {
  std::vector<std::string> result;
  const auto take = [&](const std::string& text, const Mark& mark, const std::string& path) {
    if (is_caa_identity(text)) {
      result.push_back(parse_host_glob(text)->text);
      return;
    }
    reader.findings().add(mark, path,
                          fmt::format("{} is no domain name: write what the CA's CAA records hold, "
                                      "such as \"letsencrypt.org\"",
                                      in_quotes(text)));
  };
  if (!reader.each_string("caa_identities", take)) return;
  if (result.size() > caa_identities_max) {
    reader.refuse("caa_identities", fmt::format("more than {} names", caa_identities_max));
    return;
  }
  authority.caa_identities = std::move(result);
}

void parse_authority(Reader& reader, const std::string& name, Draft& draft) {
  auto authority = built_in_authority(name).value_or(CertificateAuthority{});
  authority.name = name;
  read_url(reader, "directory", false, authority.directory);
  if (authority.directory.empty() && !reader.has("directory")) {
    draft.findings.add(reader.mark(), reader.path("directory"),
                       "is missing: write the URL of the CA's ACME directory");
  }
  reader.read_file_path("trust", authority.trust);
  reader.read("profile", authority.profile);
  if (reader.read("profile_required", authority.profile_required) && authority.profile_required &&
      authority.profile.empty()) {
    reader.refuse("profile_required", "requires a profile, but none is named: add profile = \"…\"");
  }
  read_url(reader, "staging", false, authority.staging);
  parse_binding(reader, "eab", authority.eab_kid, authority.eab_hmac_key);
  parse_binding(reader, "staging_eab", authority.staging_eab_kid, authority.staging_eab_hmac_key);
  const bool bound_twin = !reader.given("staging") && !authority.eab_kid.empty();
  // A built-in twin has accounts of its own: it would refuse production's binding.
  if (bound_twin && authority.staging_eab_kid.empty()) authority.staging.clear();
  if (authority.staging.empty() && !authority.staging_eab_kid.empty()) {
    reader.refuse("staging_eab", "there is no staging directory: add staging = \"https://…\"");
  }
  parse_caa_identities(reader, authority);
  reader.finish();
  draft.authorities[name] = std::move(authority);
}

void parse_authorities(const Value& table, Draft& draft) {
  for (const auto& member : table.members) {
    const auto path = Reader(table, "ca", draft.findings).path(member.name);
    if (member.value.kind != ValueKind::table) {
      draft.findings.add(
          member.mark, path,
          fmt::format("expected a section [ca.NAME], found {}", describe(member.value.kind)));
    } else if (!is_authority_name(member.name) || member.name == "internal") {
      draft.findings.add(member.mark, path,
                         member.name == "internal"
                             ? "is built in and has no settings: choose another name"
                             : "the name may hold a-z, 0-9 and - only, at most 48");
    } else if (draft.first_time("ca." + member.name, member.value.mark)) {
      Reader reader(member.value, path, draft.findings);
      parse_authority(reader, member.name, draft);
    }
  }
}

void parse_on_demand(Reader& reader, Draft& draft) {
  auto& on_demand = draft.snapshot.on_demand;
  on_demand.configured = true;
  read_url(reader, "ask", true, on_demand.ask);
  reader.read("allow", on_demand.allow);
  reader.read("deny", on_demand.deny);
  reader.read("wait", on_demand.wait, milliseconds(1), on_demand_wait_max);
  reader.choose<OnTimeout>("on_timeout", on_demand.on_timeout,
                           {{"fallback", OnTimeout::fallback}, {"alert", OnTimeout::alert}});
  if (!reader.given("ask") && !reader.given("allow")) {
    draft.findings.add(reader.mark(), reader.path(),
                       "needs ask or allow, or anyone could order certificates: write the URL that "
                       "decides (ask), or the hosts that are allowed (allow)");
  }
}

}  // namespace

}  // namespace gatehouse::config
