#include "app/doctor_dns.hpp"

#include <algorithm>
#include <arpa/inet.h>
#include <ifaddrs.h>
#include <netdb.h>
#include <optional>

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/address.hpp>
#include <fmt/format.h>

#include "acme/caa.hpp"
#include "acme/dns/look.hpp"

namespace gatehouse::app {

namespace asio = boost::asio;
namespace dns = acme::dns;

namespace {

constexpr std::chrono::seconds look_time_max{8};
constexpr size_t addresses_max = 8;

void add_address(std::vector<std::string>& addresses, const std::string& address) {
  if (!address.empty() && addresses.size() < addresses_max &&
      std::ranges::find(addresses, address) == addresses.end())
    addresses.push_back(address);
}

std::string address_text(const sockaddr* address) {
  char text[INET6_ADDRSTRLEN] = {};
  if (address != nullptr && address->sa_family == AF_INET)
    ::inet_ntop(AF_INET, &reinterpret_cast<const sockaddr_in*>(address)->sin_addr, text,
                sizeof text);
  if (address != nullptr && address->sa_family == AF_INET6)
    ::inet_ntop(AF_INET6, &reinterpret_cast<const sockaddr_in6*>(address)->sin6_addr, text,
                sizeof text);
  return text;
}

/// By this machine's own resolver.
std::vector<std::string> local_addresses(const std::string& host) {
  std::vector<std::string> out;
  addrinfo wish{};
  wish.ai_socktype = SOCK_STREAM;
  addrinfo* list = nullptr;
  if (::getaddrinfo(host.c_str(), nullptr, &wish, &list) != 0) return out;
  for (const addrinfo* one = list; one != nullptr; one = one->ai_next)
    add_address(out, address_text(one->ai_addr));
  ::freeaddrinfo(list);
  return out;
}

asio::awaitable<void> look_into(dns::Resolver& resolver, std::string host,
                                std::optional<dns::Look>& out) {
  auto look = co_await dns::look_at(resolver, std::move(host), look_time_max);
  out.emplace(std::move(look));
}

dns::Look look(const std::string& host, const config::SnapshotPtr& snapshot) {
  dns::ResolverSettings settings;
  if (snapshot) settings.servers = snapshot->acme.resolvers;
  asio::io_context io;
  dns::Resolver resolver(std::move(settings));
  std::optional<dns::Look> out;
  asio::co_spawn(io, look_into(resolver, host, out), [](std::exception_ptr problem) {
    if (problem) std::rethrow_exception(problem);
  });
  io.run();
  return std::move(*out);
}

acme::CaaApplicant applicant_of(const config::CertificateAuthority& authority,
                                const config::Acme& acme) {
  acme::CaaApplicant applicant;
  applicant.authority = authority.name;
  applicant.challenges = acme.challenges;
  applicant.identities = authority.caa_identities.empty()
                             ? acme::known_caa_identities(authority.directory)
                             : authority.caa_identities;
  return applicant;
}

/// What the CAs of the configuration make of the records.
void judge(Findings& findings, const dns::Look& seen, const config::SnapshotPtr& snapshot) {
  if (snapshot && !snapshot->acme.caa) {
    findings.caa_unseen = "acme.caa is off: what the records say is left to the CA";
    return;
  }
  const auto unseen = std::ranges::find_if(seen.problems, [](const std::string& problem) {
    return problem.find("CAA") != std::string::npos;
  });
  if (seen.caa.empty() && unseen != seen.problems.end()) {
    findings.caa_unseen = *unseen;
    return;
  }
  if (seen.caa.empty()) {
    findings.caa.push_back({"", true, "there is no record, so every CA may issue"});
    return;
  }
  if (!snapshot) {
    findings.caa_unseen = fmt::format(
        "{} has records; name the configuration with --config to have them judged", seen.caa_owner);
    return;
  }
  acme::CaaPlace place;
  place.owner = seen.caa_owner;
  place.zone = seen.zone;
  place.asked = findings.host;
  for (const auto& authority : snapshot->acme.authorities) {
    const acme::CaaApplicant applicant = applicant_of(authority, snapshot->acme);
    if (applicant.identities.empty()) continue;
    const acme::CaaVerdict verdict = acme::judge_caa(seen.caa, false, applicant);
    CaaFinding finding;
    finding.authority = authority.name;
    finding.allowed = verdict.allowed;
    finding.words =
        verdict.allowed
            ? fmt::format("the records of {} let {} issue", seen.caa_owner, authority.name)
            : acme::caa_failure(findings.host, applicant, verdict, place).sentence;
    findings.caa.push_back(std::move(finding));
  }
}

bool is_address(const std::string& host) {
  boost::system::error_code code;
  asio::ip::make_address(host, code);
  return !code;
}

}  // namespace

std::set<std::string> addresses_of_this_machine() {
  std::set<std::string> out;
  ifaddrs* list = nullptr;
  if (::getifaddrs(&list) != 0) return out;
  for (const ifaddrs* one = list; one != nullptr; one = one->ifa_next)
    if (std::string text = address_text(one->ifa_addr); !text.empty()) out.insert(std::move(text));
  ::freeifaddrs(list);
  return out;
}

std::vector<std::string> look_at_dns(Findings& findings, const config::SnapshotPtr& snapshot) {
  if (is_address(findings.host)) return {findings.host};
  const dns::Look seen = look(findings.host, snapshot);
  std::vector<std::string> addresses;
  for (const std::string& address : seen.ipv4) add_address(addresses, address);
  for (const std::string& address : seen.ipv6) add_address(addresses, address);
  if (!seen.aliases.empty())
    findings.dns_notes.push_back(fmt::format("it is an alias of {}", seen.aliases.back()));
  for (const std::string& problem : seen.problems) findings.dns_notes.push_back(problem);
  if (addresses.empty()) {
    addresses = local_addresses(findings.host);
    if (!addresses.empty())
      findings.dns_notes.push_back("only this machine knows its address: no CA will find it");
  }
  if (addresses.empty())
    findings.dns_problem =
        fmt::format("{} has no address: add an A or AAAA record for it", findings.host);
  judge(findings, seen, snapshot);
  return addresses;
}

void look_at_caa(Findings& findings, const config::SnapshotPtr& snapshot) {
  if (is_address(findings.host)) return;
  const bool off = snapshot && !snapshot->acme.caa;
  judge(findings, off ? dns::Look() : look(findings.host, snapshot), snapshot);
}

}  // namespace gatehouse::app
