// Coroutines of a worker: lazy tasks with symmetric transfer, frames from a per-thread free list.
//
// Not for the control thread (asio::awaitable there; the two are never mixed). A task belongs to
// one worker's thread. It always runs to its end: whoever waits for something that will never come
// is resumed with a failure, not destroyed. No exception may leave a task.
#pragma once

#include <coroutine>
#include <cstddef>
#include <exception>
#include <optional>
#include <utility>

#include "base/error.hpp"

namespace gatehouse::base {

/// Memory for coroutine frames, from free lists of the calling thread. A frame is freed on the
/// thread that made it.
void* allocate_frame(size_t size);
void free_frame(void* frame, size_t size) noexcept;

/// Most frames of one size that a thread keeps for reuse.
inline constexpr size_t frames_kept_max = 4096;

namespace task_detail {

struct PromiseBase {
  std::coroutine_handle<> continuation = std::noop_coroutine();

  static void* operator new(size_t size) { return allocate_frame(size); }
  static void operator delete(void* frame, size_t size) noexcept { free_frame(frame, size); }

  std::suspend_always initial_suspend() noexcept { return {}; }
  struct Final {
    bool await_ready() noexcept { return false; }
    template <class P>
    std::coroutine_handle<> await_suspend(std::coroutine_handle<P> self) noexcept {
      return self.promise().continuation;
    }
    void await_resume() noexcept {}
  };
  Final final_suspend() noexcept { return {}; }
  [[noreturn]] void unhandled_exception() noexcept { std::terminate(); }
};

}  // namespace task_detail

template <class T = void>
class [[nodiscard]] Task;

namespace task_detail {

template <class T>
struct Promise final : PromiseBase {
  std::optional<T> value;
  Task<T> get_return_object() noexcept;
  template <class U>
  void return_value(U&& result) {
    value.emplace(std::forward<U>(result));
  }
};

template <>
struct Promise<void> final : PromiseBase {
  Task<void> get_return_object() noexcept;
  void return_void() noexcept {}
};

}  // namespace task_detail

/// Starts when awaited, at most once; the awaiting coroutine goes on when it ends.
template <class T>
class [[nodiscard]] Task {
 public:
  using promise_type = task_detail::Promise<T>;
  using Handle = std::coroutine_handle<promise_type>;

  explicit Task(Handle handle) noexcept : handle_(handle) {}
  Task(Task&& other) noexcept : handle_(std::exchange(other.handle_, {})) {}
  Task& operator=(Task&&) = delete;
  ~Task() {
    if (handle_) handle_.destroy();
  }

  bool await_ready() const noexcept { return false; }
  std::coroutine_handle<> await_suspend(std::coroutine_handle<> waiting) noexcept {
    handle_.promise().continuation = waiting;
    return handle_;
  }
  T await_resume() {
    if constexpr (!std::is_void_v<T>) return std::move(*handle_.promise().value);
  }

 private:
  Handle handle_;
};

namespace task_detail {

template <class T>
Task<T> Promise<T>::get_return_object() noexcept {
  return Task<T>(std::coroutine_handle<Promise>::from_promise(*this));
}
inline Task<void> Promise<void>::get_return_object() noexcept {
  return Task<void>(std::coroutine_handle<Promise>::from_promise(*this));
}

/// Runs at once and frees itself at its end.
struct Detached {
  struct promise_type {
    static void* operator new(size_t size) { return allocate_frame(size); }
    static void operator delete(void* frame, size_t size) noexcept { free_frame(frame, size); }
    Detached get_return_object() noexcept { return {}; }
    std::suspend_never initial_suspend() noexcept { return {}; }
    std::suspend_never final_suspend() noexcept { return {}; }
    void return_void() noexcept {}
    [[noreturn]] void unhandled_exception() noexcept { std::terminate(); }
  };
};

inline Detached run_detached(Task<void> task) {
  co_await task;
}

}  // namespace task_detail

/// Starts a task that nobody waits for: it runs until its first suspension before this returns.
inline void spawn(Task<void> task) {
  task_detail::run_detached(std::move(task));
}

/// An operation that could not complete at once: its owner polls it again when something happened,
/// and resumes the waiting coroutine only when it is complete, so that partial progress never
/// touches a coroutine. Lives in the coroutine's frame.
struct Parked {
  using Completes = bool (*)(Parked&);
  explicit Parked(Completes c) noexcept : completes(c) {}
  Completes completes;  // true: resume
  std::coroutine_handle<> waiting;
};

/// Where at most one operation waits.
class ParkingSlot {
 public:
  bool occupied() const { return operation_ != nullptr; }
  void park(Parked& operation) {
    ASSERT(operation_ == nullptr);
    operation_ = &operation;
  }
  /// Whatever is parked is forgotten.
  void clear() { operation_ = nullptr; }
  /// Polls the operation, if there is one, and resumes its coroutine when it is complete.
  void poll() {
    if (operation_ == nullptr || !operation_->completes(*operation_)) return;
    std::exchange(operation_, nullptr)->waiting.resume();
  }

 private:
  Parked* operation_ = nullptr;
};

/// Something that happens once; at most one coroutine waits for it.
class Event {
 public:
  bool happened() const { return happened_; }
  void set() {
    happened_ = true;
    if (waiting_) std::exchange(waiting_, {}).resume();
  }
  bool await_ready() const noexcept { return happened_; }
  void await_suspend(std::coroutine_handle<> waiting) noexcept { waiting_ = waiting; }
  void await_resume() const noexcept {}

 private:
  bool happened_ = false;
  std::coroutine_handle<> waiting_;
};

}  // namespace gatehouse::base
