#include "acme/answers.hpp"

#include <algorithm>
#include <malloc.h>

#include <catch2/catch.hpp>
#include <fmt/format.h>

using namespace gatehouse::acme;
using namespace std::chrono_literals;

namespace {

const Answers::Time start{1000h};

std::string numbered(int number) {
  return fmt::format("r{:08x}.flood.example.com", number);
}

}  // namespace

TEST_CASE("An answer is given back until it no longer counts") {
  Answers answers(10);
  answers.remember("a.example", Answer::allowed, start, 600s);
  answers.remember("b.example", Answer::denied, start, 60s);
  answers.remember("c.example", Answer::unknown, start, 5s);
  CHECK(answers.recall("a.example", start + 599s) == Answer::allowed);
  CHECK(answers.recall("b.example", start + 59s) == Answer::denied);
  CHECK(answers.recall("c.example", start + 4s) == Answer::unknown);
  CHECK_FALSE(answers.recall("d.example", start));
  CHECK_FALSE(answers.recall("c.example", start + 5s));
  CHECK(answers.size() == 2);
  CHECK_FALSE(answers.recall("a.example", start + 600s));
  answers.clear();
  CHECK(answers.size() == 0);
  CHECK_FALSE(answers.recall("b.example", start));
}

TEST_CASE("A newer answer takes the place of the one before, of another kind too") {
  Answers answers(10);
  for (const Answer answer : {Answer::denied, Answer::allowed, Answer::unknown, Answer::allowed}) {
    answers.remember("a.example", answer, start, 60s);
    CHECK(answers.recall("a.example", start) == answer);
    CHECK(answers.size() == 1);
  }
}

TEST_CASE("What no longer counts leaves first, by itself") {
  Answers answers(100);
  for (int number = 0; number < 50; ++number)
    answers.remember(numbered(number), Answer::denied, start, 60s);
  answers.remember("a.example", Answer::allowed, start, 600s);
  answers.remember("b.example", Answer::allowed, start + 60s, 600s);
  CHECK(answers.size() == 2);
}

TEST_CASE("When it is full, what was not looked at for longest makes room") {
  Answers answers(3);
  for (int number = 0; number < 3; ++number)
    answers.remember(numbered(number), Answer::denied, start, 60s);
  CHECK(answers.recall(numbered(0), start));
  answers.remember(numbered(3), Answer::denied, start, 60s);
  CHECK(answers.size() == 3);
  CHECK(answers.recall(numbered(0), start));
  CHECK_FALSE(answers.recall(numbered(1), start));
  CHECK(answers.recall(numbered(2), start));
  CHECK(answers.recall(numbered(3), start));
}

TEST_CASE("A flood of denied names costs under 20 MB and pushes out no allowed one") {
  constexpr size_t most = 100'000;
  const size_t before = ::mallinfo2().uordblks;
  Answers answers(most);
  answers.remember("good.example", Answer::allowed, start, 600s);
  for (int number = 0; number < 250'000; ++number)
    answers.remember(numbered(number), Answer::denied, start, 60s);
  CHECK(answers.size() == most);
  CHECK(answers.recall("good.example", start) == Answer::allowed);
  CHECK(answers.recall(numbered(249'999), start) == Answer::denied);
  CHECK_FALSE(answers.recall(numbered(1), start));
  // 0 where a sanitizer's allocator is in use.
  const size_t used = std::max(::mallinfo2().uordblks, before) - before;
  CAPTURE(used);
  CHECK(used < size_t{17} * 1000 * 1000);
}
