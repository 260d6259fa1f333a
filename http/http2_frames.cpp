// What nghttp2 calls, and what a session tells it of streams.
#include <algorithm>
#include <cstring>
#include <nghttp2/nghttp2.h>

#include "http/http2_memory.hpp"
#include "http/http2_session.hpp"
#include "http/http2_stream.hpp"

namespace gatehouse::http {

using base::Metric;

namespace {

std::string_view view(const uint8_t* data, size_t size) {
  return {reinterpret_cast<const char*>(data), size};
}

std::vector<nghttp2_nv>& to_nghttp2(const FieldList& fields) {
  thread_local std::vector<nghttp2_nv> list;
  list.clear();
  for (const auto& [name, value, known_name] : fields.list()) {
    // It takes pointers to what it does not change, and copies what may not last, names in lower
    // case.
    const uint8_t flags = known_name ? NGHTTP2_NV_FLAG_NO_COPY_NAME : NGHTTP2_NV_FLAG_NONE;
    list.push_back({reinterpret_cast<uint8_t*>(const_cast<char*>(name.data())),
                    reinterpret_cast<uint8_t*>(const_cast<char*>(value.data())), name.size(),
                    value.size(), flags});
  }
  return list;
}

std::vector<nghttp2_nv>& to_nghttp2(const Trailers& trailers) {
  FieldList& list = FieldList::begin();
  list.add(trailers);
  return to_nghttp2(list);
}

}  // namespace

/// `user` is the session, a stream's user data is the Http2Stream.
struct Http2Callbacks {
  static Http2Session& of(void* user) { return *static_cast<Http2Session*>(user); }

  static Http2Stream* stream(nghttp2_session* session, int32_t id) {
    return static_cast<Http2Stream*>(nghttp2_session_get_stream_user_data(session, id));
  }

  static int begin_frame(nghttp2_session*, const nghttp2_frame_hd* header, void* user) {
    Http2Session& self = of(user);
    // nghttp2 leaves these two through (RFC 9113 sections 4.2 and 6.3).
    if (header->type == NGHTTP2_CONTINUATION && header->length > Http2Session::frame_bytes_max) {
      self.terminate(Http2Error::frame_size_error);
    }
    if (header->type == NGHTTP2_PRIORITY && header->stream_id == 0) {
      self.terminate(Http2Error::protocol_error);
    }
    if (header->type == NGHTTP2_SETTINGS) self.largest_window_ = largest_window(self);
    self.receiving_reset_ = header->type == NGHTTP2_RST_STREAM;
    if (self.receiving_reset_ && self.role_ == Http2Session::Role::server) {
      self.spend_reset();
    } else if (header->type != NGHTTP2_HEADERS) {
      self.spend_control(1);
    }
    return 0;
  }

  static int begin_headers(nghttp2_session* session, const nghttp2_frame* frame, void* user) {
    Http2Session& self = of(user);
    Http2Stream* open = stream(session, frame->hd.stream_id);
    if (self.role_ == Http2Session::Role::server && frame->headers.cat == NGHTTP2_HCAT_REQUEST) {
      open = self.on_open(frame->hd.stream_id);
      if (open == nullptr) {
        self.metrics_.add(Metric::http2_streams_refused);
        nghttp2_submit_rst_stream(session, NGHTTP2_FLAG_NONE, frame->hd.stream_id,
                                  NGHTTP2_REFUSED_STREAM);
        self.open_section(frame->hd.stream_id, nullptr);
        return 0;
      }
      nghttp2_session_set_stream_user_data(session, frame->hd.stream_id, open);
    }
    self.open_section(frame->hd.stream_id, open);
    return 0;
  }

  static int header(nghttp2_session*, const nghttp2_frame*, const uint8_t* name, size_t name_size,
                    const uint8_t* value, size_t value_size, uint8_t, void* user) {
    Http2Session& self = of(user);
    if (!self.section_) return 0;
    const HeadLimits& limits = self.settings_.head;
    self.section_->add(view(name, name_size), view(value, value_size), limits);
    if (self.section_->counted_bytes > limits.bytes_max * Http2Session::section_excess_max ||
        self.section_->count > limits.fields_max * Http2Session::section_excess_max) {
      self.metrics_.add(Metric::http2_header_floods);
      self.terminate(Http2Error::enhance_your_calm);
      return NGHTTP2_ERR_PAUSE;  // the rest of it is not even decoded
    }
    return 0;
  }

