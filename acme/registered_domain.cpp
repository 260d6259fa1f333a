#include "acme/registered_domain.hpp"

#include <boost/asio/ip/address.hpp>
#include <libpsl.h>

namespace gatehouse::acme {

std::string registered_domain(std::string_view name) {
  if (name.starts_with("*.")) name.remove_prefix(2);
  std::string text(name);
  boost::system::error_code error;
  boost::asio::ip::make_address(text, error);
  if (!error) return text;  // its last parts are no suffix of anybody's
  const char* domain = psl_registrable_domain(psl_builtin(), text.c_str());
  return domain == nullptr ? text : std::string(domain);
}

}  // namespace gatehouse::acme
