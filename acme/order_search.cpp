#include "acme/order_search.hpp"

namespace gatehouse::acme {

using boost::asio::awaitable;

namespace {

constexpr int order_pages_max = 200;
constexpr size_t orders_read_max = 200;

/// Addresses as the CA lists them, which is oldest first with the CAs that keep a list.
awaitable<Outcome<std::vector<std::string>>> listed(Client& client, AccountPtr account,
                                                    const Errand& errand) {
  std::vector<std::string> urls;
  std::string next = account->orders;
  for (int pages = 0; pages < order_pages_max && !next.empty(); ++pages) {
    auto page = co_await client.orders(account, next, errand);
    // A CA that names a list but does not keep it is as one without.
    if (!page && means_gone(page.error())) break;
    if (!page) co_return page.error();
    urls.insert(urls.end(), page->orders.begin(), page->orders.end());
    next = page->next == next ? std::string() : page->next;
  }
  co_return urls;
}

bool is_open(const OrderObject& order, WallTime now) {
  const bool unfinished =
      order.status == OrderStatus::pending || order.status == OrderStatus::ready;
  return unfinished && (!order.expires || *order.expires > now);
}

}  // namespace

bool means_gone(const Failure& failure) {
  return failure.status >= 400 && failure.status < 500 && failure.status != 408 &&
         failure.status != 429 && failure.type != "badNonce" &&
         failure.type != "accountDoesNotExist";
}

awaitable<Outcome<std::optional<FoundOrder>>> find_open_order(
    Client& client, AccountPtr account, const std::vector<std::string>& names, WallTime now,
    const std::function<bool(const std::string& url)>& available, const Errand& errand) {
  const auto urls = co_await listed(client, account, errand);
  if (!urls) co_return urls.error();
  size_t read = 0;
  for (auto url = urls->rbegin(); url != urls->rend() && read < orders_read_max; ++url) {
    if (!available(*url)) continue;
    ++read;
    auto reply = co_await client.order(account, *url, errand);
    if (!reply && !means_gone(reply.error())) co_return reply.error();
    if (!reply || !is_open(reply->value, now) || !is_for(reply->value, names)) continue;
    // Somebody may have taken it while it was read.
    if (!available(*url)) continue;
    FoundOrder found;
    found.url = *url;
    found.order = std::move(reply->value);
    co_return std::optional<FoundOrder>(std::move(found));
  }
  co_return std::optional<FoundOrder>();
}

}  // namespace gatehouse::acme
