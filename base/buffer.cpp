#include "base/buffer.hpp"

#include <array>
#include <cstring>
#include <new>

#include "base/free_list.hpp"

namespace gatehouse::base {

namespace {

struct SizeClass {
  size_t bytes;
  size_t kept_max;
};
// The third holds a whole TLS record.
constexpr std::array<SizeClass, 4> size_classes = {
    {{1024, 4096}, {4096, 2048}, {17 * 1024, 512}, {96 * 1024, 64}}};

constinit thread_local std::array<FreeList, size_classes.size()> lists;

char* new_block(size_t size) {
  thread_local const ClosingLists at_thread_end{lists};
  return static_cast<char*>(::operator new(size));
}

/// The smallest class that holds so much; one past the last: none does.
size_t class_of(size_t size) {
  size_t index = 0;
  while (index < size_classes.size() && size_classes[index].bytes < size) ++index;
  return index;
}

}  // namespace

Block Block::take(size_t size) {
  Block block;
  const size_t index = class_of(size);
  const bool listed = index < size_classes.size();
  block.capacity_ = listed ? size_classes[index].bytes : size;
  block.data_ = listed ? static_cast<char*>(lists[index].take()) : nullptr;
  if (block.data_ == nullptr) block.data_ = new_block(block.capacity_);
  return block;
}

void Block::give_back() {
  const size_t index = class_of(capacity_);
  const bool kept = !memory_watched && index < size_classes.size() &&
                    capacity_ == size_classes[index].bytes &&
                    lists[index].keep(data_, size_classes[index].kept_max);
  if (!kept) ::operator delete(data_);
  data_ = nullptr;
  capacity_ = 0;
}

void ByteQueue::append(std::string_view bytes) {
  if (bytes.empty()) return;
  if (end_ + bytes.size() > block_.capacity()) {
    const size_t needed = size() + bytes.size();
    // A queue that grows byte by byte must not copy itself each time.
    reserve(needed > block_.capacity() ? needed + needed / 2 : needed);
  }
  std::memcpy(block_.data() + end_, bytes.data(), bytes.size());
  end_ += bytes.size();
}

void ByteQueue::reserve(size_t total) {
  if (start_ + total <= block_.capacity()) return;
  Block larger = Block::take(total);
  const size_t used = size();
  if (used > 0) std::memcpy(larger.data(), data(), used);
  std::swap(block_, larger);
  start_ = 0;
  end_ = used;
}

void ByteQueue::trim() {
  if (start_ < end_) return;
  start_ = end_ = 0;
  block_.release();
}

}  // namespace gatehouse::base
