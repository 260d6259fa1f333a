// The memory that all streams of a thread read and write through, and the BIO that stands for it
// towards OpenSSL.
//
// Only for the stream. Nothing in it lives across a suspension, except that the owner's unread
// input stays until somebody else reads. The thread's own.
#pragma once

#include <array>
#include <cstddef>
#include <string_view>

#include <openssl/types.h>

#include "tls/stream.hpp"

namespace gatehouse::tls {

struct Window {
  static constexpr size_t record_bytes = 16 * 1024;
  static constexpr size_t record_overhead_max = 256;
  /// A read opens at most what one receive brought, and the rest of a record that came before.
  static constexpr size_t plain_bytes = Stream::read_bytes_max + 2 * record_bytes;
  static constexpr size_t out_bytes =
      (Stream::write_bytes_max / record_bytes + 8) * (record_bytes + record_overhead_max);

  std::array<char, Stream::read_bytes_max> received;
  std::array<char, plain_bytes> plain;
  std::array<char, record_bytes> record;
  std::array<char, out_bytes> out;
  size_t out_size = 0;
  std::string_view bio_input;
  Stream* owner = nullptr;
  BIO* bio = nullptr;  // reads bio_input, writes to the end of `out`

  Window();
  ~Window();
  Window(const Window&) = delete;
  Window& operator=(const Window&) = delete;
};

/// Made at the thread's first use.
Window& window();
/// Null: not made yet.
Window* existing_window();

}  // namespace gatehouse::tls
