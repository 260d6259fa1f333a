#include "acme/finalization.hpp"

#include "acme/patience.hpp"

namespace gatehouse::acme {

using boost::asio::awaitable;

namespace {

constexpr const char* not_ready = "orderNotReady";

}  // namespace

Finalization::Finalization(Client& client, const base::Clock& clock, AccountPtr account,
                           std::string url, const Errand& errand)
    : client_(client),
      clock_(clock),
      account_(std::move(account)),
      url_(std::move(url)),
      errand_(errand) {}

awaitable<Outcome<OrderObject>> Finalization::run(OrderObject order, std::string request_der) {
  for (bool again = false; order.status == OrderStatus::ready; again = true) {
    auto reply = co_await client_.finalize(account_, order.finalize, request_der, errand_);
    if (reply) co_return co_await settle(std::move(*reply), OrderStatus::valid);
    const Failure& failure = reply.error();
    // The CA has not caught up with its own authorizations, or has this request already.
    const bool early = failure.type == not_ready && !again;
    const bool unheard = failure.kind == FailureClass::transport && failure.type != not_ready;
    if (!early && !unheard) {
      spent_ = means_refused(failure) && failure.kind != FailureClass::rate_limit;
      co_return failure;
    }
    auto current = co_await client_.order(account_, url_, errand_);
    if (!current) co_return current.error();
    // The request got lost, not its answer: the caller's next try sends it again.
    if (unheard && current->value.status <= OrderStatus::ready) co_return failure;
    auto settled = co_await settle(std::move(*current), OrderStatus::ready);
    if (!settled) co_return settled.error();
    order = std::move(*settled);
  }
  if (order.status == OrderStatus::valid) co_return order;
  auto current = co_await client_.order(account_, url_, errand_);
  if (!current) co_return current.error();
  co_return co_await settle(std::move(*current), OrderStatus::valid);
}

/// Polls until the order is at least `awaited`.
awaitable<Outcome<OrderObject>> Finalization::settle(Reply<OrderObject> reply,
                                                     OrderStatus awaited) {
  Patience patience(clock_, errand_.deadline);
  while (reply.value.status < awaited) {
    const bool in_time = co_await patience.wait(reply.retry_after);
    if (!in_time) {
      base::Error late(base::ErrorKind::timeout,
                       "the order was still being processed when the time for one certificate ran "
                       "out");
      co_return transport_failure(late, errand_.attempt);
    }
    auto next = co_await client_.order(account_, url_, errand_);
    if (!next) co_return next.error();
    reply = std::move(*next);
  }
  if (reply.value.status != OrderStatus::invalid) co_return std::move(reply.value);
  spent_ = true;
  Problem problem;
  problem.detail = "the order became invalid";
  if (reply.value.error) problem = *reply.value.error;
  Attempt attempt = errand_.attempt;
  attempt.challenge = "the order";
  co_return failure_of(problem, attempt, clock_.wall(), std::nullopt);
}

}  // namespace gatehouse::acme
