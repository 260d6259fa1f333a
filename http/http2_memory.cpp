#include "http/http2_memory.hpp"

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <new>
#include <sys/mman.h>
#include <vector>

#include "base/task.hpp"

namespace gatehouse::http {

namespace {

/// Ahead of every small piece. Its size keeps what follows aligned.
struct alignas(std::max_align_t) Header {
  size_t size;  // of the piece with its header
};

constexpr size_t page_bytes = 4096;
constexpr size_t small_bytes_max = 4096;

// The frame that a session is putting together may need 16 KB, and nearly never needs more than a
// page: on pages that nothing else shares, the rest of it is never there. These have no header, for
// that would keep a page.
constexpr size_t slot_bytes_min = size_t{12} * 1024;
constexpr size_t slot_bytes = size_t{20} * 1024;
constexpr size_t arena_bytes = 64 * slot_bytes;

struct Slots {
  std::vector<char*> free;
  std::vector<char*> arenas;  // in the order of their addresses

  ~Slots() {
    for (char* each : arenas) munmap(each, arena_bytes);
  }

  char* take() {
    if (free.empty() && !map()) return nullptr;
    char* const slot = free.back();
    free.pop_back();
    return slot;
  }

  bool map() {
    void* const pages =
        mmap(nullptr, arena_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (pages == MAP_FAILED) return false;
    madvise(pages, arena_bytes, MADV_NOHUGEPAGE);
    auto* const arena = static_cast<char*>(pages);
    arenas.insert(std::upper_bound(arenas.begin(), arenas.end(), arena), arena);
    for (char* slot = arena + arena_bytes; slot != arena;) free.push_back(slot -= slot_bytes);
    return true;
  }

  bool contain(const void* memory) const {
    if (reinterpret_cast<uintptr_t>(memory) % page_bytes != 0) return false;
    const auto* const piece = static_cast<const char*>(memory);
    const auto after = std::upper_bound(arenas.begin(), arenas.end(), piece);
    return after != arenas.begin() && piece < *std::prev(after) + arena_bytes;
  }
};

thread_local Slots slots;

size_t size_of(const void* memory) {
  if (slots.contain(memory)) return slot_bytes;
  return (static_cast<const Header*>(memory) - 1)->size - sizeof(Header);
}

}  // namespace

bool http2_has_pages(size_t size) {
  return size >= slot_bytes_min && size <= slot_bytes;
}

void* http2_allocate(size_t size) {
  if (http2_has_pages(size)) return slots.take();
  const size_t whole = size + sizeof(Header);
  void* const memory =
      whole <= small_bytes_max ? base::allocate_frame(whole) : ::operator new(whole, std::nothrow);
  return memory == nullptr ? nullptr : new (memory) Header{whole} + 1;
}

void http2_free(void* memory) {
  if (memory == nullptr) return;
  if (slots.contain(memory)) {
    slots.free.push_back(static_cast<char*>(memory));
    return;
  }
  Header* const header = static_cast<Header*>(memory) - 1;
  if (header->size <= small_bytes_max) {
    base::free_frame(header, header->size);
  } else {
    ::operator delete(header);
  }
}

void* http2_reallocate(void* memory, size_t size) {
  void* const other = http2_allocate(size);
  if (other == nullptr || memory == nullptr) return other;
  std::memcpy(other, memory, std::min(size_of(memory), size));
  http2_free(memory);
  return other;
}

void http2_forget(void* memory) {
  madvise(memory, slot_bytes, MADV_DONTNEED);
}

}  // namespace gatehouse::http
