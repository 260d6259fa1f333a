#include "base/reactor.hpp"

#include <algorithm>
#include <array>
#include <cerrno>
#include <climits>
#include <stdexcept>
#include <sys/resource.h>
#include <unistd.h>
#include <utility>

#include <boost/asio/post.hpp>

namespace gatehouse::base {

namespace asio = boost::asio;

namespace {

int make_epoll() {
  const int fd = epoll_create1(EPOLL_CLOEXEC);
  if (fd < 0) throw std::runtime_error(from_errno(errno, "cannot create an epoll set").context);
  return fd;
}

}  // namespace

int descriptors_within(unsigned percent) {
  rlimit limit{};
  if (::getrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur > INT_MAX) return INT_MAX;
  return static_cast<int>(limit.rlim_cur * percent / 100);
}

Reactor::Reactor(asio::io_context& context, const Clock& clock)
    : context_(context),
      clock_(clock),
      epoll_(make_epoll()),
      descriptor_(context, epoll_),
      ticker_(context),
      now_(clock.monotonic()),
      wall_offset_(clock.wall() - now_.time_since_epoch()),
      timers_(now_) {
  wait();
  tick();
}

Reactor::~Reactor() {
  free_retired();
}

bool Reactor::add(Source& source, int fd) {
  epoll_event event{};
  event.events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET;
  event.data.ptr = &source;
  if (epoll_ctl(epoll_, EPOLL_CTL_ADD, fd, &event) != 0) return false;
  source.fd_ = fd;
  return true;
}

bool Reactor::add_listener(Source& source, int fd, bool shared) {
  epoll_event event{};
  event.events = EPOLLIN | (shared ? EPOLLEXCLUSIVE : 0U);
  event.data.ptr = &source;
  if (epoll_ctl(epoll_, EPOLL_CTL_ADD, fd, &event) != 0) return false;
  source.fd_ = fd;
  return true;
}

void Reactor::remove(Source& source) {
  epoll_ctl(epoll_, EPOLL_CTL_DEL, source.fd_, nullptr);
}

void Reactor::close(Source& source) {
  if (source.fd_ < 0) return;
  // Closing it takes it out of the set only if nobody else has the same open file: another worker
  // with the same listener, or a child process before it has closed its own.
  remove(source);
  ::close(source.fd_);
  source.fd_ = -1;
}

void Reactor::retire(std::unique_ptr<Retirable> object) {
  object->next_retired_ = retired_;
  retired_ = object.release();
}

void Reactor::defer(Deferred& work) {
  if (work.queued_) return;
  work.queued_ = true;
  deferred_.push_back(&work);
}

void Reactor::at_batch_end(Deferred& work) {
  if (work.queued_) return;
  work.queued_ = true;
  batch_end_work_.push_back(&work);
}

void Reactor::forget(Deferred& work) {
  if (!std::exchange(work.queued_, false)) return;
  std::replace(batch_end_work_.begin(), batch_end_work_.end(), &work,
               static_cast<Deferred*>(nullptr));
  std::erase(deferred_, &work);
  std::replace(running_.begin(), running_.end(), &work, static_cast<Deferred*>(nullptr));
}

void Reactor::post(std::function<void()> change) {
  asio::post(context_, [this, change = std::move(change)] { run(change); });
}

void Reactor::wait() {
  descriptor_.async_wait(asio::posix::stream_descriptor::wait_read,
                         [this](const boost::system::error_code& error) {
                           if (!error) run_batches();
                         });
}

// The order matters: everything that may close, resume or allocate comes before the wait is armed
// again, and nothing after it, so that no readiness is lost and nothing can throw in between.
void Reactor::run_batches() {
  std::array<epoll_event, batch_events_max> events;
  for (size_t round = 0; round < batches_in_a_row_max; ++round) {
    ++batch_;
    const int count = epoll_wait(epoll_, events.data(), static_cast<int>(events.size()), 0);
    read_clock();
    busy_ = count > 1;
    for (int i = 0; i < count; ++i) {
      auto& source = *static_cast<Source*>(events[i].data.ptr);
      if (source.fd_ < 0) continue;  // closed earlier in this batch
      const uint32_t bits = events[i].events;
      if (bits & (EPOLLRDHUP | EPOLLHUP | EPOLLERR)) source.hung_up = true;
      if (bits & (EPOLLIN | EPOLLRDHUP | EPOLLHUP | EPOLLERR)) source.readable = true;
      if (bits & (EPOLLOUT | EPOLLHUP | EPOLLERR)) source.writable = true;
      source.on_ready();
      if (batch_end_work_.size() >= batch_end_work_max) run_batch_end_work();
    }
    end_batch();
    if (count < busy_batch_events) break;
  }
  wait();
}

void Reactor::end_batch() {
  busy_ = false;
  if (!batch_end_work_.empty()) run_batch_end_work();
  if (!deferred_.empty()) run_deferred();
  if (retired_ != nullptr) free_retired();
}

void Reactor::run_batch_end_work() {
  for (size_t i = 0; i < batch_end_work_.size(); ++i) {
    Deferred* const work = batch_end_work_[i];
    if (work == nullptr) continue;  // forgotten meanwhile
    work->queued_ = false;
    work->on_deferred();
  }
  batch_end_work_.clear();
}

void Reactor::run_deferred() {
  const size_t count = std::min(deferred_.size(), deferred_in_a_row_max);
  running_.assign(deferred_.begin(), deferred_.begin() + static_cast<ptrdiff_t>(count));
  deferred_.erase(deferred_.begin(), deferred_.begin() + static_cast<ptrdiff_t>(count));
  for (size_t i = 0; i < running_.size(); ++i) {
    Deferred* work = running_[i];
    if (work == nullptr) continue;  // forgotten meanwhile
    work->queued_ = false;
    work->on_deferred();
  }
  running_.clear();
  if (deferred_.empty() || turn_posted_) return;
  turn_posted_ = true;
  asio::post(context_, [this] {
    turn_posted_ = false;
    read_clock();
    end_batch();
  });
}

void Reactor::free_retired() {
  // A destructor may retire more.
  while (retired_ != nullptr) {
    Retirable* object = retired_;
    retired_ = object->next_retired_;
    delete object;
  }
}

void Reactor::tick() {
  ticker_.expires_after(TimerWheel::tick);
  ticker_.async_wait([this](const boost::system::error_code& error) {
    if (error) return;
    read_clock();
    wall_offset_ = clock_.wall() - now_.time_since_epoch();
    call_timers();
  });
}

// Very many may be due at once, when slow clients that came together are cut: others have their
// turn in between.
void Reactor::call_timers() {
  const bool done = timers_.advance(now_, timers_in_a_row_max);
  end_batch();
  if (done) return tick();
  asio::post(context_, [this] {
    read_clock();
    call_timers();
  });
}

void Reactor::read_clock() {
  now_ = clock_.monotonic();
}

}  // namespace gatehouse::base
