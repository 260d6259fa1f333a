#include "tls/stream.hpp"

#include <arpa/inet.h>
#include <array>
#include <cerrno>
#include <cstring>
#include <memory>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include <openssl/ssl.h>

#include "tls/record_layer.hpp"
#include "tls/window.hpp"

namespace gatehouse::tls {

using base::ErrorKind;

namespace {

constexpr size_t pieces_max = 8;  // of one write

}  // namespace

Stream::Stream(base::Reactor& reactor, base::Side side) : reactor_(reactor), side_(side) {}

Stream::~Stream() {
  close();
  SSL_free(ssl_);
  Window* const shared = existing_window();
  if (shared != nullptr && shared->owner == this) shared->owner = nullptr;
}

bool Stream::open(int descriptor) {
  writable = true;
  if (reactor_.add(*this, descriptor)) return true;
  const int cause = errno;
  ::close(descriptor);
  errno = cause;
  return false;
}

// --- reading

std::span<char> Stream::unread() {
  return {const_cast<char*>(input_.data()), input_.size()};
}

void Stream::consume(size_t count) {
  if (kept_.empty()) {
    input_.remove_prefix(count);
    return;
  }
  kept_.consume(count);
  input_ = kept_.view();
}

void Stream::keep_input() {
  window().owner = nullptr;
  if (!kept_.empty() || input_.empty()) return;
  kept_.trim();
  kept_.append(input_);
  input_ = kept_.view();
}

void Stream::take_input(std::string_view bytes) {
  if (kept_.empty() && input_.empty()) {
    input_ = bytes;
    window().owner = this;
    return;
  }
  kept_.append(bytes);
  input_ = kept_.view();
}

Io Stream::fill() {
  if (failed() || !is_open()) return Io::failed;
  if (ended_) return Io::eof;
  if (!readable) return Io::again;
  kept_.trim();
  auto& w = window();
  if (w.owner != nullptr) w.owner->keep_input();
  if (encrypted()) return fill_encrypted();
  std::string_view bytes;
  const Io got = receive(bytes);
  if (got == Io::ok) take_input(bytes);
  return got;
}

Io Stream::receive(std::string_view& bytes) {
  auto& w = window();
  while (readable) {
    const ssize_t count = ::recv(fd(), w.received.data(), w.received.size(), 0);
    if (count > 0) {
      // A short read has emptied the socket; a FIN would not be announced again.
      if (static_cast<size_t>(count) < w.received.size() && !hung_up) readable = false;
      bytes = {w.received.data(), static_cast<size_t>(count)};
      return Io::ok;
    }
    if (count == 0) {
      // The kernel tells of a reset once. If a send was told, what reads like an end is none.
      if (write_broken_ && failure_cause_ == ECONNRESET) {
        return break_off(ErrorKind::reset, "the connection broke", ECONNRESET);
      }
      ended_ = true;
      return Io::eof;
    }
    if (errno == EAGAIN) {
      readable = false;
    } else if (errno != EINTR) {
      return break_off(ErrorKind::reset, "the connection broke", errno);
    }
  }
  return Io::again;
}

// --- writing

Io Stream::write(std::span<const std::string_view> pieces) {
  if (failed() || write_broken_) return Io::failed;
  return encrypted() ? write_encrypted(pieces) : send_plain(pieces);
}

Io Stream::send_window() {
  auto& w = window();
  const std::string_view bytes(w.out.data(), std::exchange(w.out_size, 0));
  if (bytes.empty()) return pending() ? Io::again : Io::ok;
  return send_plain({&bytes, 1});
}

/// What the window holds goes along with the next write.
void Stream::hold_window() {
  auto& w = window();
  if (w.out_size == 0 || pending()) return;
  output_.append({w.out.data(), std::exchange(w.out_size, 0)});
  held_ = true;
}

/// Sends one behind the other, at the end of a batch, cost less than each between other work: the
/// kernel's part of it stays warm, and so do those who are woken by it.
bool Stream::hold(std::span<const std::string_view> pieces) {
  if (!reactor_.busy() || !writable || pending()) return false;
  size_t total = output_.size();
  for (const std::string_view piece : pieces) total += piece.size();
  if (total > held_bytes_max) return false;
  for (const std::string_view piece : pieces) output_.append(piece);
  held_ = true;
  reactor_.at_batch_end(*this);
  return true;
}

Io Stream::release() {
  held_ = false;
  return flush();
}

Io Stream::send_plain(std::span<const std::string_view> pieces) {
  if (write_broken_ || !is_open()) return Io::failed;
  ASSERT(pieces.size() <= pieces_max);
  if (hold(pieces)) return Io::ok;
  if (!output_.empty()) {
    for (const std::string_view piece : pieces) output_.append(piece);
    return release();
  }
  size_t sent = 0;
  if (writable) {
    std::array<iovec, pieces_max> parts;
    size_t total = 0;
    for (size_t i = 0; i < pieces.size(); ++i) {
      parts[i] = {const_cast<char*>(pieces[i].data()), pieces[i].size()};
      total += pieces[i].size();
    }
    msghdr message{};
    message.msg_iov = parts.data();
    message.msg_iovlen = pieces.size();
    ssize_t count = 0;
    do {
      count = pieces.size() == 1 ? ::send(fd(), pieces[0].data(), pieces[0].size(), MSG_NOSIGNAL)
                                 : ::sendmsg(fd(), &message, MSG_NOSIGNAL);
    } while (count < 0 && errno == EINTR);
    if (count < 0 && errno != EAGAIN) return send_failed(errno);
    sent = count < 0 ? 0 : static_cast<size_t>(count);
    bytes_sent_ += sent;
    if (sent == total) return Io::ok;
    writable = false;
  }
  for (std::string_view piece : pieces) {
    const size_t skipped = std::min(sent, piece.size());
    sent -= skipped;
    output_.append(piece.substr(skipped));
  }
  return Io::again;
}

Io Stream::flush() {
  if (failed() || write_broken_ || !is_open()) return Io::failed;
  if (held_) return Io::ok;
  while (!output_.empty()) {
    if (!writable) return Io::again;
    const ssize_t count = ::send(fd(), output_.data(), output_.size(), MSG_NOSIGNAL);
    if (count < 0) {
      if (errno == EINTR) continue;
      if (errno != EAGAIN) return send_failed(errno);
      writable = false;
      return Io::again;
    }
    if (static_cast<size_t>(count) < output_.size()) writable = false;
    bytes_sent_ += static_cast<size_t>(count);
    output_.consume(static_cast<size_t>(count));
    output_.trim();
  }
  if (fin_due_) {
    fin_due_ = false;
    ::shutdown(fd(), SHUT_WR);
  }
  return Io::ok;
}

Io Stream::send_failed(int cause) {
  write_broken_ = true;
  held_ = false;
  output_.clear();
  failure_cause_ = cause;
  return Io::failed;
}

// --- waiting and ending

void Stream::on_ready() {
  if (writable) {
    writing.poll();
    if (pending() && !writing.occupied()) flush();  // nobody waits for the rest of what was held
  }
  if (readable && is_open()) reading.poll();
  if (hung_up && is_open() && !reading.occupied() && observer_ != nullptr) observer_->on_hang_up();
}

Io Stream::break_off(ErrorKind kind, const char* text, int cause) {
  if (failure_ == nullptr) {
    failure_ = text;
    failure_kind_ = kind;
    failure_cause_ = cause;
  }
  return Io::failed;
}

void Stream::fail(ErrorKind kind, const char* text) {
  break_off(kind, text);
  writing.poll();
  reading.poll();
}

base::Error Stream::error() const {
  base::Error error(failure_kind_, error_text(), failure_cause_);
  error.side = side_;
  return error;
}

void Stream::shutdown_write() {
  if (!is_open() || std::exchange(write_ended_, true)) return;
  if (handshaken_ && !failed() && !write_broken_) say_close();
  fin_due_ = true;
  held_ ? release() : flush();
}

void Stream::close() {
  if (held_) release();
  // Broken with bytes left that never went: the kernel need not keep those before them either, for
  // a peer that may take nothing for ever.
  if (failed() && !output_.empty()) reset_at_close();
  reactor_.forget(*this);
  reactor_.close(*this);
  observer_ = nullptr;
}

void Stream::abort() {
  if (!is_open()) return;
  held_ = false;
  output_.clear();
  reset_at_close();
  close();
}

void Stream::reset_at_close() {
  if (!is_open()) return;
  const linger now{1, 0};
  setsockopt(fd(), SOL_SOCKET, SO_LINGER, &now, sizeof now);
}

}  // namespace gatehouse::tls
