// A byte stream over a socket, plain or TLS: handshake, read, write, close.
//
// Knows no HTTP and chooses no certificate. Bytes move through windows that the whole thread
// shares; a connection has buffers of its own only while something is left over, so an idle one has
// none. Lives on one worker's thread, and every call is made there.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <utility>

#include "base/buffer.hpp"
#include "base/error.hpp"
#include "base/reactor.hpp"
#include "base/task.hpp"
#include "tls/alert.hpp"
#include "tls/certificate.hpp"
#include "tls/context.hpp"

struct ssl_st;

namespace gatehouse::tls {

class RecordLayer;
struct TrafficSecrets;

enum class Io : uint8_t {
  ok,
  again,   // nothing now: park, an event will come
  eof,     // orderly end: FIN on a plain stream, close_notify on TLS
  failed,  // see error()
};

class Stream final : public base::Source, private base::Deferred {
 public:
  /// Told of a hang-up while nothing waits for reading.
  class Observer {
   public:
    virtual void on_hang_up() = 0;

   protected:
    ~Observer() = default;
  };

  /// Bytes one fill() brings at most, and the most one write() is given.
  static constexpr size_t read_bytes_max = 64 * 1024;
  static constexpr size_t write_bytes_max = 208 * 1024;
  /// The most that is held until a batch ends.
  static constexpr size_t held_bytes_max = 4096;
  /// Records in a row that bring protocol messages but no data (KeyUpdate floods).
  static constexpr uint32_t empty_records_max = 64;

  Stream(base::Reactor& reactor, base::Side side);
  ~Stream() override;
  Stream(const Stream&) = delete;
  Stream& operator=(const Stream&) = delete;

  /// Takes over a non-blocking descriptor. False: the kernel refused; it is closed.
  bool open(int fd);
  bool is_open() const { return fd() >= 0; }
  void observe(Observer* observer) { observer_ = observer; }

  // --- TLS
  /// Turns the stream into the server side; what is unread is the beginning of the handshake.
  /// `resumable` false: no session tickets, for certificates that stand in for a real one.
  bool start_server(const Context& context, const Certificate& certificate, bool resumable = true);
  /// The client side. `name` is sent as SNI and verified (an address is verified as one);
  /// `verify` false skips both checks.
  bool start_client(const Context& context, const std::string& name, bool verify);
  /// Goes on with the handshake; ok when it is complete.
  Io handshake();
  bool encrypted() const { return ssl_ != nullptr || records_ != nullptr; }
  // After the handshake:
  bool resumed() const { return resumed_; }
  std::string_view version() const { return version_; }  // "TLSv1.3"; empty when plain
  bool http2() const { return http2_; }                  // agreed on by ALPN

  // --- reading
  /// What was read and not consumed yet. Writable in place, and valid, also after consume(), until
  /// the next fill() of any stream of this thread; after that it lies elsewhere: ask again.
  std::span<char> unread();
  size_t unread_size() const { return input_.size(); }
  void consume(size_t count);
  /// Reads once. ok: unread() has grown.
  Io fill();

  // --- writing
  /// Sends the pieces in order, as few records and calls as can be; keeps what the socket does not
  /// take. A busy worker holds what is small until the end of its batch. Failed only if the
  /// connection is broken.
  Io write(std::span<const std::string_view> pieces);
  /// The socket took no more: do not write, wait for flush() to say ok.
  bool pending() const { return !output_.empty() && !held_; }
  Io flush();

