#include "base/free_list.hpp"

#include <catch2/catch.hpp>

using gatehouse::base::FreeList;

TEST_CASE("a free list gives back what was kept last") {
  FreeList list;
  CHECK(list.take() == nullptr);
  void* const first = ::operator new(64);
  void* const second = ::operator new(64);
  CHECK(list.keep(first, 8));
  CHECK(list.keep(second, 8));
  CHECK(list.take() == second);
  CHECK(list.take() == first);
  CHECK(list.take() == nullptr);
  ::operator delete(first);
  ::operator delete(second);
}

TEST_CASE("a free list keeps so many and no more") {
  FreeList list;
  void* const first = ::operator new(64);
  void* const second = ::operator new(64);
  CHECK(list.keep(first, 1));
  CHECK_FALSE(list.keep(second, 1));
  CHECK(list.take() == first);
  CHECK(list.keep(second, 1));
  ::operator delete(first);
  list.close();
}

TEST_CASE("a free list that was closed keeps nothing") {
  FreeList list;
  CHECK(list.keep(::operator new(64), 8));
  list.close();
  CHECK(list.take() == nullptr);
  void* const late = ::operator new(64);
  CHECK_FALSE(list.keep(late, 8));
  ::operator delete(late);
}
