#include "tests/support/http2_peer.hpp"

#include <algorithm>
#include <array>
#include <nghttp2/nghttp2.h>

namespace gatehouse::test {

namespace {

std::string_view view(const uint8_t* data, size_t size) {
  return {reinterpret_cast<const char*>(data), size};
}

std::vector<nghttp2_nv> to_nghttp2(const FieldTexts& fields) {
  std::vector<nghttp2_nv> list;
  for (const auto& [name, value] : fields) {
    list.push_back({reinterpret_cast<uint8_t*>(const_cast<char*>(name.data())),
                    reinterpret_cast<uint8_t*>(const_cast<char*>(value.data())), name.size(),
                    value.size(), NGHTTP2_NV_FLAG_NONE});
  }
  return list;
}

}  // namespace

std::string number(uint32_t value) {
  std::string bytes;
  for (int shift = 24; shift >= 0; shift -= 8) bytes += static_cast<char>(value >> shift);
  return bytes;
}

static uint32_t number_at(std::string_view bytes, size_t at) {
  uint32_t value = 0;
  for (size_t i = at; i < at + 4; ++i) value = value << 8 | static_cast<uint8_t>(bytes[i]);
  return value;
}

std::string frame(FrameType type, uint8_t flags, uint32_t stream, std::string_view payload) {
  std::string bytes = number(static_cast<uint32_t>(payload.size())).substr(1);
  bytes += static_cast<char>(type);
  bytes += static_cast<char>(flags);
  bytes += number(stream);
  return bytes.append(payload);
}

std::string literals(const FieldTexts& fields) {
  std::string bytes;
  // RFC 7541 sections 5.1 and 6.2.2: an integer of seven bits and more, no Huffman.
  const auto add = [&](std::string_view text) {
    size_t size = text.size();
    if (size < 127) {
      bytes += static_cast<char>(size);
    } else {
      bytes += '\x7f';
      for (size -= 127; size >= 128; size /= 128) bytes += static_cast<char>(size % 128 | 128);
      bytes += static_cast<char>(size);
    }
    bytes += text;
  };
  for (const auto& [name, value] : fields) {
    bytes += '\0';
    add(name);
    add(value);
  }
  return bytes;
}

FieldTexts get(const std::string& path) {
  return {{":method", "GET"}, {":scheme", "https"}, {":authority", "a.example"}, {":path", path}};
}

FieldTexts post(const std::string& path) {
  FieldTexts fields = get(path);
  fields[0].second = "POST";
  return fields;
}

FieldTexts with(FieldTexts fields, const FieldTexts& more) {
  fields.insert(fields.end(), more.begin(), more.end());
  return fields;
}

std::string Http2Peer::Message::text() const {
  std::string text;
  for (const auto& head : heads) text += (text.empty() ? "" : " | ") + head;
  if (!body.empty()) text += " body=" + body;
  if (ended) text += " ended";
  if (reset) text += " reset=" + std::to_string(*reset);
  return text;
}

struct PeerCallbacks {
  static Http2Peer& of(void* user) { return *static_cast<Http2Peer*>(user); }

  static int begin_headers(nghttp2_session*, const nghttp2_frame* received, void* user) {
    Http2Peer& self = of(user);
    if (self.messages[received->hd.stream_id].heads.empty()) {
      self.opened.push_back(received->hd.stream_id);
    }
    self.messages[received->hd.stream_id].heads.emplace_back();
    return 0;
  }

  static int header(nghttp2_session*, const nghttp2_frame* received, const uint8_t* name,
                    size_t name_size, const uint8_t* value, size_t value_size, uint8_t,
                    void* user) {
    std::string& head = of(user).messages[received->hd.stream_id].heads.back();
    if (!head.empty()) head += ' ';
    head.append(view(name, name_size)).append("=").append(view(value, value_size));
    return 0;
  }

  static int data(nghttp2_session*, uint8_t, int32_t id, const uint8_t* bytes, size_t size,
                  void* user) {
    of(user).messages[id].body += view(bytes, size);
    return 0;
  }

