#include "http/message.hpp"

#include "http/characters.hpp"

namespace gatehouse::http {

namespace {

using characters::lower;

struct KnownName {
  std::string_view name;
  FieldId id;
};

// Sorted by length, so that a lookup compares only names of the same length.
constexpr KnownName known_names[] = {
    {"te", FieldId::te},
    {"via", FieldId::via},
    {"date", FieldId::date},
    {"host", FieldId::host},
    {"accept", FieldId::accept},
    {"cookie", FieldId::cookie},
    {"expect", FieldId::expect},
    {"server", FieldId::server},
    {"referer", FieldId::referer},
    {"trailer", FieldId::trailer},
    {"upgrade", FieldId::upgrade},
    {"priority", FieldId::priority},
    {"forwarded", FieldId::forwarded},
    {"connection", FieldId::connection},
    {"keep-alive", FieldId::keep_alive},
    {"user-agent", FieldId::user_agent},
    {"content-type", FieldId::content_type},
    {"authorization", FieldId::authorization},
    {"content-length", FieldId::content_length},
    {"http2-settings", FieldId::http2_settings},
    {"x-forwarded-for", FieldId::x_forwarded_for},
    {"proxy-connection", FieldId::proxy_connection},
    {"x-forwarded-host", FieldId::x_forwarded_host},
    {"transfer-encoding", FieldId::transfer_encoding},
    {"x-forwarded-proto", FieldId::x_forwarded_proto},
    {"proxy-authorization", FieldId::proxy_authorization},
};

const Field* find_in(const Fields& fields, FieldId id) {
  for (const Field& field : fields) {
    if (field.id == id && !field.skip) return &field;
  }
  return nullptr;
}

}  // namespace

FieldId field_id(std::string_view name) {
  if (name.empty()) return FieldId::other;
  const char first = lower(name.front());
  for (const KnownName& known : known_names) {
    if (known.name.size() < name.size()) continue;
    if (known.name.size() > name.size()) break;
    if (known.name.front() == first && equal_ignoring_case(known.name, name)) return known.id;
  }
  return FieldId::other;
}

const Field* RequestHead::find(FieldId id) const {
  return find_in(fields, id);
}

const Field* ResponseHead::find(FieldId id) const {
  return find_in(fields, id);
}

// Member by member: assigning a fresh head would give the vectors' memory away.
void RequestHead::clear() {
  method = Method::other;
  version = Version::http11;
  method_text = target = scheme = authority = {};
  framing = Framing::none;
  content_length = 0;
  keep_alive = true;
  expect_continue = false;
  accepts_trailers = false;
  fields.clear();
  owned.clear();
}

void ResponseHead::clear() {
  status = 0;
  version = Version::http11;
  reason = {};
  framing = Framing::none;
  content_length = 0;
  has_content_length = false;
  keep_alive = true;
  fields.clear();
  owned.clear();
}

bool equal_ignoring_case(std::string_view a, std::string_view b) {
  if (a.size() != b.size()) return false;
  for (size_t i = 0; i < a.size(); ++i) {
    if (lower(a[i]) != lower(b[i])) return false;
  }
  return true;
}

}  // namespace gatehouse::http