  // --- waiting
  base::ParkingSlot reading;
  base::ParkingSlot writing;
  /// Awaits the handshake's end; false: see error().
  struct Handshaken final : base::Parked {
    explicit Handshaken(Stream& s) noexcept
        : Parked([](Parked& self) { return static_cast<Handshaken&>(self).poll_again(); }),
          stream(s) {}
    bool poll_again() { return (state = stream.handshake()) != Io::again; }
    bool await_ready() { return poll_again(); }
    void await_suspend(std::coroutine_handle<> handle) {
      waiting = handle;
      stream.reading.park(*this);
    }
    bool await_resume() const noexcept { return state == Io::ok; }
    Stream& stream;
    Io state = Io::again;
  };
  Handshaken handshaken() { return Handshaken(*this); }
  /// Awaits that `enough`, called with what is unread and each time that it has grown, says so, or
  /// that no more comes. It may consume.
  template <class Enough>
  struct ReadUntil final : base::Parked {
    ReadUntil(Stream& s, Enough e) noexcept
        : Parked([](Parked& self) { return static_cast<ReadUntil&>(self).await_ready(); }),
          stream(s),
          enough(std::move(e)) {}
    bool await_ready() {
      while (!enough(stream.unread())) {
        const Io got = stream.fill();
        if (got != Io::ok) return got != Io::again;
      }
      return true;
    }
    void await_suspend(std::coroutine_handle<> handle) {
      waiting = handle;
      stream.reading.park(*this);
    }
    void await_resume() const noexcept {}
    Stream& stream;
    Enough enough;
  };
  template <class Enough>
  ReadUntil<Enough> read_until(Enough enough) {
    return ReadUntil<Enough>(*this, std::move(enough));
  }

  /// Breaks the stream: everything that waits is resumed with a failure.
  void fail(base::ErrorKind kind, const char* text);
  bool failed() const { return failure_ != nullptr; }
  base::Error error() const;
  base::ErrorKind error_kind() const { return failure_kind_; }
  const char* error_text() const { return failure_ == nullptr ? "the connection broke" : failure_; }

  // --- ending
  /// close_notify and FIN, behind what was written: the peer sees an orderly end. Reading goes on.
  void shutdown_write();
  void close();
  /// RST: the peer sees that something is missing.
  void abort();

  /// Bytes the socket has taken so far, for stall checks.
  uint64_t bytes_sent() const { return bytes_sent_; }

 private:
  void on_ready() override;
  Io receive(std::string_view& bytes);
  void take_over();
  Io decrypt(std::string_view received);
  bool open_records(std::string_view received, size_t& size);
  void take_part(std::string_view& received);
  bool open_record(std::string_view record, size_t& size);
  bool refuse_record(Alert alert, const char* text);
  bool read_records(std::string_view received, size_t& size);
  Io fill_encrypted();
  void take_input(std::string_view bytes);
  void keep_input();
  Io write_encrypted(std::span<const std::string_view> pieces);
  char* packing_place();
  bool encrypt(std::string_view bytes);
  bool write_record(std::string_view bytes);
  bool update_key();
  void say_close();
  Io send_window();
  void hold_window();
  bool hold(std::span<const std::string_view> pieces);
  Io release();
  void on_deferred() override { release(); }
  Io send_plain(std::span<const std::string_view> pieces);
  Io send_failed(int cause);
  void reset_at_close();
  Io break_off(base::ErrorKind kind, const char* text, int cause = 0);
  Io tls_failure(int result);

  base::Reactor& reactor_;
  // While a handshake lasts, and afterwards for TLS 1.2 and towards origins; then records are ours.
  ssl_st* ssl_ = nullptr;
  std::unique_ptr<TrafficSecrets> secrets_;  // until then
  std::unique_ptr<RecordLayer> records_;
  base::ByteQueue partial_record_;  // received, with its end still to come
  std::string_view version_;
  Observer* observer_ = nullptr;
  std::string_view input_;  // unread: in the thread's window, or in kept_
  base::ByteQueue kept_;    // unread bytes that had to leave the window
  base::ByteQueue output_;  // bytes the socket did not take, or that are held
  uint64_t bytes_sent_ = 0;
  const char* failure_ = nullptr;
  int failure_cause_ = 0;
  base::ErrorKind failure_kind_ = base::ErrorKind::io;
  base::Side side_;
  bool held_ = false;  // output_ was not offered to the socket yet
  bool write_ended_ = false;
  bool fin_due_ = false;  // when output_ has left
  bool handshaken_ = false;
  bool resumed_ = false;
  bool http2_ = false;
  bool ended_ = false;         // eof was seen
  bool write_broken_ = false;  // sending failed; what the peer sent before can still be read
  uint32_t empty_records_ = 0;
};

}  // namespace gatehouse::tls
