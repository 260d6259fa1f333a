#include "tls/certificate_files.hpp"

#include <algorithm>
#include <optional>
#include <sys/stat.h>
#include <utility>

#include <boost/asio/steady_timer.hpp>

#include "base/log.hpp"
#include "tls/pem_file.hpp"

namespace gatehouse::tls {

namespace {

using base::Error;
using base::WallClock;

/// What tells one version of a file from the next. All zero: it is not there.
struct Stamp {
  int64_t modified_ns = 0;
  int64_t size = 0;
  uint64_t inode = 0;
  bool operator==(const Stamp&) const = default;
};

struct PairStamp {
  Stamp certificate;
  Stamp key;
  bool operator==(const PairStamp&) const = default;
};

struct Watched {
  CertificateFilePair pair;
  CertificatePtr certificate;
  PairStamp looked_at;             // the version that was loaded, or refused
  std::optional<PairStamp> moved;  // another version, seen once: it may still be written
};

PairStamp stamp_of(const CertificateFilePair& pair);
Result<CertificatePtr> load(const CertificateFilePair& pair);
bool expired(const Certificate& certificate);
void warn_of_flaws(const CertificateFilePair& pair, const Certificate& certificate);

}  // namespace

struct CertificateFiles::State : std::enable_shared_from_this<State> {
  State(boost::asio::io_context& control, Loaded report, std::chrono::milliseconds every)
      : timer(control), loaded(std::move(report)), interval(every) {}

  Watched* find(const CertificateFilePair& pair);
  void poll_later();
  void poll();
  /// True if a new version was loaded.
  bool look_at(Watched& watched);

  boost::asio::steady_timer timer;
  Loaded loaded;
  std::chrono::milliseconds interval;
  std::vector<Watched> watched;
  bool polling = false;
};

CertificateFiles::CertificateFiles(boost::asio::io_context& control, Loaded loaded,
                                   std::chrono::milliseconds interval)
    : state_(std::make_shared<State>(control, std::move(loaded), interval)) {}

CertificateFiles::~CertificateFiles() {
  state_->loaded = nullptr;
  state_->watched.clear();
  state_->timer.cancel();
}

std::vector<Error> CertificateFiles::watch(const std::vector<CertificateFilePair>& pairs) {
  std::vector<Error> mistakes;
  std::vector<Watched> next;
  std::vector<Watched> fresh;
  for (const auto& pair : pairs) {
    const auto same = [&](const Watched& other) { return other.pair == pair; };
    if (std::any_of(next.begin(), next.end(), same)) continue;
    const PairStamp stamp = stamp_of(pair);
    const Watched* known = state_->find(pair);
    if (known && known->looked_at == stamp) {
      next.push_back(*known);
      continue;
    }
    auto certificate = load(pair);
    if (!certificate) {
      mistakes.push_back(certificate.error());
      continue;
    }
    next.push_back({pair, *certificate, stamp, std::nullopt});
    fresh.push_back(next.back());
  }
  if (!mistakes.empty()) return mistakes;

  state_->watched = std::move(next);
  state_->poll_later();
  for (const auto& entry : fresh) {
    warn_of_flaws(entry.pair, *entry.certificate);
    state_->loaded(entry.pair, entry.certificate);
  }
  return {};
}

CertificatePtr CertificateFiles::find(const CertificateFilePair& pair) const {
  const Watched* watched = state_->find(pair);
  return watched ? watched->certificate : nullptr;
}

Watched* CertificateFiles::State::find(const CertificateFilePair& pair) {
  const auto at = std::find_if(watched.begin(), watched.end(),
                               [&](const Watched& entry) { return entry.pair == pair; });
  return at == watched.end() ? nullptr : &*at;
}

void CertificateFiles::State::poll_later() {
  if (polling || watched.empty()) return;
  polling = true;
  timer.expires_after(interval);
  timer.async_wait([weak = weak_from_this()](const boost::system::error_code& stopped) {
    const auto self = weak.lock();
    if (!self) return;
    self->polling = false;
    if (!stopped) self->poll();
  });
}

void CertificateFiles::State::poll() {
  std::vector<Watched> changed;
  for (auto& entry : watched) {
    if (look_at(entry)) changed.push_back(entry);
  }
  poll_later();
  // Last, and from copies: the function may call watch() or end this object.
  for (const auto& entry : changed) {
    if (loaded) loaded(entry.pair, entry.certificate);
  }
}

bool CertificateFiles::State::look_at(Watched& entry) {
  const PairStamp now = stamp_of(entry.pair);
  if (now == entry.looked_at) {
    entry.moved.reset();
    return false;
  }
  if (entry.moved != now) {
    entry.moved = now;  // both files must stay as they are until the next look
    return false;
  }
  auto certificate = load(entry.pair);
  if (stamp_of(entry.pair) != now) return false;  // changed under the load
  entry.looked_at = now;
  entry.moved.reset();
  if (!certificate) {
    base::log::error("{}; the certificate loaded before stays in use", certificate.error().context);
    return false;
  }
  if (expired(**certificate) && !expired(*entry.certificate)) {
    base::log::error("{}: the new certificate has expired; the one loaded before stays in use",
                     entry.pair.certificate);
    return false;
  }
  entry.certificate = *certificate;
  base::log::info("{}: changed and loaded", entry.pair.certificate);
  warn_of_flaws(entry.pair, *entry.certificate);
  return true;
}

namespace {

Stamp stamp_of(const std::string& path) {
  struct stat status {};
  if (::stat(path.c_str(), &status) != 0) return {};
  constexpr int64_t second_ns = 1'000'000'000;
  return {status.st_mtim.tv_sec * second_ns + status.st_mtim.tv_nsec, status.st_size,
          status.st_ino};
}

PairStamp stamp_of(const CertificateFilePair& pair) {
  return {stamp_of(pair.certificate), stamp_of(pair.key)};
}

Result<CertificatePtr> load(const CertificateFilePair& pair) {
  return load_certificate_pair(pair.certificate, pair.key);
}

bool expired(const Certificate& certificate) {
  return certificate.not_after() < WallClock::now();
}

/// Served all the same, for the user chose it; but they should know.
void warn_of_flaws(const CertificateFilePair& pair, const Certificate& certificate) {
  constexpr std::chrono::seconds no_skew{0};
  const std::string problem = certificate.problem_for({}, WallClock::now(), no_skew);
  if (!problem.empty()) {
    base::log::warn("{}: clients will refuse this certificate: {}", pair.certificate, problem);
  }
  struct stat status {};
  if (::stat(pair.key.c_str(), &status) == 0 && (status.st_mode & S_IRWXO) != 0) {
    base::log::warn("{}: the private key is open to every user; run 'chmod 600' on it", pair.key);
  }
}

}  // namespace

}  // namespace gatehouse::tls
