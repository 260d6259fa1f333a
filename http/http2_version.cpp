#include "http/http2_version.hpp"

#include <nghttp2/nghttp2.h>

namespace gatehouse::http {

std::string http2_library_version() {
  return ::nghttp2_version(0)->version_str;
}

}  // namespace gatehouse::http
