// One HTTP/2 request and the frames of its answer: as much of the protocol as an idle connection
// needs after it. No flow control: answers are below 64 KiB.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

inline std::string http2_frame(char type, char flags, char stream, std::string_view payload) {
  std::string frame(3, '\0');
  frame[1] = static_cast<char>(payload.size() >> 8);
  frame[2] = static_cast<char>(payload.size());
  frame += type;
  frame += flags;
  frame.append(3, '\0');
  frame += stream;
  return frame.append(payload);
}

/// The preface, SETTINGS, and a GET on stream 1. `host` and `path` are shorter than 127 bytes.
inline std::string http2_get(const std::string& host, const std::string& path) {
  // HPACK: ":method: GET" and ":scheme: https" by index; :authority and :path as plain literals.
  std::string head = "\x82\x87";
  head += '\x01';
  head += static_cast<char>(host.size());
  head += host;
  head += '\x04';
  head += static_cast<char>(path.size());
  head += path;
  return "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + http2_frame(4, 0, 0, "") +
         http2_frame(1, 0x5, 1, head);
}

/// Takes the server's bytes as they come.
class Http2Answer {
 public:
  /// What must be sent in reply: acknowledgements. Sets `ended` or `failed`.
  std::string take(std::string_view bytes) {
    buffer_ += bytes;
    std::string reply;
    for (;;) {
      if (buffer_.size() < 9) return reply;
      auto byte = [&](size_t i) { return static_cast<uint8_t>(buffer_[i]); };
      size_t length = (size_t{byte(0)} << 16) + (size_t{byte(1)} << 8) + byte(2);
      if (buffer_.size() < 9 + length) return reply;
      reply += answer_to(byte(3), byte(4), std::string_view(buffer_).substr(9, length));
      buffer_.erase(0, 9 + length);
      if (buffer_.empty()) buffer_.shrink_to_fit();
    }
  }

  bool ended = false;
  bool failed = false;

 private:
  std::string answer_to(uint8_t type, uint8_t flags, std::string_view payload) {
    constexpr uint8_t data = 0, headers = 1, reset = 3, settings = 4, ping = 6, goaway = 7;
    bool acknowledges = flags & 1;  // in SETTINGS and PING; the stream's end in DATA and HEADERS
    if (type == reset || type == goaway) failed = true;
    if (type == data || type == headers) ended = ended || (flags & 1);
    if (type == settings && !acknowledges) return http2_frame(4, 1, 0, "");
    if (type == ping && !acknowledges) return http2_frame(6, 1, 0, payload);
    return {};
  }

  std::string buffer_;
};
