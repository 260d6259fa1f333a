#include "acme/notice.hpp"

#include <algorithm>
#include <array>
#include <unistd.h>

#include <fmt/format.h>

#include "base/json_escape.hpp"

namespace gatehouse::acme {

namespace {

constexpr size_t subject_name_bytes_max = 100;

/// Of one certificate; with a number before it, of several.
struct Phrase {
  std::string_view one;
  std::string_view many;
};

Phrase phrase(const Notice& notice) {
  using Row = std::pair<std::string_view, Phrase>;
  static constexpr std::array rows = {
      Row{"obtained", {"certificate obtained", "certificates obtained"}},
      Row{"renewed", {"certificate renewed", "certificates renewed"}},
      Row{"failed", {"no certificate could be obtained", "attempts to get a certificate failed"}},
      Row{"expiring", {"certificate ends soon", "certificates end soon"}},
      Row{"expired", {"certificate has ended", "certificates have ended"}},
      Row{"blocked", {"certificate needs a person", "certificates need a person"}},
      Row{"recovered", {"certificate obtained again", "certificates obtained again"}},
      Row{"deploy_failed", {"new certificate is not served", "new certificates are not served"}},
      Row{"test", {"test of notifications", "tests of notifications"}}};
  const auto* const found = std::ranges::find(rows, notice.event, &Row::first);
  return found == rows.end() ? Phrase{"certificate", "certificates"} : found->second;
}

std::string time_or_empty(WallTime time) {
  return time == WallTime{} ? std::string() : timestamp(time);
}

/// Control characters of a peer's text do not reach a terminal or a mail.
std::string clean(std::string_view text) {
  std::string result(text);
  std::ranges::replace_if(
      result, [](char c) { return static_cast<unsigned char>(c) < 0x20 || c == 0x7f; }, ' ');
  return result;
}

/// What boost::json writes must be UTF-8 whatever a peer sent.
std::string json_text(std::string_view text) {
  std::string result = "\"";
  base::append_json_escaped(result, text);
  return result + '"';
}

const Event& first(const Notice& notice) {
  static const Event none;
  return notice.events.empty() ? none : notice.events.front();
}

std::string details(const Event& event) {
  std::string out;
  const auto line = [&](std::string_view label, const std::string& value) {
    if (!value.empty()) out += fmt::format("{:<14} {}\n", label, value);
  };
  line("name", clean(event.name));
  line("authority", clean(event.authority));
  line("in use until", time_or_empty(event.not_after));
  line("next attempt", time_or_empty(event.next_attempt));
  return out;
}

std::string json_of(const Event& event) {
  std::string out =
      fmt::format(R"({{"name":{},"text":{})", json_text(event.name), json_text(event.text));
  if (!event.authority.empty()) out += R"(,"authority":)" + json_text(event.authority);
  const auto time = [&](std::string_view key, WallTime value) {
    if (value != WallTime{}) out += fmt::format(R"(,"{}":"{}")", key, timestamp(value));
  };
  time("not_after", event.not_after);
  time("next_attempt", event.next_attempt);
  return out + "}";
}

}  // namespace

void Notice::add(const Event& given) {
  if (count++ >= shown_max) return;
  events.push_back(given);
  auto& text = events.back().text;
  if (text.size() <= text_bytes_max) return;
  size_t end = text_bytes_max;
  while (end > 0 && (static_cast<unsigned char>(text[end]) & 0xc0) == 0x80) --end;
  text.resize(end);
  text += "…";
}

std::string subject_of(const Notice& notice) {
  const auto words = phrase(notice);
  auto what =
      notice.count > 1
          ? fmt::format("{} {}", notice.count, words.many)
          : fmt::format("{}: {}", first(notice).name.substr(0, subject_name_bytes_max), words.one);
  return clean(fmt::format("{} (gatehouse on {})", what, notice.machine));
}

std::string text_of(const Notice& notice) {
  std::string out;
  if (notice.count == 1) {
    out += clean(first(notice).text) + "\n\n" + details(first(notice));
  } else {
    out += fmt::format("{} {}:\n\n", notice.count, phrase(notice).many);
    for (const Event& event : notice.events) {
      out += fmt::format("{}: {}\n", clean(event.name), clean(event.text));
    }
    if (notice.count > notice.events.size()) {
      out += fmt::format("and {} more: 'gatehouse certs list' shows all\n",
                         notice.count - notice.events.size());
    }
  }
  if (notice.lost > 0) {
    out += fmt::format("\n{} message{} before this one could not be delivered: see the log.\n",
                       notice.lost, notice.lost == 1 ? "" : "s");
  }
  return out + fmt::format("\nGatehouse on {}, {}\n", notice.machine, timestamp(notice.time));
}

std::string json_of(const Notice& notice) {
  std::string out = fmt::format(
      R"({{"version":1,"id":{},"event":{},"time":"{}","machine":{},"count":{},"lost":{})",
      json_text(notice.id), json_text(notice.event), timestamp(notice.time),
      json_text(notice.machine), notice.count, notice.lost);
  out += fmt::format(R"(,"name":{},"text":{},"certificates":[)", json_text(first(notice).name),
                     json_text(first(notice).text));
  for (size_t i = 0; i < notice.events.size(); ++i) {
    out += (i == 0 ? "" : ",") + json_of(notice.events[i]);
  }
  return out + "]}";
}

std::vector<std::pair<std::string, std::string>> environment_of(const Notice& notice) {
  const Event& event = first(notice);
  std::string names;
  for (const Event& one : notice.events) names += (names.empty() ? "" : " ") + clean(one.name);
  return {{"GATEHOUSE_EVENT", notice.event},
          {"GATEHOUSE_NAME", clean(event.name)},
          {"GATEHOUSE_NAMES", std::move(names)},
          {"GATEHOUSE_COUNT", std::to_string(notice.count)},
          {"GATEHOUSE_TEXT", clean(event.text)},
          {"GATEHOUSE_AUTHORITY", clean(event.authority)},
          {"GATEHOUSE_NOT_AFTER", time_or_empty(event.not_after)},
          {"GATEHOUSE_NEXT_ATTEMPT", time_or_empty(event.next_attempt)},
          {"GATEHOUSE_ID", notice.id}};
}

Notice test_notice(WallTime now) {
  Notice notice;
  notice.event = "test";
  notice.time = now;
  notice.machine = machine_name();
  notice.id = fmt::format(
      "test-{}",
      std::chrono::duration_cast<std::chrono::milliseconds>(now.time_since_epoch()).count());
  Event event;
  event.name = notice.machine;
  event.text = "This is a test: notifications of Gatehouse arrive here.";
  notice.add(event);
  return notice;
}

std::string machine_name() {
  std::array<char, 256> name{};
  if (::gethostname(name.data(), name.size() - 1) != 0 || name[0] == '\0') return "this machine";
  return clean(name.data());
}

}  // namespace gatehouse::acme
