#include "config/parse_site.hpp"

#include <algorithm>
#include <array>

#include <fmt/format.h>

#include "config/parse_route.hpp"

namespace gatehouse::config {

namespace {

constexpr size_t sites_max = 1'000'000;
constexpr size_t hosts_max = 1'000'000;
constexpr size_t routes_max = 10'000;
constexpr size_t field_changes_max = 256;
constexpr Duration hsts_max = std::chrono::hours(24 * 3650);

void parse_site(Reader& reader, Draft& draft);

}  // namespace

void parse_sites(Reader& root, Draft& draft) {
  draft.site_given = draft.site_given || root.given("site");
  root.each_table("site", [&](const Value& table, const std::string& path) {
    if (draft.sites.size() == sites_max) {
      draft.findings.add(table.mark, path, fmt::format("more than {} sites", sites_max));
      return;
    }
    Reader reader(table, path, draft.findings);
    parse_site(reader, draft);
    reader.finish();
  });
}

namespace {

void parse_hosts(Reader& reader, Site& site, SiteDraft& marks) {
  const auto take = [&](const std::string& text, const Mark& mark, const std::string& path) {
    auto glob = parse_host_glob(text);
    if (!glob) {
      reader.findings().add(mark, path, glob.error().text);
    } else if (site.hosts.size() == hosts_max) {
      reader.findings().add(mark, path, fmt::format("more than {} hosts in one site", hosts_max));
    } else {
      site.hosts.push_back(std::move(*glob));
      marks.hosts.push_back(mark);
    }
  };
  if (!reader.has("hosts")) {
    reader.findings().add(reader.mark(), reader.path("hosts"),
                          "is missing: name the site's hosts, such as [\"example.com\"]");
    return;
  }
  if (reader.each_string("hosts", take) && !reader.given("hosts")) {
    reader.refuse("hosts", "is empty: name at least one host, such as \"example.com\"");
  }
}

void parse_access(Reader& reader, Site& site) {
  const auto* table = reader.table("access");
  if (table == nullptr) return;
  Reader access(*table, reader.path("access"), reader.findings());
  access.read("allow", site.access_allow);
  access.read("deny", site.access_deny);
  access.finish();
}

void parse_routes(Reader& reader, Site& site, SiteDraft& marks) {
  reader.each_table("route", [&](const Value& table, const std::string& path) {
    if (site.routes.size() == routes_max) {
      reader.findings().add(table.mark, path, fmt::format("more than {} routes", routes_max));
      return;
    }
    Reader route_reader(table, path, reader.findings());
    auto [route, route_marks] = parse_route(route_reader);
    if (!route_marks.own_upstream && !route.redirect && !route.respond && !reader.has("upstream") &&
        !route_reader.has("upstream") && !route_reader.given("redirect") &&
        !route_reader.given("respond")) {
      reader.findings().add(table.mark, path,
                            "leads nowhere: give it upstream, redirect or respond, or give the "
                            "site an upstream");
    }
    site.routes.push_back(std::move(route));
    marks.routes.push_back(std::move(route_marks));
  });
}

void parse_site(Reader& reader, Draft& draft) {
  Site site;
  SiteDraft marks;
  marks.path = reader.path();
  marks.mark = reader.mark();
  site.place = draft.findings.place(reader.mark());

  parse_hosts(reader, site, marks);
  marks.certificates = reader.mark("certificates");
  const bool chosen = reader.choose<CertificateMode>("certificates", site.certificates,
                                                     {{"auto", CertificateMode::automatic},
                                                      {"on_demand", CertificateMode::on_demand},
                                                      {"off", CertificateMode::off},
                                                      {"internal", CertificateMode::internal}});
  marks.mode_known = chosen || !reader.has("certificates");
  marks.own_files_given = reader.given("certificate") || reader.given("key");
  parse_certificate_files(reader, "certificate", "key", site.certificate, site.key);
  parse_certificate_files(reader, "fallback_certificate", "fallback_key", site.fallback_certificate,
                          site.fallback_key);
  reader.read("redirect_http", site.redirect_http);
  Duration hsts{};
  if (reader.given("hsts") && reader.read("hsts", hsts, Duration(0), hsts_max)) site.hsts = hsts;
  reader.choose<TlsVersion>("tls_min", site.tls_min,
                            {{"1.2", TlsVersion::tls12}, {"1.3", TlsVersion::tls13}},
                            [](std::string_view word) { return word == "1.0" || word == "1.1"; });
  parse_access(reader, site);
  parse_field_changes(reader, "request_headers", site.request_fields);
  parse_field_changes(reader, "response_headers", site.response_fields);
  for (const std::string_view later : {"client_ca", "basic_auth", "auth", "auth_headers",
                                       "passthrough", "rate_limit", "compress"}) {
    reader.unsupported(later);
  }

  std::string upstream;
  marks.upstream_given = reader.given("upstream") && reader.read("upstream", upstream);
  if (marks.upstream_given) {
    marks.upstream = {std::move(upstream), reader.mark("upstream"), reader.path("upstream")};
  } else if (!reader.given("upstream") && !reader.given("route")) {
    draft.findings.add(reader.has("upstream") ? reader.mark("upstream") : reader.mark(),
                       reader.path("upstream"),
                       "is missing: write where requests go, such as \"localhost:8080\"");
  }
  parse_routes(reader, site, marks);
  draft.snapshot.sites.push_back(std::move(site));
  draft.sites.push_back(std::move(marks));
}

/// Fields that frame a message or belong to one connection (RFC 9110 section 7.6.1): the proxy's.
bool is_the_proxys_own(const std::string& name) {
  static constexpr std::array<std::string_view, 10> own = {
      "connection", "content-length", "host",    "keep-alive", "proxy-connection",
      "te",         "trailer",        "upgrade", "via",        "transfer-encoding"};
  return std::find(own.begin(), own.end(), name) != own.end();
}

bool check_field_name(const std::string& name, const Mark& mark, const std::string& path,
                      Findings& findings) {
  if (!is_token(name)) {
    findings.add(mark, path, fmt::format("{} is no field name", in_quotes(name)));
    return false;
  }
  const auto lower = lower_case(name);
  if (!is_the_proxys_own(lower)) return true;
  findings.add(mark, path,
               lower == "host" ? "Host is set by the upstream: write host = \"…\" in its section"
                               : fmt::format("{} is set by the proxy itself: remove it", name));
  return false;
}

using Fields = std::vector<std::pair<std::string, std::string>>;

void parse_fields(Reader& reader, std::string_view key, bool may_repeat, Fields& target) {
  const auto* table = reader.table(key);
  if (table == nullptr) return;
  const auto take = [&](const std::string& name, const Value& value, const std::string& path) {
    std::string text;
    if (value.kind != ValueKind::string) {
      reader.refuse_kind(value, path, "a string in quotes");
    } else if (reader.expand(value, path, text)) {
      if (is_field_value(text)) {
        target.emplace_back(name, text);
      } else {
        reader.findings().add(value.mark, path,
                              "is no field value: it holds control characters, or white space at "
                              "its beginning or end");
      }
    }
  };
  Reader fields(*table, reader.path(key), reader.findings());
  for (const auto& member : table->members) {
    const auto path = fields.path(member.name);
    if (target.size() >= field_changes_max) {
      reader.findings().add(member.mark, path,
                            fmt::format("more than {} fields", field_changes_max));
      return;
    }
    if (!check_field_name(member.name, member.mark, path, reader.findings())) continue;
    if (may_repeat && member.value.kind == ValueKind::array) {
      for (const auto& item : member.value.items) take(member.name, item, path);
    } else {
      take(member.name, member.value, path);
    }
  }
}

}  // namespace

void parse_field_changes(Reader& reader, std::string_view key, FieldChanges& target) {
  const auto* table = reader.table(key);
  if (table == nullptr) return;
  Reader changes(*table, reader.path(key), reader.findings());
  parse_fields(changes, "set", false, target.set);
  parse_fields(changes, "add", true, target.add);
  changes.each_string("remove",
                      [&](const std::string& name, const Mark& mark, const std::string& path) {
                        if (check_field_name(name, mark, path, reader.findings()))
                          target.remove.push_back(name);
                      });
  changes.finish();
}

void parse_certificate_files(Reader& reader, std::string_view certificate_key,
                             std::string_view key_key, std::string& certificate, std::string& key) {
  reader.read_file_path(certificate_key, certificate);
  reader.read_file_path(key_key, key);
  const bool has_certificate = reader.given(certificate_key);
  const bool has_key = reader.given(key_key);
  if (has_certificate && !has_key) {
    reader.refuse(certificate_key,
                  fmt::format("a certificate needs its key: write {} = \"…\" beside {}", key_key,
                              certificate_key));
  }
  if (has_key && !has_certificate) {
    reader.refuse(key_key, fmt::format("a key needs its certificate: write {} = \"…\" beside {}",
                                       certificate_key, key_key));
  }
}

}  // namespace gatehouse::config
