// What a Manager under test stands on: a clock that the test moves, a storage in memory, and CAs
// that the test scripts.
#pragma once

#include <algorithm>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include <catch2/catch.hpp>

#include "acme/manager.hpp"
#include "tests/support/await.hpp"
#include "tests/support/manual_clock.hpp"
#include "tests/support/memory_storage.hpp"
#include "tests/support/result.hpp"
#include "tls/certificate_builder.hpp"
#include "tls/internal_authority.hpp"

namespace gatehouse::acme {

/// What a CA with this root gives for `names`.
inline Issued issue(const tls::CertificatePtr& root, const std::vector<std::string>& names,
                    base::WallClock::time_point from, std::chrono::seconds lifetime) {
  tls::CertificateDraft draft;
  draft.common_name = names.front();
  draft.names = names;
  draft.not_before = from;
  draft.not_after = from + lifetime;
  auto made = tls::build_with_key(draft, root.get());
  REQUIRE(made);
  Issued issued;
  issued.certificate = *made;
  issued.challenge = "http-01";
  return issued;
}

/// An Authority's answers that nobody asks for.
inline boost::asio::awaitable<void> forget_nothing() {
  co_return;
}
inline boost::asio::awaitable<std::optional<base::WallClock::time_point>> no_date() {
  co_return std::nullopt;
}

/// Whoever derives from it ends the manager before what its authorities refer to.
struct ManagerStage {
  using MakeAuthority = std::function<Authority(const config::CertificateAuthority&)>;

  ManagerStage()
      : fetcher(control),
        http01(control, [](ChallengeTablePtr, std::function<void()> done) { done(); }),
        tls_alpn01(control, [](AlpnTablePtr, std::function<void()> done) { done(); }) {
    snapshot.server.https.resize(1);
  }
  ~ManagerStage() { end(); }
  ManagerStage(const ManagerStage&) = delete;
  ManagerStage& operator=(const ManagerStage&) = delete;

  config::CertificateAuthority& use(const std::string& name, const std::string& directory) {
    auto& made = snapshot.acme.authorities.emplace_back();
    made.name = name;
    made.directory = directory;
    return made;
  }
  config::Site& site(const std::string& host,
                     config::CertificateMode mode = config::CertificateMode::automatic) {
    auto& made = snapshot.sites.emplace_back();
    made.hosts.push_back({host});
    made.certificates = mode;
    return made;
  }
  void allow(const std::string& glob) {
    snapshot.on_demand.configured = true;
    snapshot.on_demand.allow.push_back({glob});
  }

  /// Those that note what is served and told.
  ManagerHooks hooks() {
    ManagerHooks made;
    made.serve = [this](const std::string& name, tls::CertificatePtr one) { served[name] = one; };
    made.withdraw = [this](const std::string& name) { served.erase(name); };
    made.tell = [this](const Event& event) { events.emplace_back(clock.wall(), event); };
    return made;
  }
  /// Another manager, as after a crash of the program: all but the storage is new.
  void start(ManagerHooks with, MakeAuthority make) {
    manager.reset();
    served.clear();
    manager = std::make_unique<Manager>(
        control, fetcher, *storage, Solvers{http01, tls_alpn01}, clock, metrics.control(),
        std::move(with),
        [make = std::move(make)](const config::CertificateAuthority& settings,
                                 const config::SnapshotPtr&) { return make(settings); });
  }
  base::Result<void> configure() {
    auto result = test::await(
        control, manager->configure(std::make_shared<const config::Snapshot>(snapshot)));
    settle();
    return result;
  }
  /// As a program that is asked to end.
  void stop() {
    if (manager) manager->stop();
    settle();
    end();
  }
  void end() {
    manager.reset();
    settle();
  }

  /// Everything that can run without time passing.
  void settle() {
    do control.restart();
    while (control.poll() > 0);
  }

  CertificateStatus status(const std::string& name) const {
    for (const auto& one : manager->status())
      if (one.name == name) return one;
    return {};
  }
  std::vector<Event> told(Event::Kind kind) const {
    std::vector<Event> found;
    for (const auto& [when, event] : events)
      if (event.kind == kind) found.push_back(event);
    return found;
  }

  boost::asio::io_context control;
  base::Fetcher fetcher;
  test::ManualClock clock;
  base::Metrics metrics{1};
  test::MemoryStorage memory;
  Storage* storage = &memory;
  Http01 http01;
  TlsAlpn01 tls_alpn01;
  config::Snapshot snapshot;
  std::map<std::string, tls::CertificatePtr> served;
  std::vector<std::pair<base::WallClock::time_point, Event>> events;
  std::unique_ptr<Manager> manager;
};

}  // namespace gatehouse::acme
