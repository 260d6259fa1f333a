#include "http/http1_writer.hpp"

#include <charconv>
#include <cstring>

#include "http/websocket.hpp"

namespace gatehouse::http {

namespace {

/// The end of the run of fields that begins at `first` and lies in the received bytes exactly as
/// it is to be written, each behind the one before.
const Field* end_of_run(const Field* first, const Field* end) {
  const Field* last = first;
  for (const Field* next = first + 1; next != end; last = next++) {
    if (next->skip || !next->verbatim) break;
    if (next->name.data() != last->value.data() + last->value.size() + 2) break;
  }
  return last + 1;
}

void write_field(std::string_view name, std::string_view value, HeadBuffer& out) {
  out.append(name);
  out.append(": ");
  out.append(value);
  out.append("\r\n");
}

void write_fields(const Fields& fields, HeadBuffer& out) {
  const Field* field = fields.data();
  const Field* const end = field + fields.size();
  while (field != end) {
    if (field->skip) {
      ++field;
    } else if (field->verbatim) {
      const Field* const run_end = end_of_run(field, end);
      const std::string_view last = run_end[-1].value;
      const char* const begin = field->name.data();
      out.append({begin, static_cast<size_t>(last.data() + last.size() + 2 - begin)});
      field = run_end;
    } else {
      write_field(field->name, field->value, out);
      ++field;
    }
  }
}

void write_request_line(const RequestHead& head, std::string_view host, HeadBuffer& out) {
  out.append(head.method_text);
  out.append(" ");
  out.append(head.target);
  out.append(" HTTP/1.1\r\nHost: ");
  out.append(host);
  out.append("\r\n");
}

constexpr std::string_view upgrade_fields = "Connection: Upgrade\r\nUpgrade: websocket\r\n";

struct ReasonPhrase {
  unsigned status;
  std::string_view phrase;
};

constexpr ReasonPhrase reason_phrases[] = {
    {100, "Continue"},
    {101, "Switching Protocols"},
    {103, "Early Hints"},
    {200, "OK"},
    {201, "Created"},
    {202, "Accepted"},
    {203, "Non-Authoritative Information"},
    {204, "No Content"},
    {205, "Reset Content"},
    {206, "Partial Content"},
    {300, "Multiple Choices"},
    {301, "Moved Permanently"},
    {302, "Found"},
    {303, "See Other"},
    {304, "Not Modified"},
    {307, "Temporary Redirect"},
    {308, "Permanent Redirect"},
    {400, "Bad Request"},
    {401, "Unauthorized"},
    {402, "Payment Required"},
    {403, "Forbidden"},
    {404, "Not Found"},
    {405, "Method Not Allowed"},
    {406, "Not Acceptable"},
    {407, "Proxy Authentication Required"},
    {408, "Request Timeout"},
    {409, "Conflict"},
    {410, "Gone"},
    {411, "Length Required"},
    {412, "Precondition Failed"},
    {413, "Content Too Large"},
    {414, "URI Too Long"},
    {415, "Unsupported Media Type"},
    {416, "Range Not Satisfiable"},
    {417, "Expectation Failed"},
    {421, "Misdirected Request"},
    {422, "Unprocessable Content"},
    {425, "Too Early"},
    {426, "Upgrade Required"},
    {428, "Precondition Required"},
    {429, "Too Many Requests"},
    {431, "Request Header Fields Too Large"},
    {451, "Unavailable For Legal Reasons"},
    {500, "Internal Server Error"},
    {501, "Not Implemented"},
    {502, "Bad Gateway"},
    {503, "Service Unavailable"},
    {504, "Gateway Timeout"},
    {505, "HTTP Version Not Supported"},
    {511, "Network Authentication Required"},
};

}  // namespace

void HeadBuffer::append(std::string_view text) {
  if (text.empty()) return;  // its data may be null
  if (text.size() > capacity - size) {
    overflow = true;
    return;
  }
  std::memcpy(data + size, text.data(), text.size());
  size += text.size();
}

void write_request_head(const RequestHead& head, std::string_view host, HeadBuffer& out) {
  write_request_line(head, host, out);
  write_fields(head.fields, out);
  // RFC 9110 section 10.1.4: TE is for one connection, and says so.
  if (head.accepts_trailers) out.append("TE: trailers\r\nConnection: TE\r\n");
  out.append(head.framing == Framing::chunked ? "Transfer-Encoding: chunked\r\n\r\n" : "\r\n");
}

void write_upgrade_head(const RequestHead& head, std::string_view host, std::string_view key,
                        HeadBuffer& out) {
  write_request_line(head, host, out);
  write_fields(head.fields, out);
  out.append(upgrade_fields);
  if (!key.empty()) write_field("Sec-WebSocket-Key", key, out);
  if (!has_websocket_version(head)) write_field("Sec-WebSocket-Version", "13", out);
  out.append("\r\n");
}

void write_response_head(const ResponseHead& head, Framing framing, Persistence persistence,
                         HeadBuffer& out) {
  char status[] = "HTTP/1.1 000 ";
  status[9] = static_cast<char>('0' + head.status / 100 % 10);
  status[10] = static_cast<char>('0' + head.status / 10 % 10);
  status[11] = static_cast<char>('0' + head.status % 10);
  out.append({status, sizeof(status) - 1});
  out.append(head.reason);
  out.append("\r\n");
  write_fields(head.fields, out);
  if (framing == Framing::chunked) out.append("Transfer-Encoding: chunked\r\n");
  if (persistence == Persistence::close) out.append("Connection: close\r\n");
  if (persistence == Persistence::keep_alive_explicit) out.append("Connection: keep-alive\r\n");
  if (persistence == Persistence::tunnel) out.append(upgrade_fields);
  out.append("\r\n");
}

size_t write_chunk_size(uint64_t size, char* out) {
  char* const end = std::to_chars(out, out + 16, size, 16).ptr;
  end[0] = '\r';
  end[1] = '\n';
  return static_cast<size_t>(end - out) + 2;
}

void write_last_chunk(const Trailers* trailers, HeadBuffer& out) {
  out.append("0\r\n");
  if (trailers) {
    for (const auto& [name, value] : *trailers) write_field(name, value, out);
  }
  out.append("\r\n");
}

std::string_view reason_phrase(unsigned status) {
  for (const auto& [known, phrase] : reason_phrases) {
    if (known == status) return phrase;
  }
  return "Unknown";
}

}  // namespace gatehouse::http
