#include "acme/notify.hpp"

#include <map>

#include <boost/asio/redirect_error.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <catch2/catch.hpp>

#include "config/load.hpp"
#include "tests/support/manual_clock.hpp"

namespace gatehouse::acme {

namespace {

namespace asio = boost::asio;
using base::Metric;
using base::Result;
using namespace std::chrono_literals;

/// Ways that record what they are given, and fail or hang as they are told.
struct Scene {
  struct Recorder {
    std::vector<Notice> taken;
    int attempts = 0;
    bool failing = false;
    bool hanging = false;
    std::vector<std::shared_ptr<asio::steady_timer>> held;
  };

  Scene() : metrics(1), notifier(control, clock, metrics.control()) {}

  static asio::awaitable<Result<void>> record(asio::io_context& control, Recorder& recorder,
                                              Notice notice) {
    ++recorder.attempts;
    if (recorder.hanging) {
      auto release =
          std::make_shared<asio::steady_timer>(control, asio::steady_timer::time_point::max());
      recorder.held.push_back(release);
      boost::system::error_code ignored;
      co_await release->async_wait(asio::redirect_error(asio::use_awaitable, ignored));
    }
    if (recorder.failing) co_return base::Error(base::ErrorKind::refused, "nobody listens");
    recorder.taken.push_back(std::move(notice));
    co_return Result<void>();
  }

  void configure(std::vector<Way> used, std::vector<std::string> events = {}) {
    Senders senders;
    for (const Way way : used) {
      senders.send[static_cast<size_t>(way)] = [this, way](Notice notice) {
        return record(control, recorders[way], std::move(notice));
      };
      senders.target[static_cast<size_t>(way)] = "somewhere";
    }
    notifier.configure(std::move(senders), events);
    settle();
  }
  void tell(Event::Kind kind, const std::string& name) {
    Event event;
    event.kind = kind;
    event.name = name;
    event.text = "text";
    notifier.tell(event);
  }
  void settle() {
    control.restart();
    control.poll();
  }
  void pass(std::chrono::seconds time) {
    for (; time.count() > 0; time -= 1s) {
      clock.advance(1s);
      notifier.recheck();
      settle();
    }
  }
  int64_t count(Metric metric) { return metrics.total(metric); }