  static int invalid_header(nghttp2_session*, const nghttp2_frame*, const uint8_t*, size_t,
                            const uint8_t*, size_t, uint8_t, void*) {
    return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;  // a stream error, where nghttp2 would drop it
  }

  static int frame_received(nghttp2_session* session, const nghttp2_frame* frame, void* user) {
    Http2Session& self = of(user);
    const bool last = (frame->hd.flags & NGHTTP2_FLAG_END_STREAM) != 0;
    switch (frame->hd.type) {
      case NGHTTP2_HEADERS: {
        Http2Stream* const open = self.section_stream_;
        if (open != nullptr) {
          open->on_section(*self.section_, last);
          if (last) open->receive_end();
          self.earn_control(Http2Session::control_frames_a_request);
        }
        if (self.section_ && self.section_->too_large) {
          self.spend_control(Http2Session::control_frames_a_large_section);
        }
        self.close_section();
        break;
      }
      case NGHTTP2_DATA:
        // Padding alone brings nothing.
        if (last || frame->hd.length > frame->data.padlen) self.earn_control(3);
        if (Http2Stream* const open = stream(session, frame->hd.stream_id); open != nullptr && last)
          open->receive_end();
        break;
      case NGHTTP2_SETTINGS:
        if ((frame->hd.flags & NGHTTP2_FLAG_ACK) == 0) take_settings(self, frame->settings);
        break;
      case NGHTTP2_PING:
        if ((frame->hd.flags & NGHTTP2_FLAG_ACK) != 0) self.on_pong();
        break;
      case NGHTTP2_PRIORITY_UPDATE: {
        const auto* update = static_cast<const nghttp2_ext_priority_update*>(frame->ext.payload);
        if (update->stream_id == 0) self.terminate(Http2Error::protocol_error);
        break;
      }
      case NGHTTP2_GOAWAY:
        self.on_goaway();
        break;
      default:
        break;
    }
    return 0;
  }

  static int64_t largest_window(const Http2Session& self) {
    int64_t largest = 0;
    for (Http2Stream* each = self.first_; each != nullptr; each = each->next_) {
      const int32_t window =
          nghttp2_session_get_stream_remote_window_size(self.session_, each->id_);
      largest = std::max<int64_t>(largest, window);
    }
    return largest;
  }

  /// nghttp2 resets a stream whose window a new initial size would push too far; it is the whole
  /// connection's error (RFC 9113 section 6.9.2).
  static void take_settings(Http2Session& self, const nghttp2_settings& settings) {
    for (size_t i = 0; i < settings.niv; ++i) {
      if (settings.iv[i].settings_id != NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE) continue;
      const int64_t change = int64_t{settings.iv[i].value} - self.peer_window_bytes_;
      self.peer_window_bytes_ = settings.iv[i].value;
      if (self.largest_window_ + change > INT32_MAX) self.terminate(Http2Error::flow_control_error);
    }
    self.on_settings();
  }

  static int data(nghttp2_session* session, uint8_t, int32_t id, const uint8_t* bytes, size_t size,
                  void*) {
    if (Http2Stream* const open = stream(session, id)) {
      open->receive(view(bytes, size));
    } else {
      nghttp2_session_consume_connection(session, size);
    }
    return 0;
  }

  static int stream_closed(nghttp2_session* session, int32_t id, uint32_t code, void* user) {
    Http2Session& self = of(user);
    Http2Stream* const open = stream(session, id);
    const bool ours = open == nullptr || open->reset_by_us_ || self.receiving_reset_;
    if (code == NGHTTP2_NO_ERROR && !self.receiving_reset_) {
      self.resets_.left = std::min(self.resets_.left + 1, Http2Session::resets_max);
    } else if (!ours && self.role_ == Http2Session::Role::server) {
      self.spend_reset();
    }
    // A field section that was found wrong is never received whole.
    if (self.section_id_ == id) self.close_section();
    if (open == nullptr) return 0;
    if (open->unsent_) code = NGHTTP2_REFUSED_STREAM;
    open->close(code);
    return 0;
  }

