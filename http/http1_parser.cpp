#include "http/http1_parser.hpp"

#include <array>
#include <cstring>
#include <type_traits>

#include <boost/beast/http/basic_parser.hpp>
#include <boost/beast/http/error.hpp>

#include "http/characters.hpp"

namespace gatehouse::http {

namespace {

namespace beast_http = boost::beast::http;
using boost::beast::error_code;
using Verb = beast_http::verb;
using Name = beast_http::field;
using Text = boost::beast::string_view;

// Beast has looked every name up already: a table turns its number into ours. X-Forwarded-* is
// unknown to it.
constexpr size_t beast_names = static_cast<size_t>(Name::xref) + 1;

constexpr auto field_ids = [] {
  std::array<FieldId, beast_names> ids{};
  const auto map = [&ids](Name name, FieldId id) { ids[static_cast<size_t>(name)] = id; };
  map(Name::accept, FieldId::accept);
  map(Name::authorization, FieldId::authorization);
  map(Name::connection, FieldId::connection);
  map(Name::content_length, FieldId::content_length);
  map(Name::content_type, FieldId::content_type);
  map(Name::cookie, FieldId::cookie);
  map(Name::date, FieldId::date);
  map(Name::expect, FieldId::expect);
  map(Name::forwarded, FieldId::forwarded);
  map(Name::host, FieldId::host);
  map(Name::http2_settings, FieldId::http2_settings);
  map(Name::keep_alive, FieldId::keep_alive);
  map(Name::priority, FieldId::priority);
  map(Name::proxy_authorization, FieldId::proxy_authorization);
  map(Name::proxy_connection, FieldId::proxy_connection);
  map(Name::referer, FieldId::referer);
  map(Name::server, FieldId::server);
  map(Name::te, FieldId::te);
  map(Name::trailer, FieldId::trailer);
  map(Name::transfer_encoding, FieldId::transfer_encoding);
  map(Name::upgrade, FieldId::upgrade);
  map(Name::user_agent, FieldId::user_agent);
  map(Name::via, FieldId::via);
  return ids;
}();

FieldId id_of(Name known, std::string_view name) {
  if (known != Name::unknown) return field_ids[static_cast<size_t>(known)];
  const bool forwarded = name.size() >= 15 && name.size() <= 17 && (name[0] | 0x20) == 'x';
  return forwarded ? field_id(name) : FieldId::other;
}

Method method_of(Verb verb) {
  switch (verb) {
    case Verb::get:
      return Method::get;
    case Verb::head:
      return Method::head;
    case Verb::post:
      return Method::post;
    case Verb::put:
      return Method::put;
    case Verb::delete_:
      return Method::delete_;
    case Verb::connect:
      return Method::connect;
    case Verb::options:
      return Method::options;
    case Verb::trace:
      return Method::trace;
    case Verb::patch:
      return Method::patch;
    default:
      return Method::other;
  }
}

/// Collects views of one head. Beast does the tokenising; the body is none of its business.
template <bool is_request>
class HeadParser final : public beast_http::basic_parser<is_request> {
  using Base = beast_http::basic_parser<is_request>;
  using Head = std::conditional_t<is_request, RequestHead, ResponseHead>;

 public:
  HeadParser(std::string_view bytes, size_t fields_max, Head& out)
      : bytes_(bytes), fields_max_(fields_max), out_(out) {
    this->header_limit(UINT32_MAX);  // the caller has measured the head
    this->skip(true);
  }

  std::optional<Refusal> run() {
    error_code failure;
    std::string_view rest = bytes_;
    if constexpr (!is_request) {
      if (!put_bare_status_line(rest, failure)) return Refusal{502, "malformed status line"};
    }
    const size_t used = this->put(boost::asio::const_buffer(rest.data(), rest.size()), failure);
    if (refusal_.reason[0] != '\0') return refusal_;
    if (failure) return explain(failure);
    if (!this->is_header_done() || used != rest.size()) {
      return Refusal{malformed, "the head does not end where it should"};
    }
    return std::nullopt;
  }

 private:
  static constexpr uint16_t malformed = is_request ? 400 : 502;

  /// Many an origin leaves the space behind the status out when there is no reason phrase
  /// ("HTTP/1.1 200\r\n"): it is put there for Beast, which insists on it.
  bool put_bare_status_line(std::string_view& rest, error_code& failure) {
    constexpr size_t status_end = 12;
    if (rest.size() < status_end + 2 || rest[status_end] != '\r') return true;
    char line[status_end + 3];
    std::memcpy(line, rest.data(), status_end);
    std::memcpy(line + status_end, " \r\n", 3);
    if (rest[status_end + 1] != '\n') return false;
    this->put(boost::asio::const_buffer(line, sizeof(line)), failure);
    if (failure != beast_http::error::need_more) return false;
    out_.reason = {};  // it pointed into `line`
    rest.remove_prefix(status_end + 2);
    return true;
  }

