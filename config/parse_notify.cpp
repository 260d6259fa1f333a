#include "config/parse_notify.hpp"

#include <algorithm>
#include <array>
#include <cerrno>
#include <sys/stat.h>
#include <system_error>

#include <fmt/format.h>

#include "config/parse_acme.hpp"
#include "config/suggestion.hpp"

namespace gatehouse::config {

namespace {

constexpr size_t recipients_max = 50;
constexpr size_t address_bytes_max = 254;  // RFC 5321 section 4.5.3.1.3, without the brackets
constexpr size_t local_part_bytes_max = 64;
constexpr size_t arguments_max = 64;
constexpr size_t argument_bytes_max = 4096;
constexpr uint32_t reminders_max = 1000;
constexpr uint16_t submission_port = 587;   // RFC 6409
constexpr uint16_t submissions_port = 465;  // RFC 8314

// acme::Event::Kind in words; a test of acme/ holds the two against each other.
constexpr std::array<std::string_view, 8> event_words = {"obtained",  "renewed",      "failed",
                                                         "expiring",  "expired",      "blocked",
                                                         "recovered", "deploy_failed"};

void parse_email(Reader& section, Notify& notify);
void parse_webhook(Reader& section, Notify& notify);
void parse_exec(Reader& section, Notify& notify);
void parse_events(Reader& section, Notify& notify);

}  // namespace

void parse_notify_section(Reader& root, Draft& draft) {
  const auto* table = root.table("notify");
  if (table == nullptr || !draft.first_time("notify", table->mark)) return;
  Reader reader(*table, "notify", draft.findings);
  auto& notify = draft.snapshot.notify;
  parse_email(reader, notify);
  parse_webhook(reader, notify);
  parse_exec(reader, notify);
  parse_events(reader, notify);
  reader.read("max_reminders", notify.max_reminders, 0, reminders_max);
  reader.finish();
}

std::string Notify::Email::server() const {
  const bool bracketed = host.find(':') != host.npos;
  return fmt::format("{}://{}{}{}:{}", implicit_tls ? "smtps" : "smtp", bracketed ? "[" : "", host,
                     bracketed ? "]" : "", port);
}

std::string Notify::Webhook::server() const {
  const auto host = url.find("://") + 3;
  return url.substr(0, url.find_first_of("/?#", host));
}

namespace {

/// Why the text is no address that mail can be sent to; empty: it is one. What SMTP or a header
/// could read as more than an address is refused.
std::string mailbox_problem(std::string_view text) {
  static constexpr std::string_view others = "!#$%&'*+-/=?^_`{|}~.";  // RFC 5322 section 3.2.3
  if (text.find_first_of("<>\"") != text.npos) {
    return "is more than an address: write \"ops@example.com\", without a name";
  }
  const auto at = text.rfind('@');
  const auto local = text.substr(0, at);
  const bool letters = std::ranges::all_of(local, [](char c) {
    const bool letter = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
    return letter || (c >= '0' && c <= '9') || others.find(c) != others.npos;
  });
  const bool dots =
      local.starts_with('.') || local.ends_with('.') || local.find("..") != local.npos;
  const bool host = at != text.npos && parse_host_glob(text.substr(at + 1)).has_value() &&
                    text[at + 1] != '*' && text[at + 1] != '[';
  if (local.empty() || !letters || dots || !host || text.size() > address_bytes_max ||
      local.size() > local_part_bytes_max) {
    return "is no mail address: write one such as \"ops@example.com\"";
  }
  return {};
}

void read_recipients(Reader& reader, std::vector<std::string>& target) {
  const auto take = [&](const std::string& text, const Mark& mark, const std::string& path) {
    if (auto problem = mailbox_problem(text); !problem.empty()) {
      reader.findings().add(mark, path, in_quotes(text) + " " + problem);
    } else if (std::ranges::find(target, text) != target.end()) {
      reader.findings().add(mark, path, in_quotes(text) + " is in the list twice");
    } else if (target.size() == recipients_max) {
      reader.findings().add(
          mark, path,
          fmt::format("more than {} addresses: use one of a mailing list", recipients_max));
    } else {
      target.push_back(text);
    }
  };
  reader.each_string("to", take);
}

void read_mail_server(Reader& reader, Notify::Email& email) {
  static constexpr std::string_view way_out =
      "write \"smtp://mail.example.com:587\" (STARTTLS) or \"smtps://mail.example.com:465\"";
  std::string text;
  if (!reader.read("server", text) || text.empty()) return;
  email.implicit_tls = text.starts_with("smtps://");
  if (text.find('@') != text.npos) {
    return reader.refuse("server", "holds a user name: write it into user and password_file");
  }
  if (!email.implicit_tls && !text.starts_with("smtp://")) {
    return reader.refuse("server",
                         fmt::format("{} names no mail server: {}", in_quotes(text), way_out));
  }
  auto rest = std::string_view(text).substr(email.implicit_tls ? 8 : 7);
  if (rest.ends_with('/')) rest.remove_suffix(1);
  const auto address = parse_server_address(rest);
  if (!address || address->scheme || !address->endpoint.unix_path.empty()) {
    return reader.refuse("server",
                         fmt::format("{} lacks a valid host: {}", in_quotes(text), way_out));
  }
  email.host = address->endpoint.host;
  email.port = address->endpoint.port;
  if (email.port == 0) email.port = email.implicit_tls ? submissions_port : submission_port;
}

void read_credentials(Reader& reader, Notify::Email& email) {
  reader.read("user", email.user);
  const bool from_file = reader.read_secret_file("password_file", email.password);
  if (reader.read_secret("password", email.password) && from_file) {
    reader.refuse("password", "given together with password_file: keep one of the two");
  }
  const auto* key = from_file ? "password_file" : "password";
  const auto control = [](const std::string& text) {
    return std::ranges::any_of(text, [](char c) {
      return static_cast<unsigned char>(c) < 0x20 || static_cast<unsigned char>(c) == 0x7f;
    });
  };
  if (control(email.user)) reader.refuse("user", "holds control characters");
  if (control(email.password)) {
    reader.refuse(key,
                  "the password holds control characters, such as a line break: it must be "
                  "the file's only line");
  }
  const bool password = reader.given("password") || reader.given("password_file");
  if (!email.user.empty() && !password) {
    reader.refuse("user", "lacks its password: add password_file");
  }
  if (email.user.empty() && password && !reader.given("user")) {
    reader.refuse(reader.given("password") ? "password" : "password_file",
                  "lacks its user: add user, or remove the password");
  }
}

void parse_email(Reader& section, Notify& notify) {
  const auto* table = section.table("email");
  if (table == nullptr) return;
  Reader reader(*table, section.path("email"), section.findings());
  Notify::Email email;
  read_recipients(reader, email.to);
  read_mail_server(reader, email);
  if (reader.read("from", email.from) && !email.from.empty()) {
    if (auto problem = mailbox_problem(email.from); !problem.empty()) {
      reader.refuse("from", in_quotes(email.from) + " " + problem);
    }
  }
  read_credentials(reader, email);
  reader.read_file_path("trust", email.trust);
  reader.finish();
  if (!section.given("email")) return;
  if (!reader.given("to")) {
    reader.refuse("to", "is missing: name who is told, such as to = [\"ops@example.com\"]");
  }
  if (!reader.given("server")) {
    reader.refuse("server", "is missing: write server = \"smtp://mail.example.com:587\"");
  }
  if (email.from.empty() && !email.to.empty()) email.from = email.to.front();
  notify.email = std::move(email);
}

bool is_loopback(std::string_view host) {
  if (host == "localhost") return true;
  boost::system::error_code error;
  const auto address = boost::asio::ip::make_address(std::string(host), error);
  return !error && address.is_loopback();
}

/// As url_problem(), but without the path and the query, which often are a secret.
std::string webhook_problem(std::string_view url) {
  const auto start = url.find("://");
  if (start == url.npos) return "is no URL: write one that starts with https://";
  if (std::ranges::any_of(url, [](char c) {
        return static_cast<unsigned char>(c) <= 0x20 || static_cast<unsigned char>(c) >= 0x7f;
      })) {
    return "is no URL: it holds white space or other than ASCII";
  }
  const auto head = url.substr(0, url.find_first_of("/?#", start + 3));
  if (head.find('@') != head.npos) {
    return "holds a user name or a password: leave them out, and verify the signature instead";
  }
  if (auto problem = url_problem(head, true); !problem.empty()) return problem;
  // Once the host has passed, only the length can be wrong with the whole.
  if (auto problem = url_problem(url, true); !problem.empty()) return problem;
  const auto address = parse_server_address(head.substr(start + 3));
  if (head.starts_with("http://") && !is_loopback(address->endpoint.host)) {
    return fmt::format(
        "{} would carry the message unencrypted: use https:// (http:// only for this machine, as "
        "\"http://127.0.0.1:8000/hook\")",
        in_quotes(head));
  }
  return {};
}

void parse_webhook(Reader& section, Notify& notify) {
  const auto* table = section.table("webhook");
  if (table == nullptr) return;
  Reader reader(*table, section.path("webhook"), section.findings());
  Notify::Webhook webhook;
  if (reader.read("url", webhook.url) && !webhook.url.empty()) {
    if (auto problem = webhook_problem(webhook.url); !problem.empty()) {
      reader.refuse("url", std::move(problem));
    }
  }
  const bool from_file = reader.read_secret_file("secret_file", webhook.secret);
  if (reader.read_secret("secret", webhook.secret) && from_file) {
    reader.refuse("secret", "given together with secret_file: keep one of the two");
  }
  reader.read_file_path("trust", webhook.trust);
  reader.finish();
  if (!section.given("webhook")) return;
  if (!reader.given("url")) {
    reader.refuse("url", "is missing: write the https:// address that takes the messages");
    return;
  }
  notify.webhook = std::move(webhook);
}

/// Why nobody may run that file; empty: somebody may.
std::string program_problem(const std::string& program) {
  if (!program.starts_with('/')) {
    return in_quotes(program) +
           " is no whole path: it is run without a shell, so write one such as "
           "[\"/usr/local/bin/tell\", \"argument\"]";
  }
  struct stat status = {};
  if (::stat(program.c_str(), &status) != 0) {
    return fmt::format("{} cannot be run: {}", in_quotes(program),
                       std::generic_category().message(errno));
  }
  if (!S_ISREG(status.st_mode)) return in_quotes(program) + " cannot be run: it is not a file";
  if ((status.st_mode & 0111) == 0) {
    return fmt::format("{} cannot be run: chmod +x it", in_quotes(program));
  }
  return {};
}

void parse_exec(Reader& section, Notify& notify) {
  const auto take = [&](const std::string& text, const Mark& mark, const std::string& path) {
    auto& exec = notify.exec;
    std::string problem;
    if (text.find('\0') != text.npos) {
      problem = "holds a NUL byte, which no argument can";
    } else if (exec.empty()) {
      problem = program_problem(text);
    } else if (exec.size() == arguments_max || text.size() > argument_bytes_max) {
      problem = fmt::format("at most {} arguments of at most {} bytes: write a script",
                            arguments_max - 1, argument_bytes_max);
    }
    if (!problem.empty()) section.findings().add(mark, path, std::move(problem));
    exec.push_back(text);
  };
  section.each_string("exec", take);
}

void parse_events(Reader& section, Notify& notify) {
  const auto take = [&](const std::string& text, const Mark& mark, const std::string& path) {
    if (std::ranges::find(event_words, text) == event_words.end()) {
      auto way_out = did_you_mean(text, event_words);
      if (way_out.empty()) way_out = fmt::format(": use {}", fmt::join(event_words, ", "));
      section.findings().add(mark, path, in_quotes(text) + " is no event" + way_out);
    } else if (std::ranges::find(notify.events, text) == notify.events.end()) {
      notify.events.push_back(text);
    }
  };
  section.each_string("events", take);
}

}  // namespace

}  // namespace gatehouse::config