  static ssize_t read_body(nghttp2_session* session, int32_t id, uint8_t*, size_t size,
                           uint32_t* flags, nghttp2_data_source*, void*) {
    Http2Stream* const open = stream(session, id);
    if (open == nullptr) return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
    const size_t waiting = open->waiting_bytes();
    if (waiting == 0 && !open->out_ended_) {
      open->deferred_ = true;
      return NGHTTP2_ERR_DEFERRED;
    }
    *flags |= NGHTTP2_DATA_FLAG_NO_COPY;
    if (waiting <= size && open->out_ended_) {
      *flags |= NGHTTP2_DATA_FLAG_EOF;
      if (!open->out_trailers_.empty()) {
        *flags |= NGHTTP2_DATA_FLAG_NO_END_STREAM;
        const auto& fields = to_nghttp2(open->out_trailers_);
        nghttp2_submit_trailer(session, id, fields.data(), fields.size());
      }
    }
    return static_cast<ssize_t>(std::min(waiting, size));
  }

  static int send_body(nghttp2_session* session, nghttp2_frame* frame, const uint8_t* frame_header,
                       size_t size, nghttp2_data_source*, void* user) {
    constexpr size_t frame_header_bytes = 9;
    Http2Session& self = of(user);
    Http2Stream* const open = stream(session, frame->hd.stream_id);
    if (open == nullptr) return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
    self.append(view(frame_header, frame_header_bytes));
    self.append(open->front(size));
    open->sent(size);
    self.earn_control(2);  // the peer may answer with a WINDOW_UPDATE for each of both windows
    return 0;
  }

  /// The end of what we had to say has left. A reset ahead of that would take the place of what
  /// still waits.
  static int frame_sent(nghttp2_session* session, const nghttp2_frame* frame, void*) {
    const bool content = frame->hd.type == NGHTTP2_HEADERS || frame->hd.type == NGHTTP2_DATA;
    if (!content || (frame->hd.flags & NGHTTP2_FLAG_END_STREAM) == 0) return 0;
    if (Http2Stream* const open = stream(session, frame->hd.stream_id)) open->end_left();
    return 0;
  }

  /// A request that may not be sent any more: GOAWAY has come first.
  static int frame_not_sent(nghttp2_session* session, const nghttp2_frame* frame, int, void*) {
    if (frame->hd.type != NGHTTP2_HEADERS || frame->headers.cat != NGHTTP2_HCAT_REQUEST) return 0;
    if (Http2Stream* const open = stream(session, frame->hd.stream_id)) open->unsent_ = true;
    return 0;
  }

  // --- memory
  static void* allocate(size_t size, void* user) {
    void* const memory = http2_allocate(size);
    // What comes later may be a field's value, which the peer chose the size of, and which HPACK
    // keeps while the session is idle.
    Http2Session& self = of(user);
    if (self.session_ == nullptr && http2_has_pages(size)) self.pages_ = memory;
    return memory;
  }

  static void* allocate_zeroed(size_t count, size_t size, void*) {
    void* const memory = http2_allocate(count * size);
    return memory == nullptr ? nullptr : std::memset(memory, 0, count * size);
  }

  static void* reallocate(void* memory, size_t size, void* user) {
    return memory == nullptr ? allocate(size, user) : http2_reallocate(memory, size);
  }

  static void deallocate(void* memory, void* user) {
    if (memory == of(user).pages_) of(user).pages_ = nullptr;
    http2_free(memory);
  }

