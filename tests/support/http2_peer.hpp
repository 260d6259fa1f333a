// The other side of an HTTP/2 connection: a session of nghttp2's own over a socket pair, and frames
// written by hand.
//
// Keeps no house rule and no limit: a test says what it sends and when it reads. One thread.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "tests/support/stage.hpp"

struct nghttp2_session;

namespace gatehouse::test {

/// RFC 9113 section 6.
enum class FrameType : uint8_t {
  data = 0,
  headers = 1,
  priority = 2,
  rst_stream = 3,
  settings = 4,
  ping = 6,
  goaway = 7,
  window_update = 8,
  continuation = 9,
};
inline constexpr uint8_t end_stream = 1, ack = 1, end_headers = 4;
inline constexpr std::string_view http2_preface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// A frame, whether it makes sense or not.
std::string frame(FrameType type, uint8_t flags, uint32_t stream, std::string_view payload = {});
/// Four bytes, the first the most significant.
std::string number(uint32_t value);

using FieldTexts = std::vector<std::pair<std::string, std::string>>;
/// Fields as HPACK literals without names of the table: nothing judges them.
std::string literals(const FieldTexts& fields);
/// A GET of that path of https://a.example.
FieldTexts get(const std::string& path = "/");
FieldTexts post(const std::string& path = "/");
/// The same, with fields behind it.
FieldTexts with(FieldTexts fields, const FieldTexts& more);

class Http2Peer {
 public:
  struct Settings {
    bool server = false;
    uint32_t window_bytes = 65'535;      // that each stream begins with
    int32_t connection_bytes = 1 << 30;  // the window of all together
    bool opens_windows = true;           // again, as it reads
    std::optional<uint32_t> streams_max;
  };
  /// What has come on one stream.
  struct Message {
    std::vector<std::string> heads;  // each "name=value name=value"; the last may be trailers
    std::string body;
    bool ended = false;
    std::optional<uint32_t> reset;  // RST_STREAM's code
    /// "head head body=… trailers reset=…", as far as it came.
    std::string text() const;
  };

  Http2Peer(SocketPair& pair, const Settings& settings);
  ~Http2Peer();
  Http2Peer(const Http2Peer&) = delete;
  Http2Peer& operator=(const Http2Peer&) = delete;

  // --- what is sent with the next pump()
  /// A request; `body` may be gone on with by send().
  int32_t request(const FieldTexts& fields, bool ends = true);
  void respond(int32_t id, const FieldTexts& fields, bool ends = true);
  void inform(int32_t id, const FieldTexts& fields);
  void send(int32_t id, std::string_view bytes, bool ends = false, const FieldTexts& trailers = {});
  void reset(int32_t id, uint32_t code);
  void open_window(int32_t id, int32_t bytes);
  void ping();
  void goaway(int32_t last_id, uint32_t code = 0);
  void limit_streams(uint32_t count);
  /// As it is, without this session's knowledge.
  void send_raw(std::string_view bytes) { raw_ += bytes; }

  /// Sends and receives what can be; true if anything moved.
  bool pump();
  /// What would be sent, taken out.
  std::string take_output();
  /// Until neither side has anything more to say.
  void settle(Stage& stage);
  /// Sends everything that is due byte by byte.
  void settle_split(Stage& stage);

  const Message& operator[](int32_t id) { return messages[id]; }

  std::map<int32_t, Message> messages;
  std::vector<int32_t> opened;  // by the other side, in order
  std::optional<uint32_t> goaway_code;
  int32_t goaway_last = 0;
  size_t goaways = 0, pings = 0, pongs = 0, settings_acks = 0;
  bool reads = true;     // from the socket
  bool by_hand = false;  // only what send_raw() is given leaves, and frames are only noted
  bool broken = false;   // nghttp2 found the other side's frames wrong

 private:
  friend struct PeerCallbacks;
  void note(std::string_view bytes);
  struct Outgoing {
    std::string bytes;
    bool ends = false;
    FieldTexts trailers;
  };
  SocketPair& pair_;
  nghttp2_session* session_ = nullptr;
  std::map<int32_t, Outgoing> outgoing_;
  std::string raw_, unsent_, received_;
  size_t preface_left_ = 0;  // that a client begins with, before its frames
};

}  // namespace gatehouse::test
