// A head as text, so that two ways of reading the same bytes can be compared.
//
// Not a message: it says what was understood, forwarded or not. Any thread.
#pragma once

#include <string>

#include <fmt/format.h>

#include "http/message.hpp"

namespace gatehouse::test {

/// One line a field; a minus before those that are not forwarded.
inline std::string text_of(const http::Fields& fields) {
  std::string text;
  for (const http::Field& field : fields) {
    text += fmt::format("{}{}={} #{}{}\n", field.skip ? "-" : "", field.name, field.value,
                        static_cast<int>(field.id), field.verbatim ? " verbatim" : "");
  }
  return text;
}

inline std::string text_of(const http::RequestHead& head) {
  return fmt::format("{} {} v{} {} | {} | {} framing={} length={} {}{}{}\n",
                     static_cast<int>(head.method), head.method_text,
                     static_cast<int>(head.version), head.target, head.scheme, head.authority,
                     static_cast<int>(head.framing), head.content_length,
                     head.keep_alive ? "keep-alive " : "", head.expect_continue ? "expect " : "",
                     head.accepts_trailers ? "trailers" : "") +
         text_of(head.fields);
}

inline std::string text_of(const http::ResponseHead& head) {
  return fmt::format("{} v{} {} framing={} length={} {} {}\n", head.status,
                     static_cast<int>(head.version), head.reason, static_cast<int>(head.framing),
                     head.content_length, head.has_content_length ? "announced" : "",
                     head.keep_alive ? "keep-alive" : "") +
         text_of(head.fields);
}

}  // namespace gatehouse::test
