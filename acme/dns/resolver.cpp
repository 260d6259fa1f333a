#include "acme/dns/resolver.hpp"

#include <algorithm>
#include <array>
#include <fstream>
#include <memory>
#include <optional>
#include <random>
#include <set>

#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/ip/udp.hpp>
#include <boost/asio/read.hpp>
#include <boost/asio/redirect_error.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/this_coro.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <boost/asio/write.hpp>
#include <fmt/format.h>

namespace gatehouse::acme::dns {

namespace asio = boost::asio;
using asio::awaitable;
using base::Error;
using base::ErrorKind;
using base::Monotonic;
using base::Result;
using config::NameServer;

namespace {

constexpr int rounds = 2;
constexpr size_t servers_max = 3;     // of a resolv.conf, as with glibc
constexpr size_t lookups_max = 64;    // at a time
constexpr size_t aliases_max = 8;     // CNAMEs on the way to the records
constexpr size_t strangers_max = 64;  // datagrams that are not our answer, before we give up
constexpr size_t resolv_conf_max = 64 * 1024;
constexpr size_t datagram_max = 4096;  // more than we ask for, should a server not care

/// One socket whose work ends when its time is up, however it was waiting.
template <class Socket>
struct Timed {
  explicit Timed(const asio::any_io_executor& executor) : socket(executor), timer(executor) {}
  Socket socket;
  asio::steady_timer timer;
};

/// From now on until the result is destroyed or `deadline` closes its socket.
template <class Socket>
std::shared_ptr<Timed<Socket>> open_until(const asio::any_io_executor& executor,
                                          Monotonic::time_point deadline) {
  auto timed = std::make_shared<Timed<Socket>>(executor);
  timed->timer.expires_at(deadline);
  // The handler may be queued already when the work ends: it holds no more than a weak pointer.
  timed->timer.async_wait([weak = std::weak_ptr(timed)](boost::system::error_code error) {
    const auto still = error ? nullptr : weak.lock();
    boost::system::error_code ignored;
    if (still) still->socket.close(ignored);
  });
  return timed;
}

Error failure_of(const boost::system::error_code& error, const NameServer& server) {
  if (error == asio::error::connection_refused) {
    return Error(ErrorKind::refused, fmt::format("{} refuses connections", spoken(server)));
  }
  if (error == asio::error::operation_aborted || error == asio::error::bad_descriptor) {
    return Error(ErrorKind::timeout, fmt::format("no answer from {}", spoken(server)));
  }
  return Error(ErrorKind::unavailable,
               fmt::format("{} cannot be asked: {}", spoken(server), error.message()));
}

/// Unpredictable, as is the port that the kernel chooses: who cannot see the question cannot
/// answer it.
uint16_t random_id() {
  static std::random_device random;
  return static_cast<uint16_t>(random());
}

awaitable<Result<Answer>> ask_by_udp(NameServer server, Question question,
                                     Monotonic::time_point deadline) {
  const uint16_t id = random_id();
  const auto query = make_query(id, question);
  if (!query) co_return query.error();
  const auto executor = co_await asio::this_coro::executor;
  const auto timed = open_until<asio::ip::udp::socket>(executor, deadline);
  auto& socket = timed->socket;
  boost::system::error_code error;
  const asio::ip::udp::endpoint endpoint(server.address, server.port);
  // Connected: the kernel drops what comes from elsewhere, and reports that nobody listens.
  socket.open(endpoint.protocol(), error);
  if (!error) socket.connect(endpoint, error);
  auto token = asio::redirect_error(asio::use_awaitable, error);
  if (!error) co_await socket.async_send(asio::buffer(*query), token);
  std::array<char, datagram_max> bytes;
  for (size_t strangers = 0; !error && strangers < strangers_max; ++strangers) {
    const size_t size = co_await socket.async_receive(asio::buffer(bytes), token);
    if (error) break;
    auto answer = parse_answer(std::string_view(bytes.data(), size), id, question);
    if (answer) co_return answer;  // otherwise not ours: forged, or of a question given up
  }
  if (!error) error = asio::error::operation_aborted;
  co_return failure_of(error, server);
}

awaitable<Result<Answer>> ask_by_tcp(NameServer server, Question question,
                                     Monotonic::time_point deadline) {
  const uint16_t id = random_id();
  const auto query = make_query(id, question);
  if (!query) co_return query.error();
  const auto executor = co_await asio::this_coro::executor;
  const auto timed = open_until<asio::ip::tcp::socket>(executor, deadline);
  auto& socket = timed->socket;
  boost::system::error_code error;
  auto token = asio::redirect_error(asio::use_awaitable, error);
  const asio::ip::tcp::endpoint endpoint(server.address, server.port);
  co_await socket.async_connect(endpoint, token);
  // RFC 1035 section 4.2.2: the length in two bytes, and both in one segment.
  std::string message;
  message += static_cast<char>(query->size() >> 8);
  message += static_cast<char>(query->size() & 0xff);
  message += *query;
  if (!error) co_await asio::async_write(socket, asio::buffer(message), token);
  std::array<unsigned char, 2> length{};
  if (!error) co_await asio::async_read(socket, asio::buffer(length), token);
  std::string bytes(static_cast<size_t>(length[0]) << 8 | length[1], '\0');
  if (!error) co_await asio::async_read(socket, asio::buffer(bytes), token);
  if (error) co_return failure_of(error, server);
  auto answer = parse_answer(bytes, id, question);
  if (answer && answer->truncated) {
    co_return Error(ErrorKind::protocol, "a DNS answer is cut off even over TCP");
  }
  co_return answer;
}

/// The answer of one server, over TCP if it does not fit into a datagram.
awaitable<Result<Answer>> ask_one(NameServer server, Question question,
                                  Monotonic::time_point deadline,
                                  std::chrono::milliseconds try_time) {
  auto answer =
      co_await ask_by_udp(server, question, std::min(deadline, Monotonic::now() + try_time));
  if (answer && answer->truncated) {
    answer = co_await ask_by_tcp(server, question, std::min(deadline, Monotonic::now() + try_time));
  }
  if (!answer) co_return answer;
  if (answer->rcode != Rcode::no_error && answer->rcode != Rcode::no_such_name) {
    co_return Error(ErrorKind::unavailable,
                    fmt::format("{} from {}", rcode_name(answer->rcode), spoken(server)));
  }
  co_return answer;
}

std::vector<NameServer> read_servers(const std::string& path) {
  std::ifstream file(path);
  std::string text(resolv_conf_max, '\0');
  file.read(text.data(), static_cast<std::streamsize>(text.size()));
  text.resize(static_cast<size_t>(std::max<std::streamsize>(file.gcount(), 0)));
  return servers_of(text);
}

/// Counts one while it lives.
struct Counted {
  explicit Counted(size_t& n) : number(n) { ++number; }
  Counted(const Counted&) = delete;
  Counted& operator=(const Counted&) = delete;
  ~Counted() { --number; }
  size_t& number;
};

const Record* find(const std::vector<Record>& records, const std::string& name, Type type) {
  const auto found = std::find_if(records.begin(), records.end(), [&](const Record& record) {
    return record.type == type && record.name == name;
  });
  return found == records.end() ? nullptr : &*found;
}

/// Goes along the CNAMEs of one answer; false: there are more than anyone needs, or one leads to
/// the root.
bool follow_aliases(const Answer& answer, Type type, Lookup& lookup) {
  while (type != Type::cname) {
    const Record* alias = find(answer.records, lookup.owner, Type::cname);
    if (alias == nullptr) break;
    if (lookup.aliases.size() == aliases_max || alias->value.empty()) return false;
    lookup.aliases.push_back(alias->value);
    lookup.owner = alias->value;
  }
  return true;
}

void take(const Answer& answer, Type type, Lookup& lookup) {
  for (const auto& record : answer.records) {
    if (record.type == type && record.name == lookup.owner) lookup.records.push_back(record);
  }
  lookup.exists = answer.rcode != Rcode::no_such_name;
  lookup.zone.clear();
  for (const auto& record : answer.authority) {
    if (record.type == Type::soa) lookup.zone = record.name;
  }
}

std::string lower(std::string text) {
  for (char& c : text) {
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
  }
  if (text.ends_with('.')) text.pop_back();
  return text;
}

}  // namespace

Resolver::Resolver(ResolverSettings settings) : settings_(std::move(settings)) {}

awaitable<Result<Lookup>> Resolver::look_up(std::string name, Type type,
                                            Monotonic::time_point deadline) {
  if (running_ >= lookups_max) {
    co_return Error(ErrorKind::limit, fmt::format("{} DNS questions wait already", lookups_max));
  }
  const Counted counted(running_);
  Lookup lookup;
  lookup.owner = lower(std::move(name));
  for (;;) {
    Question question;
    question.name = lookup.owner;
    question.type = type;
    const auto answer = co_await ask(std::move(question), deadline);
    if (!answer) co_return answer.error();
    const size_t before = lookup.aliases.size();
    if (!follow_aliases(*answer, type, lookup)) {
      const bool many = lookup.aliases.size() == aliases_max;
      co_return Error(ErrorKind::protocol,
                      many ? fmt::format("more than {} CNAMEs lead from {}", aliases_max,
                                         lookup.aliases.front())
                           : fmt::format("the CNAME of {} leads to no name", lookup.owner));
    }
    take(*answer, type, lookup);
    // Some servers do not follow an alias into another zone: then the target is asked for itself.
    const bool done = !lookup.records.empty() || !lookup.exists || lookup.aliases.size() == before;
    if (done) co_return lookup;
  }
}

awaitable<Result<Answer>> Resolver::ask(Question question, Monotonic::time_point deadline) {
  const auto servers =
      settings_.servers.empty() ? read_servers(settings_.resolv_conf) : settings_.servers;
  const size_t first = first_;
  std::set<size_t> failed;  // said so themselves: the next round leaves them out
  Error last(ErrorKind::timeout, "no DNS answer in time");
  for (int round = 0; round < rounds; ++round) {
    for (size_t turn = 0; turn < servers.size(); ++turn) {
      const size_t i = (first + turn) % servers.size();
      if (failed.contains(i)) continue;
      if (Monotonic::now() >= deadline) co_return last;
      const auto answer = co_await ask_one(servers[i], question, deadline, settings_.try_time);
      if (answer) first_ = i;
      if (answer || answer.error().kind == ErrorKind::invalid) co_return answer;
      last = answer.error();
      if (last.kind != ErrorKind::timeout) failed.insert(i);
    }
  }
  co_return last;
}

std::vector<NameServer> servers_of(std::string_view resolv_conf) {
  std::vector<NameServer> result;
  for (size_t start = 0; start < resolv_conf.size() && result.size() < servers_max;) {
    const size_t end = std::min(resolv_conf.find('\n', start), resolv_conf.size());
    auto line = resolv_conf.substr(start, end - start);
    start = end + 1;
    constexpr std::string_view word = "nameserver";
    if (!line.starts_with(word)) continue;
    line.remove_prefix(word.size());
    const size_t first = line.find_first_not_of(" \t");
    if (first == 0 || first == line.npos) continue;
    line = line.substr(first);
    line = line.substr(0, line.find_first_of(" \t\r#;"));
    boost::system::error_code error;
    NameServer server;
    server.address = asio::ip::make_address(std::string(line), error);
    if (!error) result.push_back(server);
  }
  if (result.empty()) {
    NameServer local;
    local.address = asio::ip::address_v4::loopback();
    result.push_back(local);
  }
  return result;
}

std::string spoken(const NameServer& server) {
  auto address = server.address.to_string();
  if (server.port == 53) return address;
  return fmt::format(fmt::runtime(server.address.is_v6() ? "[{}]:{}" : "{}:{}"), address,
                     server.port);
}

}  // namespace gatehouse::acme::dns
