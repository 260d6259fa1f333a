#include "acme/dns/look.hpp"

#include <fmt/format.h>

namespace gatehouse::acme::dns {

using base::Monotonic;
using boost::asio::awaitable;

namespace {

/// One lookup; what fails becomes a sentence, and an empty answer.
awaitable<Lookup> ask(Resolver& resolver, std::string name, Type type,
                      Monotonic::time_point deadline, std::vector<std::string>& problems) {
  auto found = co_await resolver.look_up(name, type, deadline);
  if (found) co_return std::move(*found);
  problems.push_back(
      fmt::format("the {} records of {}: {}", type_name(type), name, found.error().context));
  Lookup nothing;
  nothing.owner = std::move(name);
  co_return nothing;
}

std::vector<std::string> values(const Lookup& lookup) {
  std::vector<std::string> result;
  for (const auto& record : lookup.records) result.push_back(record.value);
  return result;
}

}  // namespace

awaitable<Look> look_at(Resolver& resolver, std::string name, std::chrono::milliseconds time_max) {
  const auto deadline = Monotonic::now() + time_max;
  Look look;
  look.name = name.starts_with("*.") ? name.substr(2) : std::move(name);
  const auto v4 = co_await ask(resolver, look.name, Type::a, deadline, look.problems);
  look.aliases = v4.aliases;
  look.ipv4 = values(v4);
  const auto v6 = co_await ask(resolver, look.name, Type::aaaa, deadline, look.problems);
  look.ipv6 = values(v6);
  // At the apex the SOA answers, anywhere else it comes with "there is none".
  const auto soa = co_await ask(resolver, look.name, Type::soa, deadline, look.problems);
  look.zone = soa.records.empty() ? soa.zone : soa.owner;
  if (!look.zone.empty()) {
    const auto ns = co_await ask(resolver, look.zone, Type::ns, deadline, look.problems);
    look.name_servers = values(ns);
  }
  for (std::string at = look.name; !at.empty();) {
    const size_t problems = look.problems.size();
    auto caa = co_await ask(resolver, at, Type::caa, deadline, look.problems);
    if (!caa.records.empty()) {
      look.caa = std::move(caa.records);
      look.caa_owner = std::move(caa.owner);
    }
    if (!look.caa.empty() || look.problems.size() != problems) break;
    const size_t dot = at.find('.');
    at = dot == at.npos ? std::string() : at.substr(dot + 1);
  }
  co_return look;
}

}  // namespace gatehouse::acme::dns
