// Answers to challenges, by what a CA asks with: an immutable table that all workers read, replaced
// as a whole, each row kept a while after its last use.
//
// Does not answer (http01, tls_alpn01) or know what a row means. Control thread, except the tables,
// which any thread reads.
#pragma once

#include <algorithm>
#include <chrono>
#include <deque>
#include <functional>
#include <memory>
#include <string>
#include <unordered_map>

#include <boost/asio/awaitable.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/redirect_error.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/use_awaitable.hpp>

namespace gatehouse::acme {

template <class Row>
class NoticeBoard : public std::enable_shared_from_this<NoticeBoard<Row>> {
 public:
  using Table = std::unordered_map<std::string, Row>;
  using TablePtr = std::shared_ptr<const Table>;
  /// Gives all workers a new table; `done` is called on the control thread when every one of them
  /// answers from it.
  using Publish = std::function<void(TablePtr table, std::function<void()> done)>;

  static constexpr std::chrono::seconds kept_after_use{60};    // CAs ask several times, and late
  static constexpr std::chrono::seconds publish_wait_max{10};  // a worker is stuck, or stopping

  NoticeBoard(boost::asio::io_context& control, Publish publish)
      : control_(control),
        publish_(std::move(publish)),
        table_(std::make_shared<const Table>()),
        sweep_timer_(control) {}

  /// Returns when every worker has it: true; or after publish_wait_max: false.
  static boost::asio::awaitable<bool> put(std::shared_ptr<NoticeBoard> self, std::string key,
                                          Row row);
  /// To be called once for each put(): several may hold one row.
  void retire(std::string key);

 private:
  struct Retired {
    std::chrono::steady_clock::time_point until;
    std::string key;
  };

  void schedule_sweep();
  void sweep();

  boost::asio::io_context& control_;
  Publish publish_;
  TablePtr table_;
  std::unordered_map<std::string, int> holders_;
  std::deque<Retired> retired_;  // by time, as each stays equally long
  boost::asio::steady_timer sweep_timer_;
  bool sweeping_ = false;
};

template <class Row>
boost::asio::awaitable<bool> NoticeBoard<Row>::put(std::shared_ptr<NoticeBoard> self,
                                                   std::string key, Row row) {
  // An event shared with `done`, which may come late, or before the wait below.
  struct Published {
    explicit Published(boost::asio::io_context& control) : event(control) {
      event.expires_after(publish_wait_max);
    }
    boost::asio::steady_timer event;
    bool everywhere = false;
  };
  ++self->holders_[key];
  auto next = std::make_shared<Table>(*self->table_);
  next->insert_or_assign(std::move(key), std::move(row));
  self->table_ = next;
  auto published = std::make_shared<Published>(self->control_);
  self->publish_(self->table_, [published] {
    published->everywhere = true;
    published->event.cancel();
  });
  if (published->everywhere) co_return true;
  boost::system::error_code ignored;
  co_await published->event.async_wait(
      boost::asio::redirect_error(boost::asio::use_awaitable, ignored));
  co_return published->everywhere;
}

template <class Row>
void NoticeBoard<Row>::retire(std::string key) {
  const auto found = holders_.find(key);
  if (found == holders_.end() || --found->second > 0) return;
  holders_.erase(found);
  retired_.push_back({std::chrono::steady_clock::now() + kept_after_use, std::move(key)});
  schedule_sweep();
}

template <class Row>
void NoticeBoard<Row>::schedule_sweep() {
  if (sweeping_ || retired_.empty()) return;
  sweeping_ = true;
  sweep_timer_.expires_at(retired_.front().until);
  sweep_timer_.async_wait([weak = this->weak_from_this()](boost::system::error_code error) {
    const auto self = weak.lock();
    if (!self) return;
    self->sweeping_ = false;
    if (!error) self->sweep();
  });
}

template <class Row>
void NoticeBoard<Row>::sweep() {
  const auto now = std::chrono::steady_clock::now();
  auto next = std::make_shared<Table>(*table_);
  while (!retired_.empty() && retired_.front().until <= now) {
    const std::string key = std::move(retired_.front().key);
    retired_.pop_front();
    const bool again = std::any_of(retired_.begin(), retired_.end(),
                                   [&](const Retired& later) { return later.key == key; });
    if (!again && !holders_.contains(key)) next->erase(key);
  }
  if (next->size() != table_->size()) {
    table_ = next;
    publish_(table_, [] {});
  }
  schedule_sweep();
}

}  // namespace gatehouse::acme
