#include "proxy/access_line.hpp"

#include <algorithm>
#include <charconv>
#include <cstring>
#include <ctime>

#include "base/json_escape.hpp"

namespace gatehouse::proxy {

namespace {

constexpr size_t iso_length = 19, clf_length = 26;
constexpr std::string_view hidden = "REDACTED";

// The names and punctuation of a line, and its numbers, fit into this many bytes.
constexpr size_t frame_bytes_max = 1024;
constexpr size_t fields = 9;  // those cut at field_bytes_max
static_assert(base::json_escape_growth *
                      (AccessLine::target_bytes_max + AccessLine::referer_bytes_max +
                       AccessLine::user_agent_bytes_max + fields * AccessLine::field_bytes_max) +
                  frame_bytes_max <=
              AccessLine::line_bytes_max);

template <size_t N>
char* put(char* out, const char (&literal)[N]) {
  std::memcpy(out, literal, N - 1);
  return out + (N - 1);
}

char* put_number(char* out, uint64_t number) {
  return std::to_chars(out, out + 20, number).ptr;
}

char* put_microseconds(char* out, std::chrono::microseconds duration) {
  return put_number(out, static_cast<uint64_t>(std::max<int64_t>(0, duration.count())));
}

char* put_milliseconds(char* out, uint32_t milliseconds) {
  out[0] = static_cast<char>('0' + milliseconds / 100);
  out[1] = static_cast<char>('0' + milliseconds / 10 % 10);
  out[2] = static_cast<char>('0' + milliseconds % 10);
  return out + 3;
}

char* put_json(char* out, std::string_view text, size_t limit = AccessLine::field_bytes_max) {
  return base::json_escape(out, text.substr(0, limit));
}

// As Apache and nginx do: what is not printable ASCII, quotes and backslashes become \xHH.
char* put_clf(char* out, std::string_view text, size_t limit = AccessLine::field_bytes_max) {
  constexpr char digits[] = "0123456789abcdef";
  for (const char c : text.substr(0, limit)) {
    const auto byte = static_cast<uint8_t>(c);
    if (byte >= 0x20 && byte < 0x7f && c != '"' && c != '\\') {
      *out++ = c;
    } else {
      out = put(out, "\\x");
      *out++ = digits[byte >> 4];
      *out++ = digits[byte & 15];
    }
  }
  return out;
}

// Where the user and password of a URL or an authority lie; empty: there are none.
struct Userinfo {
  size_t begin = 0, end = 0;  // `end` is the @
  bool present() const { return end != 0; }
};

Userinfo find_userinfo(std::string_view text) {
  Userinfo found;
  if (text.find('@') == std::string_view::npos) return found;
  const size_t scheme = text.find("://");
  if (scheme == std::string_view::npos && text.starts_with('/')) return found;
  found.begin = scheme == std::string_view::npos ? 0 : scheme + 3;
  const std::string_view authority =
      text.substr(0, std::min(text.size(), text.find_first_of("/?#", found.begin)));
  const size_t at = authority.rfind('@');
  if (at != std::string_view::npos && at >= found.begin) found.end = at;
  return found;
}

using Put = char* (*)(char*, std::string_view, size_t);

// A URL without its user and password: "https://REDACTED@host/path".
char* put_url(char* out, Put put_text, std::string_view text, size_t limit) {
  const Userinfo userinfo = find_userinfo(text);
  if (!userinfo.present()) return put_text(out, text, limit);
  out = put_text(out, text.substr(0, userinfo.begin), limit / 2);
  out = put_text(out, hidden, hidden.size());
  return put_text(out, text.substr(userinfo.end), limit / 2);
}

}  // namespace

std::string_view AccessLine::format(const AccessRecord& record, uint32_t mode) {
  update_second(record.time);
  char* const begin = buffer_.get();
  char* const end =
      (mode & common) ? format_common(begin, record) : format_json(begin, record, mode);
  *end = '\n';
  return {begin, static_cast<size_t>(end + 1 - begin)};
}

void AccessLine::update_second(std::chrono::system_clock::time_point time) {
  const auto second = std::chrono::floor<std::chrono::seconds>(time.time_since_epoch()).count();
  if (second == second_) return;
  second_ = second;
  const auto moment = static_cast<std::time_t>(second);
  std::tm parts{};
  ::gmtime_r(&moment, &parts);
  parts.tm_year = std::clamp(parts.tm_year, 0, 8099);  // four digits, whatever the clock says
  std::strftime(iso_, sizeof(iso_), "%Y-%m-%dT%H:%M:%S", &parts);
  std::strftime(clf_, sizeof(clf_), "%d/%b/%Y:%H:%M:%S +0000", &parts);
}

char* AccessLine::format_json(char* out, const AccessRecord& record, uint32_t mode) {
  const auto since = record.time - std::chrono::floor<std::chrono::seconds>(record.time);
  const auto ms = std::chrono::duration_cast<std::chrono::milliseconds>(since).count();
  out = put(out, R"({"time":")");
  std::memcpy(out, iso_, iso_length);
  out = put(out + iso_length, ".");
  out = put_milliseconds(out, static_cast<uint32_t>(ms));
  out = put_json(put(out, R"(Z","client":")"), record.client);
  out = put_json(put(out, R"(","method":")"), record.method);
  out = put_json(put(out, R"(","scheme":")"), record.scheme);
  out = put_url(put(out, R"(","host":")"), put_json, record.host, field_bytes_max);
  out = put_url(put(out, R"(","target":")"), put_json, record.target, target_bytes_max);
  out = put_json(put(out, R"(","protocol":")"), record.protocol);
  out = put_number(put(out, R"(","status":)"), record.status);
  out = put_number(put(out, R"(,"bytes_in":)"), record.bytes_in);
  out = put_number(put(out, R"(,"bytes_out":)"), record.bytes_out);
  out = put_microseconds(put(out, R"(,"duration_us":)"), record.duration);
  if (!record.upstream.empty()) {
    out = put_json(put(out, R"(,"upstream":")"), record.upstream);
    out = put_microseconds(put(out, R"(","upstream_us":)"), record.upstream_duration);
  }
  if (record.retries != 0) out = put_number(put(out, R"(,"retries":)"), record.retries);
  if (!record.tls_version.empty()) {
    out = put_json(put(out, R"(,"tls":")"), record.tls_version);
    out = put(out, "\"");
  }
  if (!record.referer.empty()) {
    out = put(out, R"(,"referer":")");
    out = (mode & hide_referer) ? put_json(out, hidden)
                                : put_url(out, put_json, record.referer, referer_bytes_max);
    out = put(out, "\"");
  }
  if (!record.user_agent.empty()) {
    out = put(out, R"(,"user_agent":")");
    out =
        put_json(out, (mode & hide_user_agent) ? hidden : record.user_agent, user_agent_bytes_max);
    out = put(out, "\"");
  }
  if (!record.error.empty()) {
    out = put_json(put(out, R"(,"error":")"), record.error);
    out = put(out, "\"");
  }
  return put(out, "}");
}

char* AccessLine::format_common(char* out, const AccessRecord& record) {
  const auto put_or_dash = [](char* to, std::string_view text) {
    return text.empty() ? put(to, "-") : put_clf(to, text);
  };
  out = put_or_dash(out, record.client);
  out = put(out, " - - [");
  std::memcpy(out, clf_, clf_length);
  out = put_or_dash(put(out + clf_length, "] \""), record.method);
  out = put_url(put(out, " "), put_clf, record.target, target_bytes_max);
  out = put_or_dash(put(out, " "), record.protocol);
  out = put_number(put(out, "\" "), record.status);
  return put_number(put(out, " "), record.bytes_out);
}

}  // namespace gatehouse::proxy
