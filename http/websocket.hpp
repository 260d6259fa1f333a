// The opening handshake of a WebSocket as HTTP/1.1 fields (RFC 6455 section 4): what asks for a
// tunnel, and what grants it.
//
// Knows no frames: what follows the handshake is bytes. Pure functions but for the random key, any
// thread.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "http/message.hpp"
#include "http/rules.hpp"

namespace gatehouse::http {

/// The only protocol that a request may switch to.
inline constexpr std::string_view websocket_protocol = "websocket";

/// Fills `protocol` of a checked HTTP/1 request head with an Upgrade field, if it asks for a
/// WebSocket. An Upgrade to anything else, or where none may be, asks for nothing (RFC 9110 section
/// 7.8: it may be ignored); a WebSocket without a valid key, or of another version, is refused.
std::optional<Refusal> check_upgrade(RequestHead& head);

/// The Sec-WebSocket-Key that goes to the origin, if the head has one; empty: none.
std::string_view websocket_key(const RequestHead& head);
bool has_websocket_version(const RequestHead& head);

/// A fresh key, for a client that was asked for none (RFC 8441 section 5.1).
std::string make_websocket_key();

/// The Sec-WebSocket-Accept that grants a request with this key.
std::string websocket_accept(std::string_view key);

/// What is wrong with a 101 that answers a request with that key's `accept`; null: it is granted.
const char* check_switch(const ResponseHead& head, std::string_view accept);

}  // namespace gatehouse::http
