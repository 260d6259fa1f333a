// Every setting as plain data, its default beside it. Built once by config::load, then immutable
// and read by all threads through a shared_ptr.
//
// Not the parser (parse_*), and nothing here acts. The names follow docs/configuration.md.
#pragma once

#include <chrono>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include <boost/asio/ip/address.hpp>

namespace gatehouse::config {

using Duration = std::chrono::milliseconds;

/// Where something in the configuration was written, for messages at run time.
struct Place {
  std::string file;
  uint32_t line = 0;
  uint32_t column = 0;
};

/// An address to listen on: "127.0.0.1:8443", "[::1]:443", ":443" (both families), "unix:/path".
struct ListenAddress {
  std::string text;       // as written; also its identity across reloads
  std::string host;       // empty: every address of both families
  uint16_t port = 0;      // 0 only for unix
  std::string unix_path;  // not empty: a Unix socket
  bool operator==(const ListenAddress&) const = default;
};

/// A network in CIDR notation; a single address is a /32 or /128.
struct Network {
  boost::asio::ip::address address;
  uint8_t prefix = 0;
  /// An IPv4-mapped IPv6 address is compared as IPv4.
  bool contains(const boost::asio::ip::address& candidate) const;
};

/// A host pattern: "example.com", "*.example.com" (exactly one label more), or "*".
struct HostGlob {
  std::string text;                           // lower case; an IPv6 address in brackets
  bool matches(std::string_view host) const;  // `host` in lower case, without port
  bool is_address() const;
  /// As certificates and handshakes name it: an IPv6 address without brackets.
  std::string_view name() const;
};

enum class LogLevel : uint8_t { trace, debug, info, warn, error };
enum class AccessFormat : uint8_t { json, common };
enum class KeyType : uint8_t { p256, p384, rsa2048, rsa4096 };
enum class CertificateMode : uint8_t { automatic, on_demand, off, internal };
enum class TlsVersion : uint8_t { tls12, tls13 };
enum class OnTimeout : uint8_t { fallback, alert };
enum class Balance : uint8_t { least_requests, round_robin, random_two, hash_client, hash_uri };
enum class UpstreamProtocol : uint8_t { http1, https, h2c, h2 };
enum class ProxyProtocol : uint8_t { off, v1, v2 };

struct Server {
  std::vector<ListenAddress> http;   // default: ":80"
  std::vector<ListenAddress> https;  // default: ":443"
  uint32_t workers = 0;              // 0: one for each CPU
  std::string user;
  std::string storage = "/var/lib/gatehouse";  // the folder behind "file:"
  std::string admin = "unix:/run/gatehouse/admin.sock";
  std::string admin_token;  // read from admin_token_file; required when admin is TCP
  bool h2c = false;         // HTTP/2 with prior knowledge on the plain listeners
  std::vector<Network> trusted_proxies;
  bool proxy_protocol = false;  // connections of trusted_proxies begin with a PROXY header
  Duration grace = std::chrono::seconds(30);
};

struct Log {
  LogLevel level = LogLevel::info;
  bool json = false;
  std::string file = "stderr";
  std::string access = "stdout";  // a path, "stdout", "stderr", "off"
  AccessFormat access_format = AccessFormat::json;
  std::vector<std::string> redact = {"authorization", "cookie", "set-cookie",
                                     "proxy-authorization"};
};

struct Timeouts {
  Duration handshake = std::chrono::seconds(10);
  Duration request_header = std::chrono::seconds(10);
  Duration idle = std::chrono::seconds(75);
  Duration body = std::chrono::seconds(60);
  Duration upstream_connect = std::chrono::seconds(5);
  Duration upstream_response = std::chrono::seconds(60);
  Duration upstream_idle = std::chrono::seconds(60);
  Duration tunnel = std::chrono::hours(1);
};

struct Limits {
  uint32_t connections = 100'000;
  uint32_t connections_per_client = 0;  // 0: no limit
  uint64_t request_header = 32 * 1024;
  uint32_t request_fields = 128;
  uint64_t request_body = 0;        // 0: no limit
  uint64_t request_body_rate = 64;  // bytes a second, at least; 0: any
  uint32_t http2_streams = 128;     // concurrent, a connection
};

/// A DNS resolver to ask: "10.0.0.53", "[::1]:5353".
struct NameServer {
  boost::asio::ip::address address;
  uint16_t port = 53;
  bool operator==(const NameServer&) const = default;
};

/// One certificate authority, built in or from [ca.NAME].
struct CertificateAuthority {
  std::string name;       // "letsencrypt", "my-ca"; also its folder in storage
  std::string directory;  // the ACME directory's URL
  std::string trust;      // path of a PEM root for its own HTTPS; empty: the system's
  std::string profile;
  std::string staging;
  std::string eab_kid;
  std::string eab_hmac_key;       // base64url text, read from eab.hmac_key_file
  bool profile_required = false;  // rather no certificate than one of another profile
  std::vector<std::string> caa_identities = {};  // lower case; empty: as known of the directory
  std::string staging_eab_kid = {};              // the binding of the account at `staging`;
  std::string staging_eab_hmac_key = {};         // empty: the same as above
  bool operator==(const CertificateAuthority&) const = default;
};

struct Acme {
  std::string email;
  std::vector<CertificateAuthority> authorities;  // tried in order; default: letsencrypt
  std::vector<std::string> challenges = {"http-01", "tls-alpn-01"};
  KeyType key_type = KeyType::p256;
  std::optional<Duration> renew_before;
  std::string preferred_chain;
  bool caa = true;                    // look at the CAA records before the CA is asked
  std::vector<NameServer> resolvers;  // empty: those of /etc/resolv.conf
};

struct OnDemand {
  bool configured = false;  // the section is there
  std::string ask;
  std::vector<HostGlob> allow;
  std::vector<HostGlob> deny;  // goes before the two
  Duration wait = std::chrono::seconds(12);
  OnTimeout on_timeout = OnTimeout::fallback;
};

/// Who is told of what happens to certificates, and how.
struct Notify {
  struct Email {
    std::vector<std::string> to;
    std::string from;
    std::string host;  // a name or an address, without brackets
    uint16_t port = 0;
    bool implicit_tls = false;  // smtps://; otherwise STARTTLS
    std::string user;           // empty: no authentication, and STARTTLS only if it is offered
    std::string password;
    std::string trust;  // path of a PEM root besides the system's
    /// "smtp://mail.example.com:587"
    std::string server() const;
  };
  struct Webhook {
    std::string url;
    std::string secret;  // empty: unsigned
    std::string trust;
    /// "https://hooks.example.com": the rest of such an address is often a secret.
    std::string server() const;
  };

