#include "base/task.hpp"

#include <array>
#include <new>

#include "base/buffer.hpp"

namespace gatehouse::base {

namespace {

constexpr size_t step = 64;
constexpr size_t classes = 64;  // frames up to 4 KiB are kept

struct FreeFrame {
  FreeFrame* next;
};

struct FrameLists {
  struct List {
    FreeFrame* first = nullptr;
    size_t count = 0;
  };
  std::array<List, classes> lists;

  ~FrameLists() {
    for (auto& list : lists) {
      while (list.first != nullptr) ::operator delete(std::exchange(list.first, list.first->next));
    }
  }
};

thread_local FrameLists frames;

size_t class_of(size_t size) {
  return (size + step - 1) / step;
}

}  // namespace

void* allocate_frame(size_t size) {
  const size_t index = class_of(size);
  if (index >= classes) return ::operator new(size);
  auto& list = frames.lists[index];
  if (list.first == nullptr) return ::operator new(index* step);
  --list.count;
  return std::exchange(list.first, list.first->next);
}

void free_frame(void* frame, size_t size) noexcept {
  const size_t index = class_of(size);
  if (memory_watched || index >= classes || frames.lists[index].count >= frames_kept_max) {
    ::operator delete(frame);
    return;
  }
  auto& list = frames.lists[index];
  auto* free = static_cast<FreeFrame*>(frame);
  free->next = list.first;
  list.first = free;
  ++list.count;
}

}  // namespace gatehouse::base
