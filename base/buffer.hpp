// Memory for bytes on the data path: blocks from per-thread free lists, and objects kept for reuse.
//
// Not for the control thread's strings. A block is freed on the thread that took it.
#pragma once

#include <cstddef>
#include <memory>
#include <string_view>
#include <utility>
#include <vector>

namespace gatehouse::base {

/// A piece of memory. Small sizes come from free lists: taking one costs nothing in the steady
/// state.
class Block {
 public:
  Block() = default;
  /// At least `size` bytes, uninitialised.
  static Block take(size_t size);
  Block(Block&& other) noexcept
      : data_(std::exchange(other.data_, nullptr)), capacity_(std::exchange(other.capacity_, 0)) {}
  Block& operator=(Block&& other) noexcept {
    std::swap(data_, other.data_);
    std::swap(capacity_, other.capacity_);
    return *this;
  }
  ~Block() { release(); }

  char* data() const { return data_; }
  size_t capacity() const { return capacity_; }
  explicit operator bool() const { return data_ != nullptr; }
  void release() {
    if (data_ != nullptr) give_back();
  }

 private:
  void give_back();
  char* data_ = nullptr;
  size_t capacity_ = 0;
};

/// Bytes waiting in order: appended at the end, consumed at the front, no memory when empty.
class ByteQueue {
 public:
  std::string_view view() const { return {block_.data() + start_, end_ - start_}; }
  char* data() const { return block_.data() + start_; }
  size_t size() const { return end_ - start_; }
  bool empty() const { return start_ == end_; }
  void append(std::string_view bytes);
  /// Makes room for `total` bytes, those that wait included: appending up to there moves nothing.
  void reserve(size_t total);
  /// What was consumed stays readable until the next append or trim.
  void consume(size_t count) { start_ += count; }
  /// Gives the memory back if nothing is left.
  void trim();
  void clear() {
    consume(size());
    trim();
  }

 private:
  Block block_;
  size_t start_ = 0;
  size_t end_ = 0;
};

/// An object that keeps its capacity between uses: taken from the thread's list, given back by the
/// deleter after `clear()`.
template <class T>
class Recycled {
 public:
  static constexpr size_t kept_max = 1024;

  static Recycled take() { return Recycled(kept.count > 0 ? kept.objects[--kept.count] : make()); }
  Recycled() = default;
  Recycled(Recycled&& other) noexcept : object_(std::exchange(other.object_, nullptr)) {}
  Recycled& operator=(Recycled&& other) noexcept {
    std::swap(object_, other.object_);
    return *this;
  }
  ~Recycled() { reset(); }

  T* operator->() const { return object_; }
  T& operator*() const { return *object_; }
  explicit operator bool() const { return object_ != nullptr; }
  void reset() {
    if (object_ == nullptr) return;
    T* const object = std::exchange(object_, nullptr);
    if constexpr (requires { object->clear(); })
      object->clear();
    else
      object->reset();
    if (kept.count < kept_max) {
      kept.objects[kept.count++] = object;
    } else {
      delete object;
    }
  }

 private:
  // Nothing to construct or destroy, so that a look at it costs nothing.
  struct Kept {
    T* objects[kept_max];
    size_t count;
  };
  struct Closing {
    ~Closing() {
      while (kept.count > 0) delete kept.objects[--kept.count];
    }
  };

  explicit Recycled(T* object) : object_(object) {}
  static T* make() {
    thread_local const Closing at_thread_end;
    return new T;
  }

  static inline constinit thread_local Kept kept{};
  T* object_ = nullptr;
};

}  // namespace gatehouse::base
