#include "acme/vault.hpp"

#include <algorithm>

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
constexpr size_t place_bytes_max = 180;  // a file name holds 255, and serials have up to 40

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
  return note;
}

asio::awaitable<Result<void>> Vault::read_index() {
  auto certs = co_await storage_.list("certs");
  if (!certs) co_return certs.error();
  auto archived = co_await storage_.list("archive");
  if (!archived) co_return archived.error();
  auto orders = co_await storage_.list("orders");
  if (!orders) co_return orders.error();
  held_ = {certs->begin(), certs->end()};
  archived_ = {archived->begin(), archived->end()};
  journalled_ = std::move(*orders);
  co_return Result<void>();
}

std::vector<std::string> Vault::held() const {
  return {held_.begin(), held_.end()};
}

asio::awaitable<Result<StoredCertificate>> Vault::load(std::string id) {
  if (!held_.contains(id) && archived_.contains(id)) {
    auto moved = co_await storage_.move("archive/" + id, "certs/" + id);
    if (!moved) co_return moved.error();
    archived_.erase(id);
    held_.insert(id);
  }
  if (!held_.contains(id)) co_return Error(ErrorKind::not_found, id + " is not stored");
  auto stored = co_await load_from("certs/" + id);
  // Nothing whole is left, not even a generation before: as if it had never been.
  if (!stored && stored.error().kind == ErrorKind::not_found) held_.erase(id);
  co_return stored;
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
  co_return stored;
}

asio::awaitable<Result<void>> Vault::save(std::string id, tls::CertificatePtr certificate,
                                          CertificateNote note) {
  auto stored = co_await storage_.store_set("certs/" + id, certificate_files(*certificate, note));
  if (stored) held_.insert(id);
  co_return stored;
}

asio::awaitable<Result<void>> Vault::save_internal(std::string id, tls::CertificatePtr certificate,
                                                   CertificateNote note) {
  auto stored =
      co_await storage_.store_set("internal/leaves/" + id, certificate_files(*certificate, note));
  co_return stored;
}

asio::awaitable<Result<void>> Vault::archive(std::string id) {
  if (!held_.contains(id)) co_return Result<void>();
  if (archived_.contains(id)) {
    auto removed = co_await storage_.move("archive/" + id, "");
    if (!removed) co_return removed;
  }
  auto moved = co_await storage_.move("certs/" + id, "archive/" + id);
  if (moved) {
    held_.erase(id);
    archived_.insert(id);
  }
  co_return moved;
}

asio::awaitable<Result<void>> Vault::put_away(std::string id, std::string serial) {
  if (!held_.contains(id)) co_return Result<void>();
  // The plus sign keeps it from being any name's: see name_of.
  const std::string place = id.substr(0, place_bytes_max) + "+revoked-" + serial;
  auto moved = co_await storage_.move("certs/" + id, "archive/" + place);
  if (!moved) co_return moved;
  held_.erase(id);
  archived_.insert(place);
  co_return moved;
}

asio::awaitable<void> Vault::purge(base::WallClock::time_point now) {
  const std::vector<std::string> ids(archived_.begin(), archived_.end());
  for (const auto& id : ids) {
    auto stored = co_await load_from("archive/" + id);
    // Back in use meanwhile, or unreadable: a person's, not ours to remove.
    if (!stored || !archived_.contains(id)) continue;
    if (now - stored->certificate->not_after() < archived_after_end) continue;
    auto removed = co_await storage_.move("archive/" + id, "");
    if (removed) archived_.erase(id);
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
