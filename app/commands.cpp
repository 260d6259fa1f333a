#include "app/commands.hpp"

#include <cstdio>
#include <optional>
#include <string>

#include <CLI/CLI.hpp>
#include <boost/json.hpp>
#include <boost/version.hpp>
#include <fmt/format.h>

#include "admin/api.hpp"
#include "admin/client.hpp"
#include "app/application.hpp"
#include "app/certificate_list.hpp"
#include "app/import_command.hpp"
#include "app/quick_configuration.hpp"
#include "config/describe.hpp"
#include "config/load.hpp"
#include "http/http2_version.hpp"
#include "tls/version.hpp"

namespace gatehouse::app {

namespace json = boost::json;

namespace {

/// What the options of all commands were given as.
struct Options {
  std::optional<std::string> config;
  std::string admin;
  bool json = false;
  std::string import_from;
  bool dry_run = false;
  QuickOptions quick;
};

int fail(ExitStatus status, std::string_view line) {
  std::fprintf(stderr, "gatehouse: %.*s\n", static_cast<int>(line.size()), line.data());
  return status;
}

int say(std::string_view text) {
  const bool well =
      std::fwrite(text.data(), 1, text.size(), stdout) == text.size() && std::fflush(stdout) == 0;
  return well ? exit_well : fail(exit_failed, "cannot write to standard output");
}

/// A loaded configuration, or the exit status after its mistakes were printed.
struct Loaded {
  config::SnapshotPtr snapshot;
  ConfigurationSource source;
  int status = exit_usage;
};

Loaded load(ConfigurationSource source) {
  Loaded out;
  const config::LoadResult result = source.load();
  for (const auto& mistake : result.diagnostics)
    std::fprintf(stderr, "%s\n", mistake.to_string().c_str());
  out.snapshot = result.snapshot;
  out.source = std::move(source);
  return out;
}

Loaded load_file(const Options& options) {
  const config::Located located = config::locate(options.config);
  if (!located.problem.empty()) {
    Loaded none;
    none.status = fail(exit_usage, located.problem);
    return none;
  }
  ConfigurationSource source;
  source.file = located.file;
  return load(std::move(source));
}

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

/// How to reach the running gatehouse.
struct Target {
  std::optional<admin::Client> client;
  config::SnapshotPtr snapshot;  // null with --admin
  int status = exit_usage;
};

Target find_running(const Options& options) {
  Target target;
  std::string address = options.admin;
  std::string token;
  if (address.empty()) {
    const Loaded loaded = load_file(options);
    target.snapshot = loaded.snapshot;
    target.status = loaded.status;
    if (!loaded.snapshot) return target;
    address = loaded.snapshot->server.admin;
    token = loaded.snapshot->server.admin_token;
  } else if (const char* const given = std::getenv("GATEHOUSE_ADMIN_TOKEN")) {
    token = given;
  }
  auto parsed = admin::parse_address(address);
  if (parsed) {
    target.client.emplace(*parsed, token);
  } else {
    target.status = fail(exit_usage, parsed.error().context);
  }
  return target;
}

bool nobody_there(const base::Error& error) {
  return error.kind == base::ErrorKind::not_found || error.kind == base::ErrorKind::refused;
}

int fail_unanswered(const base::Error& error) {
  if (!nobody_there(error)) return fail(exit_failed, error.context);
  return fail(exit_failed,
              error.context +
                  "; is it running? start it with 'gatehouse run', or name its address "
                  "with --admin");
}

// The server's own words on why it refused.
int fail_refused(const admin::Answer& answer) {
  boost::system::error_code code;
  const json::value parsed = json::parse(answer.body, code);
  const json::object* const object = code ? nullptr : parsed.if_object();
  if (object == nullptr)
    return fail(exit_failed, fmt::format("the running gatehouse answered {}", answer.status));
  if (const auto* problems = object->if_contains("problems"); problems && problems->is_array()) {
    for (const auto& problem : problems->get_array())
      if (problem.is_string()) std::fprintf(stderr, "%s\n", problem.get_string().c_str());
  }
  const auto* error = object->if_contains("error");
  return fail(exit_failed, error && error->is_string() ? std::string(error->get_string())
                                                       : std::string("refused"));
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

int print_certificates(const Options& options, const std::string& body) {
  if (options.json) return say(body);
  const auto table = certificate_table(body);
  return table ? say(*table) : fail(exit_failed, table.error().context);
}

int list_certificates(const Options& options) {
  const Target target = find_running(options);
  if (!target.client) return target.status;
  const auto answer = target.client->request("GET", "/api/certificates");
  if (answer) {
    return answer->status == 200 ? print_certificates(options, answer->body)
                                 : fail_refused(*answer);
  }
  if (!nobody_there(answer.error()) || !target.snapshot) return fail_unanswered(answer.error());
  const auto stored = stored_certificates(target.snapshot->server.storage);
  if (!stored) return fail(exit_failed, stored.error().context);
  return print_certificates(options, admin::certificates_json(*stored) + "\n");
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
    asks(add(*certs, "list", "List certificates, from the running gatehouse or from storage",
             list_certificates));
    declare_import(*certs);
    asks(add(app_, "status", "Workers, connections and requests of the running gatehouse", status));
    asks(add(app_, "reload", "Make the running gatehouse read its configuration again", reload));
    asks(add(app_, "stop", "Drain and stop the running gatehouse", stop));
    with_json(add(app_, "version", "Versions of gatehouse and its libraries", version));
  }

  CLI::App& app() { return app_; }
  Command chosen() const { return chosen_; }

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
  void declare_import(CLI::App& certs) {
    CLI::App* const command =
        add(certs, "import", "Take over what another client has obtained; orders nothing",
            import_from);
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
    return fail(exit_usage, fmt::format("{}; see 'gatehouse --help'", mistake.what()));
  }
  try {
    return grammar.chosen()(options);
  } catch (const std::exception& problem) {
    return fail(exit_failed, problem.what());
  }
}

}  // namespace gatehouse::app