  asio::io_context control;
  test::ManualClock clock;
  base::Metrics metrics;
  std::map<Way, Recorder> recorders;
  Notifier notifier;
};

using Kind = Event::Kind;

}  // namespace

TEST_CASE("Every kind of event has a word that notify.events takes") {
  for (size_t kind = 0; kind < event_kinds; ++kind) {
    const auto text = "[notify]\nevents = ['" + std::string(word(static_cast<Kind>(kind))) +
                      "']\n[[site]]\nhosts = ['a.example']\nupstream = 'localhost:1'\n";
    const auto loaded = config::load_text(text, "t.toml");
    REQUIRE(loaded.snapshot);
    CHECK(loaded.snapshot->notify.events.size() == 1);
  }
}

TEST_CASE("One event is one message for each way, at once") {
  Scene scene;
  scene.configure({Way::email, Way::webhook, Way::exec});
  scene.tell(Kind::obtained, "a.example");
  scene.settle();
  for (const Way way : ways) {
    REQUIRE(scene.recorders[way].taken.size() == 1);
    const auto& notice = scene.recorders[way].taken.front();
    CHECK(notice.event == "obtained");
    CHECK(notice.count == 1);
    CHECK(notice.events.front().name == "a.example");
    CHECK(notice.time == scene.clock.wall());
    CHECK_FALSE(notice.id.empty());
  }
  scene.pass(120s);
  CHECK(scene.recorders[Way::email].taken.size() == 1);
  CHECK(scene.count(Metric::notifications_email_sent) == 1);
  CHECK(scene.count(Metric::notifications_webhook_sent) == 1);
  CHECK(scene.count(Metric::notifications_exec_sent) == 1);
}

TEST_CASE("Nobody is told without a way, of kinds that are not wanted, or after the stop") {
  Scene scene;
  scene.configure({});
  scene.tell(Kind::failed, "a.example");
  scene.configure({Way::email}, {"blocked"});
  scene.tell(Kind::failed, "a.example");
  scene.settle();
  CHECK(scene.recorders[Way::email].attempts == 0);
  scene.tell(Kind::blocked, "a.example");
  scene.settle();
  CHECK(scene.recorders[Way::email].taken.size() == 1);
  bool stopped = false;
  scene.notifier.stop([&] { stopped = true; });
  CHECK(stopped);
  scene.tell(Kind::blocked, "b.example");
  scene.settle();
  CHECK(scene.recorders[Way::email].taken.size() == 1);
}

TEST_CASE("A burst is one message at once and one that gathers the rest") {
  Scene scene;
  scene.configure({Way::email});
  auto& taken = scene.recorders[Way::email].taken;
  for (int i = 0; i < 10'000; ++i) scene.tell(Kind::renewed, "n" + std::to_string(i) + ".example");
  scene.tell(Kind::failed, "other.example");
  scene.settle();
  REQUIRE(taken.size() == 2);
  CHECK(taken[0].count == 1);
  CHECK(taken[1].event == "failed");  // another kind does not wait
  scene.pass(29s);
  CHECK(taken.size() == 2);
  scene.pass(2s);
  REQUIRE(taken.size() == 3);
  CHECK(taken[2].event == "renewed");
  CHECK(taken[2].count == 9'999);
  CHECK(taken[2].events.size() == Notice::shown_max);
  CHECK(taken[2].events.front().name == "n1.example");
}

TEST_CASE("Events that go on for hours are few messages, and a pause makes the next immediate") {
  Scene scene;
  scene.configure({Way::email});
  auto& taken = scene.recorders[Way::email].taken;
  size_t told = 0;
  for (int minute = 0; minute < 180; ++minute) {
    scene.tell(Kind::renewed, "a.example");
    ++told;
    scene.pass(60s);
  }
  scene.pass(16min);
  CHECK(taken.size() < 30);
  size_t heard = 0;
  for (const auto& notice : taken) heard += notice.count;
  CHECK(heard == told);
  scene.pass(40min);
  const auto before = taken.size();
  scene.tell(Kind::renewed, "a.example");
  scene.settle();
  CHECK(taken.size() == before + 1);
}

TEST_CASE("A failure is tried again after 5 s, 1 min and 10 min, then given up and told") {
  Scene scene;
  scene.configure({Way::email, Way::webhook});
  auto& mail = scene.recorders[Way::email];
  mail.failing = true;
  scene.tell(Kind::failed, "a.example");
  scene.settle();
  CHECK(mail.attempts == 1);
  CHECK(scene.recorders[Way::webhook].taken.size() == 1);  // not held up
  scene.pass(4s);
  CHECK(mail.attempts == 1);
  scene.pass(1s);
  CHECK(mail.attempts == 2);
  scene.pass(59s);
  CHECK(mail.attempts == 2);
  scene.pass(1s);
  CHECK(mail.attempts == 3);
  scene.pass(600s);
  CHECK(mail.attempts == 4);
  CHECK(scene.count(Metric::notifications_email_failed) == 1);
  scene.pass(3600s);
  CHECK(mail.attempts == 4);
  mail.failing = false;
  scene.tell(Kind::recovered, "a.example");
  scene.settle();
  REQUIRE(mail.taken.size() == 1);
  CHECK(mail.taken[0].lost == 1);
  scene.tell(Kind::obtained, "a.example");
  scene.settle();
  CHECK(mail.taken[1].lost == 0);
}

TEST_CASE("A message that is tried again keeps its id") {
  Scene scene;
  scene.configure({Way::email, Way::webhook});
  auto& mail = scene.recorders[Way::email];
  mail.failing = true;
  scene.tell(Kind::failed, "a.example");
  scene.settle();
  mail.failing = false;
  scene.pass(5s);
  REQUIRE(mail.taken.size() == 1);
  CHECK(mail.taken[0].id == scene.recorders[Way::webhook].taken[0].id);
}

TEST_CASE("What waits for a way that hangs is bounded, and what is lost is counted and told") {
  Scene scene;
  scene.configure({Way::email, Way::exec});
  auto& mail = scene.recorders[Way::email];
  mail.hanging = true;
  // One message of each kind at once, and one for each gathering after it.
  size_t messages = 0;
  while (scene.recorders[Way::exec].taken.size() < Notifier::waiting_max + 10) {
    for (size_t kind = 0; kind < event_kinds; ++kind) scene.tell(static_cast<Kind>(kind), "a");
    scene.pass(60s);
    messages = scene.recorders[Way::exec].taken.size();
  }
  const auto dropped = scene.count(Metric::notifications_email_dropped);
  CHECK(dropped == static_cast<int64_t>(messages - Notifier::waiting_max));
  CHECK(mail.attempts == 1);
  mail.hanging = false;
  for (const auto& held : mail.held) held->cancel();
  scene.settle();
  CHECK(mail.taken.size() == Notifier::waiting_max);
  CHECK(mail.taken[0].lost == 0);  // it was on its way before any was lost
  CHECK(mail.taken[1].lost == static_cast<size_t>(dropped));
  CHECK(mail.taken[2].lost == 0);
}

TEST_CASE("A reload tries what waits at once, and forgets what waits for a way that is gone") {
  Scene scene;
  scene.configure({Way::email, Way::exec});
  auto& mail = scene.recorders[Way::email];
  mail.failing = scene.recorders[Way::exec].failing = true;
  scene.tell(Kind::failed, "a.example");
  scene.settle();
  scene.pass(10s);
  CHECK(mail.attempts == 2);
  mail.failing = false;
  scene.configure({Way::email});
  CHECK(mail.taken.size() == 1);
  const auto attempts = scene.recorders[Way::exec].attempts;
  scene.pass(900s);
  CHECK(scene.recorders[Way::exec].attempts == attempts);
}

TEST_CASE("A way that is removed while it sends, and added again, goes on with what is new") {
  Scene scene;
  scene.configure({Way::email});
  auto& mail = scene.recorders[Way::email];
  mail.hanging = true;
  scene.tell(Kind::failed, "a.example");
  scene.settle();
  scene.configure({});
  scene.configure({Way::email});
  scene.tell(Kind::blocked, "b.example");
  scene.settle();
  CHECK(mail.attempts == 1);
  mail.hanging = false;
  for (const auto& held : mail.held) held->cancel();
  scene.settle();
  REQUIRE(mail.taken.size() == 2);
  CHECK(mail.taken[1].events[0].name == "b.example");
}

TEST_CASE("A stop sends what is gathered, tries what failed once more, and then ends") {
  Scene scene;
  scene.configure({Way::email, Way::exec});
  auto& mail = scene.recorders[Way::email];
  auto& exec = scene.recorders[Way::exec];
  exec.failing = true;
  scene.tell(Kind::renewed, "a.example");
  scene.tell(Kind::renewed, "b.example");
  scene.settle();
  CHECK(mail.taken.size() == 1);
  bool stopped = false;
  scene.notifier.stop([&] { stopped = true; });
  scene.settle();
  CHECK(stopped);
  CHECK(mail.taken.size() == 2);
  CHECK(exec.attempts == 2);
  CHECK(scene.count(Metric::notifications_exec_failed) == 2);
}

TEST_CASE("A way that hangs holds up a stop for a few seconds at most") {
  Scene scene;
  scene.configure({Way::email});
  scene.recorders[Way::email].hanging = true;
  scene.tell(Kind::renewed, "a.example");
  scene.settle();
  int stopped = 0;
  scene.notifier.stop([&] { ++stopped; });
  scene.notifier.stop([&] { ++stopped; });
  CHECK(stopped == 1);  // the second has nothing to wait for
  scene.control.restart();
  const auto begin = std::chrono::steady_clock::now();
  while (stopped < 2 && std::chrono::steady_clock::now() < begin + 30s)
    scene.control.run_one_for(1s);
  CHECK(stopped == 2);
  CHECK(std::chrono::steady_clock::now() - begin >= Notifier::drain_time_max - 100ms);
  for (const auto& held : scene.recorders[Way::email].held) held->cancel();
  scene.settle();
  CHECK(stopped == 2);
}

TEST_CASE("A notifier that goes away while a way sends leaves nothing behind") {
  asio::io_context control;
  test::ManualClock clock;
  base::Metrics metrics(1);
  Scene::Recorder recorder;
  recorder.hanging = true;
  {
    Notifier notifier(control, clock, metrics.control());
    Senders senders;
    senders.send[0] = [&](Notice notice) {
      return Scene::record(control, recorder, std::move(notice));
    };
    notifier.configure(std::move(senders), {});
    Event event;
    notifier.tell(event);
    control.poll();
  }
  REQUIRE(recorder.held.size() == 1);
  recorder.held[0]->cancel();
  control.restart();
  control.poll();
  CHECK(recorder.taken.size() == 1);
}

}  // namespace gatehouse::acme
