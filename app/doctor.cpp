#include "app/doctor.hpp"

#include <algorithm>
#include <set>

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/address.hpp>
#include <boost/json.hpp>
#include <fmt/format.h>

#include "acme/names.hpp"
#include "admin/api.hpp"
#include "app/diagnosis.hpp"
#include "app/doctor_dns.hpp"
#include "app/stored_certificates.hpp"
#include "base/fetch.hpp"
#include "base/json_escape.hpp"

namespace gatehouse::app {

namespace asio = boost::asio;
namespace json = boost::json;

namespace {

constexpr std::chrono::seconds look_wait{8};
constexpr size_t probe_body_max = 64 * 1024;

std::string text_of(const json::object& object, std::string_view key) {
  const json::value* const value = object.if_contains(key);
  return value != nullptr && value->is_string() ? std::string(value->get_string()) : "";
}

std::optional<json::object> object_in(const std::string& body) {
  boost::system::error_code code;
  json::value parsed = json::parse(body, code);
  if (code || !parsed.is_object()) return std::nullopt;
  return std::move(parsed.get_object());
}

CertificateFinding certificate_in(const json::object& details) {
  CertificateFinding out;
  out.state = text_of(details, "state");
  out.authority = text_of(details, "authority");
  out.fingerprint = text_of(details, "fingerprint");
  out.not_after = text_of(details, "not_after");
  out.renew_at = text_of(details, "renew_at");
  out.last_error = text_of(details, "last_error");
  out.next_attempt = text_of(details, "next_attempt");
  const json::value* const failures = details.if_contains("failures");
  if (failures != nullptr && failures->is_int64()) out.failures = failures->get_int64();
  const json::value* const budgets = details.if_contains("budgets");
  if (budgets == nullptr || !budgets->is_array()) return out;
  for (const json::value& value : budgets->get_array()) {
    if (!value.is_object()) continue;
    const json::object& budget = value.get_object();
    const std::string name = text_of(budget, "authority");
    const std::string ready = text_of(budget, "ready_at");
    const json::value* const answers = budget.if_contains("answers");
    if (answers != nullptr && answers->is_bool() && !answers->get_bool())
      out.budgets.push_back(name + " does not answer now");
    if (!ready.empty())
      out.budgets.push_back(fmt::format("{}: its limits leave no order before {}", name, ready));
  }
  return out;
}

/// Asks the running gatehouse; what it cannot be asked is read from storage, if there is one.
void ask_about_certificate(const Target& target, Findings& findings) {
  const auto answer = target.client->request("GET", "/api/certificates/" + findings.host);
  const auto object = answer ? object_in(answer->body) : std::nullopt;
  if (answer && answer->status == 200 && object) {
    findings.certificate = certificate_in(*object);
    return;
  }
  if (answer && answer->status == 404 && object) {
    findings.unknown = text_of(*object, "error");
    return;
  }
  if (answer)
    findings.not_running = fmt::format("the running gatehouse answers {}{}{}", answer->status,
                                       object ? ": " : "", object ? text_of(*object, "error") : "");
  else
    findings.not_running =
        nobody_there(answer.error()) ? "no gatehouse runs here" : answer.error().context;
  findings.unknown = "not looked at";
  if (!target.snapshot) return;
  const auto stored = stored_details(target.snapshot->server.storage, findings.host);
  if (!stored) {
    findings.unknown = stored.error().context;
    return;
  }
  if (const auto read = object_in(admin::details_json(*stored)))
    findings.certificate = certificate_in(*read);
}

struct Probed {
  std::string path, body;
};

std::optional<Probed> begin_probe(const Target& target, const Findings& findings) {
  if (!findings.not_running.empty()) return std::nullopt;
  const auto answer = target.client->request("POST", "/api/probes/" + findings.host);
  if (!answer || answer->status != 200) return std::nullopt;
  const auto object = object_in(answer->body);
  if (!object) return std::nullopt;
  Probed probed{text_of(*object, "path"), text_of(*object, "body")};
  if (!probed.path.starts_with('/') || probed.body.empty()) return std::nullopt;
  return probed;
}

std::string in_brackets(const std::string& address) {
  return address.find(':') == std::string::npos ? address : "[" + address + "]";
}

asio::awaitable<void> fetch_into(base::Fetcher& fetcher, base::FetchRequest request,
                                 std::optional<base::Result<base::FetchResponse>>& out) {
  auto response = co_await fetcher.fetch(std::move(request));
  out.emplace(std::move(response));
}

base::Result<base::FetchResponse> fetch(base::FetchRequest request) {
  asio::io_context io;
  base::Fetcher fetcher(io);
  std::optional<base::Result<base::FetchResponse>> out;
  asio::co_spawn(io, fetch_into(fetcher, std::move(request), out), [](std::exception_ptr problem) {
    if (problem) std::rethrow_exception(problem);
  });
  while (!out && io.run_one() > 0) continue;
  return out ? std::move(*out) : base::Error(base::ErrorKind::cancelled, "no answer");
}

/// As a CA would: by plain HTTP, with the host's name, and no redirect followed.
void look_at_http(AddressFinding& at, const Findings& findings,
                  const std::optional<Probed>& probed) {
  if (!probed) return;
  base::FetchRequest request;
  request.url =
      fmt::format("http://{}:{}{}", in_brackets(at.address), findings.http_port, probed->path);
  request.fields.emplace_back("Host", in_brackets(findings.host));
  request.timeout = request.connect_timeout = look_wait;
  request.response_body_max = probe_body_max;
  const auto response = fetch(std::move(request));
  if (!response) {
    at.http = Answerer::nobody;
    at.http_problem = response.error().context;
    return;
  }
  const bool ours = response->status == 200 && response->body == probed->body;
  at.http = ours ? Answerer::ourselves : Answerer::another;
  if (!ours) at.http_problem = fmt::format("status {}", response->status);
}

void look_at_addresses(Findings& findings, const std::vector<std::string>& addresses,
                       const std::optional<Probed>& probed, const std::string& root) {
  const std::set<std::string> own = addresses_of_this_machine();
  for (const std::string& address : addresses) {
    AddressFinding at;
    at.address = address;
    at.of_this_machine = own.contains(address);
    look_at_http(at, findings, probed);
    auto shown =
        tls::look_at_certificate(address, findings.https_port, findings.host, root, look_wait);
    if (shown)
      at.shown = std::move(*shown);
    else
      at.https_problem = shown.error().context;
    findings.addresses.push_back(std::move(at));
  }
}

/// A host that can be looked at, or none after the mistake was printed.
std::optional<std::string> host_in(const Options& options) {
  std::string host = acme::requested_name(options.name);
  if (!host.empty() && !host.starts_with("*.")) return host;
  std::string shown;
  base::append_json_escaped(shown, options.name.substr(0, 100));
  fail(exit_usage, fmt::format("'{}' is no host: write one such as www.example.com", shown));
  return std::nullopt;
}

}  // namespace

int examine(const Options& options) {
  const auto host = host_in(options);
  if (!host) return exit_usage;
  std::vector<std::string> addresses;
  boost::system::error_code code;
  if (!options.address.empty()) {
    const auto given = asio::ip::make_address(options.address, code);
    if (code) return fail(exit_usage, "--address takes an IP address");
    addresses.push_back(given.to_string());
  }
  const Target target = find_running(options);
  if (!target.client) return target.status;
  Findings findings;
  findings.host = *host;
  findings.http_port = options.http_port;
  findings.https_port = options.https_port;
  std::string root;
  if (target.snapshot) {
    const auto& challenges = target.snapshot->acme.challenges;
    findings.http_challenge = std::ranges::find(challenges, "http-01") != challenges.end();
    if (auto own = stored_root(target.snapshot->server.storage)) root = std::move(*own);
  }
  if (addresses.empty())
    addresses = look_at_dns(findings, target.snapshot);
  else
    look_at_caa(findings, target.snapshot);
  ask_about_certificate(target, findings);
  const auto probed = begin_probe(target, findings);
  look_at_addresses(findings, addresses, probed, root);
  // That was a visit: a site with certificates = "on_demand" may have ordered one for it.
  if (!findings.certificate && findings.not_running.empty())
    ask_about_certificate(target, findings);
  const Diagnosis diagnosis = diagnose(findings, base::WallClock::now());
  const int said = say(options.json ? diagnosis_json(*host, diagnosis) : diagnosis_text(diagnosis));
  if (said != exit_well) return said;
  return diagnosis.well ? exit_well : exit_failed;
}

}  // namespace gatehouse::app