  static int frame_received(nghttp2_session*, const nghttp2_frame* received, void* user) {
    Http2Peer& self = of(user);
    const auto& header = received->hd;
    const bool last = (header.flags & NGHTTP2_FLAG_END_STREAM) != 0;
    const bool carries = header.type == NGHTTP2_DATA || header.type == NGHTTP2_HEADERS;
    if (carries && last) self.messages[header.stream_id].ended = true;
    return 0;
  }

  static ssize_t read_body(nghttp2_session* session, int32_t id, uint8_t* to, size_t size,
                           uint32_t* flags, nghttp2_data_source*, void* user) {
    Http2Peer::Outgoing& out = of(user).outgoing_[id];
    if (out.bytes.empty() && !out.ends) return NGHTTP2_ERR_DEFERRED;
    const size_t count = std::min(size, out.bytes.size());
    std::copy_n(out.bytes.begin(), count, to);
    out.bytes.erase(0, count);
    if (!out.bytes.empty() || !out.ends) return static_cast<ssize_t>(count);
    *flags |= NGHTTP2_DATA_FLAG_EOF;
    if (!out.trailers.empty()) {
      *flags |= NGHTTP2_DATA_FLAG_NO_END_STREAM;
      const auto list = to_nghttp2(out.trailers);
      nghttp2_submit_trailer(session, id, list.data(), list.size());
    }
    return static_cast<ssize_t>(count);
  }
};

Http2Peer::Http2Peer(SocketPair& pair, const Settings& settings) : pair_(pair) {
  if (settings.server) preface_left_ = http2_preface.size();
  nghttp2_session_callbacks* callbacks = nullptr;
  nghttp2_session_callbacks_new(&callbacks);
  nghttp2_session_callbacks_set_on_begin_headers_callback(callbacks, PeerCallbacks::begin_headers);
  nghttp2_session_callbacks_set_on_header_callback(callbacks, PeerCallbacks::header);
  nghttp2_session_callbacks_set_on_data_chunk_recv_callback(callbacks, PeerCallbacks::data);
  nghttp2_session_callbacks_set_on_frame_recv_callback(callbacks, PeerCallbacks::frame_received);
  nghttp2_option* option = nullptr;
  nghttp2_option_new(&option);
  nghttp2_option_set_no_auto_window_update(option, settings.opens_windows ? 0 : 1);
  nghttp2_option_set_no_http_messaging(option, 1);
  nghttp2_option_set_peer_max_concurrent_streams(option, 1 << 20);
  (settings.server ? nghttp2_session_server_new2 : nghttp2_session_client_new2)(
      &session_, callbacks, this, option);
  nghttp2_option_del(option);
  nghttp2_session_callbacks_del(callbacks);
  std::vector<nghttp2_settings_entry> entries = {
      {NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, settings.window_bytes}};
  if (settings.streams_max) {
    entries.push_back({NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS, *settings.streams_max});
  }
  nghttp2_submit_settings(session_, NGHTTP2_FLAG_NONE, entries.data(), entries.size());
  nghttp2_session_set_local_window_size(session_, NGHTTP2_FLAG_NONE, 0, settings.connection_bytes);
}

Http2Peer::~Http2Peer() {
  nghttp2_session_del(session_);
}

int32_t Http2Peer::request(const FieldTexts& fields, bool ends) {
  const auto list = to_nghttp2(fields);
  const nghttp2_data_provider provider{{}, PeerCallbacks::read_body};
  return nghttp2_submit_request(session_, nullptr, list.data(), list.size(),
                                ends ? nullptr : &provider, nullptr);
}

void Http2Peer::respond(int32_t id, const FieldTexts& fields, bool ends) {
  const auto list = to_nghttp2(fields);
  const nghttp2_data_provider provider{{}, PeerCallbacks::read_body};
  nghttp2_submit_response(session_, id, list.data(), list.size(), ends ? nullptr : &provider);
}

void Http2Peer::inform(int32_t id, const FieldTexts& fields) {
  const auto list = to_nghttp2(fields);
  nghttp2_submit_headers(session_, NGHTTP2_FLAG_NONE, id, nullptr, list.data(), list.size(),
                         nullptr);
}

void Http2Peer::send(int32_t id, std::string_view bytes, bool ends, const FieldTexts& trailers) {
  Outgoing& out = outgoing_[id];
  out.bytes += bytes;
  out.ends = ends;
  out.trailers = trailers;
  nghttp2_session_resume_data(session_, id);
}

void Http2Peer::reset(int32_t id, uint32_t code) {
  nghttp2_submit_rst_stream(session_, NGHTTP2_FLAG_NONE, id, code);
}

void Http2Peer::open_window(int32_t id, int32_t bytes) {
  nghttp2_submit_window_update(session_, NGHTTP2_FLAG_NONE, id, bytes);
}

void Http2Peer::ping() {
  nghttp2_submit_ping(session_, NGHTTP2_FLAG_NONE, nullptr);
}

void Http2Peer::goaway(int32_t last_id, uint32_t code) {
  nghttp2_submit_goaway(session_, NGHTTP2_FLAG_NONE, last_id, code, nullptr, 0);
}

void Http2Peer::limit_streams(uint32_t count) {
  const nghttp2_settings_entry entry{NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS, count};
  nghttp2_submit_settings(session_, NGHTTP2_FLAG_NONE, &entry, 1);
}

std::string Http2Peer::take_output() {
  const uint8_t* bytes = nullptr;
  while (!by_hand) {
    const ssize_t size = nghttp2_session_mem_send(session_, &bytes);
    if (size <= 0) break;
    unsent_ += view(bytes, static_cast<size_t>(size));
  }
  unsent_ += std::exchange(raw_, {});
  return std::exchange(unsent_, {});
}

bool Http2Peer::pump() {
  bool moved = false;
  unsent_ = take_output();
  if (!unsent_.empty() && pair_.theirs >= 0) {
    const ssize_t sent = ::send(pair_.theirs, unsent_.data(), unsent_.size(), MSG_NOSIGNAL);
    if (sent < 0 && errno != EAGAIN) unsent_.clear();
    if (sent > 0) unsent_.erase(0, static_cast<size_t>(sent));
    moved = sent > 0;
  }
  if (!reads || pair_.theirs < 0) return moved;
  const std::string received = pair_.receive();
  if (received.empty()) return moved;
  note(received);
  if (by_hand) return true;
  const auto* bytes = reinterpret_cast<const uint8_t*>(received.data());
  if (nghttp2_session_mem_recv(session_, bytes, received.size()) < 0) broken = true;
  return true;
}

void Http2Peer::note(std::string_view bytes) {
  constexpr size_t header_bytes = 9;
  const size_t preface = std::min(preface_left_, bytes.size());
  preface_left_ -= preface;
  received_ += bytes.substr(preface);
  while (received_.size() >= header_bytes) {
    const uint32_t size = number_at(received_, 0) >> 8;
    if (received_.size() < header_bytes + size) return;
    const auto type = static_cast<FrameType>(received_[3]);
    const bool is_ack = (received_[4] & ack) != 0;
    const auto id = static_cast<int32_t>(number_at(received_, 5));
    if (type == FrameType::rst_stream) messages[id].reset = number_at(received_, header_bytes);
    if (type == FrameType::ping) ++(is_ack ? pongs : pings);
    if (type == FrameType::settings && is_ack) ++settings_acks;
    if (type == FrameType::goaway) {
      ++goaways;
      goaway_last = static_cast<int32_t>(number_at(received_, header_bytes));
      goaway_code = number_at(received_, header_bytes + 4);
    }
    received_.erase(0, header_bytes + size);
  }
}

void Http2Peer::settle(Stage& stage) {
  do {
    stage.reactor.run([] {});  // what the test itself has done leaves at the end of a batch
    stage.settle();
  } while (pump());
}

void Http2Peer::settle_split(Stage& stage) {
  for (const char byte : take_output()) {
    pair_.send({&byte, 1});
    stage.settle();
  }
  settle(stage);
}

}  // namespace gatehouse::test
