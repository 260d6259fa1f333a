#include "base/task.hpp"

#include <memory>
#include <string>

#include <catch2/catch.hpp>

#include "base/free_list.hpp"

namespace gatehouse::base {

namespace {

Task<int> number(int value) {
  co_return value;
}

Task<int> sum(int depth) {
  if (depth == 0) co_return 0;
  auto below = sum(depth - 1);
  const int rest = co_await below;
  auto one = number(1);
  const int self = co_await one;
  co_return rest + self;
}

Task<void> store(int depth, int& out) {
  auto task = sum(depth);
  out = co_await task;
}

struct Gate final : Parked {
  explicit Gate(ParkingSlot& s, int& n)
      : Parked([](Parked& self) { return static_cast<Gate&>(self).await_ready(); }),
        slot(s),
        needed(n) {}
  bool await_ready() const { return needed == 0; }
  void await_suspend(std::coroutine_handle<> handle) {
    waiting = handle;
    slot.park(*this);
  }
  void await_resume() const noexcept {}
  ParkingSlot& slot;
  int& needed;
};

Task<void> pass(ParkingSlot& slot, int& needed, bool& passed) {
  Gate gate(slot, needed);
  co_await gate;
  passed = true;
}

Task<void> wait_for(Event& event, int& count) {
  co_await event;
  ++count;
}

Task<std::unique_ptr<std::string>> make_text() {
  co_return std::make_unique<std::string>("text");
}

Task<void> take_text(std::string& out) {
  auto making = make_text();
  const auto text = co_await making;
  out = *text;
}

}  // namespace

TEST_CASE("tasks return values through many levels without growing the stack") {
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
  const int depth = 500;  // sanitizers keep GCC from turning every transfer into a jump
#else
  const int depth = 20'000;
#endif
  int result = 0;
  spawn(store(depth, result));
  CHECK(result == depth);
}

TEST_CASE("a parked operation is resumed only when it is complete") {
  ParkingSlot slot;
  int needed = 2;
  bool passed = false;
  spawn(pass(slot, needed, passed));
  CHECK(slot.occupied());
  slot.poll();
  CHECK_FALSE(passed);
  needed = 0;
  slot.poll();
  CHECK(passed);
  CHECK_FALSE(slot.occupied());
  slot.poll();  // nothing waits: nothing happens
}

TEST_CASE("an event resumes its waiter once, and lets later ones pass") {
  Event event;
  int count = 0;
  spawn(wait_for(event, count));
  CHECK(count == 0);
  event.set();
  CHECK(count == 1);
  event.set();
  CHECK(count == 1);
  spawn(wait_for(event, count));
  CHECK(count == 2);
}

TEST_CASE("a task moves out what cannot be copied") {
  std::string text;
  spawn(take_text(text));
  CHECK(text == "text");
}

TEST_CASE("frames of one size are reused") {
  if (memory_watched) return;  // then none is
  void* first = allocate_frame(200);
  free_frame(first, 200);
  REQUIRE(allocate_frame(250) == first);
  free_frame(first, 250);
  void* large = allocate_frame(100'000);
  free_frame(large, 100'000);
}

}  // namespace gatehouse::base
