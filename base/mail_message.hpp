// A mail of plain text as it goes over the wire (RFC 5322, MIME).
//
// Does not send it (fetch). Pure but for the random part of a Message-ID; any thread.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "base/clock.hpp"
#include "base/error.hpp"

namespace gatehouse::base {

struct MailMessage {
  std::string from;             // an address alone: "gatehouse@example.com"
  std::vector<std::string> to;  // the same
  std::string subject;          // UTF-8; a line break in it becomes a space
  std::string text;             // UTF-8, lines ended by \n
};

/// The whole message with CRLF line ends: Date, From, To, Subject (RFC 2047 where it is not ASCII),
/// Message-ID, and the text as quoted-printable UTF-8. Refuses (invalid) an address that could be
/// read as more than one: no text of a peer's can add a field or a recipient.
Result<std::string> compose(const MailMessage& message, WallClock::time_point now);

/// "Sun, 22 Nov 2026 06:00:00 +0000" (RFC 5322 section 3.3).
std::string mail_date(WallClock::time_point time);

/// The text for a header field: as it is if it is short ASCII, else encoded words of at most 75
/// bytes (RFC 2047), folded.
std::string encoded_words(std::string_view text);

/// RFC 2045 section 6.7; lines of at most 76 bytes, CRLF at the end of each.
std::string quoted_printable(std::string_view text);

}  // namespace gatehouse::base
