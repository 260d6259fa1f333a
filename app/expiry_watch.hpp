// Tells when the user's own certificates near their end: at 25, 10 and 5 % of their lifetime, and
// when it is over; once each, also across restarts.
//
// Not for what acme obtains, which renews itself and tells of itself. Control thread.
#pragma once

#include <functional>
#include <memory>
#include <vector>

#include <boost/asio/io_context.hpp>

#include "acme/event.hpp"
#include "acme/manager.hpp"
#include "acme/storage/storage.hpp"
#include "base/clock.hpp"

namespace gatehouse::app {

class ExpiryWatch {
 public:
  /// `list`: a row for each name of each certificate. References outlive the watch and the handlers
  /// of `control`; `list` and `tell` are called until stop().
  ExpiryWatch(boost::asio::io_context& control, acme::Storage& storage, const base::Clock& clock,
              std::function<std::vector<acme::CertificateStatus>()> list,
              std::function<void(const acme::Event&)> tell);
  ~ExpiryWatch();
  ExpiryWatch(const ExpiryWatch&) = delete;
  ExpiryWatch& operator=(const ExpiryWatch&) = delete;

  /// Reads what was told before, looks, and goes on looking: at least once an hour.
  void start();
  /// Looks now: the list may have changed.
  void look();
  void stop();

 private:
  struct State;
  std::shared_ptr<State> state_;
};

}  // namespace gatehouse::app