  static nghttp2_session_callbacks* make() {
    nghttp2_session_callbacks* made = nullptr;
    nghttp2_session_callbacks_new(&made);
    nghttp2_session_callbacks_set_on_begin_frame_callback(made, begin_frame);
    nghttp2_session_callbacks_set_on_begin_headers_callback(made, begin_headers);
    nghttp2_session_callbacks_set_on_header_callback(made, header);
    nghttp2_session_callbacks_set_on_invalid_header_callback(made, invalid_header);
    nghttp2_session_callbacks_set_on_frame_recv_callback(made, frame_received);
    nghttp2_session_callbacks_set_on_frame_send_callback(made, frame_sent);
    nghttp2_session_callbacks_set_on_frame_not_send_callback(made, frame_not_sent);
    nghttp2_session_callbacks_set_on_data_chunk_recv_callback(made, data);
    nghttp2_session_callbacks_set_on_stream_close_callback(made, stream_closed);
    nghttp2_session_callbacks_set_send_data_callback(made, send_body);
    return made;
  }

  static const nghttp2_session_callbacks* table() {
    static const std::unique_ptr<nghttp2_session_callbacks,
                                 decltype(&nghttp2_session_callbacks_del)>
        made(make(), nghttp2_session_callbacks_del);
    return made.get();
  }

  static nghttp2_option* make_options() {
    nghttp2_option* made = nullptr;
    nghttp2_option_new(&made);
    nghttp2_option_set_no_auto_window_update(made, 1);  // the reader's pace opens the window
    nghttp2_option_set_no_closed_streams(made, 1);
    nghttp2_option_set_builtin_recv_extension_type(made, NGHTTP2_PRIORITY_UPDATE);
    return made;
  }

  static const nghttp2_option* options() {
    static const std::unique_ptr<nghttp2_option, decltype(&nghttp2_option_del)> made(
        make_options(), nghttp2_option_del);
    return made.get();
  }
};

void Http2Session::make_session() {
  const auto make =
      role_ == Role::server ? nghttp2_session_server_new3 : nghttp2_session_client_new3;
  nghttp2_mem memory = {this, Http2Callbacks::allocate, Http2Callbacks::deallocate,
                        Http2Callbacks::allocate_zeroed, Http2Callbacks::reallocate};
  nghttp2_session* session = nullptr;
  const int made =
      make(&session, Http2Callbacks::table(), this, Http2Callbacks::options(), &memory);
  ASSERT(made == 0);
  session_ = session;
}

void Http2Session::respond(Http2Stream& stream, const FieldList& fields, bool body) {
  const auto& list = to_nghttp2(fields);
  nghttp2_data_provider provider{{}, Http2Callbacks::read_body};
  nghttp2_submit_response(session_, stream.id_, list.data(), list.size(),
                          body ? &provider : nullptr);
  flush_later();
}

void Http2Session::inform(Http2Stream& stream, const FieldList& fields) {
  const auto& list = to_nghttp2(fields);
  nghttp2_submit_headers(session_, NGHTTP2_FLAG_NONE, stream.id_, nullptr, list.data(), list.size(),
                         nullptr);
  flush_later();
}

bool Http2Session::request(Http2Stream& stream, const FieldList& fields, bool body) {
  if (ended_) return false;
  const auto& list = to_nghttp2(fields);
  nghttp2_data_provider provider{{}, Http2Callbacks::read_body};
  const int32_t id = nghttp2_submit_request(session_, nullptr, list.data(), list.size(),
                                            body ? &provider : nullptr, &stream);
  if (id < 0) return false;
  stream.id_ = id;
  flush_later();
  return true;
}

void Http2Session::resume(Http2Stream& stream) {
  nghttp2_session_resume_data(session_, stream.id_);
}

void Http2Session::reset(Http2Stream& stream, Http2Error code) {
  nghttp2_submit_rst_stream(session_, NGHTTP2_FLAG_NONE, stream.id_, static_cast<uint32_t>(code));
  flush_later();
}

void Http2Session::consumed(Http2Stream& stream, size_t count) {
  if (count == 0 || ended_) return;
  nghttp2_session_consume(session_, stream.id_, count);
  if (!busy_) flush_later();
}

}  // namespace gatehouse::http
