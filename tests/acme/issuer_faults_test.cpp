// The issuer against a CA of scripted answers: what a real one cannot be made to do.
#include <future>

#include <catch2/catch.hpp>
#include <fmt/format.h>

#include "acme/account.hpp"
#include "acme/times.hpp"
#include "tests/acme/certification.hpp"
#include "tests/acme/scripted_ca.hpp"
#include "tls/certificate_builder.hpp"

namespace gatehouse::test {

namespace {

using acme::FailureClass;
using Catch::Contains;
using Fault = ScriptedReply::Fault;

}  // namespace

TEST_CASE("an order whose answer was lost is found in the account's list, not placed again") {
  ScriptedCa ca;
  const auto fault = GENERATE(Fault::cut_off, Fault::raw);
  ca.scripts["/order"] = [fault](const ScriptedRequest&) {
    ScriptedReply reply;
    reply.fault = fault;
    reply.bytes = "HTTP/1.1 201 Created\r\nContent-Length: 500\r\n\r\n{\"status\":";
    return reply;
  };
  auto life = ca.live();
  REQUIRE(life->obtain("a", {"a.example"}).has_error());
  CHECK(ca.count("/order") == 1);
  if (GENERATE(true, false)) life = ca.live();  // whether or not the program died meanwhile
  const auto outcome = life->obtain("a", {"a.example"});
  REQUIRE(outcome.has_error());
  CHECK_THAT(outcome.error().sentence, Contains("why"));
  CHECK(ca.count("/order") == 1);
  CHECK(ca.count("/finalize") == 1);
  CHECK(life->obtain("a", {"a.example"}).has_error());
  CHECK(ca.count("/orders") == 1);
  CHECK(ca.count("/order") == 1);
}

TEST_CASE("lists of orders that are broken, endless or somebody else's end in one new order") {
  ScriptedCa ca;
  int orders = 0;
  ca.scripts["/order"] = [&](const ScriptedRequest&) -> std::optional<ScriptedReply> {
    if (++orders > 1) return std::nullopt;
    ScriptedReply reply;
    reply.fault = Fault::cut_off;
    return reply;
  };
  const int kind = GENERATE(range(0, 5));
  ca.scripts["/orders"] = [&, kind](const ScriptedRequest&) {
    ScriptedReply reply;
    switch (kind) {
      case 0:
        return ScriptedCa::problem(404, "malformed");
      case 1:
        reply.body = R"({"orders":[]})";
        break;
      case 2:  // a page that names itself as the next
        reply.fields = {{"Link", "<" + ca.server.url("/orders") + ">;rel=\"next\""}};
        reply.body = R"({"orders":[]})";
        break;
      case 3:
        reply.body = fmt::format(R"({{"orders":["{}"]}})", ca.server.url("/gone"));
        break;
      default:
        reply.body = fmt::format(R"({{"orders":["{}"]}})", ca.server.url("/foreign"));
        break;
    }
    return reply;
  };
  ca.scripts["/gone"] = [](const ScriptedRequest&) {
    return ScriptedCa::problem(404, "malformed");
  };
  ca.scripts["/foreign"] = [&](const ScriptedRequest&) {
    ScriptedReply reply;
    reply.body = ca.order("pending");
    reply.body.replace(reply.body.find("a.example"), 9, "b.example");
    return reply;
  };
  auto life = ca.live();
  CHECK(life->obtain("a", {"a.example"}).has_error());
  CHECK(life->obtain("a", {"a.example"}).has_error());
  CHECK(orders == 2);
  CHECK(ca.count("/finalize") == 1);
}

TEST_CASE("a profile that the CA no longer has is left out, once") {
  ScriptedCa ca;
  ca.authority.profile = "shortlived";
  ca.scripts["/order"] = [n = 0](const ScriptedRequest&) mutable -> std::optional<ScriptedReply> {
    if (n++ == 0) return ScriptedCa::problem(400, "invalidProfile");
    return std::nullopt;
  };
  CHECK(ca.live()->obtain("a", {"a.example"}).has_error());
  CHECK(ca.payload("/order", 0).find("shortlived") != std::string::npos);
  CHECK(ca.payload("/order", 1).find("profile") == std::string::npos);
  CHECK(ca.count("/finalize") == 1);
}

TEST_CASE("a forgotten account is registered once more, not again and again") {
  ScriptedCa ca;
  ca.scripts["/order"] = [](const ScriptedRequest&) {
    return ScriptedCa::problem(400, "accountDoesNotExist");
  };
  const auto outcome = ca.live()->obtain("a", {"a.example"});
  REQUIRE(outcome.has_error());
  CHECK(outcome.error().kind == FailureClass::account);
  CHECK(ca.count("/account") == 2);
  CHECK(ca.count("/order") == 2);
}

TEST_CASE(
    "an account that the CA no longer takes is read from storage again, as a person left it") {
  ScriptedCa ca;
  const bool removed = GENERATE(true, false);
  const std::string type = GENERATE(as<std::string>{}, "unauthorized", "malformed");
  std::vector<std::string> headers;
  ca.scripts["/order"] = [&](const ScriptedRequest& request) -> std::optional<ScriptedReply> {
    headers.push_back(ScriptedCa::decoded(request, "protected"));
    if (headers.size() == 1) return ScriptedCa::problem(403, type);
    return std::nullopt;
  };
  auto life = ca.live();
  REQUIRE(life->obtain("a", {"a.example"}).has_error());
  REQUIRE(ca.count("/account") == 1);
  const std::string folder = acme::account_folder("scripted", "");
  REQUIRE(ca.storage.files.contains(folder + "/key.pem"));
  if (removed) {
    ca.storage.files.erase(folder + "/key.pem");
    ca.storage.files.erase(folder + "/account.json");
  } else {
    auto& record = ca.storage.files[folder + "/account.json"];
    record.replace(record.find("/acct/1"), 7, "/acct/2");
  }
  REQUIRE(life->obtain("a", {"a.example"}).has_error());
  CHECK(ca.count("/account") == (removed ? 2 : 1));
  CHECK(ca.count("/finalize") == 1);
  REQUIRE(headers.size() == 2);
  CHECK_THAT(headers.back(), Contains(removed ? "/acct/1" : "/acct/2"));
}

TEST_CASE("a journalled order that died is replaced by exactly one") {
  ScriptedCa ca;
  REQUIRE(ca.live()->obtain("a", {"a.example"}).has_error());  // stopped at finalize
  const int kind = GENERATE(range(0, 5));
  ca.scripts["/order/1"] = [&, kind](const ScriptedRequest&) {
    ScriptedReply reply;
    switch (kind) {
      case 0:
        reply.body = ca.order("invalid");
        break;
      case 1:
        reply.body = ca.order("pending", R"(,"expires":"2020-01-01T00:00:00Z")");
        break;
      case 2:
        return ScriptedCa::problem(404, "malformed");
      case 3:
        return ScriptedCa::problem(403, "unauthorized");
      default:
        return ScriptedCa::problem(410, "malformed");
    }
    return reply;
  };
  CHECK(ca.live()->obtain("a", {"a.example"}).has_error());
  CHECK(ca.count("/order") == 2);
  CHECK(ca.count("/finalize") == 2);
}

TEST_CASE("trouble while the order is read keeps the journal, and nothing is ordered") {
  ScriptedCa ca;
  REQUIRE(ca.live()->obtain("a", {"a.example"}).has_error());
  ca.scripts["/order/1"] = [kind = GENERATE(500, 429, 0)](const ScriptedRequest&) {
    if (kind != 0) return ScriptedCa::problem(kind, kind == 429 ? "rateLimited" : "serverInternal");
    ScriptedReply reply;
    reply.body = "nonsense";
    return reply;
  };
  CHECK(ca.live()->obtain("a", {"a.example"}).has_error());
  CHECK(ca.count("/order") == 1);
  CHECK(ca.storage.files.contains("orders/a/order.json"));
}

TEST_CASE("orders the CA refuses are forgotten, so that nothing is searched for next time") {
  ScriptedCa ca;
  const auto [status, type, kind] = GENERATE(table<int, std::string, FailureClass>({
      {400, "rejectedIdentifier", FailureClass::policy},
      {429, "rateLimited", FailureClass::rate_limit},
      {403, "userActionRequired", FailureClass::account},
      {403, "caa", FailureClass::validation},
  }));
  const int code = status;
  const std::string word = type;
  ca.scripts["/order"] = [=](const ScriptedRequest&) { return ScriptedCa::problem(code, word); };
  auto life = ca.live();
  const auto outcome = life->obtain("a", {"a.example"});
  REQUIRE(outcome.has_error());
  CHECK(outcome.error().kind == kind);
  CHECK_FALSE(ca.storage.files.contains("orders/a/order.json"));
  CHECK(life->obtain("a", {"a.example"}).has_error());
  CHECK(ca.count("/orders") == 0);
}

TEST_CASE("a certificate that is none, or not ours, is refused") {
  ScriptedCa ca;
  const auto stranger = tls::make_self_signed({"a.example"}, std::chrono::hours(24));
  REQUIRE(stranger.has_value());
  ca.scripts["/finalize"] = [&](const ScriptedRequest&) {
    ScriptedReply reply;
    reply.body = ca.order("valid", fmt::format(R"(,"certificate":"{}")", ca.server.url("/cert")));
    return reply;
  };
  ca.scripts["/cert"] = [body = GENERATE_COPY(as<std::string>{}, "", "nonsense",
                                              (*stranger)->chain_pem())](const ScriptedRequest&) {
    ScriptedReply reply;
    reply.body = body;
    return reply;
  };
  const auto outcome = ca.live()->obtain("a", {"a.example"});
  REQUIRE(outcome.has_error());
  CHECK(outcome.error().kind == FailureClass::transport);
  CHECK_THAT(outcome.error().sentence, Contains("a.example") && Contains("scripted"));
  CHECK(ca.count("/order") == 1);
  // It may have been a page of something in between: asked for once more, and then ordered anew.
  ca.scripts["/order/1"] = ca.scripts["/finalize"];
  CHECK(ca.live()->obtain("a", {"a.example"}).has_error());
  CHECK(ca.count("/order") == 2);
  CHECK(ca.count("/cert") == 3);
}

namespace {

/// A CA that issues `made`, whatever it is asked, for an order that is about to be placed.
void issue(ScriptedCa& ca, const tls::CertificatePtr& made) {
  ca.storage.files["orders/a/key.pem"] = made->key_pem();
  ca.storage.files["orders/a/order.json"] =
      fmt::format(R"({{"version":1,"directory":"{}","names":["a.example"],"created":"{}",)"
                  R"("order":""}})",
                  ca.authority.directory, acme::timestamp(base::real_clock().wall()));
  const auto reply = [](std::string body) {
    return [body](const ScriptedRequest&) {
      ScriptedReply made_up;
      made_up.body = body;
      return made_up;
    };
  };
  ca.scripts["/orders"] = reply(R"({"orders":[]})");
  ca.scripts["/finalize"] =
      reply(ca.order("valid", fmt::format(R"(,"certificate":"{}")", ca.server.url("/cert"))));
  ca.scripts["/order/1"] = ca.scripts["/finalize"];
  ca.scripts["/cert"] = reply(made->chain_pem());
}

}  // namespace

TEST_CASE("a certificate that only our clock is at odds with is kept, and no other ordered") {
  ScriptedCa ca;
  const auto now = base::real_clock().wall();
  tls::CertificateDraft draft;
  draft.common_name = "a.example";
  draft.names = {"a.example"};
  const bool behind = GENERATE(true, false);
  draft.not_before = behind ? now + std::chrono::hours(5) : now - std::chrono::hours(5);
  draft.not_after = draft.not_before + std::chrono::hours(behind ? 24 : 3);
  issue(ca, tls::build_with_key(draft, nullptr).value());
  for (int attempt = 1; attempt <= 3; ++attempt) {
    const auto outcome = ca.live()->obtain("a", {"a.example"});
    REQUIRE(outcome.has_error());
    CHECK(outcome.error().kind == FailureClass::internal);
    CHECK_THAT(outcome.error().sentence, Contains("this machine's clock says"));
    CHECK(ca.count("/order") == 1);
    CHECK(ca.count("/finalize") == 1);
    CHECK(ca.count("/cert") == static_cast<size_t>(attempt));
  }
}

TEST_CASE("a certificate that cannot be served is not ordered again and again") {
  ScriptedCa ca;
  const auto now = base::real_clock().wall();
  tls::CertificateDraft draft;
  draft.common_name = "b.example";
  draft.names = {"b.example"};
  draft.not_before = now;
  draft.not_after = now + std::chrono::hours(24);
  issue(ca, tls::build_with_key(draft, nullptr).value());
  const auto outcome = ca.live()->obtain("a", {"a.example"});
  REQUIRE(outcome.has_error());
  CHECK(outcome.error().kind == FailureClass::policy);  // a day, or a person
  CHECK_THAT(outcome.error().sentence, Contains("does not cover a.example"));
  CHECK(ca.count("/order") == 1);
  CHECK_FALSE(ca.storage.files.contains("orders/a/order.json"));
}

TEST_CASE("an order for other names than asked for is not touched") {
  ScriptedCa ca;
  ca.scripts["/order"] = [&](const ScriptedRequest&) {
    ScriptedReply reply;
    reply.fields = {{"Location", ca.server.url("/order/1")}};
    reply.body = ca.order("pending");
    reply.body.replace(reply.body.find("a.example"), 9, "b.example");
    return reply;
  };
  const auto outcome = ca.live()->obtain("a", {"a.example"});
  REQUIRE(outcome.has_error());
  CHECK_THAT(outcome.error().sentence, Contains("other names"));
  CHECK(ca.count("/authz") == 0);
}

TEST_CASE("a challenge that failed because the program had died is no failure of the next life") {
  ScriptedCa ca;
  bool asked = false;
  int lives = 1, orders = 0, looks = 0;  // of the second life
  ca.scripts["/order"] = [&](const ScriptedRequest&) {
    ScriptedReply reply;
    reply.fields = {{"Location", ca.server.url("/order/1")}};
    reply.body = ca.order(++orders == 1 ? "pending" : "ready");
    return reply;
  };
  ca.scripts["/order/1"] = [&](const ScriptedRequest&) {
    ScriptedReply reply;
    reply.body = ca.order(orders == 1 ? "pending" : "ready");
    return reply;
  };
  ca.scripts["/challenge"] = [&](const ScriptedRequest&) {
    asked = true;
    return ScriptedCa::problem(403, "unauthorized");  // the first life ends here
  };
  ca.scripts["/authz"] = [&](const ScriptedRequest&) {
    const bool judged = lives == 2 && ++looks > 1;
    const char* const challenge = judged ? "invalid" : asked ? "processing" : "pending";
    ScriptedReply reply;
    reply.body = fmt::format(
        R"({{"status":"{1}","identifier":{{"type":"dns","value":"a.example"}},"challenges":)"
        R"([{{"type":"http-01","status":"{2}","url":"{0}/challenge",)"
        R"("token":"abcdefghijklmnopqrstuvwx"}}]}})",
        ca.server.url(""), judged ? "invalid" : "pending", challenge);
    return reply;
  };
  REQUIRE(ca.live()->obtain("a", {"a.example"}).has_error());
  REQUIRE(orders == 1);
  lives = 2;
  const auto outcome = ca.live()->obtain("a", {"a.example"});
  REQUIRE(outcome.has_error());  // at finalize, of the second order
  INFO(outcome.error().sentence);
  CHECK(orders == 2);
  CHECK(ca.count("/finalize") >= 1);
}

TEST_CASE("a challenge that the CA has looked at meanwhile is judged, not asked for again") {
  ScriptedCa ca;
  const std::string after = GENERATE(as<std::string>{}, "pending", "processing", "valid");
  const auto authorization = [&ca](const std::string& status, const std::string& challenge) {
    ScriptedReply reply;
    reply.body = fmt::format(
        R"({{"status":"{1}","identifier":{{"type":"dns","value":"a.example"}},"challenges":)"
        R"([{{"type":"http-01","status":"{2}","url":"{0}/challenge",)"
        R"("token":"abcdefghijklmnopqrstuvwx"}}]}})",
        ca.server.url(""), status, challenge);
    return reply;
  };
  bool asked = false;
  int looked = 0;
  ca.scripts["/order"] = [&ca](const ScriptedRequest&) {
    ScriptedReply reply;
    reply.fields = {{"Location", ca.server.url("/order/1")}};
    reply.body = ca.order("pending");
    return reply;
  };
  ca.scripts["/challenge"] = [&asked](const ScriptedRequest&) {
    asked = true;
    return ScriptedCa::problem(400, "malformed");
  };
  ca.scripts["/authz"] = [&](const ScriptedRequest&) {
    if (!asked) return authorization("pending", "pending");
    // The verdict comes one look later.
    if (++looked == 1) return authorization(after == "valid" ? "valid" : "pending", after);
    return authorization("valid", "valid");
  };
  auto life = ca.live();
  const auto outcome = life->obtain("a", {"a.example"});
  REQUIRE(outcome.has_error());
  INFO(outcome.error().sentence);
  CHECK(ca.count("/challenge") == 1);
  // Past the challenge, or stopped by what the CA really refused.
  CHECK(ca.count("/finalize") == (after == "pending" ? 0 : 1));
}

TEST_CASE("an order that names its predecessor is placed once more without it, if refused") {
  ScriptedCa ca;
  const auto& [status, type, again] = GENERATE(table<int, std::string, bool>({
      {409, "alreadyReplaced", true},
      {404, "malformed", true},
      {403, "unauthorized", true},
      {400, "", true},
      {429, "rateLimited", false},
      {500, "serverInternal", false},
  }));
  INFO(type);
  ca.scripts["/order"] = [&ca, status = status, type = type](
                             const ScriptedRequest& request) -> std::optional<ScriptedReply> {
    if (ca.decoded(request).find("replaces") == std::string::npos) return std::nullopt;
    return ScriptedCa::problem(status, type);
  };
  auto life = ca.live();
  auto asked = wanted("a", {"a.example"});
  asked.replaces = "aYhb.AIdl";
  const auto outcome = await(life->control, life->issuer.obtain(asked));
  REQUIRE(outcome.has_error());  // at finalize, at the latest
  CHECK(ca.count("/finalize") == (again ? 1 : 0));
  CHECK(life->issuer.orders_placed() == (again ? 1 : 0));
}

TEST_CASE("an order with its predecessor that finalize refuses is placed once more without it") {
  ScriptedCa ca;
  int orders_replacing = 0;
  ca.scripts["/order"] = [&](const ScriptedRequest& request) -> std::optional<ScriptedReply> {
    orders_replacing += ca.decoded(request).find("replaces") != std::string::npos ? 1 : 0;
    return std::nullopt;
  };
  ca.scripts["/finalize"] = [](const ScriptedRequest&) {
    return ScriptedCa::problem(409, "alreadyReplaced");
  };
  auto life = ca.live();
  auto asked = wanted("a", {"a.example"});
  asked.replaces = "aYhb.AIdl";
  CHECK(await(life->control, life->issuer.obtain(asked)).has_error());
  CHECK(orders_replacing == 1);
  CHECK(ca.count("/order") == 2);
  CHECK(ca.count("/finalize") == 2);
}

TEST_CASE("a profile and a predecessor that are both refused go one after the other") {
  ScriptedCa ca;
  ca.authority.profile = "gone";
  ca.scripts["/order"] = [&](const ScriptedRequest& request) -> std::optional<ScriptedReply> {
    const std::string payload = ca.decoded(request);
    if (payload.find("profile") != std::string::npos) {
      return ScriptedCa::problem(400, "invalidProfile");
    }
    if (payload.find("replaces") == std::string::npos) return std::nullopt;
    return ScriptedCa::problem(409, "alreadyReplaced");
  };
  auto life = ca.live();
  auto asked = wanted("a", {"a.example"});
  asked.replaces = "aYhb.AIdl";
  CHECK(await(life->control, life->issuer.obtain(asked)).has_error());
  CHECK(ca.count("/order") == 3);
  CHECK(ca.count("/finalize") == 1);
}

TEST_CASE("orders at work end before the account's key changes, and later ones use the new key") {
  ScriptedCa ca;
  std::vector<std::string> heard;
  ca.scripts["/dir"] = [&ca](const ScriptedRequest&) {
    ScriptedReply reply;
    reply.body = fmt::format(R"({{"newNonce":"{0}/nonce","newAccount":"{0}/account",)"
                             R"("newOrder":"{0}/order","keyChange":"{0}/key-change"}})",
                             ca.server.url(""));
    return reply;
  };
  std::promise<void> all_began;  // no order ends before
  const auto began = all_began.get_future().share();
  for (const auto* path : {"/finalize", "/key-change"}) {
    ca.scripts[path] = [&heard, began,
                        path](const ScriptedRequest&) -> std::optional<ScriptedReply> {
      began.wait_for(std::chrono::seconds(20));
      heard.emplace_back(path);
      return std::nullopt;
    };
  }
  auto life = ca.live();
  int done = 0;
  bool changed = false;
  const auto order = [&](const std::string& id) {
    boost::asio::co_spawn(life->control, life->issuer.obtain(wanted(id, {"a.example"})),
                          [&](std::exception_ptr, acme::Outcome<acme::Issued>) { ++done; });
  };
  order("a");
  order("b");
  life->control.poll();
  boost::asio::co_spawn(
      life->control, life->issuer.roll_over_account_key(),
      [&](std::exception_ptr, acme::Outcome<void> outcome) { changed = outcome.has_value(); });
  life->control.poll();
  order("c");
  life->control.poll();
  all_began.set_value();
  while (done < 3 && life->control.run_one_for(std::chrono::seconds(20)) > 0) {
  }
  CHECK(changed);
  CHECK(heard == std::vector<std::string>{"/finalize", "/finalize", "/key-change", "/finalize"});
}

TEST_CASE("a certificate that another account obtained is revoked by its own key") {
  ScriptedCa ca;
  int by_key = 0;
  ca.scripts["/dir"] = [&ca](const ScriptedRequest&) {
    ScriptedReply reply;
    reply.body = fmt::format(R"({{"newNonce":"{0}/nonce","newAccount":"{0}/account",)"
                             R"("newOrder":"{0}/order","revokeCert":"{0}/revoke"}})",
                             ca.server.url(""));
    return reply;
  };
  ca.scripts["/revoke"] = [&](const ScriptedRequest& request) -> std::optional<ScriptedReply> {
    if (ca.decoded(request, "protected").find("\"jwk\"") == std::string::npos) {
      return ScriptedCa::problem(403, "unauthorized");
    }
    ++by_key;
    return ScriptedReply();
  };
  auto life = ca.live();
  const auto certificate = tls::make_self_signed({"a.example"}, std::chrono::hours(1)).value();
  CHECK(await(life->control, life->issuer.revoke(certificate, 4)).has_value());
  CHECK(by_key == 1);
  CHECK(ca.count("/revoke") == 2);
  const auto refused = await(life->control, life->issuer.revoke(certificate, 2));
  REQUIRE(refused.has_error());
  CHECK_THAT(refused.error().sentence, Contains("keyCompromise"));
  CHECK(ca.count("/revoke") == 2);
}

}  // namespace gatehouse::test
