#include "acme/notify_ways.hpp"

#include <chrono>

#include <fmt/format.h>

#include "base/child_process.hpp"
#include "base/encoding.hpp"
#include "tls/digest.hpp"

namespace gatehouse::acme {

namespace asio = boost::asio;
using base::Error;
using base::ErrorKind;
using base::Result;

namespace {

constexpr std::chrono::seconds connect_time_max{10};
constexpr std::chrono::seconds mail_time_max{120};
constexpr std::chrono::seconds webhook_time_max{15};
constexpr std::chrono::seconds exec_time_max{30};
constexpr size_t webhook_answer_bytes_max = 64 * 1024;
constexpr size_t exec_output_shown_max = 500;

asio::awaitable<Result<void>> send_mail(base::Fetcher& fetcher, config::Notify::Email settings,
                                        Notice notice) {
  base::MailRequest request;
  request.host = settings.host;
  request.port = settings.port;
  request.implicit_tls = settings.implicit_tls;
  request.tls_required = !settings.user.empty();
  request.user = settings.user;
  request.password = settings.password;
  request.ca_file = settings.trust;
  request.connect_timeout = connect_time_max;
  request.timeout = mail_time_max;
  request.message.from = settings.from;
  request.message.to = settings.to;
  request.message.subject = subject_of(notice);
  request.message.text = text_of(notice);
  co_return co_await fetcher.send_mail(std::move(request));
}

asio::awaitable<Result<void>> post(base::Fetcher& fetcher, config::Notify::Webhook settings,
                                   Notice notice) {
  base::FetchRequest request;
  request.method = "POST";
  request.url = settings.url;
  request.body = json_of(notice);
  request.ca_file = settings.trust;
  request.connect_timeout = connect_time_max;
  request.timeout = webhook_time_max;
  request.response_body_max = webhook_answer_bytes_max;
  request.fresh_connection = true;  // one a message: a kept one would have died meanwhile
  request.fields = {{"Content-Type", "application/json"}, {"X-Gatehouse-Event", notice.event}};
  if (!settings.secret.empty()) {
    const auto now = std::chrono::system_clock::now().time_since_epoch();
    const auto timestamp =
        std::to_string(std::chrono::duration_cast<std::chrono::seconds>(now).count());
    request.fields.emplace_back("X-Gatehouse-Timestamp", timestamp);
    request.fields.emplace_back("X-Gatehouse-Signature",
                                signature_of(settings.secret, timestamp, request.body));
  }
  const auto response = co_await fetcher.fetch(std::move(request));
  if (!response) co_return response.error();
  if (response->status >= 200 && response->status < 300) co_return Result<void>();
  co_return Error(ErrorKind::protocol, fmt::format("{} answered {}, where 2xx was due",
                                                   settings.server(), response->status));
}

/// The end of what a command said, on one line.
std::string said(const std::string& output) {
  const auto text = std::string_view(output).substr(output.size() -
                                                    std::min(output.size(), exec_output_shown_max));
  std::string line;
  for (const char c : text) line += static_cast<unsigned char>(c) < 0x20 || c == 0x7f ? ' ' : c;
  while (line.ends_with(' ')) line.pop_back();
  return line.empty() ? ", and said nothing" : "; it said: " + line;
}

asio::awaitable<Result<void>> run(std::vector<std::string> command, Notice notice) {
  base::ChildRequest request;
  request.command = std::move(command);
  request.environment = environment_of(notice);
  request.input = json_of(notice) + "\n";
  request.time_limit = exec_time_max;
  const std::string program = request.command.front();
  const auto outcome = co_await base::run_child(std::move(request));
  if (!outcome) co_return outcome.error();
  if (outcome->well()) co_return Result<void>();
  std::string how = fmt::format("ended with status {}", outcome->status);
  if (outcome->signal != 0) how = fmt::format("was ended by signal {}", outcome->signal);
  if (outcome->timed_out) how = fmt::format("took over {} s and was killed", exec_time_max.count());
  co_return Error(outcome->timed_out ? ErrorKind::timeout : ErrorKind::io,
                  fmt::format("{} {}{}", program, how, said(outcome->output)));
}

}  // namespace

std::string_view word(Way way) {
  switch (way) {
    case Way::email:
      return "email";
    case Way::webhook:
      return "webhook";
    case Way::exec:
      return "exec";
  }
  ASSERT(false);
  return {};
}

std::string signature_of(std::string_view secret, std::string_view timestamp,
                         std::string_view body) {
  const auto text = fmt::format("{}.{}", timestamp, body);
  return "sha256=" + base::hex(tls::hmac_sha256(secret, text));
}

Senders make_senders(const config::Notify& settings, base::Fetcher& fetcher) {
  Senders made;
  const auto set = [&](Way way, Send send, std::string target) {
    made.send[static_cast<size_t>(way)] = std::move(send);
    made.target[static_cast<size_t>(way)] = std::move(target);
  };
  if (settings.email) {
    set(
        Way::email,
        [&fetcher, email = *settings.email](Notice notice) {
          return send_mail(fetcher, email, std::move(notice));
        },
        settings.email->server());
  }
  if (settings.webhook) {
    set(
        Way::webhook,
        [&fetcher, webhook = *settings.webhook](Notice notice) {
          return post(fetcher, webhook, std::move(notice));
        },
        settings.webhook->server());
  }
  if (!settings.exec.empty()) {
    set(
        Way::exec,
        [command = settings.exec](Notice notice) { return run(command, std::move(notice)); },
        settings.exec.front());
  }
  return made;
}

}  // namespace gatehouse::acme
