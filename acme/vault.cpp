#include "acme/vault.hpp"

#include <algorithm>
#include <cstdlib>
#include <unordered_set>

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/json.hpp>

#include "acme/names.hpp"
#include "acme/times.hpp"
#include "base/log.hpp"

namespace gatehouse::acme {

namespace asio = boost::asio;
namespace json = boost::json;
using base::Error;
using base::ErrorKind;
using base::Result;

namespace {

constexpr std::chrono::hours fallback_left_min{24 * 30};
constexpr std::chrono::hours archived_after_end{24 * 30};
/// Generations of one certificate that are set aside before it counts as lost.
constexpr unsigned generations_tried_max = 3;
constexpr size_t place_bytes_max = 180;  // a file name holds 255, and serials have up to 40

std::string index_path(size_t part) {
  return fmt::format("index/{:02x}", part);
}

}  // namespace

FileSet certificate_files(const tls::Certificate& certificate, const CertificateNote& note) {
  constexpr std::string_view end_line = "-----END CERTIFICATE-----\n";
  const std::string whole = certificate.chain_pem();
  const size_t end = whole.find(end_line);
  const size_t cut = end == std::string::npos ? whole.size() : end + end_line.size();
  FileSet files;
  files["cert.pem"] = whole.substr(0, cut);
  files["chain.pem"] = whole.substr(cut);
  files["fullchain.pem"] = whole;
  files["privkey.pem"] = certificate.key_pem();
  files["meta.json"] = describe(certificate, note);
  return files;
}

std::string describe(const tls::Certificate& certificate, const CertificateNote& note) {
  json::array names;
  for (const auto& name : certificate.names()) names.emplace_back(name);
  const json::object text{{"name", note.name},
                          {"names", std::move(names)},
                          {"authority", note.authority},
                          {"on_demand", note.on_demand},
                          {"issuer", certificate.issuer()},
                          {"serial", certificate.serial()},
                          {"fingerprint", certificate.fingerprint()},
                          {"not_before", timestamp(certificate.not_before())},
                          {"not_after", timestamp(certificate.not_after())}};
  return json::serialize(text) + "\n";
}

Result<CertificateNote> read_description(std::string_view text) {
  boost::system::error_code code;
  const json::value document = json::parse(text, code);
  const auto* object = code ? nullptr : document.if_object();
  const auto* name = object == nullptr ? nullptr : object->if_contains("name");
  const auto* authority = object == nullptr ? nullptr : object->if_contains("authority");
  const auto* on_demand = object == nullptr ? nullptr : object->if_contains("on_demand");
  if (name == nullptr || !name->is_string() || authority == nullptr || !authority->is_string())
    return Error(ErrorKind::corrupt, "meta.json names no certificate");
  CertificateNote note;
  note.name = std::string(name->get_string());
  note.authority = std::string(authority->get_string());
  note.on_demand = on_demand != nullptr && on_demand->is_bool() && on_demand->get_bool();
  const auto date = [object](const char* key) {
    const auto* value = object->if_contains(key);
    const auto read = value == nullptr || !value->is_string()
                          ? std::nullopt
                          : parse_timestamp(std::string_view(value->get_string()));
    return read.value_or(WallTime());
  };
  note.not_before = date("not_before");
  note.not_after = date("not_after");
  return note;
}

asio::awaitable<Result<void>> Vault::read_index() {
  auto certs = co_await storage_.list("certs");
  if (!certs) co_return certs.error();
  auto archived = co_await storage_.list("archive");
  if (!archived) co_return archived.error();
  auto orders = co_await storage_.list("orders");
  if (!orders) co_return orders.error();
  journalled_ = std::move(*orders);
  bool rebuilt = false;
  for (size_t part = 0; part < Ledger::parts && !certs->empty(); ++part) {
    auto text = co_await storage_.load(index_path(part));
    if (!text && text.error().kind == ErrorKind::not_found) continue;
    const bool read = text && ledger_.read(part, *text);
    if (!read && !std::exchange(rebuilt, true))
      base::log::warn("{}; the index of certificates is made anew from their files",
                      text ? index_path(part) + " is no index" : text.error().context);
  }
  // A name in both was on its way out of the archive; what is in certs/ is served.
  for (const auto& id : *archived) ledger_.put(id, Ledger::Place::archive);
  for (const auto& id : *certs) ledger_.put(id, Ledger::Place::certs);
  ledger_.settle();
  co_return Result<void>();
}

asio::awaitable<void> Vault::compare(std::vector<std::string> ids) {
  std::vector<std::string> folders;
  folders.reserve(ids.size());
  for (const auto& id : ids) folders.push_back("certs/" + id);
  const auto generations = co_await storage_.current(std::move(folders));
  for (size_t i = 0; i < ids.size(); ++i) {
    const auto number = static_cast<uint32_t>(std::strtoul(generations[i].c_str(), nullptr, 10));
    if (ledger_.place(ids[i]) == Ledger::Place::certs) ledger_.agrees(ids[i], number);
  }
}

asio::awaitable<Result<CertificateNote>> Vault::look(std::string id) {
  auto files = co_await storage_.load_set("certs/" + id);
  if (!files && files.error().kind == ErrorKind::not_found) nothing_left(id);
  if (!files) co_return files.error();
  auto note = read_description((*files)["meta.json"]);
  if (note && note->not_after != WallTime()) {
    remember(id, *note, ledger_.generation(id));
    co_return note;
  }
  auto stored = co_await load(id, ledger_.name(id));
  if (!stored) co_return stored.error();
  co_return stored->note;
}

asio::awaitable<Result<void>> Vault::save_index() {
  while (const auto part = ledger_.changed_part()) {
    auto stored = co_await storage_.store(index_path(*part), ledger_.text(*part));
    if (stored) continue;
    ledger_.mark_changed(*part);
    co_return stored;
  }
  co_return Result<void>();
}

asio::awaitable<std::string> Vault::current_of(std::string folder) {
  std::vector<std::string> folders;
  folders.push_back(std::move(folder));
  const auto generations = co_await storage_.current(std::move(folders));
  co_return generations.front();
}

/// What is known of the current generation, for the next start.
asio::awaitable<void> Vault::remember(std::string id, CertificateNote note) {
  const std::string generation = co_await current_of("certs/" + id);
  remember(id, note, static_cast<uint32_t>(std::strtoul(generation.c_str(), nullptr, 10)));
}

void Vault::remember(const std::string& id, const CertificateNote& note, uint32_t generation) {
  if (ledger_.place(id) != Ledger::Place::certs) return;
  Ledger::Facts facts;
  facts.not_after = note.not_after;
  facts.authority = note.authority;
  facts.on_demand = note.on_demand;
  facts.generation = generation;
  ledger_.note(id, facts);
}

/// Whether the index says the same, to the second that it keeps.
bool Vault::remembers(const std::string& id, const CertificateNote& note) const {
  const auto known = ledger_.facts(id);
  return known && known->authority == note.authority && known->on_demand == note.on_demand &&
         std::chrono::abs(known->not_after - note.not_after) <= std::chrono::seconds(1);
}

asio::awaitable<Result<StoredCertificate>> Vault::load(std::string id, std::string name) {
  if (ledger_.place(id) == Ledger::Place::archive) {
    auto moved = co_await storage_.move("archive/" + id, "certs/" + id);
    // Another who wants it may have brought it back meanwhile.
    if (!moved && ledger_.place(id) != Ledger::Place::certs) co_return moved.error();
    if (moved) ledger_.put(id, Ledger::Place::certs);
  }
  if (!holds(id)) co_return Error(ErrorKind::not_found, id + " is not stored");
  const std::string folder = "certs/" + id;
  Result<StoredCertificate> stored = Error();
  for (unsigned attempt = 0; attempt < generations_tried_max; ++attempt) {
    stored = co_await load_from(folder);
    if (stored && !name.empty()) {
      const auto& names = stored->certificate->names();
      if (!stored->certificate->covers(name) &&
          std::find(names.begin(), names.end(), name) == names.end())
        stored = Error(ErrorKind::corrupt, folder + " holds a certificate for other names");
    }
    if (stored || stored.error().kind == ErrorKind::not_found ||
        stored.error().kind == ErrorKind::io)
      break;
    base::log::warn(
        "storage: {}: it is set aside, and the generation before it is used if there "
        "is one",
        stored.error().context);
    const bool moved = co_await set_aside(folder);
    if (!moved) break;
  }
  if (stored && !remembers(id, stored->note)) co_await remember(id, stored->note);
  if (!stored && stored.error().kind == ErrorKind::not_found) nothing_left(id);
  co_return stored;
}

/// Not even a generation before: as if it had never been. Unless it went to the archive meanwhile.
void Vault::nothing_left(const std::string& id) {
  if (ledger_.place(id) == Ledger::Place::certs) ledger_.put(id, Ledger::Place::nowhere);
}

/// The current generation of a set, to quarantine/.
asio::awaitable<bool> Vault::set_aside(std::string folder) {
  const std::string generation = co_await current_of(folder);
  if (generation.empty()) co_return false;
  std::string flat = folder + "_" + generation;
  std::replace(flat.begin(), flat.end(), '/', '_');
  for (unsigned attempt = 0; attempt < 100; ++attempt) {
    std::string to = "quarantine/" + flat + (attempt == 0 ? "" : fmt::format("-{}", attempt));
    auto moved = co_await storage_.move(folder + "/" + generation, std::move(to));
    if (moved) co_return true;
  }
  co_return false;
}

asio::awaitable<bool> Vault::roll_back(std::string id, std::string fingerprint) {
  auto before = co_await roll_back_in("certs/" + id, std::move(fingerprint));
  if (before) co_await remember(id, before->note);
  co_return before.has_value();
}

asio::awaitable<bool> Vault::roll_back_internal(std::string id, std::string fingerprint) {
  auto before = co_await roll_back_in("internal/leaves/" + id, std::move(fingerprint));
  co_return before.has_value();
}

asio::awaitable<Result<StoredCertificate>> Vault::roll_back_in(std::string folder,
                                                               std::string fingerprint) {
  const Error stays(ErrorKind::not_found, folder + " has nothing to return to");
  auto bad = co_await load_from(folder);
  if (!bad || bad->certificate->fingerprint() != fingerprint) co_return stays;
  const std::string generation = co_await current_of(folder);
  auto names = co_await storage_.list(folder);
  if (!names) co_return names.error();
  const bool earlier = std::any_of(names->begin(), names->end(), [&](const std::string& name) {
    return name.size() == generation.size() && name < generation;
  });
  if (!earlier) co_return stays;
  const bool moved = co_await set_aside(folder);
  if (!moved) co_return stays;
  // Reading it points `current` to it.
  auto before = co_await load_from(folder);
  co_return before;
}

asio::awaitable<Result<StoredCertificate>> Vault::load_internal(std::string id) {
  auto stored = co_await load_from("internal/leaves/" + id);
  co_return stored;
}

asio::awaitable<Result<StoredCertificate>> Vault::load_from(std::string folder) {
  auto files = co_await storage_.load_set(folder);
  if (!files) co_return files.error();
  auto certificate =
      tls::Certificate::from_pem((*files)["fullchain.pem"], (*files)["privkey.pem"], folder);
  if (!certificate) co_return certificate.error();
  auto note = read_description((*files)["meta.json"]);
  if (!note) co_return note.error();
  StoredCertificate stored;
  stored.certificate = *certificate;
  stored.note = *note;
  stored.note.not_before = stored.certificate->not_before();
  stored.note.not_after = stored.certificate->not_after();
  co_return stored;
}

asio::awaitable<Result<void>> Vault::save(std::string id, tls::CertificatePtr certificate,
                                          CertificateNote note) {
  auto stored = co_await storage_.store_set("certs/" + id, certificate_files(*certificate, note));
  if (!stored) co_return stored;
  ledger_.put(id, Ledger::Place::certs);
  note.not_before = certificate->not_before();
  note.not_after = certificate->not_after();
  co_await remember(id, std::move(note));
  co_return stored;
}

asio::awaitable<Result<void>> Vault::save_internal(std::string id, tls::CertificatePtr certificate,
                                                   CertificateNote note) {
  auto stored =
      co_await storage_.store_set("internal/leaves/" + id, certificate_files(*certificate, note));
  co_return stored;
}

asio::awaitable<Result<void>> Vault::archive(std::string id) {
  if (ledger_.place(id) != Ledger::Place::certs) co_return Result<void>();
  auto moved = co_await storage_.move("certs/" + id, "archive/" + id);
  // An older one of that name may be in the way.
  const auto older = co_await storage_.list("archive/" + id);
  if (!moved && older && !older->empty()) {
    auto removed = co_await storage_.move("archive/" + id, "");
    if (removed) moved = co_await storage_.move("certs/" + id, "archive/" + id);
  }
  if (moved) ledger_.put(id, Ledger::Place::archive);
  co_return moved;
}

asio::awaitable<Result<void>> Vault::put_away(std::string id, std::string serial) {
  if (ledger_.place(id) != Ledger::Place::certs) co_return Result<void>();
  // The plus sign keeps it from being any name's: see name_of.
  const std::string place = id.substr(0, place_bytes_max) + "+revoked-" + serial;
  auto moved = co_await storage_.move("certs/" + id, "archive/" + place);
  if (!moved) co_return moved;
  ledger_.put(id, Ledger::Place::nowhere);
  ledger_.put(place, Ledger::Place::archive);
  co_return moved;
}

asio::awaitable<void> Vault::purge(base::WallClock::time_point now) {
  std::vector<std::string> ids;
  for (size_t part = 0; part < Ledger::parts; ++part)
    for (auto& id : ledger_.ids(Ledger::Place::archive, part)) ids.push_back(std::move(id));
  for (const auto& id : ids) {
    auto stored = co_await load_from("archive/" + id);
    // Back in use meanwhile, or unreadable: a person's, not ours to remove.
    if (!stored || ledger_.place(id) != Ledger::Place::archive) continue;
    if (now - stored->certificate->not_after() < archived_after_end) continue;
    auto removed = co_await storage_.move("archive/" + id, "");
    if (removed) ledger_.put(id, Ledger::Place::nowhere);
  }
}

struct Fallbacks::State : std::enable_shared_from_this<Fallbacks::State> {
  State(asio::io_context& c, Storage& s, const base::Clock& k, Serve serving)
      : control(c), storage(s), clock(k), serve(std::move(serving)) {}

