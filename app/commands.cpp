#include "app/commands.hpp"

#include <algorithm>
#include <cstdio>
#include <optional>
#include <string>

#include <CLI/CLI.hpp>
#include <boost/json.hpp>
#include <boost/version.hpp>
#include <fmt/format.h>

#include "admin/api.hpp"
#include "app/application.hpp"
#include "app/certificate_commands.hpp"
#include "app/console.hpp"
#include "app/doctor.hpp"
#include "app/import_command.hpp"
#include "app/notify_command.hpp"
#include "app/quick_configuration.hpp"
#include "config/describe.hpp"
#include "config/suggestion.hpp"
#include "http/http2_version.hpp"
#include "tls/version.hpp"

namespace gatehouse::app {

namespace json = boost::json;

namespace {

int serve(Loaded loaded) {
  if (!loaded.snapshot) return loaded.status;
  return Application(std::move(loaded.source), std::move(loaded.snapshot)).run();
}

int run(const Options& options) {
  return serve(load_file(options));
}

int proxy(const Options& options) {
  auto text = quick_configuration(options.quick);
  if (!text) return fail(exit_usage, text.error().context);
  ConfigurationSource source;
  source.text = std::move(*text);
  source.name = "(command line)";
  return serve(load(std::move(source)));
}

int check(const Options& options) {
  const Loaded loaded = load_file(options);
  if (!loaded.snapshot) return loaded.status;
  if (options.json) return say(config::describe_json(*loaded.snapshot) + "\n");
  return say(fmt::format("{} is well\n", loaded.source.file) + config::describe(*loaded.snapshot));
}

/// Asks the running gatehouse and prints its JSON, or what `words` makes of it.
template <class Words>
int ask(const Options& options, const char* method, const char* path, Words words) {
  const Target target = find_running(options);
  if (!target.client) return target.status;
  const auto answer = target.client->request(method, path);
  if (!answer) return fail_unanswered(answer.error());
  if (answer->status >= 300) return fail_refused(*answer);
  if (options.json) return say(answer->body);
  return say(words(answer->body));
}

int reload(const Options& options) {
  return ask(options, "POST", "/api/reload", [](const auto&) { return "reloaded\n"; });
}

int stop(const Options& options) {
  return ask(options, "POST", "/api/stop", [](const auto&) { return "stopping\n"; });
}

int status(const Options& options) {
  return ask(options, "GET", "/api/status", [](const std::string& body) {
    std::string out;
    boost::system::error_code code;
    const json::value parsed = json::parse(body, code);
    if (code || !parsed.is_object()) return body;
    for (const auto& [key, value] : parsed.get_object()) {
      const std::string shown =
          value.is_string() ? std::string(value.get_string()) : json::serialize(value);
      out += fmt::format("{:<16} {}\n", std::string_view(key), shown);
    }
    return out;
  });
}

int notify_test(const Options& options) {
  const Loaded loaded = load_file(options);
  if (!loaded.snapshot) return loaded.status;
  const auto results = send_test_notifications(loaded.snapshot->notify);
  if (results.empty()) {
    return fail(exit_usage,
                fmt::format("{} tells nobody: add email, webhook or exec to its section [notify]",
                            loaded.source.file));
  }
  const int said = say(options.json ? notify_results_json(results) : notify_results_text(results));
  const bool all = std::ranges::all_of(results, [](const auto& one) { return one.error.empty(); });
  return all ? said : exit_failed;
}

int import_from(const Options& options) {
  const Loaded loaded = load_file(options);
  if (!loaded.snapshot) return loaded.status;
  const auto report = import_certificates(options.import_from, *loaded.snapshot, options.dry_run);
  if (!report) {
    const bool usage = report.error().kind == base::ErrorKind::invalid;
    return fail(usage ? exit_usage : exit_failed, report.error().context);
  }
  const int said = say(options.json ? import_json(*report, options.dry_run) + "\n"
                                    : import_text(*report, options.dry_run));
  return said == exit_well && !report->problems.empty() ? int{exit_failed} : said;
}

int version(const Options& options) {
  const std::string boost = fmt::format("{}.{}.{}", BOOST_VERSION / 100000,
                                        BOOST_VERSION / 100 % 1000, BOOST_VERSION % 100);
  if (options.json) {
    return say(fmt::format(R"({{"gatehouse":"{}","openssl":"{}","nghttp2":"{}","boost":"{}"}})"
                           "\n",
                           GATEHOUSE_VERSION, tls::library_version(), http::http2_library_version(),
                           boost));
  }
  return say(fmt::format("gatehouse {}\nOpenSSL {}\nnghttp2 {}\nBoost {}\n", GATEHOUSE_VERSION,
                         tls::library_version(), http::http2_library_version(), boost));
}

using Command = int (*)(const Options&);

/// Declares the commands; the one that was given is left in `chosen`.
class Grammar {
 public:
  explicit Grammar(Options& options) : options_(options) {
    app_.require_subcommand(1);
    app_.set_help_all_flag("--help-all", "Help for every command");
    with_config(add(app_, "run", "Run the proxy in the foreground", run));
    declare_proxy();
    with_json(
        with_config(add(app_, "check", "Check the configuration; show what it serves", check)));
    CLI::App* const certs = app_.add_subcommand("certs", "Certificates");
    certs->require_subcommand(1);
    declare_certificates(*certs);
    declare_import(*certs);
    declare_doctor();
    CLI::App* const notify = app_.add_subcommand("notify", "Notifications");
    notify->require_subcommand(1);
    with_json(with_config(add(*notify, "test",
                              "Send a test by every way of [notify]; say what "
                              "became of it",
                              notify_test)));
    asks(add(app_, "status", "Workers, connections and requests of the running gatehouse", status));
    asks(add(app_, "reload", "Make the running gatehouse read its configuration again", reload));
    asks(add(app_, "stop", "Drain and stop the running gatehouse", stop));
    with_json(add(app_, "version", "Versions of gatehouse and its libraries", version));
  }

