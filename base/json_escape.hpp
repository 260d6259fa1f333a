// Text made safe inside a JSON string, or on a terminal, whatever bytes it holds.
//
// Not a JSON writer: only the inside of a string. No allocation, pure, any thread.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

namespace gatehouse::base {

/// One byte of input becomes at most this many bytes of output.
inline constexpr size_t json_escape_growth = 6;

/// Writes `text` at `out`, which has room for json_escape_growth * text.size() bytes, and returns
/// the end. Quotes, backslashes and control characters (C0, DEL, C1) are escaped (RFC 8259 section
/// 7); a byte that is not part of well-formed UTF-8 becomes U+FFFD.
char* json_escape(char* out, std::string_view text);

void append_json_escaped(std::string& out, std::string_view text);

/// For people: a line stays one line, and harmless on a terminal, whatever a peer put into it. What
/// JSON would escape is escaped here too, quotes and backslashes aside.
void append_harmless(std::string& out, std::string_view text);

}  // namespace gatehouse::base
