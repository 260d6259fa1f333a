#include "app/certificate_list.hpp"

#include <algorithm>
#include <array>
#include <optional>

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/json.hpp>
#include <fmt/format.h>

#include "acme/storage/file.hpp"

namespace gatehouse::app {

namespace asio = boost::asio;
namespace json = boost::json;
using List = base::Result<std::vector<acme::CertificateStatus>>;

namespace {

asio::awaitable<void> read(acme::Storage& storage, std::optional<List>& out) {
  out = co_await acme::read_status(storage);
}

constexpr size_t columns = 6;
using Cells = std::array<std::string, columns>;

std::string text(const json::object& row, std::string_view key) {
  const json::value* const value = row.if_contains(key);
  return value != nullptr && value->is_string() ? std::string(value->get_string()) : "";
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

}  // namespace

List stored_certificates(const std::string& folder) {
  asio::io_context io;  // outlives the storage, whose threads end their work in it
  auto storage = acme::FileStorage::open(folder, acme::Disk::Access::read_only);
  if (!storage) return storage.error();
  std::optional<List> out;
  asio::co_spawn(io, read(**storage, out), [](std::exception_ptr problem) {
    if (problem) std::rethrow_exception(problem);
  });
  io.run();
  return std::move(*out);
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
