// Field sections of HTTP/2: what was received, in the form that HTTP/1 writes, and lists to send.
//
// Judges nothing (rules, and nghttp2 before them): it stores, counts and converts. Lives on one
// worker's thread.
#pragma once

#include <array>
#include <cstdint>
#include <string_view>
#include <utility>
#include <vector>

#include "base/buffer.hpp"
#include "http/http1_parser.hpp"
#include "http/message.hpp"

namespace gatehouse::http {

/// A field section while it is decoded. Fields lie behind each other as "name: value\r\n", so that
/// a run of them goes to an HTTP/1 origin in one copy.
struct FieldSection {
  /// What each field costs beside its bytes (RFC 9113 section 6.5.2).
  static constexpr size_t field_overhead = 32;

  base::Block bytes;
  size_t size = 0;
  uint64_t counted_bytes = 0;
  size_t count = 0;
  Fields fields;
  std::string_view method, scheme, authority, path, protocol, status;
  bool too_large = false;  // over a limit: what came after is not stored

  void add(std::string_view name, std::string_view value, const HeadLimits& limits);
  void clear();

 private:
  char* make_room(size_t more);
  std::string_view* pseudo(std::string_view name);
};

/// "200".
std::array<char, 3> status_text(uint16_t status);

/// Fields to be sent. The views in it are the caller's.
class FieldList {
 public:
  struct Entry {
    std::string_view name, value;
    bool known_name;  // in static storage, in lower case
  };
  /// The calling thread's, emptied: nothing in it lives across a suspension.
  static FieldList& begin();
  /// A name in static storage, in lower case.
  void add_known(std::string_view name, std::string_view value) {
    list_.push_back({name, value, true});
  }
  void add(std::string_view name, std::string_view value) { list_.push_back({name, value, false}); }
  /// Those that are forwarded.
  void add(const Fields& fields);
  void add(const Trailers& trailers);
  const auto& list() const { return list_; }

 private:
  std::vector<Entry> list_;
};

}  // namespace gatehouse::http
