#include "base/buffer.hpp"

#include <string>

#include <catch2/catch.hpp>

#include "base/free_list.hpp"

namespace gatehouse::base {

TEST_CASE("a block has at least the size asked for, and is reused") {
  for (const size_t size : {1, 1024, 1025, 4096, 5000, 16'384, 90'000, 98'304, 1'000'000}) {
    const Block block = Block::take(size);
    CHECK(block.capacity() >= size);
  }
  char* first = nullptr;
  {
    const Block block = Block::take(3'000);
    first = block.data();
  }
  const Block again = Block::take(2'000);
  const bool reused = again.data() == first;
  CHECK((reused || memory_watched));
}

TEST_CASE("a queue gives back what was put in, however it is split") {
  ByteQueue queue;
  std::string expected, taken;
  for (size_t i = 0; i < 2'000; ++i) {
    const std::string piece(i * 7 % 901, static_cast<char>('a' + i % 26));
    queue.append(piece);
    expected += piece;
    const size_t count = std::min(queue.size(), i * 13 % 1'201);
    taken += queue.view().substr(0, count);
    queue.consume(count);
    if (i % 3 == 0) queue.trim();
  }
  taken += queue.view();
  queue.clear();
  CHECK(queue.empty());
  CHECK(taken == expected);
}

TEST_CASE("consumed bytes stay readable until the queue is trimmed") {
  ByteQueue queue;
  queue.append("hello");
  const std::string_view view = queue.view();
  queue.consume(5);
  CHECK(queue.empty());
  CHECK(view == "hello");
  queue.trim();
}

namespace {

struct Reusable {
  void clear() { ++cleared; }
  int cleared = 0;
};

}  // namespace

TEST_CASE("a recycled object comes back cleared") {
  Reusable* first = nullptr;
  {
    auto object = Recycled<Reusable>::take();
    first = &*object;
  }
  auto again = Recycled<Reusable>::take();
  CHECK(&*again == first);
  CHECK(again->cleared == 1);
}

TEST_CASE("what fits into the room reserved is appended without a move") {
  ByteQueue queue;
  queue.append("begun, ");
  queue.consume(2);
  queue.reserve(10'000);
  const char* const place = queue.data();
  CHECK(queue.view() == "gun, ");
  queue.append(std::string(9'995, 'x'));
  CHECK(queue.data() == place);
  CHECK(queue.size() == 10'000);
  CHECK(queue.view().starts_with("gun, xx"));
}

}  // namespace gatehouse::base
