#include "acme/failure.hpp"

#include <stdexcept>

namespace gatehouse::acme {

void throw_exception_from_error(const Failure& failure, const boost::source_location&) {
  throw std::runtime_error(failure.sentence);
}

}  // namespace gatehouse::acme
