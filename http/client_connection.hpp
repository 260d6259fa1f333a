// A connection to an origin, of whatever HTTP version: it carries one request at a time, or many.
//
// What a pool keeps and connect() makes; an exchange sees only the ClientStream that begin() gives.
// Does not choose an endpoint. Lives on one worker's thread.
#pragma once

#include <cstddef>

#include "base/reactor.hpp"
#include "config/snapshot.hpp"
#include "http/http1_parser.hpp"
#include "http/stream.hpp"
#include "tls/stream.hpp"

namespace gatehouse::http {

class ClientConnection : public base::Retirable {
 public:
  struct Settings {
    HeadLimits head{64 * 1024, 256};
    config::Duration response_timeout, body_timeout, idle_timeout;
  };
  /// More than these before the final response, and the origin is not sane.
  static constexpr uint32_t interim_responses_max = 16;

  /// Told when available() or finished() may have changed while no stream was begun or ended: an
  /// idle connection ended, or the origin goes away. It may free the connection.
  class Keeper {
   public:
    virtual void on_change(ClientConnection& connection) = 0;

   protected:
    ~Keeper() = default;
  };

  ClientConnection(base::Reactor& reactor, const Settings& settings)
      : reactor_(reactor), settings_(settings), stream_(reactor, base::Side::upstream) {}

  tls::Stream& stream() { return stream_; }
  void keep(Keeper* keeper) { keeper_ = keeper; }

  /// Once, on an open connection and ahead of any request: waits until the origin has said what it
  /// allows, if that is its version's way. False: the connection is over.
  virtual base::Task<bool> greet() = 0;
  /// A stream for one more request; `settings` hold from now on. Null: there is none after all, the
  /// connection has turned out to be ended.
  virtual ClientStream* begin(const Settings& settings) = 0;
  /// The request is over, whole or not; the stream is not used any more.
  virtual void end(ClientStream& stream) = 0;

  /// Another request may begin.
  virtual bool available() const = 0;
  /// No request is on it.
  virtual bool idle() const = 0;
  /// Nothing will ever begin on it again, and nothing is on it: it may be freed.
  bool finished() const { return idle() && !available(); }

 protected:
  void changed() {
    if (keeper_ != nullptr) keeper_->on_change(*this);
  }

  base::Reactor& reactor_;
  Settings settings_;
  tls::Stream stream_;

 private:
  Keeper* keeper_ = nullptr;
};

}  // namespace gatehouse::http
