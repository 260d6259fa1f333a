#include "proxy/error_page.hpp"

#include <catch2/catch.hpp>

#include "http/http1_parser.hpp"
#include "http/http1_writer.hpp"

using namespace gatehouse;

namespace {

/// Takes an answer over as a connection does: at once, as text.
class RecordingStream final : public http::ServerStream {
 public:
  http::RequestHead& request() override { return request_; }
  http::Poll poll_body() override { return http::Poll::failed; }
  void park_body(base::Parked&) override {}
  void stop_reading() override {}
  void write_interim(const http::ResponseHead&) override {}
  void write_head(const http::ResponseHead& head, const http::BodyChunk& first) override {
    char bytes[4096];
    http::HeadBuffer out{bytes, 0, sizeof(bytes), false};
    http::write_response_head(head, head.framing, http::Persistence::keep_alive, out);
    text.assign(bytes, out.size);
    framing = head.framing;
    length = head.content_length;
    body = first.bytes;
    complete = first.last;
  }
  void write_body(const http::BodyChunk&) override {}
  http::Poll poll_drained() override { return http::Poll::ready; }
  void park_drained(base::Parked&) override {}
  void abort() override {}
  void watch(Watcher*) override {}
  base::Error error() const override { return {}; }

  std::string text;
  std::string body;
  http::Framing framing = http::Framing::chunked;
  uint64_t length = 0;
  bool complete = false;

 private:
  http::RequestHead request_;
};

bool has(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

bool answers_json(std::string_view accept) {
  RecordingStream stream;
  if (!accept.empty()) stream.request().fields.push_back({"Accept", accept, http::FieldId::accept});
  proxy::write_error_page(stream, {404});
  const bool json = has(stream.text, "\r\nContent-Type: application/problem+json\r\n");
  CHECK(stream.body.starts_with(json ? "{" : "<!doctype html>"));
  return json;
}

}  // namespace

TEST_CASE("every status has a page that is a valid response and says what is wrong") {
  for (const uint16_t status :
       {400, 403, 404, 405, 408, 413, 414, 417, 421, 431, 500, 501, 502, 503, 504, 505}) {
    RecordingStream stream;
    proxy::write_error_page(stream, {status});
    http::ResponseHead parsed;
    REQUIRE_FALSE(http::parse_response(stream.text, {}, http::Method::get, parsed));
    CHECK(parsed.status == status);
    CHECK(parsed.reason == http::reason_phrase(status));
    CHECK(parsed.content_length == stream.body.size());
    CHECK(stream.length == stream.body.size());
    CHECK(stream.framing == http::Framing::length);
    CHECK(stream.complete);
    CHECK(has(stream.body, std::to_string(status)));
    CHECK(has(stream.text, "\r\nCache-Control: no-store\r\n"));
    CHECK(parsed.find(http::FieldId::date)->value.size() == 29);
    CHECK(has(stream.text, "\r\nAllow: ") == (status == 405));
    CHECK_FALSE(has(stream.text, "Retry-After"));
  }
}

TEST_CASE("a status without a page of its own still gets an answer") {
  RecordingStream stream;
  proxy::write_error_page(stream, {429});
  CHECK(stream.text.starts_with("HTTP/1.1 429 Too Many Requests\r\n"));
  proxy::write_error_page(stream, {599});
  CHECK(stream.text.starts_with("HTTP/1.1 599 Unknown\r\n"));
}

TEST_CASE("Retry-After is sent where it helps") {
  RecordingStream stream;
  proxy::write_error_page(stream, {503, 30});
  CHECK(has(stream.text, "\r\nRetry-After: 30\r\n"));
}

TEST_CASE("a client gets JSON only if it would rather have it") {
  CHECK_FALSE(answers_json(""));
  CHECK_FALSE(answers_json("*/*"));
  CHECK_FALSE(answers_json("text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"));
  CHECK_FALSE(answers_json("text/html, application/json"));
  CHECK_FALSE(answers_json("application/json;q=0.5, */*"));
  CHECK_FALSE(answers_json("application/json;q=0"));
  CHECK_FALSE(answers_json("application/json;q=0.0, text/html;q=0"));
  CHECK_FALSE(answers_json("text/*, application/*"));
  CHECK_FALSE(answers_json("application/jsonx"));
  CHECK_FALSE(answers_json("application/json;q=nonsense"));
  CHECK_FALSE(answers_json(",;,=;q,"));
  CHECK(answers_json("application/json"));
  CHECK(answers_json("APPLICATION/PROBLEM+JSON"));
  CHECK(answers_json("application/json, text/plain, */*"));
  CHECK(answers_json("text/html;q=0.5, application/json;q=0.9"));
  CHECK(answers_json("application/problem+json ; charset=utf-8 ; Q=0.9 , text/html;q=0.8"));
  CHECK(answers_json("application/*"));
}

TEST_CASE("a page for HEAD announces its length and sends no body") {
  RecordingStream get;
  proxy::write_error_page(get, {502});
  RecordingStream head;
  head.request().method = http::Method::head;
  proxy::write_error_page(head, {502});
  CHECK(head.body.empty());
  CHECK(head.complete);
  CHECK(head.framing == http::Framing::none);
  CHECK(has(head.text, "\r\nContent-Length: " + std::to_string(get.body.size()) + "\r\n"));
}

TEST_CASE("nothing that the client sent is shown") {
  RecordingStream stream;
  stream.request().target = "/<script>";
  stream.request().authority = "needle.example";
  proxy::write_error_page(stream, {400});
  CHECK_FALSE(has(stream.body, "script"));
  CHECK_FALSE(has(stream.body, "needle"));
  CHECK_FALSE(has(stream.text, "needle"));
}

TEST_CASE("a redirect carries its location") {
  RecordingStream stream;
  proxy::write_redirect(stream, 308, "https://a.example/b?c");
  CHECK(stream.text.starts_with("HTTP/1.1 308 Permanent Redirect\r\n"));
  CHECK(has(stream.text, "\r\nLocation: https://a.example/b?c\r\n"));
  CHECK(stream.length == stream.body.size());
}

TEST_CASE("a fixed answer is sent as it is, and 204 without content") {
  RecordingStream stream;
  proxy::write_text(stream, 200, "token.key", "application/octet-stream");
  CHECK(stream.body == "token.key");
  CHECK(has(stream.text, "\r\nContent-Type: application/octet-stream\r\n"));
  CHECK(has(stream.text, "\r\nContent-Length: 9\r\n"));

  proxy::write_text(stream, 204, "");
  CHECK(stream.framing == http::Framing::none);
  CHECK_FALSE(has(stream.text, "Content-Length"));
  CHECK(stream.body.empty());

  proxy::write_text(stream, 200, "");
  CHECK(stream.framing == http::Framing::none);
  CHECK(has(stream.text, "\r\nContent-Length: 0\r\n"));
}
