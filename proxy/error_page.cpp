#include "proxy/error_page.hpp"

#include <algorithm>
#include <array>
#include <charconv>

#include "http/date.hpp"
#include "http/http1_writer.hpp"
#include "http/rules.hpp"

namespace gatehouse::proxy {

namespace {

using http::equal_ignoring_case;
using http::Framing;

struct Explanation {
  uint16_t status;
  std::string_view text;
};

constexpr Explanation explanations[] = {
    {400, "The request is malformed."},
    {403, "This address may not be visited from here."},
    {404, "There is nothing at this address."},
    {405, "This method is not served."},
    {408, "The request took too long to arrive."},
    {413, "The request's content is larger than what is allowed here."},
    {414, "The request's address is longer than what is allowed here."},
    {417, "The request expects what cannot be done."},
    {421, "This connection does not serve the site that was asked for."},
    {426, "A WebSocket of version 13 is served here, of other versions none."},
    {431, "The request's header fields are larger than what is allowed here."},
    {500, "Something went wrong here."},
    {501, "The request needs something that is not supported."},
    {502, "The server behind this proxy gave no valid answer."},
    {503, "The site cannot answer right now. Please try again in a moment."},
    {504, "The server behind this proxy took too long to answer."},
    {505, "This version of HTTP is not supported."},
};

struct Page {
  uint16_t status;
  std::string html;
  std::string json;
};

Page make_page(const Explanation& explanation) {
  const std::string number = std::to_string(explanation.status);
  const std::string phrase(http::reason_phrase(explanation.status));
  const std::string text(explanation.text);
  Page page;
  page.status = explanation.status;
  page.html = "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>" + number +
              " " + phrase + "</title></head>\n<body><h1>" + phrase + "</h1><p>" + text +
              "</p></body></html>\n";
  page.json = "{\"type\":\"about:blank\",\"title\":\"" + phrase + "\",\"status\":" + number +
              ",\"detail\":\"" + text + "\"}\n";
  return page;
}

using Pages = std::array<Page, std::size(explanations)>;

/// A status without a page of its own is shown as 500 or 400.
const Page& page_of(uint16_t status) {
  static const Pages pages = [] {
    Pages made;
    for (size_t i = 0; i < made.size(); ++i) made[i] = make_page(explanations[i]);
    return made;
  }();
  for (const Page& page : pages) {
    if (page.status == status) return page;
  }
  return page_of(status >= 400 && status < 500 ? 400 : 500);
}

/// How much a media type is wanted: the weight, in thousandths, that the most exact range naming it
/// gives (RFC 9110 section 12.5.1).
struct Wish {
  int weight = 0;
  int exactness = -1;
  void take(int range_weight, int range_exactness) {
    if (range_exactness < exactness) return;
    weight = range_weight;
    exactness = range_exactness;
  }
  auto operator<=>(const Wish&) const = default;
};

std::string_view trimmed(std::string_view text) {
  while (!text.empty() && (text.front() == ' ' || text.front() == '\t')) text.remove_prefix(1);
  while (!text.empty() && (text.back() == ' ' || text.back() == '\t')) text.remove_suffix(1);
  return text;
}

std::string_view cut(std::string_view& text, char separator) {
  const size_t at = text.find(separator);
  const std::string_view head = trimmed(text.substr(0, at));
  text.remove_prefix(at == text.npos ? text.size() : at + 1);
  return head;
}

/// "0.8" → 800; whatever is no weight counts as zero.
int parse_weight(std::string_view text) {
  if (text.empty() || text.size() > 5 || (text[0] != '0' && text[0] != '1')) return 0;
  int weight = (text[0] - '0') * 1000;
  int unit = 100;
  for (size_t i = 1; i < text.size(); ++i) {
    if (i == 1 && text[i] == '.') continue;
    if (i == 1 || text[i] < '0' || text[i] > '9') return 0;
    weight += (text[i] - '0') * unit;
    unit /= 10;
  }
  return weight > 1000 ? 0 : weight;
}

int weight_of(std::string_view parameters) {
  while (!parameters.empty()) {
    std::string_view parameter = cut(parameters, ';');
    const std::string_view name = cut(parameter, '=');
    if (equal_ignoring_case(name, "q")) return parse_weight(trimmed(parameter));
  }
  return 1000;
}

/// Whether the client would rather have JSON. Browsers name HTML first; without a word either way
/// it is HTML, which people can read.
bool prefers_json(const http::RequestHead& request) {
  Wish html;
  Wish json;
  for (const http::Field& field : request.fields) {
    if (field.id != http::FieldId::accept) continue;
    std::string_view ranges = field.value;
    while (!ranges.empty()) {
      std::string_view parameters = cut(ranges, ',');
      const std::string_view range = cut(parameters, ';');
      const int weight = weight_of(parameters);
      if (equal_ignoring_case(range, "text/html")) {
        html.take(weight, 2);
      } else if (equal_ignoring_case(range, "application/json") ||
                 equal_ignoring_case(range, "application/problem+json")) {
        json.take(weight, 2);
      } else if (equal_ignoring_case(range, "text/*")) {
        html.take(weight, 1);
      } else if (equal_ignoring_case(range, "application/*")) {
        json.take(weight, 1);
      } else if (range == "*/*") {
        html.take(weight, 0);
        json.take(weight, 0);
      }
    }
  }
  return json.weight > 0 && json > html;
}

/// The digits of a number, for as long as the object lives.
class Digits {
 public:
  explicit Digits(uint64_t number)
      : end_(std::to_chars(text_, text_ + sizeof(text_), number).ptr) {}
  std::string_view view() const { return {text_, static_cast<size_t>(end_ - text_)}; }

