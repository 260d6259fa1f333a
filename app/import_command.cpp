#include "app/import_command.hpp"

#include <array>
#include <memory>
#include <optional>
#include <pwd.h>
#include <sys/stat.h>

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/json.hpp>
#include <fmt/format.h>

#include "acme/import/caddy.hpp"
#include "acme/import/certbot.hpp"
#include "acme/import/lego.hpp"
#include "acme/import/traefik.hpp"
#include "acme/names.hpp"
#include "acme/storage/file.hpp"
#include "app/process.hpp"
#include "base/drop_privileges.hpp"
#include "base/json_escape.hpp"

namespace gatehouse::app {

namespace asio = boost::asio;
namespace json = boost::json;
using acme::Findings;
using acme::ImportLine;
using acme::ImportReport;
using base::Error;
using base::ErrorKind;
using base::Result;

namespace {

struct Reader {
  std::string_view prefix;
  Result<Findings> (*read)(const std::string& path);
};
constexpr std::array<Reader, 4> readers = {{{"certbot:", acme::read_certbot},
                                            {"caddy:", acme::read_caddy},
                                            {"traefik:", acme::read_traefik},
                                            {"lego:", acme::read_lego}}};

Result<Findings> read(const std::string& from) {
  for (const auto& reader : readers) {
    if (from.starts_with(reader.prefix) && from.size() > reader.prefix.size())
      return reader.read(from.substr(reader.prefix.size()));
  }
  return Error(ErrorKind::invalid,
               fmt::format("'{}' is not a source: name certbot:/etc/letsencrypt, "
                           "caddy:DIR, traefik:FILE or lego:DIR",
                           from));
}

/// The user that will read what is written: the configured one, or the owner of the storage.
std::string future_reader(const config::Snapshot& snapshot) {
  if (!snapshot.server.user.empty()) return snapshot.server.user;
  struct stat about {};
  if (::stat(snapshot.server.storage.c_str(), &about) != 0 || about.st_uid == 0) return {};
  const passwd* const owner = ::getpwuid(about.st_uid);
  return owner != nullptr ? owner->pw_name : "";
}

/// Root may read the other client's files; what root writes nobody else could read. The folder is
/// made as at a start, which may not have been yet: where it stands only root may make one.
Result<void> become_reader(const config::Snapshot& snapshot, bool dry_run) {
  if (!base::running_as_root()) return {};
  const std::string user = future_reader(snapshot);
  if (user.empty()) return {};
  const auto account = base::find_account(user);
  if (!account) return account.error();
  if (!dry_run) {
    auto folder = prepare_storage_folder(snapshot.server.storage, &*account);
    if (!folder) return folder.error();
  }
  return base::drop_privileges(*account);
}

/// Null: there is none, and a dry run makes none.
Result<std::unique_ptr<acme::FileStorage>> open_storage(const std::string& folder, bool dry_run) {
  using acme::Disk;
  auto storage =
      acme::FileStorage::open(folder, dry_run ? Disk::Access::read_only : Disk::Access::exclusive);
  if (storage) return storage;
  if (dry_run && storage.error().kind == ErrorKind::not_found)
    return std::unique_ptr<acme::FileStorage>();
  if (storage.error().kind != ErrorKind::unavailable) return storage.error();
  return Error(ErrorKind::unavailable,
               fmt::format("{} is in use by a running gatehouse: stop it ('gatehouse stop' or "
                           "'systemctl stop gatehouse'), import, and start it again; --dry-run "
                           "works beside it",
                           folder));
}

asio::awaitable<void> store(acme::Storage* storage, Findings findings,
                            const acme::ImportOrder& order, std::optional<ImportReport>& report) {
  report = co_await acme::import_findings(storage, std::move(findings), order);
}

const char* word_of(const ImportLine& line, bool dry_run) {
  switch (line.outcome) {
    case ImportLine::Outcome::imported:
      return dry_run ? "would import" : "imported";
    case ImportLine::Outcome::kept:
      return "left out";
    case ImportLine::Outcome::expired:
      return "expired";
  }
  return "";
}

size_t imported(const ImportReport& report, ImportLine::Kind kind) {
  size_t count = 0;
  for (const auto& line : report.lines)
    count += line.kind == kind && line.outcome == ImportLine::Outcome::imported ? 1 : 0;
  return count;
}

}  // namespace

Result<ImportReport> import_certificates(const std::string& from, const config::Snapshot& snapshot,
                                         bool dry_run) {
  auto findings = read(from);
  if (!findings) return findings.error();
  auto reader = become_reader(snapshot, dry_run);
  if (!reader) return reader.error();
  asio::io_context io;  // outlives the storage, whose threads end their work in it
  const auto storage = open_storage(snapshot.server.storage, dry_run);
  if (!storage) return storage.error();
  acme::ImportOrder order{snapshot.acme, {}, base::WallClock::now(), dry_run};
  const acme::Claims claims(snapshot);
  for (const auto* standing : claims.standing())
    if (standing->second == acme::Claim::automatic) order.hosts.push_back(standing->first);
  std::optional<ImportReport> report;
  asio::co_spawn(io, store(storage->get(), std::move(*findings), order, report),
                 [](std::exception_ptr problem) {
                   if (problem) std::rethrow_exception(problem);
                 });
  io.run();
  return std::move(*report);
}

std::string import_text(const ImportReport& report, bool dry_run) {
  std::string out;
  for (const auto& line : report.lines) {
    const bool certificate = line.kind == ImportLine::Kind::certificate;
    std::string words = fmt::format("{:<12}  {}", word_of(line, dry_run),
                                    certificate ? line.name : "account at " + line.name);
    if (certificate)
      words += fmt::format("  ({}, until {})", line.issuer,
                           acme::timestamp(line.not_after).substr(0, 10));
    if (!line.note.empty()) words += ": " + line.note;
    base::append_harmless(out, fmt::format("{}  from {}", words, line.from));
    out += '\n';
  }
  for (const auto& problem : report.problems) {
    out += "left out      ";
    base::append_harmless(out, problem);
    out += '\n';
  }
  out += fmt::format("{} certificates and {} accounts {}; nothing was ordered\n",
                     imported(report, ImportLine::Kind::certificate),
                     imported(report, ImportLine::Kind::account),
                     dry_run ? "would be imported" : "imported");
  if (!report.advice.empty())
    out += "\nNot every CA is in the configuration. To renew at the same ones, set:\n\n" +
           report.advice;
  return out;
}

std::string import_json(const ImportReport& report, bool dry_run) {
  json::array certificates;
  json::array accounts;
  for (const auto& line : report.lines) {
    json::object row{{"name", line.name}, {"from", line.from}, {"note", line.note}};
    switch (line.outcome) {
      case ImportLine::Outcome::imported:
        row["outcome"] = "imported";
        break;
      case ImportLine::Outcome::kept:
        row["outcome"] = "left_out";
        break;
      case ImportLine::Outcome::expired:
        row["outcome"] = "expired";
        break;
    }
    if (line.kind == ImportLine::Kind::account) {
      accounts.push_back(std::move(row));
      continue;
    }
    row["issuer"] = line.issuer;
    row["not_after"] = acme::timestamp(line.not_after);
    certificates.push_back(std::move(row));
  }
  json::array problems(report.problems.begin(), report.problems.end());
  return json::serialize(json::object{{"dry_run", dry_run},
                                      {"certificates", std::move(certificates)},
                                      {"accounts", std::move(accounts)},
                                      {"problems", std::move(problems)},
                                      {"advice", report.advice}});
}

}  // namespace gatehouse::app
