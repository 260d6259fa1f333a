#include "tls/ticket_keys.hpp"

#include <algorithm>
#include <thread>

#include <catch2/catch.hpp>

using namespace gatehouse::tls;

namespace {

bool same(const TicketKeys::Key& one, const TicketKeys::Key& other) {
  return one.name == other.name && one.aes == other.aes && one.hmac == other.hmac;
}

}  // namespace

TEST_CASE("fresh ticket keys differ in every part") {
  const auto one = TicketKeys::create();
  const auto other = TicketKeys::create();
  REQUIRE(one->keys().size() == 1);
  CHECK(one->keys()[0].name != other->keys()[0].name);
  CHECK(one->keys()[0].aes != other->keys()[0].aes);
  CHECK(one->keys()[0].hmac != other->keys()[0].hmac);
  CHECK(one->keys()[0].aes != one->keys()[0].hmac);
  CHECK(one->keys()[0].aes != decltype(TicketKeys::Key::aes){});
}

TEST_CASE("rotation puts a fresh key first, keeps the older ones in order, and three in all") {
  auto keys = TicketKeys::create();
  for (size_t rotation = 1; rotation < 6; ++rotation) {
    const auto before = keys;
    keys = before->rotated();
    REQUIRE(keys->keys().size() == std::min(rotation + 1, TicketKeys::keys_kept));
    CHECK_FALSE(same(keys->keys()[0], before->keys()[0]));
    for (size_t i = 1; i < keys->keys().size(); ++i) {
      CHECK(same(keys->keys()[i], before->keys()[i - 1]));
    }
  }
}

TEST_CASE("each thread uses the keys that were given to it") {
  const auto mine = TicketKeys::create();
  use_ticket_keys(mine);
  const TicketKeys* seen = mine.get();
  const auto theirs = TicketKeys::create();
  const TicketKeys* seen_after = nullptr;
  std::thread other([&] {
    seen = current_ticket_keys();
    use_ticket_keys(theirs);
    seen_after = current_ticket_keys();
  });
  other.join();
  CHECK(seen == nullptr);
  CHECK(seen_after == theirs.get());
  CHECK(current_ticket_keys() == mine.get());
  use_ticket_keys(nullptr);
  CHECK(current_ticket_keys() == nullptr);
}

TEST_CASE("keys live as long as a thread uses them") {
  std::weak_ptr<const TicketKeys> watched;
  {
    auto keys = TicketKeys::create();
    watched = keys;
    use_ticket_keys(std::move(keys));
  }
  CHECK_FALSE(watched.expired());
  use_ticket_keys(TicketKeys::create());
  CHECK(watched.expired());
  use_ticket_keys(nullptr);
}
