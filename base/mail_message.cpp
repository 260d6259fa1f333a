#include "base/mail_message.hpp"

#include <algorithm>
#include <array>
#include <ctime>
#include <random>

#include <fmt/format.h>

#include "base/encoding.hpp"

namespace gatehouse::base {

namespace {

constexpr size_t subject_bytes_max = 900;    // encoded and folded: a few lines
constexpr size_t plain_subject_max = 60;     // with "Subject: " still one line
constexpr size_t encoded_word_payload = 45;  // 60 characters of base64, 72 with the frame
constexpr size_t line_bytes_max = 76;

bool is_printable_ascii(char c) {
  return c >= 0x20 && c < 0x7f;
}

/// An address that is nothing else: no space, no bracket, no comma, no control character.
bool is_bare_address(std::string_view text) {
  return text.find('@') != text.npos && std::ranges::all_of(text, [](char c) {
           return is_printable_ascii(c) &&
                  std::string_view(" <>,;:\"()\\").find(c) == std::string_view::npos;
         });
}

/// Never cuts a character of UTF-8 in two.
size_t whole_characters(std::string_view text, size_t most) {
  if (text.size() <= most) return text.size();
  size_t end = most;
  while (end > 0 && (static_cast<unsigned char>(text[end]) & 0xc0) == 0x80) --end;
  return end > 0 ? end : most;
}

std::string message_id(std::string_view from) {
  std::random_device random;
  std::string id;
  for (int i = 0; i < 4; ++i) id += fmt::format("{:08x}", random());
  return fmt::format("<{}@{}>", id, from.substr(from.rfind('@') + 1));
}

}  // namespace

Result<std::string> compose(const MailMessage& message, WallClock::time_point now) {
  if (!is_bare_address(message.from)) {
    return Error(ErrorKind::invalid, "the sender of a mail is no address");
  }
  std::string to;
  for (const auto& address : message.to) {
    if (!is_bare_address(address)) {
      return Error(ErrorKind::invalid, "a recipient of a mail is no address");
    }
    to += (to.empty() ? "" : ",\r\n ") + address;
  }
  if (to.empty()) return Error(ErrorKind::invalid, "a mail has no recipient");
  const auto subject = std::string_view(message.subject)
                           .substr(0, whole_characters(message.subject, subject_bytes_max));
  return fmt::format(
      "Date: {}\r\nFrom: <{}>\r\nTo: {}\r\nSubject: {}\r\nMessage-ID: {}\r\n"
      "Auto-Submitted: auto-generated\r\nMIME-Version: 1.0\r\n"
      "Content-Type: text/plain; charset=utf-8\r\n"
      "Content-Transfer-Encoding: quoted-printable\r\n\r\n{}",
      mail_date(now), message.from, to, encoded_words(subject), message_id(message.from),
      quoted_printable(message.text));
}

std::string mail_date(WallClock::time_point time) {
  static constexpr std::array days = {"Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"};
  static constexpr std::array months = {"Jan", "Feb", "Mar", "Apr", "May", "Jun",
                                        "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"};
  const std::time_t seconds = WallClock::to_time_t(time);
  std::tm parts{};
  ::gmtime_r(&seconds, &parts);
  return fmt::format("{}, {} {} {} {:02}:{:02}:{:02} +0000",
                     days[static_cast<size_t>(parts.tm_wday)], parts.tm_mday,
                     months[static_cast<size_t>(parts.tm_mon)], parts.tm_year + 1900, parts.tm_hour,
                     parts.tm_min, parts.tm_sec);
}

std::string encoded_words(std::string_view text) {
  std::string clean(text);
  for (char& c : clean) {
    if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f) c = ' ';
  }
  // "=?" in plain text could be read as the beginning of an encoded word.
  if (clean.size() <= plain_subject_max && std::ranges::all_of(clean, is_printable_ascii) &&
      clean.find("=?") == clean.npos && !clean.starts_with(' ') && !clean.ends_with(' ')) {
    return clean;
  }
  std::string result;
  for (std::string_view rest = clean; !rest.empty();) {
    const size_t size = whole_characters(rest, encoded_word_payload);
    result += result.empty() ? "" : "\r\n ";
    result += "=?utf-8?B?" + base64(rest.substr(0, size)) + "?=";
    rest.remove_prefix(size);
  }
  return result;
}

std::string quoted_printable(std::string_view text) {
  std::string result;
  while (!text.empty()) {
    const size_t end = std::min(text.find('\n'), text.size());
    size_t column = 0;
    for (size_t i = 0; i < end; ++i) {
      const char c = text[i];
      const bool last = i + 1 == end;
      const bool space = c == ' ' || c == '\t';
      const bool plain =
          (is_printable_ascii(c) && c != '=' && !(space && last)) || (c == '\t' && !last);
      const size_t width = plain ? 1 : 3;
      if (column + width > line_bytes_max - 1) {
        result += "=\r\n";
        column = 0;
      }
      if (plain) {
        result += c;
      } else {
        result += fmt::format("={:02X}", static_cast<unsigned char>(c));
      }
      column += width;
    }
    result += "\r\n";
    text.remove_prefix(std::min(end + 1, text.size()));
  }
  return result;
}

}  // namespace gatehouse::base
