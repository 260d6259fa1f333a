#include "admin/address.hpp"

#include <charconv>
#include <string_view>
#include <sys/un.h>

#include <fmt/format.h>

namespace gatehouse::admin {

using base::Error;
using base::ErrorKind;

namespace {

constexpr std::string_view unix_prefix = "unix:";
constexpr size_t unix_path_max = sizeof(sockaddr_un::sun_path) - 1;

Error wrong(const std::string& text) {
  return Error(ErrorKind::invalid,
               fmt::format("server.admin: '{}' is neither \"unix:/path\" nor \"address:port\" such "
                           "as \"127.0.0.1:2019\"",
                           text));
}

base::Result<Address> parse_unix(const std::string& text) {
  Address address;
  address.text = text;
  address.unix_path = text.substr(unix_prefix.size());
  if (address.unix_path.empty()) return wrong(text);
  if (address.unix_path.size() > unix_path_max) {
    return Error(
        ErrorKind::limit,
        fmt::format("server.admin: {} is longer than the {} bytes a socket's path may have",
                    address.unix_path, unix_path_max));
  }
  return address;
}

}  // namespace

base::Result<Address> parse_address(const std::string& text) {
  if (text.starts_with(unix_prefix)) return parse_unix(text);
  const size_t colon = text.rfind(':');
  if (colon == std::string::npos) return wrong(text);
  std::string host = text.substr(0, colon);
  if (host.size() > 2 && host.front() == '[' && host.back() == ']')
    host = host.substr(1, host.size() - 2);
  if (host == "localhost") host = "127.0.0.1";
  if (host.empty()) host = "::";
  uint16_t port = 0;
  const char* const end = text.data() + text.size();
  const auto [stop, problem] = std::from_chars(text.data() + colon + 1, end, port);
  if (problem != std::errc{} || stop != end || colon + 1 == text.size()) return wrong(text);
  boost::system::error_code code;
  const auto ip = boost::asio::ip::make_address(host, code);
  if (code) return wrong(text);
  Address address;
  address.text = text;
  address.tcp = {ip, port};
  return address;
}

}  // namespace gatehouse::admin
