#include "base/error.hpp"

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <stdexcept>

namespace gatehouse::base {

std::string_view name(ErrorKind kind) {
  switch (kind) {
    case ErrorKind::closed:
      return "closed";
    case ErrorKind::reset:
      return "reset";
    case ErrorKind::refused:
      return "refused";
    case ErrorKind::timeout:
      return "timeout";
    case ErrorKind::resolve:
      return "resolve";
    case ErrorKind::tls:
      return "tls";
    case ErrorKind::protocol:
      return "protocol";
    case ErrorKind::limit:
      return "limit";
    case ErrorKind::cancelled:
      return "cancelled";
    case ErrorKind::invalid:
      return "invalid";
    case ErrorKind::not_found:
      return "not_found";
    case ErrorKind::denied:
      return "denied";
    case ErrorKind::corrupt:
      return "corrupt";
    case ErrorKind::io:
      return "io";
    case ErrorKind::unavailable:
      return "unavailable";
  }
  return "unknown";
}

namespace {

ErrorKind kind_of(int code) {
  switch (code) {
    case ECONNREFUSED:
      return ErrorKind::refused;
    case ECONNRESET:
    case EPIPE:
      return ErrorKind::reset;
    case ETIMEDOUT:
      return ErrorKind::timeout;
    case ENOENT:
      return ErrorKind::not_found;
    case EACCES:
    case EPERM:
      return ErrorKind::denied;
    default:
      return ErrorKind::io;
  }
}

}  // namespace

bool out_of_resources(int code) {
  return code == EMFILE || code == ENFILE || code == ENOBUFS || code == ENOMEM;
}

Error from_errno(int code, std::string context) {
  context += ": ";
  context += std::strerror(code);
  return Error(kind_of(code), std::move(context), code);
}

void throw_exception_from_error(const Error& error, const boost::source_location&) {
  throw std::runtime_error(error.context);
}

void assertion_failed(const char* expression, const char* file, int line) {
  std::fprintf(stderr, "gatehouse: assertion failed: %s at %s:%d\n", expression, file, line);
  std::abort();
}

}  // namespace gatehouse::base
