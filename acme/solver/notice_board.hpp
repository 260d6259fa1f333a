// Answers to challenges, by what a CA asks with: an immutable table that all workers read, replaced
// as a whole, each row kept a while after its last use.
//
// Does not answer (http01, tls_alpn01) or know what a row means. Control thread, except the tables,
// which any thread reads.
#pragma once

#include <algorithm>
#include <array>
#include <chrono>
#include <deque>
#include <functional>
#include <initializer_list>
#include <memory>
#include <string>
#include <unordered_map>
#include <utility>

#include <boost/asio/awaitable.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/redirect_error.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/use_awaitable.hpp>

namespace gatehouse::acme {

/// A copy shares all but what is changed in it: thousands of rows may stand while a new one comes
/// every few milliseconds.
template <class Row>
class NoticeTable {
 public:
  NoticeTable() = default;
  NoticeTable(std::initializer_list<std::pair<std::string, Row>> rows) {
    for (const auto& [key, row] : rows) set(key, row);
  }

  /// Null: there is no such row. Valid while the table lives.
  const Row* find(const std::string& key) const {
    const auto& part = parts_[index_of(key)];
    if (!part) return nullptr;
    const auto found = part->find(key);
    return found == part->end() ? nullptr : &found->second;
  }
  bool contains(const std::string& key) const { return find(key) != nullptr; }
  size_t size() const { return size_; }
  bool empty() const { return size_ == 0; }

  void set(std::string key, Row row) {
    change(key, [&](Part& part) { part.insert_or_assign(key, std::move(row)); });
  }
  void erase(const std::string& key) {
    if (contains(key)) change(key, [&](Part& part) { part.erase(key); });
  }

 private:
  using Part = std::unordered_map<std::string, Row>;
  static constexpr size_t parts_count = 256;

  static size_t index_of(const std::string& key) {
    return std::hash<std::string>{}(key) % parts_count;
  }
  template <class Change>
  void change(const std::string& key, Change apply) {
    auto& part = parts_[index_of(key)];
    auto next = part ? std::make_shared<Part>(*part) : std::make_shared<Part>();
    size_ -= next->size();
    apply(*next);
    size_ += next->size();
    part = std::move(next);
  }

  std::array<std::shared_ptr<const Part>, parts_count> parts_;
  size_t size_ = 0;
};

template <class Row>
class NoticeBoard : public std::enable_shared_from_this<NoticeBoard<Row>> {
 public:
  using Table = NoticeTable<Row>;
  using TablePtr = std::shared_ptr<const Table>;
  /// Gives all workers a new table; `done` is called on the control thread when every one of them
  /// answers from it.
  using Publish = std::function<void(TablePtr table, std::function<void()> done)>;

  static constexpr std::chrono::seconds kept_after_use{60};    // CAs ask several times, and late
  static constexpr std::chrono::seconds publish_wait_max{10};  // a worker is stuck, or stopping
  /// Rows whose time is over go together.
  static constexpr std::chrono::seconds sweep_interval{1};

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
  using Time = std::chrono::steady_clock::time_point;
  struct Use {
    unsigned holders = 0;
    Time until;  // without holders: when it ends
  };

  void schedule_sweep();
  void sweep();

  boost::asio::io_context& control_;
  Publish publish_;
  TablePtr table_;
  std::unordered_map<std::string, Use> uses_;  // of every row
  // By time, as each stays equally long. A row that was used again stands here twice.
  std::deque<std::pair<Time, std::string>> retired_;
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
  ++self->uses_[key].holders;
  auto next = std::make_shared<Table>(*self->table_);
  next->set(std::move(key), std::move(row));
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
  const auto found = uses_.find(key);
  if (found == uses_.end() || found->second.holders == 0 || --found->second.holders > 0) return;
  found->second.until = std::chrono::steady_clock::now() + kept_after_use;
  retired_.emplace_back(found->second.until, std::move(key));
  schedule_sweep();
}

template <class Row>
void NoticeBoard<Row>::schedule_sweep() {
  if (sweeping_ || retired_.empty()) return;
  sweeping_ = true;
  sweep_timer_.expires_at(retired_.front().first + sweep_interval);
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
  while (!retired_.empty() && retired_.front().first <= now) {
    const std::string key = std::move(retired_.front().second);
    retired_.pop_front();
    const auto use = uses_.find(key);
    if (use == uses_.end() || use->second.holders > 0 || use->second.until > now) continue;
    uses_.erase(use);
    next->erase(key);
  }
  if (next->size() != table_->size()) {
    table_ = next;
    publish_(table_, [] {});
  }
  schedule_sweep();
}

}  // namespace gatehouse::acme
