#include "acme/registered_domain.hpp"

#include <libpsl.h>

namespace gatehouse::acme {

std::string registered_domain(std::string_view name) {
  if (name.starts_with("*.")) name.remove_prefix(2);
  const std::string text(name);
  const char* domain = psl_registrable_domain(psl_builtin(), text.c_str());
  return domain == nullptr ? text : std::string(domain);
}

}  // namespace gatehouse::acme
