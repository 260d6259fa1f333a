#include "app/certificate_commands.hpp"

#include <algorithm>
#include <cstdio>
#include <thread>

#include <boost/json.hpp>
#include <fmt/format.h>

#include "acme/names.hpp"
#include "admin/api.hpp"
#include "app/certificate_export.hpp"
#include "app/certificate_list.hpp"
#include "app/stored_certificates.hpp"
#include "base/json_escape.hpp"

namespace gatehouse::app {

namespace json = boost::json;
using base::ErrorKind;

namespace {

/// An order that takes longer goes on, but the command no longer waits.
constexpr std::chrono::minutes order_wait_max{3};
constexpr std::chrono::milliseconds look_interval{250};

/// What the details of a certificate say, of what the commands need.
struct Sight {
  std::string state, serial, last_error, next_attempt, not_after, authority;
};

std::optional<Sight> sight_of(const std::string& body) {
  boost::system::error_code code;
  const json::value parsed = json::parse(body, code);
  const json::object* const object = code ? nullptr : parsed.if_object();
  if (object == nullptr) return std::nullopt;
  const auto text = [object](std::string_view key) {
    const json::value* const value = object->if_contains(key);
    return value != nullptr && value->is_string() ? std::string(value->get_string()) : "";
  };
  return Sight{text("state"),        text("serial"),    text("last_error"),
               text("next_attempt"), text("not_after"), text("authority")};
}

/// The name as certificates have it, or none after the mistake was printed.
std::optional<std::string> name_in(const Options& options) {
  std::string name = acme::requested_name(options.name);
  if (!name.empty()) return name;
  std::string shown;
  base::append_json_escaped(shown, options.name.substr(0, 100));
  fail(exit_usage, fmt::format("'{}' is no host name: write one such as example.com, "
                               "*.example.com or an IP address",
                               shown));
  return std::nullopt;
}

std::string path_of(const std::string& name, std::string_view more = "") {
  return fmt::format("/api/certificates/{}{}", name, more);
}

int print_list(const Options& options, const std::string& body) {
  if (options.json) return say(body);
  const auto table = certificate_table(body);
  return table ? say(*table) : fail(exit_failed, table.error().context);
}

int print_sheet(const Options& options, const std::string& body) {
  if (options.json) return say(body);
  const auto sheet = certificate_sheet(body);
  return sheet ? say(*sheet) : fail(exit_failed, sheet.error().context);
}

/// With the nearest name that is there, if it is the name that is wrong.
int fail_stored(const base::Error& error, const std::string& storage, const std::string& name) {
  if (error.kind != ErrorKind::not_found) return fail(exit_failed, error.context);
  const auto known = stored_certificates(storage);
  if (!known) return fail(exit_failed, error.context);
  const bool stored_since =
      std::any_of(known->begin(), known->end(), [&](const auto& one) { return one.name == name; });
  if (stored_since)
    return fail(exit_failed,
                fmt::format("{}: its certificate is only being stored: ask again", name));
  return fail(exit_failed, unknown_certificate(name, *known).context);
}

int say_done(const Options& options, const std::string& body, const std::string& words) {
  return say(options.json ? body : words + "\n");
}

/// A running gatehouse and the name that it is asked about.
struct Request {
  std::string name;
  Target target;
  int status = exit_usage;  // without a client
};

Request prepare(const Options& options) {
  Request request;
  const auto name = name_in(options);
  if (!name) return request;
  request.name = *name;
  request.target = find_running(options);
  request.status = request.target.status;
  return request;
}

int report_renewal(const Options& options, const std::string& name, const std::string& before,
                   const std::string& body, const Sight& sight) {
  if (sight.serial != before && !sight.serial.empty())
    return say_done(options, body,
                    fmt::format("{}: a new certificate of {} is served, valid until {}", name,
                                sight.authority, sight.not_after));
  std::string why =
      sight.last_error.empty() ? name + ": there is no new certificate" : sight.last_error;
  if (!sight.next_attempt.empty()) why += "; next attempt at " + sight.next_attempt;
  return fail(exit_failed, why);
}

/// Looks until the order has ended; twice, for the next CA may take over at once.
int await_renewal(const Options& options, const admin::Client& client, const std::string& name,
                  const std::string& before) {
  const auto end = std::chrono::steady_clock::now() + order_wait_max;
  int ended = 0;
  for (;;) {
    const auto answer = client.request("GET", path_of(name));
    if (!answer) return fail_unanswered(answer.error());
    if (answer->status != 200) return fail_refused(*answer);
    const auto sight = sight_of(answer->body);
    if (!sight) return fail(exit_failed, "the certificate's details cannot be read");
    ended = sight->state == "ordering" ? 0 : ended + 1;
    if (sight->serial != before && !sight->serial.empty()) ended = 2;
    if (ended == 2) return report_renewal(options, name, before, answer->body, *sight);
    if (std::chrono::steady_clock::now() > end)
      return fail(exit_failed,
                  fmt::format("{}: the order is still under way: 'gatehouse certs show {}' tells "
                              "how it ends",
                              name, name));
    std::this_thread::sleep_for(look_interval);
  }
}

/// Every CA that has an account, in the running gatehouse's order.
std::vector<std::string> authorities_in(const std::string& body) {
  std::vector<std::string> names;
  boost::system::error_code code;
  const json::value parsed = json::parse(body, code);
  const json::object* const object = code ? nullptr : parsed.if_object();
  const json::value* const list = object ? object->if_contains("authorities") : nullptr;
  if (list == nullptr || !list->is_array()) return names;
  for (const json::value& row : list->get_array()) {
    const json::value* const name =
        row.is_object() ? row.get_object().if_contains("name") : nullptr;
    if (name != nullptr && name->is_string()) names.emplace_back(name->get_string());
  }
  return names;
}

/// The file that the configuration has for the name, or none.
std::string own_file(const config::Snapshot& snapshot, const std::string& name) {
  for (const config::Site& site : snapshot.sites)
    for (const auto& host : site.hosts)
      if (!site.certificate.empty() && host.text != "*" &&
          (host.text == name || host.matches(name)))
        return site.certificate;
  return {};
}

}  // namespace

int list_certificates(const Options& options) {
  const Target target = find_running(options);
  if (!target.client) return target.status;
  const auto answer = target.client->request("GET", "/api/certificates");
  if (answer)
    return answer->status == 200 ? print_list(options, answer->body) : fail_refused(*answer);
  if (!nobody_there(answer.error()) || !target.snapshot) return fail_unanswered(answer.error());
  const auto stored = stored_certificates(target.snapshot->server.storage);
  if (!stored) return fail(exit_failed, stored.error().context);
  return print_list(options, admin::certificates_json(*stored) + "\n");
}

int show_certificate(const Options& options) {
  const Request request = prepare(options);
  if (!request.target.client) return request.status;
  const auto answer = request.target.client->request("GET", path_of(request.name));
  if (answer)
    return answer->status == 200 ? print_sheet(options, answer->body) : fail_refused(*answer);
  if (!nobody_there(answer.error()) || !request.target.snapshot)
    return fail_unanswered(answer.error());
  const std::string& storage = request.target.snapshot->server.storage;
  const auto stored = stored_details(storage, request.name);
  if (!stored) return fail_stored(stored.error(), storage, request.name);
  return print_sheet(options, admin::details_json(*stored) + "\n");
}

int renew_certificate(const Options& options) {
  const Request request = prepare(options);
  if (!request.target.client) return request.status;
  const admin::Client& client = *request.target.client;
  const auto before = client.request("GET", path_of(request.name));
  if (!before) return fail_unanswered(before.error());
  if (before->status != 200) return fail_refused(*before);
  const auto sight = sight_of(before->body);
  const auto started =
      client.request("POST", path_of(request.name, options.force ? "/renew?force=true" : "/renew"));
  if (!started) return fail_unanswered(started.error());
  if (started->status >= 300) return fail_refused(*started);
  return await_renewal(options, client, request.name, sight ? sight->serial : std::string());
}

int revoke_certificate(const Options& options) {
  if (!admin::revocation_reason(options.reason))
    return fail(exit_usage, fmt::format("--reason is one of {}", admin::revocation_reasons));
  const Request request = prepare(options);
  if (!request.target.client) return request.status;
  const auto answer =
      request.target.client->request("POST", path_of(request.name, "/revoke"),
                                     json::serialize(json::object{{"reason", options.reason}}));
  if (!answer) return fail_unanswered(answer.error());
  if (answer->status >= 300) return fail_refused(*answer);
  return say_done(options, answer->body,
                  fmt::format("{}: revoked; a new certificate is being ordered", request.name));
}

int export_certificate(const Options& options) {
  const auto name = name_in(options);
  if (!name) return exit_usage;
  const Loaded loaded = load_file(options);
  if (!loaded.snapshot) return loaded.status;
  const std::string& storage = loaded.snapshot->server.storage;
  const auto files = stored_files(storage, *name);
  if (!files && files.error().kind == ErrorKind::not_found) {
    if (const std::string own = own_file(*loaded.snapshot, *name); !own.empty())
      return fail(exit_failed, fmt::format("{}: its site serves {}: that is the file", *name, own));
  }
  if (!files) return fail_stored(files.error(), storage, *name);
  const auto written = write_certificate(*files, options.folder, options.force);
  if (!written) return fail(exit_failed, written.error().context);
  json::array list;
  std::string words;
  for (const std::string& path : *written) {
    list.push_back(json::string(path));
    words += path + "\n";
  }
  return say(options.json ? json::serialize(json::object{{"files", list}}) + "\n" : words);
}

int print_root(const Options& options) {
  const Loaded loaded = load_file(options);
  if (!loaded.snapshot) return loaded.status;
  const auto root = stored_root(loaded.snapshot->server.storage);
  if (!root) return fail(exit_failed, root.error().context);
  if (options.json) return say(json::serialize(json::object{{"root", *root}}) + "\n");
  std::fputs(
      "To trust it: on Debian save it as /usr/local/share/ca-certificates/gatehouse.crt and run "
      "update-ca-certificates; in a browser import it as an authority for web sites.\n",
      stderr);
  return say(*root);
}

int roll_over_accounts(const Options& options) {
  const Target target = find_running(options);
  if (!target.client) return target.status;
  std::vector<std::string> names;
  if (!options.authority.empty()) {
    names.push_back(options.authority);
  } else {
    const auto answer = target.client->request("GET", "/api/authorities");
    if (!answer) return fail_unanswered(answer.error());
    if (answer->status != 200) return fail_refused(*answer);
    names = authorities_in(answer->body);
    if (names.empty()) return fail(exit_failed, "no CA with an account is configured");
  }
  json::array changed;
  std::string words;
  for (const std::string& name : names) {
    const bool plain = std::ranges::all_of(name, [](unsigned char c) {
      return std::isalnum(c) != 0 || c == '-' || c == '_' || c == '.';
    });
    if (!plain) return fail(exit_usage, "a CA's name has letters, digits, '-', '_' and '.' only");
    const auto answer =
        target.client->request("POST", fmt::format("/api/accounts/{}/rollover", name));
    if (!answer) return fail_unanswered(answer.error());
    if (answer->status >= 300) return fail_refused(*answer);
    changed.push_back(json::string(name));
    words += fmt::format("{}: the account has a new key\n", name);
  }
  return say(options.json ? json::serialize(json::object{{"changed", changed}}) + "\n" : words);
}

}  // namespace gatehouse::app