  Refusal explain(error_code failure) const {
    if (failure == beast_http::error::bad_version && is_request && names_other_version()) {
      return Refusal{505, "HTTP version other than 1.0 and 1.1"};
    }
    if (failure == beast_http::error::bad_field) return {malformed, "malformed field name"};
    if (failure == beast_http::error::bad_value) return {malformed, "malformed field value"};
    if (failure == beast_http::error::bad_line_ending) return {malformed, "bare CR"};
    return {malformed, "malformed head"};
  }

  /// The request line ends in a well-formed "HTTP/d.d" that is none of ours.
  bool names_other_version() const {
    const std::string_view line = bytes_.substr(0, bytes_.find("\r\n"));
    if (line.size() < 9) return false;
    const std::string_view version = line.substr(line.size() - 9);
    if (version == " HTTP/1.0" || version == " HTTP/1.1") return false;
    const auto digit = [](char c) { return c >= '0' && c <= '9'; };
    return version.starts_with(" HTTP/") && digit(version[6]) && version[7] == '.' &&
           digit(version[8]);
  }

  void refuse(uint16_t status, const char* reason, error_code& failure) {
    refusal_ = {status, reason};
    failure = beast_http::error::bad_value;
  }

  void on_request_impl(Verb verb, Text method, Text target, int version, error_code&) override {
    if constexpr (is_request) {
      out_.method = method_of(verb);
      out_.method_text = method;
      out_.target = target;
      out_.version = version == 10 ? Version::http10 : Version::http11;
    }
  }

  void on_response_impl(int status, Text reason, int version, error_code&) override {
    if constexpr (!is_request) {
      out_.status = static_cast<uint16_t>(status);
      out_.reason = reason;
      out_.version = version == 10 ? Version::http10 : Version::http11;
    }
  }

  void on_field_impl(Name known, Text received_name, Text received_value,
                     error_code& failure) override {
    const std::string_view name = received_name;
    const std::string_view value = received_value;
    if (out_.fields.size() >= fields_max_) {
      return refuse(is_request ? 431 : 502, "too many fields", failure);
    }
    const char* const name_end = name.data() + name.size();
    // One space between colon and value, none behind it: the form that may be copied as it lies.
    bool verbatim = value.data() == name_end + 2 && name_end[1] == ' ';
    if (!verbatim && folded(name_end, value)) {
      return refuse(malformed, "folded field value", failure);
    }
    verbatim = verbatim && value.data()[value.size()] == '\r';
    Field& field = out_.fields.emplace_back();  // in place: a copy of so fresh a struct stalls
    field.name = name;
    field.value = value;
    field.id = id_of(known, name);
    field.verbatim = verbatim;
  }

  /// Beast unfolds obs-fold (RFC 9112 section 5.2) into a buffer of its own, or skips lines that
  /// are empty: either way the value does not begin on its name's line.
  bool folded(const char* name_end, std::string_view value) const {
    if (value.data() < name_end || value.data() > bytes_.data() + bytes_.size()) return true;
    const auto gap = static_cast<size_t>(value.data() - name_end);
    return std::memchr(name_end, '\n', gap) != nullptr;
  }

  void on_header_impl(error_code&) override {}
  void on_body_init_impl(const boost::optional<uint64_t>&, error_code&) override {}
  size_t on_body_impl(Text, error_code&) override { return 0; }
  void on_chunk_header_impl(uint64_t, Text, error_code&) override {}
  size_t on_chunk_body_impl(uint64_t, Text, error_code&) override { return 0; }
  void on_finish_impl(error_code&) override {}

  std::string_view bytes_;
  size_t fields_max_;
  Head& out_;
  Refusal refusal_;
};

}  // namespace

std::optional<Refusal> parse_request(std::string_view bytes, const HeadLimits& limits,
                                     RequestHead& out) {
  out.clear();
  if (bytes.size() > limits.bytes_max) return Refusal{431, "the head is too long"};
  if (bytes.starts_with("\r\n")) bytes.remove_prefix(2);
  if (auto refusal = HeadParser<true>(bytes, limits.fields_max, out).run()) return refusal;
  return check_request(out);
}

std::optional<Refusal> parse_response(std::string_view bytes, const HeadLimits& limits,
                                      Method request_method, ResponseHead& out) {
  out.clear();
  if (bytes.size() > limits.bytes_max) return Refusal{502, "the head is too long"};
  if (auto refusal = HeadParser<false>(bytes, limits.fields_max, out).run()) return refusal;
  return check_response(out, request_method);
}

}  // namespace gatehouse::http
