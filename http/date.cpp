#include "http/date.hpp"

#include <ctime>

namespace gatehouse::http {

std::string_view date_now() {
  thread_local std::time_t made_at = 0;
  thread_local char text[40];
  thread_local size_t size = 0;
  const std::time_t now = std::time(nullptr);
  if (now != made_at) {
    std::tm parts{};
    gmtime_r(&now, &parts);
    size = std::strftime(text, sizeof(text), "%a, %d %b %Y %H:%M:%S GMT", &parts);
    made_at = now;
  }
  return {text, size};
}

}  // namespace gatehouse::http
