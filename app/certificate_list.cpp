#include "app/certificate_list.hpp"

#include <algorithm>
#include <array>
#include <vector>

#include <boost/json.hpp>
#include <fmt/format.h>

#include "base/json_escape.hpp"

namespace gatehouse::app {

namespace json = boost::json;

namespace {

constexpr size_t columns = 6;
using Cells = std::array<std::string, columns>;

/// A CA's words, or whoever made the certificate's, forge no line.
std::string one_line(const json::value& value) {
  std::string out;
  if (value.is_string()) base::append_harmless(out, value.get_string());
  return out;
}

std::string text(const json::object& row, std::string_view key) {
  const json::value* const value = row.if_contains(key);
  return value != nullptr ? one_line(*value) : "";
}

std::string day(const std::string& moment) {
  return moment.empty() ? "-" : moment.substr(0, 10);
}

// The first of these that applies: why there is none, when it is tried next.
std::string remark(const json::object& row) {
  std::string out = text(row, "last_error");
  if (const std::string next = text(row, "next_attempt"); !next.empty())
    out += (out.empty() ? "next attempt " : " · next attempt ") + next;
  return out;
}

Cells cells(const json::object& row) {
  const std::string issuer = text(row, "issuer");
  return {text(row, "name"),           text(row, "state"),         issuer.empty() ? "-" : issuer,
          day(text(row, "not_after")), day(text(row, "renew_at")), remark(row)};
}

std::string lay_out(const std::vector<Cells>& rows) {
  std::array<size_t, columns> widths{};
  for (const Cells& row : rows)
    for (size_t i = 0; i < columns; ++i) widths[i] = std::max(widths[i], row[i].size());
  std::string out;
  for (const Cells& row : rows) {
    std::string line;
    for (size_t i = 0; i < columns; ++i) line += fmt::format("{:<{}}  ", row[i], widths[i]);
    line.erase(line.find_last_not_of(' ') + 1);
    out += line + "\n";
  }
  return out;
}

void add_line(std::string& out, std::string_view label, const std::string& value) {
  if (!value.empty()) out += fmt::format("{:<14} {}\n", label, value);
}

std::string joined(const json::object& sheet, std::string_view key) {
  const json::value* const list = sheet.if_contains(key);
  std::string out;
  if (list == nullptr || !list->is_array()) return out;
  for (const json::value& item : list->get_array())
    if (item.is_string()) out += (out.empty() ? "" : ", ") + one_line(item);
  return out;
}

std::string number(const json::object& object, std::string_view key) {
  const json::value* const value = object.if_contains(key);
  return value != nullptr && value->is_number() ? json::serialize(*value) : std::string();
}

bool is(const json::object& object, std::string_view key, bool wanted) {
  const json::value* const value = object.if_contains(key);
  return value != nullptr && value->is_bool() && value->get_bool() == wanted;
}

std::string budget_words(const json::object& budget) {
  std::string out = text(budget, "authority");
  if (is(budget, "answers", false)) out += ": does not answer now";
  const std::string orders = number(budget, "orders_left");
  out +=
      orders.empty()
          ? ": limits not known beforehand"
          : fmt::format(": {} of this name, {} of its domain, {} of the account left; {} failures",
                        number(budget, "name_left"), number(budget, "domain_left"), orders,
                        number(budget, "failures_left"));
  if (const std::string ready = text(budget, "ready_at"); !ready.empty())
    out += ", next order at " + ready;
  return out;
}

template <class Words>
void add_list(std::string& out, const json::object& sheet, std::string_view key,
              std::string_view label, Words words) {
  const json::value* const list = sheet.if_contains(key);
  if (list == nullptr || !list->is_array()) return;
  for (const json::value& item : list->get_array()) {
    if (!item.is_object()) continue;
    add_line(out, label, words(item.get_object()));
    label = "";
  }
}

}  // namespace

base::Result<std::string> certificate_sheet(const std::string& body) {
  boost::system::error_code code;
  const json::value parsed = json::parse(body, code);
  const json::object* const sheet = code ? nullptr : parsed.if_object();
  if (sheet == nullptr || text(*sheet, "name").empty())
    return base::Error(base::ErrorKind::protocol, "the certificate's details cannot be read");
  std::string out;
  add_line(out, "name", text(*sheet, "name"));
  add_line(out, "state",
           text(*sheet, "state") + (is(*sheet, "on_demand", true) ? ", on demand" : ""));
  add_line(out, "names", joined(*sheet, "names"));
  add_line(out, "authority", text(*sheet, "authority"));
  add_line(out, "key", text(*sheet, "key_type"));
  add_line(out, "serial", text(*sheet, "serial"));
  add_line(out, "fingerprint", text(*sheet, "fingerprint"));
  add_line(out, "valid from", text(*sheet, "not_before"));
  add_line(out, "valid until", text(*sheet, "not_after"));
  add_line(out, "renewed at", text(*sheet, "renew_at"));
  const json::value* const window = sheet->if_contains("renewal_window");
  if (window != nullptr && window->is_object()) {
    const json::object& suggested = window->get_object();
    add_line(out, "CA suggests",
             fmt::format("{} to {}", text(suggested, "start"), text(suggested, "end")));
    add_line(out, "because", text(suggested, "explanation"));
  }
  add_list(out, *sheet, "chain", "chain", [](const json::object& link) {
    return fmt::format("{} ← {}, until {}", text(link, "subject"), text(link, "issuer"),
                       day(text(link, "not_after")));
  });
  add_line(out, "last error", text(*sheet, "last_error"));
  if (const std::string failures = number(*sheet, "failures"); failures != "0")
    add_line(out, "failures", failures.empty() ? "" : failures + " in a row");
  add_line(out, "next attempt", text(*sheet, "next_attempt"));
  if (const std::string orders = number(*sheet, "orders_today"); orders != "0")
    add_line(out, "orders", orders.empty() ? "" : orders + " in the last 24 hours");
  add_list(out, *sheet, "budgets", "budget", budget_words);
  add_line(out, "kept before", text(*sheet, "previous_generation"));
  return out;
}

base::Result<std::string> certificate_table(const std::string& text) {
  boost::system::error_code code;
  const json::value parsed = json::parse(text, code);
  const json::object* const object = code ? nullptr : parsed.if_object();
  const json::value* const list = object ? object->if_contains("certificates") : nullptr;
  if (list == nullptr || !list->is_array())
    return base::Error(base::ErrorKind::protocol, "the list of certificates cannot be read");
  const json::array& found = list->get_array();
  if (found.empty()) return std::string("no certificates yet\n");
  std::vector<Cells> rows = {{"NAME", "STATE", "ISSUER", "EXPIRES", "RENEWS", ""}};
  for (const json::value& row : found)
    if (row.is_object()) rows.push_back(cells(row.get_object()));
  return lay_out(rows);
}

}  // namespace gatehouse::app
