// Questions about text that the whole floor asks: case, field names and values, quoting.
//
// Not encodings (base/encoding). Pure, any thread.
#pragma once

#include <string>
#include <string_view>

namespace gatehouse::config {

/// Upper case letters of ASCII become lower case; nothing else changes.
std::string lower_case(std::string_view text);

/// True for a field name: RFC 9110 section 5.6.2, token.
bool is_token(std::string_view text);

/// True for a field value: RFC 9110 section 5.5, without control characters or outer white space.
bool is_field_value(std::string_view text);

/// The text in single quotes for a message: at most 80 bytes, control characters as "?".
std::string in_quotes(std::string_view text);

}  // namespace gatehouse::config
