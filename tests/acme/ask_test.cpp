#include "acme/ask.hpp"

#include <catch2/catch.hpp>

#include "tests/support/await.hpp"
#include "tests/support/manual_clock.hpp"
#include "tests/support/scripted_server.hpp"

using namespace gatehouse;
using acme::Answer;
using acme::Ask;
using namespace std::chrono_literals;

namespace {

struct Stage {
  Stage() : fetcher(control), ask(control, fetcher, clock, metrics.control()) {}

  template <class Done>
  bool run_until(Done done, std::chrono::seconds limit = 10s) {
    const auto deadline = std::chrono::steady_clock::now() + limit;
    while (!done() && std::chrono::steady_clock::now() < deadline) {
      control.restart();
      control.run_one_for(10ms);
    }
    return done();
  }
  static bool made_up(const test::ScriptedRequest& request) {
    return request.target.find(".gatehouse-test.invalid") != std::string::npos;
  }
  /// `status`, but for the made-up name, which is denied.
  test::ScriptedReply reply_to(const test::ScriptedRequest& request) const {
    test::ScriptedReply reply;
    reply.status = made_up(request) ? 404 : status;
    return reply;
  }
  void use(const std::string& url) {
    REQUIRE(test::await(control, ask.try_made_up_name(url)) == Answer::denied);
    ask.configure(url);
  }
  Answer answer(const std::string& name, const std::string& client = "192.0.2.1") {
    std::optional<Answer> given;
    ask.question(name, client, [&](Answer one) { given = one; });
    REQUIRE(run_until([&] { return given.has_value(); }));
    return *given;
  }

  boost::asio::io_context control;
  base::Fetcher fetcher;
  base::Metrics metrics{1};
  test::ManualClock clock;
  Ask ask;
  int status = 200;
};

}  // namespace

TEST_CASE("Only a 2xx allows") {
  Stage stage;
  test::ScriptedServer server(
      stage.control, [&](const test::ScriptedRequest& request) { return stage.reply_to(request); });
  stage.use(server.url("/allowed"));
  int number = 0;
  const auto with = [&](int status) {
    stage.status = status;
    return stage.answer("n" + std::to_string(++number) + ".example");
  };
  CHECK(with(200) == Answer::allowed);
  CHECK(with(204) == Answer::allowed);
  CHECK(with(301) == Answer::denied);
  CHECK(with(400) == Answer::denied);
  CHECK(with(404) == Answer::denied);
  CHECK(with(429) == Answer::unknown);
  CHECK(with(500) == Answer::unknown);
  CHECK(with(503) == Answer::unknown);
}

TEST_CASE("The question carries the name and the client, encoded") {
  Stage stage;
  test::ScriptedServer server(
      stage.control, [&](const test::ScriptedRequest& request) { return stage.reply_to(request); });
  stage.use(server.url("/allowed?key=1"));
  stage.answer("a.example", "2001:db8::1");
  REQUIRE(server.requests().size() == 2);
  CHECK(server.requests()[1].method == "GET");
  CHECK(server.requests()[1].target ==
        "/allowed?key=1&domain=a.example&client_ip=2001%3Adb8%3A%3A1");
  stage.use(server.url("/other"));
  stage.answer("a.example", "");
  CHECK(server.requests()[3].target == "/other?domain=a.example");
}

TEST_CASE("One question for a name, its outcome given to 100 who wait, denial too") {
  for (const int status : {200, 404}) {
    Stage stage;
    stage.status = status;
    test::ScriptedServer server(stage.control, [&](const test::ScriptedRequest& request) {
      return stage.reply_to(request);
    });
    stage.use(server.url());
    int answers = 0;
    for (int number = 0; number < 100; ++number)
      stage.ask.question("a.example", "192.0.2.1", [&](Answer answer) {
        CHECK(answer == (status == 200 ? Answer::allowed : Answer::denied));
        ++answers;
      });
    CHECK(stage.run_until([&] { return answers == 100; }));
    CHECK(server.requests().size() == 2);  // that about the made-up name among them
    CHECK(stage.metrics.total(base::Metric::ondemand_asks) == 2);
  }
}

