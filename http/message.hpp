// HTTP messages as views: heads, fields, body chunks. Version-neutral: an HTTP/1.1 and an HTTP/2
// stream fill the same structs.
//
// Not a parser (http1_parser) or the rules about what may pass (rules). A head lives on one worker
// and its views are valid as long as the head itself; heads come from a per-thread pool, so the
// steady state allocates nothing.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace gatehouse::http {

/// Names the proxy itself acts on; everything else is `other`.
enum class FieldId : uint8_t {
  other,
  accept,
  authorization,
  connection,
  content_length,
  content_type,
  cookie,
  date,
  expect,
  forwarded,
  host,
  http2_settings,
  keep_alive,
  priority,
  proxy_authorization,
  proxy_connection,
  referer,
  server,
  te,
  trailer,
  transfer_encoding,
  upgrade,
  user_agent,
  via,
  x_forwarded_for,
  x_forwarded_host,
  x_forwarded_proto,
};

/// The id of a field name in any case.
FieldId field_id(std::string_view name);
/// The name of an id, in lower case, static; of `other`: empty.
std::string_view field_name(FieldId id);

struct Field {
  std::string_view name;  // as received
  std::string_view value;
  FieldId id = FieldId::other;
  bool skip = false;  // not forwarded: hop-by-hop, removed or replaced
  /// The received bytes hold it as "name: value\r\n" exactly: it can be copied as it lies. To
  /// change such a field, skip it and add another.
  bool verbatim = false;
};

using Fields = std::vector<Field>;

enum class Method : uint8_t {
  get,
  head,
  post,
  put,
  delete_,
  connect,
  options,
  trace,
  patch,
  other,
};

/// Methods are case-sensitive (RFC 9110 section 9.1).
Method method_of(std::string_view text);

/// How the end of a body is found. For a request, `until_close` never occurs; a request that asks
/// for a protocol has no body. A Content-Length of
/// zero is `none`: there is nothing to read; the field itself stays among the fields.
enum class Framing : uint8_t { none, length, chunked, until_close };

enum class Version : uint8_t { http10, http11, http2 };

/// Text made for one head. Allocates nothing until used; the views stay valid until clear().
class OwnedText {
 public:
  std::string_view keep(std::string text) {
    return *texts_.emplace_back(std::make_unique<std::string>(std::move(text)));
  }
  void clear() {
    if (!texts_.empty()) texts_.clear();
  }

 private:
  std::vector<std::unique_ptr<std::string>> texts_;
};

struct RequestHead {
  Method method = Method::other;
  Version version = Version::http11;
  std::string_view method_text;
  std::string_view target;     // as received (origin-form after an absolute one was taken apart)
  std::string_view scheme;     // only from an absolute target or :scheme
  std::string_view authority;  // the effective host, with port if given
  std::string_view host;       // the same as names are compared: lower case, no port, no final dot
  std::string_view protocol;   // asked for by Upgrade or :protocol: "websocket", or empty
  Framing framing = Framing::none;
  uint64_t content_length = 0;  // with Framing::length
  bool keep_alive = true;       // the connection may serve another request (HTTP/1)
  bool expect_continue = false;
  bool accepts_trailers = false;  // TE: trailers
  Fields fields;                  // without those that became members above being removed
  OwnedText owned;                // whatever was made rather than received

  /// Adds a field to be forwarded. The value is copied; the name must outlive the head.
  void add(std::string_view name, std::string value) {
    add_view(name, owned.keep(std::move(value)));
  }
  /// Adds a field whose name and value outlive the head.
  void add_view(std::string_view name, std::string_view value, FieldId id = FieldId::other) {
    fields.push_back(Field{name, value, id, false});
  }
  /// The first not skipped field with that id, or null.
  const Field* find(FieldId id) const;
  /// The bytes it was parsed from lie at `to` now: every view into them follows.
  void move(std::string_view from, const char* to);
  void clear();
};

struct ResponseHead {
  uint16_t status = 0;
  Version version = Version::http11;
  std::string_view reason;
  Framing framing = Framing::none;
  uint64_t content_length = 0;      // with Framing::length; with HEAD and 304 as announced
  bool has_content_length = false;  // a Content-Length field came (kept in `fields`)
  bool keep_alive = true;
  Fields fields;
  OwnedText owned;

  void add(std::string_view name, std::string value) {
    add_view(name, owned.keep(std::move(value)));
  }
  void add_view(std::string_view name, std::string_view value, FieldId id = FieldId::other) {
    fields.push_back(Field{name, value, id, false});
  }
  const Field* find(FieldId id) const;
  /// Like a request's.
  void move(std::string_view from, const char* to);
  void clear();
};

/// Trailer fields, owned: they are rare.
using Trailers = std::vector<std::pair<std::string, std::string>>;

/// A piece of a body. The bytes are valid until the next suspension or call on the same stream.
struct BodyChunk {
  std::string_view bytes;
  bool last = false;                   // nothing follows but the trailers
  const Trailers* trailers = nullptr;  // with `last`, if any came; valid like the bytes
};

/// Same text without regard to ASCII case.
bool equal_ignoring_case(std::string_view a, std::string_view b);

}  // namespace gatehouse::http