  CLI::App& app() { return app_; }
  Command chosen() const { return chosen_; }

  /// The library says of an unknown command only that one is required.
  std::string words_for(const CLI::ParseError& mistake) {
    const auto left = app_.remaining(true);
    const bool required =
        mistake.get_exit_code() == static_cast<int>(CLI::ExitCodes::RequiredError);
    if (!required || left.empty() || chosen_ != nullptr) return mistake.what();
    CLI::App* within = &app_;
    for (auto inner = within->get_subcommands(); !inner.empty(); inner = within->get_subcommands())
      within = inner.front();
    std::vector<std::string> names;
    for (const CLI::App* command : within->get_subcommands({}))
      names.push_back(command->get_name());
    if (names.empty()) return mistake.what();
    const std::vector<std::string_view> known(names.begin(), names.end());
    return fmt::format("'{}' is no command{}", left.front(),
                       config::did_you_mean(left.front(), known));
  }

 private:
  CLI::App* add(CLI::App& parent, const char* name, const char* text, Command command) {
    CLI::App* const added = parent.add_subcommand(name, text);
    added->final_callback([this, command] { chosen_ = command; });
    return added;
  }
  CLI::App* with_config(CLI::App* command) {
    command->add_option("-c,--config", options_.config,
                        "File; else $GATEHOUSE_CONFIG, ./gatehouse.toml, "
                        "/etc/gatehouse/gatehouse.toml");
    return command;
  }
  CLI::App* with_json(CLI::App* command) {
    command->add_flag("--json", options_.json, "Output for programs");
    return command;
  }
  void asks(CLI::App* command) {
    with_json(with_config(command));
    command->add_option("--admin", options_.admin,
                        "Address of the admin interface; else the configuration's "
                        "(a TCP one takes its token from $GATEHOUSE_ADMIN_TOKEN)");
  }
  CLI::App* named(CLI::App* command) {
    command->add_option("NAME", options_.name, "Host name of the certificate")->required();
    return command;
  }
  CLI::App* forced(CLI::App* command, const char* text) {
    command->add_flag("--force", options_.force, text);
    return command;
  }
  void declare_certificates(CLI::App& certs) {
    asks(add(certs, "list", "List certificates, from the running gatehouse or from storage",
             list_certificates));
    asks(named(add(certs, "show", "All that is known of one certificate", show_certificate)));
    asks(forced(named(add(certs, "renew", "Order a new certificate now", renew_certificate)),
                "Also when it is not due"));
    CLI::App* const revoke = named(
        add(certs, "revoke", "Revoke a certificate; a new one is ordered", revoke_certificate));
    revoke->add_option("--reason", options_.reason,
                       std::string("Why: ") + admin::revocation_reasons);
    asks(revoke);
    CLI::App* const exported =
        forced(named(add(certs, "export", "Write a certificate, its chain and its key to a folder",
                         export_certificate)),
               "Replace files that are there");
    exported->add_option("DIR", options_.folder, "Folder, made if it is not there")->required();
    with_json(with_config(exported));
    with_json(
        with_config(add(certs, "root", "Print the root of gatehouse's own authority", print_root)));
    CLI::App* const rollover =
        add(certs, "rollover", "Give the account at a CA a new key", roll_over_accounts);
    rollover->add_option("CA", options_.authority, "Its name in the configuration; else all");
    asks(rollover);
  }
  void declare_doctor() {
    CLI::App* const doctor = add(
        app_, "doctor", "Find out why a host has no certificate, or whether all is well", examine);
    doctor->add_option("HOST", options_.name, "Host name")->required();
    doctor->add_option("--address", options_.address,
                       "Look at this IP address instead of those in the DNS");
    doctor->add_option("--http-port", options_.http_port, "Seen from outside, default 80");
    doctor->add_option("--https-port", options_.https_port, "Seen from outside, default 443");
    asks(doctor);
  }
  void declare_import(CLI::App& certs) {
    CLI::App* const command = add(
        certs, "import", "Take over what another client has obtained; orders nothing", import_from);
    command
        ->add_option("FROM", options_.import_from,
                     "certbot:/etc/letsencrypt, caddy:DIR, traefik:acme.json or lego:DIR")
        ->required();
    command->add_flag("--dry-run", options_.dry_run, "Only say what would be done");
    with_json(with_config(command));
  }
  void declare_proxy() {
    CLI::App* const command =
        add(app_, "proxy", "Run the proxy without a file: gatehouse proxy --from HOST --to ADDRESS",
            proxy);
    QuickOptions& quick = options_.quick;
    command->add_option("--from", quick.from, "Host name, or :PORT for localhost")->required();
    command->add_option("--to", quick.to, "Where requests go, such as localhost:8080")->required();
    command->add_option("--storage", quick.storage, "Folder for certificates");
    command->add_option("--http", quick.http, "Address for plain HTTP, default :80");
    command->add_option("--https", quick.https, "Address for HTTPS, default :443");
    command->add_flag("--internal", quick.internal,
                      "Use a certificate of gatehouse's own authority");
    command->add_option("--ca-directory", quick.ca_directory, "ACME directory of another CA");
    command->add_option("--ca-trust", quick.ca_trust, "PEM root for that CA's own HTTPS");
    command->add_option("--email", quick.email, "Contact address for the CA");
  }

  Options& options_;
  CLI::App app_{"Gatehouse: a TLS reverse proxy that gets its own certificates", "gatehouse"};
  Command chosen_ = nullptr;
};

}  // namespace

int run_command_line(int argc, const char* const* argv) {
  Options options;
  Grammar grammar(options);
  try {
    grammar.app().parse(argc, argv);
  } catch (const CLI::Success& help) {
    return grammar.app().exit(help);
  } catch (const CLI::ParseError& mistake) {
    return fail(exit_usage, fmt::format("{}; see 'gatehouse --help'", grammar.words_for(mistake)));
  }
  try {
    return grammar.chosen()(options);
  } catch (const std::exception& problem) {
    return fail(exit_failed, problem.what());
  }
}

}  // namespace gatehouse::app