TEST_CASE("What was said is remembered: allow 10 min, deny 60 s, no answer 5 s") {
  Stage stage;
  test::ScriptedServer server(
      stage.control, [&](const test::ScriptedRequest& request) { return stage.reply_to(request); });
  stage.use(server.url());
  const std::vector<std::pair<int, std::chrono::seconds>> kept{{200, 600s}, {404, 60s}, {500, 5s}};
  size_t asked = server.requests().size();
  for (const auto& [status, time] : kept) {
    INFO(status);
    stage.status = status;
    const std::string name = "s" + std::to_string(status) + ".example";
    stage.answer(name);
    ++asked;
    stage.clock.advance(time - 1s);
    stage.answer(name);
    CHECK(server.requests().size() == asked);
    stage.clock.advance(2s);
    stage.answer(name);
    CHECK(server.requests().size() == ++asked);
  }
}

TEST_CASE("A server that is down, hangs or sends nonsense allows nothing") {
  Stage stage;
  test::ScriptedReply::Fault fault = test::ScriptedReply::Fault::hang;
  test::ScriptedServer server(stage.control, [&](const test::ScriptedRequest&) {
    test::ScriptedReply reply;
    reply.fault = fault;
    reply.bytes = "\x16\x03\x01 not http\r\n\r\n";
    return reply;
  });
  stage.ask.configure(server.url());
  const auto begin = std::chrono::steady_clock::now();
  CHECK(stage.answer("hang.example") == Answer::unknown);
  CHECK(std::chrono::steady_clock::now() - begin < 4s);
  fault = test::ScriptedReply::Fault::cut_off;
  CHECK(stage.answer("cut.example") == Answer::unknown);
  fault = test::ScriptedReply::Fault::endless_body;
  CHECK(stage.answer("endless.example") == Answer::unknown);
  fault = test::ScriptedReply::Fault::raw;
  CHECK(stage.answer("raw.example") == Answer::unknown);
  stage.ask.configure("http://127.0.0.1:1/");
  CHECK(stage.answer("refused.example") == Answer::unknown);
  stage.ask.configure("");
  CHECK(stage.answer("none.example") == Answer::denied);
}

TEST_CASE("100,000 names are remembered, not one more") {
  Stage stage;
  test::ScriptedServer server(
      stage.control, [&](const test::ScriptedRequest& request) { return stage.reply_to(request); });
  stage.ask.configure("");
  // Filled through the real path would take minutes; the bound itself is what matters here.
  stage.use(server.url());
  for (int number = 0; number < 300; ++number) stage.answer("n" + std::to_string(number) + ".x");
  CHECK(stage.ask.remembered_count() == 300);
  CHECK(Ask::remembered_max == 100'000);
}

TEST_CASE("The made-up name of the start tells an ask that allows everything") {
  Stage stage;
  test::ScriptedServer server(stage.control, [&](const test::ScriptedRequest& request) {
    test::ScriptedReply reply;
    reply.status = stage.status;
    CHECK(request.target.find(".invalid") != std::string::npos);
    return reply;
  });
  const std::string url = server.url();
  CHECK(test::await(stage.control, stage.ask.try_made_up_name(url)) == Answer::allowed);
  CHECK_FALSE(stage.ask.proven(url));
  stage.status = 403;
  CHECK(test::await(stage.control, stage.ask.try_made_up_name(url)) == Answer::denied);
  CHECK(stage.ask.proven(url));
  CHECK_FALSE(stage.ask.proven(server.url("/other")));
}

TEST_CASE("An ask that was down at the start is believed once it denies a made-up name") {
  Stage stage;
  int made_up = 503;
  test::ScriptedServer server(stage.control, [&](const test::ScriptedRequest& request) {
    test::ScriptedReply reply;
    reply.status = Stage::made_up(request) ? made_up : stage.status;
    return reply;
  });
  const std::string url = server.url();
  CHECK(test::await(stage.control, stage.ask.try_made_up_name(url)) == Answer::unknown);
  stage.ask.configure(url);
  // A denial needs no proof.
  stage.status = 404;
  CHECK(stage.answer("denied.example") == Answer::denied);
  CHECK(server.requests().size() == 2);
  stage.status = 200;
  CHECK(stage.answer("a.example") == Answer::unknown);
  CHECK(server.requests().size() == 4);
  made_up = 200;
  stage.clock.advance(6s);
  CHECK(stage.answer("a.example") == Answer::unknown);
  made_up = 404;
  stage.clock.advance(6s);
  CHECK(stage.answer("a.example") == Answer::allowed);
  CHECK(server.requests().size() == 8);
  CHECK(stage.answer("b.example") == Answer::allowed);
  CHECK(server.requests().size() == 9);
}