 private:
  char text_[20];
  char* end_;
};

/// Status, Date and what else every answer of our own has. The stream takes all of a head over at
/// once, so one a thread is enough.
http::ResponseHead& begin_head(uint16_t status) {
  thread_local http::ResponseHead head;
  head.clear();
  head.status = status;
  head.reason = http::reason_phrase(status);
  head.add_view("Date", http::date_now());
  return head;
}

void write_answer(http::ServerStream& stream, http::ResponseHead& head, std::string_view type,
                  std::string_view body) {
  const Digits length(body.size());
  const bool bodiless = head.status == 204 || head.status == 304;
  const bool sent = !bodiless && stream.request().method != http::Method::head;
  if (!bodiless) {
    head.add_view("Content-Type", type);
    head.add_view("Content-Length", length.view());
    head.has_content_length = true;
    head.content_length = body.size();
  }
  if (sent && !body.empty()) head.framing = Framing::length;
  http::BodyChunk chunk;
  if (sent) chunk.bytes = body;
  chunk.last = true;
  stream.write_head(head, chunk);
}

}  // namespace

void write_error_page(http::ServerStream& stream, const ErrorPage& page) {
  const bool json = prefers_json(stream.request());
  const Page& text = page_of(page.status);
  const Digits retry_after(page.retry_after_seconds);
  auto& head = begin_head(page.status);
  head.add_view("Cache-Control", "no-store");
  if (page.status == 405) head.add_view("Allow", "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS");
  if (page.status == 426) {  // RFC 6455 section 4.4, RFC 9110 section 15.5.22
    head.add_view("Sec-WebSocket-Version", "13");
    head.add_view("Upgrade", "websocket");
    head.add_view("Connection", "Upgrade");
  }
  if (page.retry_after_seconds > 0) head.add_view("Retry-After", retry_after.view());
  write_answer(stream, head, json ? "application/problem+json" : "text/html; charset=utf-8",
               json ? text.json : text.html);
}

void write_redirect(http::ServerStream& stream, uint16_t status, const std::string& location) {
  auto& head = begin_head(status);
  head.add_view("Location", location);
  write_answer(stream, head, "text/plain; charset=utf-8", "See the Location field.\n");
}

void write_text(http::ServerStream& stream, uint16_t status, std::string_view body,
                std::string_view content_type) {
  write_answer(stream, begin_head(status), content_type, body);
}

}  // namespace gatehouse::proxy
