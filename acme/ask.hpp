// The on-demand question: may NAME have a certificate? GET URL?domain=NAME&client_ip=IP, 2xx
// allows.
//
// Does not look at the name's syntax or the globs (on_demand). One question for a name at a time,
// its outcome given to all who wait and remembered for a while. Fails closed: that includes a URL
// that allows whatever it is asked. Control thread.
#pragma once

#include <deque>
#include <functional>
#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

#include <boost/asio/awaitable.hpp>
#include <boost/asio/io_context.hpp>

#include "acme/answers.hpp"
#include "base/clock.hpp"
#include "base/fetch.hpp"
#include "base/metrics.hpp"

namespace gatehouse::acme {

class Ask {
 public:
  static constexpr std::chrono::seconds timeout{2};
  static constexpr std::chrono::minutes allowed_kept{10};
  static constexpr std::chrono::seconds denied_kept{60};
  static constexpr std::chrono::seconds unknown_kept{5};
  static constexpr size_t remembered_max = 100'000;
  static constexpr size_t questions_max = 64;    // on their way at once
  static constexpr size_t waiting_max = 4096;    // names waiting for their turn
  static constexpr size_t listeners_max = 4096;  // for one name

  using Listener = std::function<void(Answer)>;

  /// References outlive the object and every question on its way.
  Ask(boost::asio::io_context& control, base::Fetcher& fetcher, const base::Clock& clock,
      base::MetricShard& metrics);
  ~Ask();

  /// Another URL forgets what the old one said. Empty: every name is denied.
  void configure(std::string url);

  /// `listener` is called once: at once if the answer is remembered. `client` may be empty.
  void question(const std::string& name, const std::string& client, Listener listener);

  /// What is remembered of `name`, without asking.
  std::optional<Answer> remembered(const std::string& name);
  size_t remembered_count() const;

  /// Asks `url` about a name that cannot exist: an `ask` that allows it allows everything. A URL
  /// that was down when it was tried is tried again before its first permission is believed.
  boost::asio::awaitable<Answer> try_made_up_name(std::string url);
  /// Whether `url` was the last that denied a made-up name.
  bool proven(const std::string& url) const;

 private:
  struct State;
  std::shared_ptr<State> state_;
};

}  // namespace gatehouse::acme
