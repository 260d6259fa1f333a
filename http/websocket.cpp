#include "http/websocket.hpp"

#include <random>

#include "base/encoding.hpp"
#include "http/list.hpp"
#include "tls/digest.hpp"

namespace gatehouse::http {

namespace {

constexpr std::string_view key_name = "Sec-WebSocket-Key";
constexpr std::string_view accept_name = "Sec-WebSocket-Accept";
constexpr std::string_view version_name = "Sec-WebSocket-Version";
constexpr std::string_view version = "13";
constexpr size_t key_bytes = 16;

/// RFC 6455 section 1.3.
constexpr std::string_view accept_suffix = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// How many elements of a list field there are, and how many of them are `wanted`.
struct Count {
  size_t elements = 0;
  size_t wanted = 0;
};

/// Marked fields count: Connection and Upgrade are never forwarded as they came.
Count count_elements(const Fields& fields, FieldId id, std::string_view wanted) {
  Count count;
  for (const Field& field : fields) {
    if (field.id != id) continue;
    std::string_view list = field.value;
    while (!list.empty()) {
      const std::string_view element = next_element(list);
      if (element.empty()) continue;
      ++count.elements;
      if (equal_ignoring_case(element, wanted)) ++count.wanted;
    }
  }
  return count;
}

/// The field of that name that is forwarded; null: there is none, or more than one.
const Field* only(const Fields& fields, std::string_view name) {
  const Field* found = nullptr;
  for (const Field& field : fields) {
    if (field.skip || !equal_ignoring_case(field.name, name)) continue;
    if (found != nullptr) return nullptr;
    found = &field;
  }
  return found;
}

bool is_key(std::string_view text) {
  const auto decoded = base::base64_decode(text);
  return decoded && decoded->size() == key_bytes;
}

}  // namespace

std::optional<Refusal> check_upgrade(RequestHead& head) {
  if (head.method != Method::get || head.version != Version::http11) return std::nullopt;
  // Bytes behind the head would be a body to one reader and the tunnel's first to another.
  if (head.framing != Framing::none) return std::nullopt;
  if (count_elements(head.fields, FieldId::connection, "upgrade").wanted == 0) return std::nullopt;
  if (count_elements(head.fields, FieldId::upgrade, websocket_protocol).wanted == 0) {
    return std::nullopt;
  }
  if (!is_key(websocket_key(head))) return Refusal{400, "a WebSocket without a valid key"};
  const Field* const asked = only(head.fields, version_name);
  if (asked == nullptr || asked->value != version) {
    return Refusal{426, "a WebSocket of a version other than 13"};
  }
  head.protocol = websocket_protocol;
  return std::nullopt;
}

std::string_view websocket_key(const RequestHead& head) {
  const Field* const key = only(head.fields, key_name);
  return key == nullptr ? std::string_view() : key->value;
}

bool has_websocket_version(const RequestHead& head) {
  return only(head.fields, version_name) != nullptr;
}

std::string make_websocket_key() {
  std::random_device random;
  std::string bytes(key_bytes, '\0');
  for (char& byte : bytes) byte = static_cast<char>(random());
  return base::base64(bytes);
}

std::string websocket_accept(std::string_view key) {
  return base::base64(tls::sha1(std::string(key).append(accept_suffix)));
}

const char* check_switch(const ResponseHead& head, std::string_view accept) {
  if (count_elements(head.fields, FieldId::connection, "upgrade").wanted == 0) {
    return "a 101 without Connection: Upgrade";
  }
  const Count upgrade = count_elements(head.fields, FieldId::upgrade, websocket_protocol);
  if (upgrade.elements != 1 || upgrade.wanted != 1) return "a 101 to another protocol";
  const Field* const granted = only(head.fields, accept_name);
  if (granted == nullptr || granted->value != accept) return "a 101 with a wrong accept value";
  return nullptr;
}

}  // namespace gatehouse::http
