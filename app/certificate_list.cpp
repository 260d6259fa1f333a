#include "app/certificate_list.hpp"

#include <algorithm>
#include <array>

#include <boost/json.hpp>
#include <fmt/format.h>

#include "acme/storage/disk.hpp"
#include "acme/vault.hpp"
#include "tls/certificate.hpp"

namespace gatehouse::app {

namespace json = boost::json;
using acme::CertificateStatus;

namespace {

CertificateStatus describe(acme::Disk& disk, const std::string& id) {
  CertificateStatus status;
  status.name = id;
  auto files = disk.load_set("certs/" + id);
  if (!files) {
    status.state = "damaged";
    status.last_error = files.error().context;
    return status;
  }
  if (auto note = acme::read_description((*files)["meta.json"])) {
    status.name = note->name;
    status.on_demand = note->on_demand;
  }
  auto certificate =
      tls::Certificate::from_pem((*files)["fullchain.pem"], (*files)["privkey.pem"], id);
  if (!certificate) {
    status.state = "damaged";
    status.last_error = certificate.error().context;
    return status;
  }
  const auto& found = **certificate;
  status.state = found.not_after() < std::chrono::system_clock::now() ? "expired" : "stored";
  status.issuer = found.issuer();
  status.serial = found.serial();
  status.not_before = found.not_before();
  status.not_after = found.not_after();
  return status;
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

base::Result<std::vector<CertificateStatus>> stored_certificates(const std::string& storage) {
  auto disk = acme::Disk::open(storage, acme::Disk::Access::read_only);
  if (!disk) return disk.error();
  auto ids = (*disk)->list("certs");
  if (!ids) return ids.error();
  std::vector<CertificateStatus> all;
  for (const std::string& id : *ids) all.push_back(describe(**disk, id));
  std::ranges::sort(all, {}, &CertificateStatus::name);
  return all;
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