  std::optional<Email> email;
  std::optional<Webhook> webhook;
  std::vector<std::string> exec;    // program and arguments; empty: none
  std::vector<std::string> events;  // words for acme::Event::Kind; empty: all
  uint32_t max_reminders = 30;      // days that a certificate is served past its end
};

/// Fields to set (replace), add and remove; names as written, matched without regard to case.
struct FieldChanges {
  std::vector<std::pair<std::string, std::string>> set;
  std::vector<std::pair<std::string, std::string>> add;
  std::vector<std::string> remove;
  bool empty() const { return set.empty() && add.empty() && remove.empty(); }
};

struct FixedResponse {
  uint16_t status = 0;
  std::string body;
};

struct Redirect {
  uint16_t status = 308;
  std::string target;  // {uri} {host} {path} {query} are replaced
};

/// What to do with a request that matched.
struct Route {
  std::string path;     // "/exact"; with `prefix`, without the trailing *
  bool prefix = false;  // "/api/*"
  std::vector<std::string> methods;
  struct FieldMatch {
    std::string name;
    std::string value;
    bool prefix = false;  // the value ended in *
  };
  std::vector<FieldMatch> fields;
  std::string upstream;  // a key of Snapshot::upstreams; empty with redirect or respond
  std::string strip_prefix;
  std::optional<Redirect> redirect;
  std::optional<FixedResponse> respond;
  Place place;
};

struct Site {
  std::vector<HostGlob> hosts;
  std::string upstream;  // a key of Snapshot::upstreams; empty only if every request is a route's
  CertificateMode certificates = CertificateMode::automatic;
  std::string certificate;  // path: the site's own chain, PEM
  std::string key;          // path
  std::string fallback_certificate;
  std::string fallback_key;
  bool redirect_http = true;
  std::optional<Duration> hsts;
  TlsVersion tls_min = TlsVersion::tls12;
  std::vector<Network> access_allow;
  std::vector<Network> access_deny;
  FieldChanges request_fields;
  FieldChanges response_fields;
  std::vector<Route> routes;
  Place place;
};

/// One server of an upstream group.
struct Endpoint {
  std::string text;  // as written, for logs
  std::string host;  // a name or an address; empty for unix
  uint16_t port = 0;
  std::string unix_path;
  uint32_t weight = 1;
  bool backup = false;
};

struct UpstreamTls {
  std::string ca;    // path; empty: the system's roots
  std::string name;  // name to verify and to send as SNI; empty: the endpoint's host
  bool verify = true;
  std::string certificate;  // path: client certificate
  std::string key;          // path
};

/// Whether a group speaks TLS, and whether HTTP/2.
constexpr bool is_encrypted(UpstreamProtocol protocol) {
  return protocol == UpstreamProtocol::https || protocol == UpstreamProtocol::h2;
}
constexpr bool is_http2(UpstreamProtocol protocol) {
  return protocol == UpstreamProtocol::h2c || protocol == UpstreamProtocol::h2;
}

struct Upstream {
  std::string name;
  std::vector<Endpoint> servers;
  Balance balance = Balance::least_requests;
  UpstreamProtocol protocol = UpstreamProtocol::http1;
  std::string host = "request";  // "request", "server", or a literal
  UpstreamTls tls;
  uint32_t retry_attempts = 2;
  double retry_budget = 0.2;
  uint32_t connections_max = 0;  // 0: no limit
  ProxyProtocol proxy_protocol = ProxyProtocol::off;
  Place place;
};

struct Snapshot {
  std::vector<std::string> files;  // every file read, the main one first
  Server server;
  Log log;
  Timeouts timeouts;
  Limits limits;
  Acme acme;
  OnDemand on_demand;
  Notify notify;
  std::vector<Site> sites;
  /// Groups by name. An address written straight into a site gets a group named by that address.
  std::map<std::string, Upstream> upstreams;
};

using SnapshotPtr = std::shared_ptr<const Snapshot>;

}  // namespace gatehouse::config
