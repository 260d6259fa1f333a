#include "base/buffer.hpp"

#include <array>
#include <cstring>
#include <new>

namespace gatehouse::base {

namespace {

struct SizeClass {
  size_t bytes;
  size_t kept_max;
};
// The third holds a whole TLS record.
constexpr std::array<SizeClass, 4> size_classes = {
    {{1024, 4096}, {4096, 2048}, {17 * 1024, 512}, {96 * 1024, 64}}};

struct FreeBlocks {
  std::array<std::vector<char*>, size_classes.size()> lists;
  ~FreeBlocks() {
    for (auto& list : lists) {
      for (char* block : list) ::operator delete(block);
    }
  }
};

thread_local FreeBlocks free_blocks;

}  // namespace

Block Block::take(size_t size) {
  Block block;
  for (size_t i = 0; i < size_classes.size(); ++i) {
    if (size > size_classes[i].bytes) continue;
    auto& list = free_blocks.lists[i];
    block.capacity_ = size_classes[i].bytes;
    if (list.empty()) {
      block.data_ = static_cast<char*>(::operator new(block.capacity_));
    } else {
      block.data_ = list.back();
      list.pop_back();
    }
    return block;
  }
  block.data_ = static_cast<char*>(::operator new(size));
  block.capacity_ = size;
  return block;
}

void Block::release() {
  if (data_ == nullptr) return;
  for (size_t i = 0; i < size_classes.size(); ++i) {
    if (capacity_ != size_classes[i].bytes) continue;
    auto& list = free_blocks.lists[i];
    if (memory_watched || list.size() >= size_classes[i].kept_max) break;
    list.push_back(std::exchange(data_, nullptr));
    capacity_ = 0;
    return;
  }
  ::operator delete(std::exchange(data_, nullptr));
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
