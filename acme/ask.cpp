#include "acme/ask.hpp"

#include <random>

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>

#include "base/log.hpp"

namespace gatehouse::acme {

namespace asio = boost::asio;

namespace {

constexpr size_t answer_bytes_max = 64 * 1024;

std::string percent_encoded(std::string_view text) {
  std::string encoded;
  for (const unsigned char c : text) {
    const bool plain = std::isalnum(c) != 0 || c == '-' || c == '.' || c == '_' || c == '~';
    if (plain)
      encoded += static_cast<char>(c);
    else
      encoded += fmt::format("%{:02X}", c);
  }
  return encoded;
}

Answer meaning_of(int status) {
  if (status >= 200 && status < 300) return Answer::allowed;
  if (status >= 500 || status == 429) return Answer::unknown;
  return Answer::denied;
}

}  // namespace

struct Ask::State : std::enable_shared_from_this<Ask::State> {
  struct Question {
    std::string client;
    std::vector<Listener> listeners;
  };

  State(asio::io_context& c, base::Fetcher& f, const base::Clock& k, base::MetricShard& m)
      : control(c), fetcher(f), clock(k), metrics(m) {}

  void remember(const std::string& name, Answer answer);
  void start_next();
  void finished(const std::string& name, const std::string& asked_url, Answer answer);
  static asio::awaitable<void> run(std::shared_ptr<State> self, std::string name,
                                   std::string client);
  static asio::awaitable<Answer> try_made_up_name(std::shared_ptr<State> self, std::string of_url);
  asio::awaitable<Answer> fetch(std::string of_url, std::string name, std::string client);

  asio::io_context& control;
  base::Fetcher& fetcher;
  const base::Clock& clock;
  base::MetricShard& metrics;
  std::string url;
  std::string proven_url;  // denied a made-up name
  bool told_open = false;  // that it allows one: said once
  bool failing = false;    // the last question had no answer: said once, not for each name
  size_t running = 0;
  std::unordered_map<std::string, Question> questions;
  std::deque<std::string> turns;
  Answers answers{remembered_max};
};

Ask::Ask(asio::io_context& control, base::Fetcher& fetcher, const base::Clock& clock,
         base::MetricShard& metrics)
    : state_(std::make_shared<State>(control, fetcher, clock, metrics)) {}

Ask::~Ask() {
  state_->questions.clear();
  state_->turns.clear();
}

void Ask::configure(std::string url) {
  if (url == state_->url) return;
  state_->url = std::move(url);
  state_->failing = state_->told_open = false;
  state_->answers.clear();
}

std::optional<Answer> Ask::remembered(const std::string& name) {
  return state_->answers.recall(name, state_->clock.monotonic());
}
size_t Ask::remembered_count() const {
  return state_->answers.size();
}

void Ask::question(const std::string& name, const std::string& client, Listener listener) {
  auto& state = *state_;
  if (state.url.empty()) return listener(Answer::denied);
  if (const auto answer = remembered(name)) return listener(*answer);
  if (const auto running = state.questions.find(name); running != state.questions.end()) {
    if (running->second.listeners.size() >= listeners_max) return listener(Answer::unknown);
    running->second.listeners.push_back(std::move(listener));
    return;
  }
  if (state.turns.size() >= waiting_max) return listener(Answer::unknown);
  auto& question = state.questions[name];
  question.client = client;
  question.listeners.push_back(std::move(listener));
  state.turns.push_back(name);
  state.start_next();
}

asio::awaitable<Answer> Ask::try_made_up_name(std::string url) {
  return State::try_made_up_name(state_, std::move(url));
}

asio::awaitable<Answer> Ask::State::try_made_up_name(std::shared_ptr<State> self,
                                                     std::string of_url) {
  std::random_device random;
  const std::string name = fmt::format("{:08x}{:08x}.gatehouse-test.invalid", random(), random());
  const Answer answer = co_await self->fetch(of_url, name, "127.0.0.1");
  if (answer == Answer::denied) self->proven_url = of_url;
  co_return answer;
}

bool Ask::proven(const std::string& url) const {
  return state_->proven_url == url;
}

void Ask::State::start_next() {
  while (running < questions_max && !turns.empty()) {
    const std::string name = std::move(turns.front());
    turns.pop_front();
    ++running;
    asio::co_spawn(control, run(shared_from_this(), name, questions[name].client), asio::detached);
  }
}

asio::awaitable<void> Ask::State::run(std::shared_ptr<State> self, std::string name,
                                      std::string client) {
  const std::string asked_url = self->url;
  Answer answer = co_await self->fetch(asked_url, name, std::move(client));
  if (answer == Answer::allowed && self->proven_url != asked_url) {
    const Answer made_up = co_await try_made_up_name(self, asked_url);
    if (made_up != Answer::denied) answer = Answer::unknown;
    if (made_up == Answer::allowed && !std::exchange(self->told_open, true))
      base::log::error(
          "on_demand.ask: {} allows a made-up name, so anybody could have certificates ordered: "
          "no new name gets one until it answers 404 for names it does not know",
          asked_url);
  }
  self->finished(name, asked_url, answer);
}

asio::awaitable<Answer> Ask::State::fetch(std::string of_url, std::string name,
                                          std::string client) {
  metrics.add(base::Metric::ondemand_asks);
  base::FetchRequest request;
  request.url =
      fmt::format("{}{}domain={}", of_url, of_url.find('?') == std::string::npos ? '?' : '&',
                  percent_encoded(name));
  if (!client.empty()) request.url += "&client_ip=" + percent_encoded(client);
  request.timeout = request.connect_timeout = timeout;
  request.response_body_max = answer_bytes_max;
  auto response = co_await fetcher.fetch(std::move(request));
  const Answer answer = response ? meaning_of(response->status) : Answer::unknown;
  // Of the URL in use only: another is tried before a reload.
  const bool in_use = of_url == url;
  if (answer == Answer::unknown && !(in_use && failing))
    base::log::warn(
        "on_demand.ask gives no answer ({}): no new name gets a certificate until it "
        "does, check {}",
        response ? fmt::format("status {}", response->status) : response.error().context, of_url);
  if (answer != Answer::unknown && in_use && failing)
    base::log::info("on_demand.ask answers again");
  if (in_use) failing = answer == Answer::unknown;
  co_return answer;
}

void Ask::State::finished(const std::string& name, const std::string& asked_url, Answer answer) {
  --running;
  if (asked_url == url) remember(name, answer);
  auto question = questions.extract(name);
  if (!question.empty())
    for (auto& listener : question.mapped().listeners) listener(answer);
  start_next();
}

void Ask::State::remember(const std::string& name, Answer answer) {
  auto kept = std::chrono::duration_cast<std::chrono::seconds>(allowed_kept);
  if (answer == Answer::denied) kept = denied_kept;
  if (answer == Answer::unknown) kept = unknown_kept;
  answers.remember(name, answer, clock.monotonic(), kept);
}

}  // namespace gatehouse::acme
