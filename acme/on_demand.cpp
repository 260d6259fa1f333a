#include "acme/on_demand.hpp"

#include <algorithm>

#include <boost/asio/ip/address.hpp>

#include "acme/names.hpp"
#include "base/error.hpp"

namespace gatehouse::acme {

namespace ip = boost::asio::ip;

void Permission::configure(const config::OnDemand& settings) {
  settings_ = settings;
  ask_.configure(settings.ask);
}

std::optional<Answer> Permission::local(const std::string& name) const {
  if (!plausible_name(name)) return Answer::denied;
  const auto listed = [&name](const std::vector<config::HostGlob>& globs) {
    return std::any_of(globs.begin(), globs.end(),
                       [&](const config::HostGlob& glob) { return glob.matches(name); });
  };
  if (listed(settings_.deny)) return Answer::denied;
  if (listed(settings_.allow)) return Answer::allowed;
  if (settings_.ask.empty()) return Answer::denied;
  return std::nullopt;
}

std::optional<Answer> Permission::known(const std::string& name) {
  const auto answer = local(name);
  return answer ? answer : ask_.remembered(name);
}

void Permission::request(const std::string& name, const std::string& client, Ask::Listener answer) {
  if (const auto known = local(name)) return answer(*known);
  ask_.question(name, client, std::move(answer));
}

bool Parking::enter(const std::string& name, const std::string& client) {
  const std::string key = client_key(client);
  if (total_ >= total_max) return false;
  const auto of_name = names_.find(name);
  if (of_name != names_.end() && of_name->second >= per_name_max) return false;
  const auto of_client = clients_.find(key);
  if (of_client != clients_.end() && of_client->second >= per_client_max) return false;
  ++total_;
  ++names_[name];
  if (!key.empty()) ++clients_[key];
  return true;
}

void Parking::leave(const std::string& name, const std::string& client) {
  const auto drop = [](auto& counts, const std::string& key) {
    const auto found = counts.find(key);
    ASSERT(found != counts.end());
    if (--found->second == 0) counts.erase(found);
  };
  ASSERT(total_ > 0);
  --total_;
  drop(names_, name);
  const std::string key = client_key(client);
  if (!key.empty()) drop(clients_, key);
}

std::string Parking::client_key(const std::string& address) {
  boost::system::error_code code;
  ip::address parsed = ip::make_address(address, code);
  if (code) return address.substr(0, 64);
  if (parsed.is_v6() && parsed.to_v6().is_v4_mapped())
    parsed = ip::make_address_v4(ip::v4_mapped, parsed.to_v6());
  if (parsed.is_loopback()) return {};
  if (parsed.is_v4()) return parsed.to_string();
  auto bytes = parsed.to_v6().to_bytes();
  std::fill(bytes.begin() + 8, bytes.end(), static_cast<unsigned char>(0));
  return ip::address_v6(bytes).to_string();
}

}  // namespace gatehouse::acme
