#include <algorithm>

#include <boost/asio/async_result.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/this_coro.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <fmt/format.h>

#include "base/fetch_engine.hpp"

namespace gatehouse::base {

namespace asio = boost::asio;

namespace {

constexpr size_t reply_bytes_max = 300;

/// No answer to a command takes longer, QUIT's included.
constexpr long reply_seconds_max = 60;

/// One mail on its way.
struct Mail : Transfer {
  Mail(asio::io_context& control, MailRequest r, std::string t, std::atomic<bool>& s)
      : Transfer(control), request(std::move(r)), text(std::move(t)), stopping(s) {}
  const MailRequest request;
  const std::string text;
  std::atomic<bool>& stopping;
  size_t sent = 0;
  std::string refusal;  // the server's last line that was one
};

std::string server_of(const MailRequest& request) {
  const bool address = request.host.find(':') != std::string::npos;
  return fmt::format("{}{}{}:{}", address ? "[" : "", request.host, address ? "]" : "",
                     request.port);
}

size_t on_text_wanted(char* buffer, size_t, size_t room, void* context) {
  auto& mail = *static_cast<Mail*>(context);
  const size_t count = mail.text.copy(buffer, room, mail.sent);
  mail.sent += count;
  return count;
}

size_t on_reply_line(const char* bytes, size_t, size_t count, void* context) {
  std::string_view line(bytes, std::min(count, reply_bytes_max));
  if (!line.starts_with('4') && !line.starts_with('5')) return count;
  while (line.ends_with('\n') || line.ends_with('\r')) line.remove_suffix(1);
  auto& refusal = static_cast<Mail*>(context)->refusal;
  refusal = line;
  std::ranges::replace_if(
      refusal, [](char c) { return static_cast<unsigned char>(c) < 0x20 || c == 0x7f; }, '?');
  return count;
}

void set_security(CURL* easy, const MailRequest& request) {
  const bool required = request.tls_required || !request.user.empty();
  curl_easy_setopt(easy, CURLOPT_USE_SSL,
                   static_cast<long>(required ? CURLUSESSL_ALL : CURLUSESSL_TRY));
  curl_easy_setopt(easy, CURLOPT_SSLVERSION, static_cast<long>(CURL_SSLVERSION_TLSv1_2));
  if (request.user.empty()) return;
  curl_easy_setopt(easy, CURLOPT_USERNAME, request.user.c_str());
  curl_easy_setopt(easy, CURLOPT_PASSWORD, request.password.c_str());
}

/// At least once a second.
int on_progress(void* context, curl_off_t, curl_off_t, curl_off_t, curl_off_t) {
  return static_cast<Mail*>(context)->stopping ? 1 : 0;
}

Result<void> prepare(Mail& mail) {
  const MailRequest& request = mail.request;
  CURL* easy = mail.easy;
  const std::string url =
      (request.implicit_tls ? "smtps://" : "smtp://") + server_of(request) + "/";
  curl_easy_setopt(easy, CURLOPT_URL, url.c_str());
  curl_easy_setopt(easy, CURLOPT_PROTOCOLS_STR, "smtp,smtps");
  curl_easy_setopt(easy, CURLOPT_PROXY, "");  // ALL_PROXY means the web
  curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L);
  curl_easy_setopt(easy, CURLOPT_QUICK_EXIT, 1L);
  curl_easy_setopt(easy, CURLOPT_FORBID_REUSE, 1L);
  curl_easy_setopt(easy, CURLOPT_SERVER_RESPONSE_TIMEOUT, reply_seconds_max);
  curl_easy_setopt(easy, CURLOPT_NOPROGRESS, 0L);
  curl_easy_setopt(easy, CURLOPT_XFERINFOFUNCTION, &on_progress);
  curl_easy_setopt(easy, CURLOPT_XFERINFODATA, &mail);
  curl_easy_setopt(easy, CURLOPT_CONNECTTIMEOUT_MS,
                   static_cast<long>(request.connect_timeout.count()));
  curl_easy_setopt(easy, CURLOPT_TIMEOUT_MS, static_cast<long>(request.timeout.count()));
  curl_easy_setopt(easy, CURLOPT_MAIL_FROM, ("<" + request.message.from + ">").c_str());
  for (const auto& address : request.message.to) {
    mail.list = curl_slist_append(mail.list, ("<" + address + ">").c_str());
  }
  curl_easy_setopt(easy, CURLOPT_MAIL_RCPT, mail.list);
  curl_easy_setopt(easy, CURLOPT_UPLOAD, 1L);
  curl_easy_setopt(easy, CURLOPT_INFILESIZE_LARGE, static_cast<curl_off_t>(mail.text.size()));
  curl_easy_setopt(easy, CURLOPT_READFUNCTION, &on_text_wanted);
  curl_easy_setopt(easy, CURLOPT_READDATA, &mail);
  curl_easy_setopt(easy, CURLOPT_HEADERFUNCTION, &on_reply_line);
  curl_easy_setopt(easy, CURLOPT_HEADERDATA, &mail);
  curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, &on_reply_line);
  curl_easy_setopt(easy, CURLOPT_WRITEDATA, &mail);
  curl_easy_setopt(easy, CURLOPT_ERRORBUFFER, mail.reason.data());
  set_security(easy, request);
  return set_roots(mail, request.ca_file);
}

