#include "tls/window.hpp"

#include <algorithm>
#include <cstring>
#include <memory>

#include <openssl/bio.h>

#include "base/error.hpp"

namespace gatehouse::tls {

namespace {

thread_local Window* this_window = nullptr;

int bio_read(BIO* bio, char* out, int size) {
  auto& input = this_window->bio_input;
  BIO_clear_retry_flags(bio);
  if (input.empty()) {
    BIO_set_retry_read(bio);
    return -1;
  }
  const size_t count = std::min(input.size(), static_cast<size_t>(size));
  std::memcpy(out, input.data(), count);
  input.remove_prefix(count);
  return static_cast<int>(count);
}

int bio_write(BIO* bio, const char* bytes, int size) {
  auto& w = *this_window;
  BIO_clear_retry_flags(bio);
  const auto count = static_cast<size_t>(size);
  ASSERT(w.out_size + count <= w.out.size());
  std::memcpy(w.out.data() + w.out_size, bytes, count);
  w.out_size += count;
  return size;
}

long bio_control(BIO*, int command, long, void*) {
  return command == BIO_CTRL_FLUSH || command == BIO_CTRL_PUSH || command == BIO_CTRL_POP ? 1 : 0;
}

BIO_METHOD* window_method() {
  static BIO_METHOD* const method = [] {
    BIO_METHOD* made = BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "thread window");
    BIO_meth_set_read(made, bio_read);
    BIO_meth_set_write(made, bio_write);
    BIO_meth_set_ctrl(made, bio_control);
    BIO_meth_set_create(made, [](BIO* bio) {
      BIO_set_init(bio, 1);
      return 1;
    });
    return made;
  }();
  return method;
}

}  // namespace

Window::Window() : bio(BIO_new(window_method())) {
  ASSERT(bio != nullptr);
  this_window = this;
}

Window::~Window() {
  BIO_free(bio);
  this_window = nullptr;
}

Window& window() {
  if (this_window == nullptr) {
    thread_local std::unique_ptr<Window> made;
    made.reset(new Window);  // its large arrays are left as they are
  }
  return *this_window;
}

Window* existing_window() {
  return this_window;
}

}  // namespace gatehouse::tls
