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
  struct Memory {
    std::string name;
    Answer answer;
    base::Monotonic::time_point until;
  };
  struct Question {
    std::string client;
    std::vector<Listener> listeners;
  };

  State(asio::io_context& c, base::Fetcher& f, const base::Clock& k, base::MetricShard& m)
      : control(c), fetcher(f), clock(k), metrics(m) {}

  std::optional<Answer> recall(const std::string& name);
  void remember(const std::string& name, Answer answer);
  void start_next();
  void finished(const std::string& name, const std::string& asked_url, Answer answer);
  static asio::awaitable<void> run(std::shared_ptr<State> self, std::string name,
                                   std::string client);
  asio::awaitable<Answer> fetch(std::string name, std::string client);

  asio::io_context& control;
  base::Fetcher& fetcher;
  const base::Clock& clock;
  base::MetricShard& metrics;
  std::string url;
  bool failing = false;  // the last question had no answer: said once, not for each name
  size_t running = 0;
  std::unordered_map<std::string, Question> questions;
  std::deque<std::string> turns;
  std::list<Memory> memories;  // the newest first
  std::unordered_map<std::string, std::list<Memory>::iterator> memory_of;
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
  state_->failing = false;
  state_->memories.clear();
  state_->memory_of.clear();
}

std::optional<Answer> Ask::remembered(const std::string& name) {
  return state_->recall(name);
}
size_t Ask::remembered_count() const {
  return state_->memories.size();
}

void Ask::question(const std::string& name, const std::string& client, Listener listener) {
  auto& state = *state_;
  if (state.url.empty()) return listener(Answer::denied);
  if (const auto answer = state.recall(name)) return listener(*answer);
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

asio::awaitable<Answer> Ask::try_random_name() {
  std::random_device random;
  const std::string name = fmt::format("{:08x}{:08x}.gatehouse-test.invalid", random(), random());
  const auto state = state_;
  Answer answer = co_await state->fetch(name, "127.0.0.1");
  co_return answer;
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
  Answer answer = co_await self->fetch(name, std::move(client));
  self->finished(name, asked_url, answer);
}

asio::awaitable<Answer> Ask::State::fetch(std::string name, std::string client) {
  metrics.add(base::Metric::ondemand_asks);
  base::FetchRequest request;
  request.url = fmt::format("{}{}domain={}", url, url.find('?') == std::string::npos ? '?' : '&',
                            percent_encoded(name));
  if (!client.empty()) request.url += "&client_ip=" + percent_encoded(client);
  request.timeout = request.connect_timeout = timeout;
  request.response_body_max = answer_bytes_max;
  auto response = co_await fetcher.fetch(std::move(request));
  const Answer answer = response ? meaning_of(response->status) : Answer::unknown;
  if (answer == Answer::unknown && !failing)
    base::log::warn(
        "on_demand.ask gives no answer ({}): no new name gets a certificate until it "
        "does, check {}",
        response ? fmt::format("status {}", response->status) : response.error().context, url);
  if (answer != Answer::unknown && failing) base::log::info("on_demand.ask answers again");
  failing = answer == Answer::unknown;
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

std::optional<Answer> Ask::State::recall(const std::string& name) {
  const auto found = memory_of.find(name);
  if (found == memory_of.end()) return std::nullopt;
  if (found->second->until <= clock.monotonic()) {
    memories.erase(found->second);
    memory_of.erase(found);
    return std::nullopt;
  }
  memories.splice(memories.begin(), memories, found->second);
  return found->second->answer;
}

void Ask::State::remember(const std::string& name, Answer answer) {
  if (const auto old = memory_of.find(name); old != memory_of.end()) {
    memories.erase(old->second);
    memory_of.erase(old);
  }
  auto kept = std::chrono::duration_cast<std::chrono::seconds>(allowed_kept);
  if (answer == Answer::denied) kept = denied_kept;
  if (answer == Answer::unknown) kept = unknown_kept;
  memories.push_front({name, answer, clock.monotonic() + kept});
  memory_of[name] = memories.begin();
  if (memories.size() <= remembered_max) return;
  memory_of.erase(memories.back().name);
  memories.pop_back();
}

}  // namespace gatehouse::acme
