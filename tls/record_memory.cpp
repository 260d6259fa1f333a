#include "tls/record_memory.hpp"

#include <array>
#include <cstdlib>
#include <malloc.h>

#include <openssl/crypto.h>

namespace gatehouse::tls {

namespace {

// A record of 16 KiB with its header, padding and tag needs between 16.2 and 16.7 KiB, by direction
// and version. All are served with the same size, so that they are one list.
constexpr size_t smallest = 16 * 1024;
constexpr size_t largest = 17 * 1024;
constexpr size_t kept_max = 64;

struct Kept {
  std::array<void*, kept_max> blocks;
  size_t count = 0;
  ~Kept() {
    closed = true;
    while (count > 0) std::free(blocks[--count]);
  }
  bool closed = false;  // the thread is ending: what is freed from now on is not kept
};

thread_local Kept kept;

void* take(size_t size, const char*, int) {
  if (size <= smallest || size > largest) return std::malloc(size);
  if (kept.count > 0) return kept.blocks[--kept.count];
  return std::malloc(largest);
}

void give_back(void* block, const char*, int) {
  // No other allocation has that usable size but by chance, and then it is as good.
  if (block == nullptr) return;
  const size_t usable = malloc_usable_size(block);
  if (usable < largest || usable >= largest + 64 || kept.count == kept_max || kept.closed) {
    std::free(block);
    return;
  }
  kept.blocks[kept.count++] = block;
}

void* resize(void* block, size_t size, const char* file, int line) {
  if (block == nullptr) return take(size, file, line);
  if (size == 0) {
    give_back(block, file, line);
    return nullptr;
  }
  return std::realloc(block, size);
}

}  // namespace

bool keep_record_memory() {
  return CRYPTO_set_mem_functions(take, resize, give_back) == 1;
}

}  // namespace gatehouse::tls
