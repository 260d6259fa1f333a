#include "base/task.hpp"

#include <array>
#include <new>

#include "base/free_list.hpp"

namespace gatehouse::base {

namespace {

constexpr size_t step = 64;
constexpr size_t classes = 64;  // frames up to 4 KiB are kept

constinit thread_local std::array<FreeList, classes> lists;

void* new_frame(size_t size) {
  thread_local const ClosingLists at_thread_end{lists};
  return ::operator new(size);
}

size_t class_of(size_t size) {
  return (size + step - 1) / step;
}

}  // namespace

void* allocate_frame(size_t size) {
  const size_t index = class_of(size);
  if (index >= classes) return ::operator new(size);
  void* const kept = lists[index].take();
  return kept != nullptr ? kept : new_frame(index * step);
}

void free_frame(void* frame, size_t size) noexcept {
  const size_t index = class_of(size);
  const bool kept = !memory_watched && index < classes && lists[index].keep(frame, frames_kept_max);
  if (!kept) ::operator delete(frame);
}

}  // namespace gatehouse::base
