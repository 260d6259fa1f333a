// The user's own certificates: loaded from files, watched, and loaded anew when they change.
//
// Does not choose what they are served for: each new one is handed to a function of app's. Looks at
// the files once a second rather than by inotify, which misses changes over network mounts and
// behind symbolic links. Lives on the control thread.
#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include <boost/asio/io_context.hpp>

#include "base/error.hpp"
#include "tls/certificate.hpp"

namespace gatehouse::tls {

struct CertificateFilePair {
  std::string certificate;  // path: the leaf first, then its intermediates
  std::string key;          // path, may be the same
  bool fallback = false;    // stands in while a site has no certificate; only handed through
  bool operator==(const CertificateFilePair&) const = default;
};

class CertificateFiles {
 public:
  static constexpr std::chrono::milliseconds poll_interval{1000};

  /// Called on the control thread with each certificate that was loaded, the first of a pair and
  /// every later one.
  using Loaded = std::function<void(const CertificateFilePair&, const CertificatePtr&)>;

  CertificateFiles(boost::asio::io_context& control, Loaded loaded,
                   std::chrono::milliseconds interval = poll_interval);
  /// Stops watching; no call follows.
  ~CertificateFiles();
  CertificateFiles(const CertificateFiles&) = delete;
  CertificateFiles& operator=(const CertificateFiles&) = delete;

  /// Watches these pairs and no others from now on. Loads those that are new or changed and calls
  /// `loaded` for each before it returns. If any cannot be loaded nothing changes, and every
  /// mistake is returned; empty: well.
  std::vector<base::Error> watch(const std::vector<CertificateFilePair>& pairs);

  /// What a watched pair serves now; null for others.
  CertificatePtr find(const CertificateFilePair& pair) const;

 private:
  struct State;
  std::shared_ptr<State> state_;
};

}  // namespace gatehouse::tls
