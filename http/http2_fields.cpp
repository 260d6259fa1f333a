#include "http/http2_fields.hpp"

#include <algorithm>
#include <cstring>

namespace gatehouse::http {

namespace {

constexpr size_t first_bytes = 1024;

void follow(std::string_view& view, const char* from, size_t size, const char* to) {
  const auto offset = reinterpret_cast<uintptr_t>(view.data()) - reinterpret_cast<uintptr_t>(from);
  if (offset < size) view = {to + offset, view.size()};
}

char* copy(std::string_view text, char* to) {
  if (!text.empty()) std::memcpy(to, text.data(), text.size());
  return to + text.size();
}

}  // namespace

void FieldSection::add(std::string_view name, std::string_view value, const HeadLimits& limits) {
  counted_bytes += name.size() + value.size() + field_overhead;
  ++count;
  if (too_large) return;
  std::string_view* const place = pseudo(name);
  const bool too_many = place == nullptr && fields.size() >= limits.fields_max;
  if (counted_bytes > limits.bytes_max || too_many) {
    too_large = true;
    return;
  }
  char* const begin = make_room(name.size() + value.size() + 4);
  char* const text = copy(": ", copy(name, begin));
  char* const end = copy("\r\n", copy(value, text));
  size += static_cast<size_t>(end - begin);
  const std::string_view kept(text, value.size());
  if (place != nullptr) {
    *place = kept;
    return;
  }
  Field& field = fields.emplace_back();
  field.name = {begin, name.size()};
  field.value = kept;
  field.id = field_id(name);
  field.verbatim = true;
}

/// Where the next bytes go; what lies there already may move, and its views with it.
char* FieldSection::make_room(size_t more) {
  if (size + more > bytes.capacity()) {
    base::Block larger = base::Block::take(std::max({first_bytes, size + more, size * 2}));
    copy({bytes.data(), size}, larger.data());
    for (Field& field : fields) {
      follow(field.name, bytes.data(), size, larger.data());
      follow(field.value, bytes.data(), size, larger.data());
    }
    for (auto* view : {&method, &scheme, &authority, &path, &protocol, &status}) {
      follow(*view, bytes.data(), size, larger.data());
    }
    bytes = std::move(larger);
  }
  return bytes.data() + size;
}

std::string_view* FieldSection::pseudo(std::string_view name) {
  if (name.empty() || name.front() != ':') return nullptr;
  if (name == ":method") return &method;
  if (name == ":scheme") return &scheme;
  if (name == ":authority") return &authority;
  if (name == ":path") return &path;
  if (name == ":protocol") return &protocol;
  if (name == ":status") return &status;
  return nullptr;
}

void FieldSection::clear() {
  bytes.release();
  size = 0;
  counted_bytes = 0;
  count = 0;
  fields.clear();
  method = scheme = authority = path = protocol = status = {};
  too_large = false;
}

std::array<char, 3> status_text(uint16_t status) {
  return {static_cast<char>('0' + status / 100 % 10), static_cast<char>('0' + status / 10 % 10),
          static_cast<char>('0' + status % 10)};
}

FieldList& FieldList::begin() {
  thread_local FieldList list;
  list.list_.clear();
  return list;
}

void FieldList::add(const Fields& fields) {
  for (const Field& field : fields) {
    if (field.skip) continue;
    const std::string_view known = field_name(field.id);
    known.empty() ? add(field.name, field.value) : add_known(known, field.value);
  }
}

void FieldList::add(const Trailers& trailers) {
  for (const auto& [name, value] : trailers) add(name, value);
}

}  // namespace gatehouse::http
