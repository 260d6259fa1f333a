#include "http/message.hpp"

#include <array>
#include <cstring>
#include <iterator>

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

constexpr size_t name_bytes_max = 19;  // the longest known one

/// Where the names of each length begin; one more for the end.
constexpr auto first_of_length = [] {
  std::array<uint8_t, name_bytes_max + 2> first{};
  for (size_t length = 0; length < first.size(); ++length) {
    uint8_t index = 0;
    while (index < std::size(known_names) && known_names[index].name.size() < length) ++index;
    first[length] = index;
  }
  return first;
}();

constexpr auto names_by_id = [] {
  std::array<std::string_view, std::size(known_names) + 1> names;  // one for `other`
  for (const auto& [name, id] : known_names) names[static_cast<size_t>(id)] = name;
  return names;
}();

template <class Word>
bool same_word(const char* name, const char* known) {
  Word a, b;
  std::memcpy(&a, name, sizeof(Word));
  std::memcpy(&b, known, sizeof(Word));
  constexpr auto lower_bits = static_cast<Word>(0x2020202020202020ULL);
  return (a | lower_bits) == b;
}

/// Whether a token is this known name, of the same length. Setting a bit makes letters lower, and
/// leaves '-' and digits alone; no other character of a token becomes one of these.
bool is_known(std::string_view name, std::string_view known) {
  const size_t size = known.size();
  if (size >= 8) {
    return same_word<uint64_t>(name.data(), known.data()) &&
           (size <= 16 || same_word<uint64_t>(name.data() + 8, known.data() + 8)) &&
           same_word<uint64_t>(name.data() + size - 8, known.data() + size - 8);
  }
  if (size >= 4) {
    return same_word<uint32_t>(name.data(), known.data()) &&
           same_word<uint32_t>(name.data() + size - 4, known.data() + size - 4);
  }
  return equal_ignoring_case(name, known);
}

const Field* find_in(const Fields& fields, FieldId id) {
  for (const Field& field : fields) {
    if (field.id == id && !field.skip) return &field;
  }
  return nullptr;
}

/// A view into `from` looks into its copy at `to`; any other stays as it is.
void follow(std::string_view& view, std::string_view from, const char* to) {
  const size_t offset =
      reinterpret_cast<uintptr_t>(view.data()) - reinterpret_cast<uintptr_t>(from.data());
  if (offset < from.size()) view = {to + offset, view.size()};
}

void follow(Fields& fields, std::string_view from, const char* to) {
  for (Field& field : fields) {
    follow(field.name, from, to);
    follow(field.value, from, to);
  }
}

}  // namespace

FieldId field_id(std::string_view name) {
  if (name.size() > name_bytes_max) return FieldId::other;
  const size_t end = first_of_length[name.size() + 1];
  for (size_t i = first_of_length[name.size()]; i < end; ++i) {
    if (is_known(name, known_names[i].name)) return known_names[i].id;
  }
  return FieldId::other;
}

std::string_view field_name(FieldId id) {
  return names_by_id[static_cast<size_t>(id)];
}

Method method_of(std::string_view text) {
  switch (text.size()) {
    case 3:
      if (text == "GET") return Method::get;
      if (text == "PUT") return Method::put;
      break;
    case 4:
      if (text == "POST") return Method::post;
      if (text == "HEAD") return Method::head;
      break;
    case 5:
      if (text == "PATCH") return Method::patch;
      if (text == "TRACE") return Method::trace;
      break;
    case 6:
      if (text == "DELETE") return Method::delete_;
      break;
    case 7:
      if (text == "OPTIONS") return Method::options;
      if (text == "CONNECT") return Method::connect;
      break;
    default:
      break;
  }
  return Method::other;
}

const Field* RequestHead::find(FieldId id) const {
  return find_in(fields, id);
}

const Field* ResponseHead::find(FieldId id) const {
  return find_in(fields, id);
}

void RequestHead::move(std::string_view from, const char* to) {
  for (auto* view : {&method_text, &target, &scheme, &authority, &host, &protocol})
    follow(*view, from, to);
  follow(fields, from, to);
}

void ResponseHead::move(std::string_view from, const char* to) {
  follow(reason, from, to);
  follow(fields, from, to);
}

// Member by member: assigning a fresh head would give the vectors' memory away.
void RequestHead::clear() {
  method = Method::other;
  version = Version::http11;
  method_text = target = scheme = authority = host = protocol = {};
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