// What a server says when it refuses a password is not repeated: it might hold it.
Error failure_of(const Mail& mail) {
  const auto server = server_of(mail.request);
  const auto error = [&](ErrorKind kind, std::string text) {
    return Error(kind, Side::upstream, Retry::never, std::move(text), mail.code);
  };
  if (mail.code == CURLE_LOGIN_DENIED) {
    return error(ErrorKind::denied, fmt::format("{} refused the user or its password ({}): "
                                                "check user and password_file",
                                                server, mail.words()));
  }
  if (mail.code == CURLE_USE_SSL_FAILED) {
    return error(ErrorKind::tls,
                 fmt::format("{} offers no STARTTLS, without which the password is not sent: use "
                             "smtps:// or another port",
                             server));
  }
  const auto kind = kind_of(mail.code);
  const bool spoke = !mail.refusal.empty();
  return error(spoke ? ErrorKind::protocol : kind,
               fmt::format("{} did not take the mail: {}{}{}", server, mail.words(),
                           spoke ? "; it said: " : "", mail.refusal));
}

/// Frees what curl holds of it before the thread lets go of it.
struct MailGuard {
  explicit MailGuard(Mail& m) : mail(m) {}
  ~MailGuard() {
    curl_easy_cleanup(mail.easy);
    curl_slist_free_all(mail.list);
  }
  MailGuard(const MailGuard&) = delete;
  MailGuard& operator=(const MailGuard&) = delete;
  Mail& mail;
};

/// On the mail thread.
Result<void> perform(Mail& mail) {
  const auto given_up = [&] {
    return Error(ErrorKind::cancelled, "the mail to " + server_of(mail.request) + " was given up");
  };
  if (mail.stopping) return given_up();
  mail.easy = curl_easy_init();
  if (mail.easy == nullptr) return Error(ErrorKind::io, "out of memory for a mail");
  const MailGuard guard(mail);
  if (const auto prepared = prepare(mail); !prepared) return prepared.error();
  mail.code = curl_easy_perform(mail.easy);
  if (mail.code == CURLE_OK) return {};
  return mail.stopping ? given_up() : failure_of(mail);
}

}  // namespace

// On a thread of its own: libcurl stops the thread for the answer to QUIT, which a silent server
// never gives.
asio::awaitable<Result<void>> Fetcher::send_mail(MailRequest request) {
  auto text = compose(request.message, WallClock::now());
  if (!text) co_return text.error();
  if (!state_->mail_thread) state_->mail_thread = std::make_unique<asio::thread_pool>(1);
  const auto mail = std::make_shared<Mail>(state_->engine->control(), std::move(request),
                                           std::move(*text), state_->stopping);
  const auto home = co_await asio::this_coro::executor;
  auto initiate = [&lane = *state_->mail_thread, home, mail](auto handler) {
    asio::post(lane, [home, mail, handler = std::move(handler)]() mutable {
      Result<void> result = perform(*mail);
      asio::post(home, [result = std::move(result), handler = std::move(handler)]() mutable {
        std::move(handler)(std::move(result));
      });
    });
  };
  Result<void> result =
      co_await asio::async_initiate<const asio::use_awaitable_t<>, void(Result<void>)>(
          std::move(initiate), asio::use_awaitable);
  co_return result;
}

}  // namespace gatehouse::base
