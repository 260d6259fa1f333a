// Finds an order at the CA whose address we lost: a crash came between the CA's answer and our
// journal.
//
// Does not order anything (issuer). Control thread.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <vector>

#include <boost/asio/awaitable.hpp>

#include "acme/client.hpp"
#include "acme/times.hpp"

namespace gatehouse::acme {

struct FoundOrder {
  std::string url;
  OrderObject order;
};

/// The newest open, unexpired order of the account for exactly these names, of those that
/// `available` lets through; nothing if there is none or the CA keeps no list (RFC 8555 section
/// 7.1.2.1: Let's Encrypt keeps none, but gives the same pending order to the same request).
/// Finalized orders are left alone: our key has not been sent yet, so they are somebody else's.
/// Reads at most 200 pages and 200 orders.
boost::asio::awaitable<Outcome<std::optional<FoundOrder>>> find_open_order(
    Client& client, AccountPtr account, const std::vector<std::string>& names, WallTime now,
    const std::function<bool(const std::string& url)>& available, const Errand& errand);

/// The CA answered, and its answer means that the resource is not ours or not there any more.
bool means_gone(const Failure& failure);

}  // namespace gatehouse::acme
