#include "proxy/trust.hpp"

#include "http/list.hpp"

namespace gatehouse::proxy {

namespace {

using boost::asio::ip::address;

/// "192.0.2.1", "192.0.2.1:4711", "2001:db8::1", "[2001:db8::1]:4711": proxies write them all.
bool parse_hop(std::string_view text, address& out) {
  if (text.starts_with('[')) {
    text = text.substr(1, std::min(text.find(']'), text.size()) - 1);
  } else if (text.find(':') == text.rfind(':')) {
    text = text.substr(0, text.find(':'));
  }
  // Nothing but what an address is written with: no zone, and no NUL that would end it early.
  if (text.find_first_not_of("0123456789abcdefABCDEF:.") != text.npos) return false;
  boost::system::error_code failed;
  out = boost::asio::ip::make_address(text, failed);
  return !failed;
}

/// Goes through one field's list from its end. False: the search is over.
bool search(const config::Server& server, std::string_view list, std::string& found) {
  for (;;) {
    const size_t comma = list.rfind(',');
    const std::string_view element = http::trim(comma == list.npos ? list : list.substr(comma + 1));
    if (!element.empty()) {
      address hop;
      if (!parse_hop(element, hop)) return false;
      found = hop.to_string();
      if (!contains(server.trusted_proxies, hop)) return false;
    }
    if (comma == list.npos) return true;
    list = list.substr(0, comma);
  }
}

}  // namespace

bool contains(const std::vector<config::Network>& networks, const address& candidate) {
  for (const auto& network : networks) {
    if (network.contains(candidate)) return true;
  }
  return false;
}

bool must_introduce(const config::Server& server, const ClientFacts& peer) {
  return server.proxy_protocol &&
         (peer.unix_socket || contains(server.trusted_proxies, peer.address));
}

bool believes_fields(const config::Server& server, const ClientFacts& client) {
  return !client.unnamed && contains(server.trusted_proxies, client.address);
}

std::string forwarded_client(const config::Server& server, const http::RequestHead& request) {
  std::string found;
  for (auto field = request.fields.rbegin(); field != request.fields.rend(); ++field) {
    if (field->id != http::FieldId::x_forwarded_for || field->skip) continue;
    if (!search(server, field->value, found)) break;
  }
  return found;
}

}  // namespace gatehouse::proxy
