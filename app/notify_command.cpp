#include "app/notify_command.hpp"

#include <csignal>

#include <boost/asio/awaitable.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <boost/json.hpp>
#include <fmt/format.h>

#include "acme/notify_ways.hpp"
#include "base/fetch.hpp"
#include "base/json_escape.hpp"

namespace gatehouse::app {

namespace asio = boost::asio;
namespace json = boost::json;

namespace {

asio::awaitable<void> try_way(acme::Send send, acme::Notice notice, NotifyResult& result) {
  const auto sent = co_await send(std::move(notice));
  if (!sent) result.error = sent.error().context;
}

}  // namespace

std::vector<NotifyResult> send_test_notifications(const config::Notify& settings) {
  std::signal(SIGPIPE, SIG_IGN);
  std::signal(SIGCHLD, SIG_DFL);
  asio::io_context control;
  base::Fetcher fetcher(control);
  const auto senders = acme::make_senders(settings, fetcher);
  const auto notice = acme::test_notice(std::chrono::system_clock::now());
  std::vector<NotifyResult> results;
  results.reserve(acme::ways.size());  // the coroutines write into it
  for (const acme::Way way : acme::ways) {
    if (!senders.of(way)) continue;
    results.push_back({std::string(acme::word(way)), senders.target[static_cast<size_t>(way)], {}});
    asio::co_spawn(control, try_way(senders.of(way), notice, results.back()), asio::detached);
  }
  control.run();
  return results;
}

std::string notify_results_text(const std::vector<NotifyResult>& results) {
  std::string out;
  for (const auto& result : results) {
    out += fmt::format("{:<8} {}: ", result.way, result.target);
    base::append_harmless(out, result.error.empty() ? "delivered" : "failed: " + result.error);
    out += '\n';
  }
  return out;
}

std::string notify_results_json(const std::vector<NotifyResult>& results) {
  json::array list;
  for (const auto& result : results) {
    json::object row{
        {"way", result.way}, {"target", result.target}, {"delivered", result.error.empty()}};
    if (!result.error.empty()) row["error"] = result.error;
    list.push_back(std::move(row));
  }
  return json::serialize(json::object{{"notifications", std::move(list)}}) + "\n";
}

}  // namespace gatehouse::app
