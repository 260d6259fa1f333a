// Pieces of memory of one size that are not in use, for a thread to use again.
//
// Needs no construction and no destruction, so that a constinit thread_local one costs nothing to
// look at. Whoever has one empties it at the thread's end, and keeps nothing from then on. Owned by
// one thread.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <new>
#include <utility>

namespace gatehouse::base {

/// A sanitizer sees every allocation: lists of free memory would hide mistakes from it.
#if defined(__SANITIZE_ADDRESS__)
inline constexpr bool memory_watched = true;
#elif defined(__has_feature)
inline constexpr bool memory_watched = __has_feature(address_sanitizer);
#else
inline constexpr bool memory_watched = false;
#endif

class FreeList {
 public:
  /// The piece that was kept last, or null.
  void* take() {
    if (first_ == nullptr) return nullptr;
    --count_;
    return std::exchange(first_, first_->next);
  }
  /// False: there are so many already, or the list was closed.
  bool keep(void* memory, size_t most) {
    if (count_ >= most) return false;
    first_ = new (memory) Piece{first_};
    ++count_;
    return true;
  }
  /// Frees what is kept, and keeps nothing any more.
  void close() {
    while (void* const memory = take()) ::operator delete(memory);
    count_ = SIZE_MAX;
  }

 private:
  struct Piece {
    Piece* next;
  };
  Piece* first_ = nullptr;
  size_t count_ = 0;
};

/// Closes a thread's lists when the thread ends.
template <size_t count>
class ClosingLists {
 public:
  explicit ClosingLists(std::array<FreeList, count>& lists) : lists_(lists) {}
  ~ClosingLists() {
    for (FreeList& list : lists_) list.close();
  }
  ClosingLists(const ClosingLists&) = delete;
  ClosingLists& operator=(const ClosingLists&) = delete;

 private:
  std::array<FreeList, count>& lists_;
};

}  // namespace gatehouse::base
