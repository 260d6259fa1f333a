#include "acme/event.hpp"

#include "base/error.hpp"

namespace gatehouse::acme {

std::string_view word(Event::Kind kind) {
  switch (kind) {
    case Event::Kind::obtained:
      return "obtained";
    case Event::Kind::renewed:
      return "renewed";
    case Event::Kind::failed:
      return "failed";
    case Event::Kind::expiring:
      return "expiring";
    case Event::Kind::expired:
      return "expired";
    case Event::Kind::blocked:
      return "blocked";
    case Event::Kind::recovered:
      return "recovered";
    case Event::Kind::deploy_failed:
      return "deploy_failed";
  }
  ASSERT(false);
  return {};
}

}  // namespace gatehouse::acme
