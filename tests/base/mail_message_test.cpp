#include "base/mail_message.hpp"

#include <catch2/catch.hpp>

namespace gatehouse::base {

namespace {

WallClock::time_point at(int64_t seconds) {
  return WallClock::time_point(std::chrono::seconds(seconds));
}

MailMessage message() {
  MailMessage result;
  result.from = "gatehouse@example.com";
  result.to = {"ops@example.com"};
  result.subject = "example.com: certificate renewed";
  result.text = "One line.\n";
  return result;
}

std::string composed(const MailMessage& mail) {
  const auto text = compose(mail, at(1'700'000'000));
  REQUIRE(text.has_value());
  return *text;
}

}  // namespace

TEST_CASE("a mail has the fields it needs and CRLF at every line's end") {
  auto mail = message();
  mail.to = {"ops@example.com", "second@example.com"};
  const auto text = composed(mail);
  CHECK(
      text.starts_with("Date: Tue, 14 Nov 2023 22:13:20 +0000\r\n"
                       "From: <gatehouse@example.com>\r\n"
                       "To: ops@example.com,\r\n second@example.com\r\n"
                       "Subject: example.com: certificate renewed\r\nMessage-ID: <"));
  CHECK(text.find("@example.com>\r\nAuto-Submitted: auto-generated\r\nMIME-Version: 1.0\r\n"
                  "Content-Type: text/plain; charset=utf-8\r\n"
                  "Content-Transfer-Encoding: quoted-printable\r\n\r\nOne line.\r\n") !=
        std::string::npos);
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '\n') CHECK(text[i - 1] == '\r');
    if (text[i] == '\r') CHECK(text[i + 1] == '\n');
  }
  CHECK(composed(mail) != text);  // no Message-ID twice
}

TEST_CASE("no text can add a field, a recipient or a line to a mail's head") {
  auto mail = message();
  mail.subject = "a\r\nBcc: thief@example.com\r\n\r\nbody";
  auto text = composed(mail);
  CHECK(text.find("\r\nBcc:") == std::string::npos);
  CHECK(text.find("Subject: a  Bcc: thief@example.com    body\r\n") != std::string::npos);
  mail = message();
  mail.text = "one\r\n.\r\nQUIT\r\n";
  CHECK(composed(mail).ends_with("one=0D\r\n.=0D\r\nQUIT=0D\r\n"));
  for (const std::string address : {"a@b.c\r\nRCPT TO:<x@y.z>", "a@b.c>", "<a@b.c>", "a@b.c, d@e.f",
                                    "a b@c.d", "", "nobody", "ä@b.c", "\"a\"@b.c"}) {
    INFO(address);
    mail = message();
    mail.from = address;
    CHECK(compose(mail, at(0)).has_error());
    mail = message();
    mail.to.push_back(address);
    CHECK(compose(mail, at(0)).has_error());
  }
  mail = message();
  mail.to = {std::string("a@b\0c", 5)};
  CHECK(compose(mail, at(0)).has_error());
  mail.to.clear();
  CHECK(compose(mail, at(0)).has_error());
}

TEST_CASE("a subject that is not short ASCII becomes encoded words") {
  CHECK(encoded_words("plain") == "plain");
  CHECK(encoded_words("") == "");
  CHECK(encoded_words("Käse") == "=?utf-8?B?S8Okc2U=?=");
  CHECK(encoded_words("=?utf-8?B?S8Okc2U=?=").starts_with("=?utf-8?B?PT91"));
  CHECK(encoded_words("a\tb\x7f") == "=?utf-8?B?YSBiIA==?=");  // ends in white space
  const auto many = encoded_words(std::string(300, 'x'));
  const auto umlauts = encoded_words("ä" + std::string(43, 'x') + "ääää");
  CHECK(umlauts.find("\r\n ") != std::string::npos);
  for (const auto& text : {many, umlauts}) {
    for (size_t start = 0; start != std::string::npos;) {
      const auto end = text.find("\r\n", start);
      CHECK(text.substr(start, end - start).size() <= 76);
      start = end == std::string::npos ? end : end + 2;
    }
  }
}

TEST_CASE("quoted-printable keeps text legible and lines short") {
  CHECK(quoted_printable("a = b\nKäse\n") == "a =3D b\r\nK=C3=A4se\r\n");
  CHECK(quoted_printable("end ") == "end=20\r\n");
  CHECK(quoted_printable("tab\t\nx") == "tab=09\r\nx\r\n");
  CHECK(quoted_printable("") == "");
  CHECK(quoted_printable("\n\n") == "\r\n\r\n");
  CHECK(quoted_printable(std::string("\0", 1)) == "=00\r\n");
  const auto text = quoted_printable(std::string(500, 'x') + std::string(100, '\xff'));
  for (size_t start = 0; start < text.size();) {
    const auto end = text.find("\r\n", start);
    REQUIRE(end != std::string::npos);
    CHECK(end - start <= 76);
    start = end + 2;
  }
}

}  // namespace gatehouse::base