  bool usable(const tls::CertificatePtr& certificate) const {
    return certificate && certificate->not_after() - clock.wall() > fallback_left_min;
  }
  void keep(const std::string& zone, const tls::CertificatePtr& certificate);
  tls::CertificatePtr make(const std::string& zone);
  static asio::awaitable<void> load(std::shared_ptr<State> self, std::string zone);
  static asio::awaitable<void> store(std::shared_ptr<State> self, std::string zone,
                                     tls::CertificatePtr certificate);

  asio::io_context& control;
  Storage& storage;
  const base::Clock& clock;
  Serve serve;
  bool detached = false;
  std::unordered_map<std::string, tls::CertificatePtr> made;
  std::unordered_set<std::string> stored;
  std::unordered_map<std::string, std::vector<Ready>> loading;
};

Fallbacks::Fallbacks(asio::io_context& control, Storage& storage, const base::Clock& clock,
                     Serve serve)
    : state_(std::make_shared<State>(control, storage, clock, std::move(serve))) {}

asio::awaitable<void> Fallbacks::read_index() {
  const auto state = state_;
  auto zones = co_await state->storage.list("fallback");
  if (zones) state->stored = {zones->begin(), zones->end()};
}

void Fallbacks::detach() {
  state_->detached = true;
  state_->loading.clear();
  state_->serve = nullptr;
}

void Fallbacks::provide(const std::string& zone, Ready ready) {
  auto& state = *state_;
  const auto kept = state.made.find(zone);
  if (kept != state.made.end() && state.usable(kept->second)) return ready(kept->second);
  if (kept == state.made.end() && state.stored.contains(certificate_id(zone))) {
    auto& waiting = state.loading[zone];
    waiting.push_back(std::move(ready));
    if (waiting.size() == 1)
      asio::co_spawn(state.control, State::load(state_, zone), asio::detached);
    return;
  }
  ready(state.make(zone));
}

tls::CertificatePtr Fallbacks::State::make(const std::string& zone) {
  std::vector<std::string> names{zone};
  if (!zone.starts_with("*.")) names.push_back("*." + zone);
  auto certificate = tls::make_self_signed(names, lifetime);
  if (!certificate && names.size() > 1) {
    names.pop_back();  // an address has nothing below it
    certificate = tls::make_self_signed(names, lifetime);
  }
  if (!certificate) {
    base::log::error("{}: no fallback certificate: {}", zone, certificate.error().context);
    return nullptr;
  }
  if (made.size() >= zones_max && !made.contains(zone)) return *certificate;
  keep(zone, *certificate);
  asio::co_spawn(control, store(shared_from_this(), zone, *certificate), asio::detached);
  return *certificate;
}

void Fallbacks::State::keep(const std::string& zone, const tls::CertificatePtr& certificate) {
  made[zone] = certificate;
  if (serve) serve(zone, certificate);
}

asio::awaitable<void> Fallbacks::State::load(std::shared_ptr<State> self, std::string zone) {
  auto files = co_await self->storage.load_set("fallback/" + certificate_id(zone));
  if (self->detached) co_return;
  tls::CertificatePtr certificate;
  if (files) {
    auto stored =
        tls::Certificate::from_pem((*files)["fullchain.pem"], (*files)["privkey.pem"], zone);
    if (stored) certificate = *stored;
  }
  if (self->usable(certificate)) {
    self->keep(zone, certificate);
  } else {
    certificate = self->make(zone);
  }
  auto waiting = self->loading.extract(zone);
  if (waiting.empty()) co_return;
  for (auto& ready : waiting.mapped()) ready(certificate);
}

/// Not stored is no harm: the next start makes another.
asio::awaitable<void> Fallbacks::State::store(std::shared_ptr<State> self, std::string zone,
                                              tls::CertificatePtr certificate) {
  CertificateNote note;
  note.name = zone;
  note.authority = "self-signed";
  const std::string id = certificate_id(zone);
  auto stored =
      co_await self->storage.store_set("fallback/" + id, certificate_files(*certificate, note));
  if (stored) self->stored.insert(id);
  if (!stored) base::log::warn("{}", stored.error().context);
}

}  // namespace gatehouse::acme
