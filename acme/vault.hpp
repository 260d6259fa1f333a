// Certificates in storage: saved, loaded, archived, described. The stand-ins too.
//
// Does not decide which are needed (manager) or how files are kept (storage). Knows what is there
// by name only: nothing is read before it is wanted. Control thread.
#pragma once

#include <chrono>
#include <functional>
#include <string>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include <boost/asio/awaitable.hpp>
#include <boost/asio/io_context.hpp>

#include "acme/storage/storage.hpp"
#include "base/clock.hpp"
#include "tls/certificate.hpp"

namespace gatehouse::acme {

/// What meta.json says beside the certificate.
struct CertificateNote {
  std::string name;
  std::string authority;  // the CA's name in the configuration
  bool on_demand = false;
};

struct StoredCertificate {
  tls::CertificatePtr certificate;
  CertificateNote note;
};

class Vault {
 public:
  /// `storage` outlives it.
  explicit Vault(Storage& storage) : storage_(storage) {}

  /// Reads the names of what is there; before anything else.
  boost::asio::awaitable<base::Result<void>> read_index();

  bool holds(const std::string& id) const { return held_.contains(id) || archived_.contains(id); }
  /// Ids of orders that a former process left unfinished.
  const std::vector<std::string>& journalled() const { return journalled_; }
  std::vector<std::string> held() const;

  /// From certs/, or back from archive/. not_found also when nothing whole is left.
  boost::asio::awaitable<base::Result<StoredCertificate>> load(std::string id);
  boost::asio::awaitable<base::Result<void>> save(std::string id, tls::CertificatePtr certificate,
                                                  CertificateNote note);
  /// Out of certs/, to be found again if the name returns.
  boost::asio::awaitable<base::Result<void>> archive(std::string id);

  /// Out of certs/ for good: a compromised key is not used again when its name returns.
  boost::asio::awaitable<base::Result<void>> put_away(std::string id, std::string serial);

  /// Removes from archive/ what ended over 30 days ago.
  boost::asio::awaitable<void> purge(base::WallClock::time_point now);

  /// The same for leaves of the internal authority, which are never mistaken for a CA's.
  boost::asio::awaitable<base::Result<StoredCertificate>> load_internal(std::string id);
  boost::asio::awaitable<base::Result<void>> save_internal(std::string id,
                                                           tls::CertificatePtr certificate,
                                                           CertificateNote note);

 private:
  boost::asio::awaitable<base::Result<StoredCertificate>> load_from(std::string folder);

  Storage& storage_;
  std::unordered_set<std::string> held_;
  std::unordered_set<std::string> archived_;
  std::vector<std::string> journalled_;
};

/// The self-signed stand-ins, one for each zone, made at first use and stored.
class Fallbacks {
 public:
  static constexpr size_t zones_max = 10'000;  // further ones are made, but not kept
  static constexpr std::chrono::hours lifetime{24 * 365};

  using Ready = std::function<void(tls::CertificatePtr)>;  // null: it cannot be made
  using Serve = std::function<void(std::string zone, tls::CertificatePtr)>;

  Fallbacks(boost::asio::io_context& control, Storage& storage, const base::Clock& clock,
            Serve serve);

  /// Which zones are stored; before anything else.
  boost::asio::awaitable<void> read_index();

  /// `ready` is called once; at once unless it has to be read from storage.
  void provide(const std::string& zone, Ready ready);

  /// Calls nobody any more.
  void detach();

 private:
  struct State;
  std::shared_ptr<State> state_;
};

/// cert.pem, chain.pem, fullchain.pem, privkey.pem and meta.json of one certificate.
FileSet certificate_files(const tls::Certificate& certificate, const CertificateNote& note);

/// The text of meta.json, and what it says.
std::string describe(const tls::Certificate& certificate, const CertificateNote& note);
base::Result<CertificateNote> read_description(std::string_view json);

}  // namespace gatehouse::acme
