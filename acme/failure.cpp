#include "acme/failure.hpp"

#include <stdexcept>

namespace gatehouse::acme {

bool means_refused(const Failure& failure) {
  return failure.status >= 400 && failure.status < 500 && failure.kind != FailureClass::transport;
}

void throw_exception_from_error(const Failure& failure, const boost::source_location&) {
  throw std::runtime_error(failure.sentence);
}

}  // namespace gatehouse::acme
