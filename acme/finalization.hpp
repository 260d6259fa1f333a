// Brings an order that is ready to its certificate's address: sends the request, waits while the CA
// works on it.
//
// Does not validate (validation) or fetch the certificate (download). One for each order. Control
// thread.
#pragma once

#include <string>

#include <boost/asio/awaitable.hpp>

#include "acme/client.hpp"
#include "base/clock.hpp"

namespace gatehouse::acme {

class Finalization {
 public:
  /// The references outlive it. `url` is the order's.
  Finalization(Client& client, const base::Clock& clock, AccountPtr account, std::string url,
               const Errand& errand);

  /// Success: the order is valid. A request whose answer was lost is never sent again before the
  /// CA has said what became of the first one.
  boost::asio::awaitable<Outcome<OrderObject>> run(OrderObject order, std::string request_der);

  /// After a failure: the order cannot become valid any more.
  bool order_spent() const { return spent_; }

 private:
  boost::asio::awaitable<Outcome<OrderObject>> settle(Reply<OrderObject> reply,
                                                      OrderStatus awaited);

  Client& client_;
  const base::Clock& clock_;
  AccountPtr account_;
  std::string url_;
  const Errand& errand_;
  bool spent_ = false;
};

}  // namespace gatehouse::acme
