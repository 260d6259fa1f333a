// Certificates in storage: saved, loaded, archived, described. The stand-ins too.
//
// Does not decide which are needed (manager) or how files are kept (storage). Knows what is there
// from an index, the ledger: nothing is read before it is wanted. Control thread.
#pragma once

#include <chrono>
#include <functional>
#include <string>
#include <unordered_map>
#include <vector>

#include <boost/asio/awaitable.hpp>
#include <boost/asio/io_context.hpp>

#include "acme/ledger.hpp"
#include "acme/storage/storage.hpp"
#include "acme/times.hpp"
#include "base/clock.hpp"
#include "tls/certificate.hpp"

namespace gatehouse::acme {

/// What meta.json says beside the certificate.
struct CertificateNote {
  std::string name;
  std::string authority;  // the CA's name in the configuration
  bool on_demand = false;
  // Of the certificate; epoch: it does not say.
  WallTime not_before{}, not_after{};
};

struct StoredCertificate {
  tls::CertificatePtr certificate;
  CertificateNote note;
};

class Vault {
 public:
  /// `storage` outlives it.
  explicit Vault(Storage& storage) : storage_(storage) {}

  /// Reads the names of what is there, and the index; before anything else. A torn index, or one
  /// that names other certificates, is what compare() and look() put right.
  boost::asio::awaitable<base::Result<void>> read_index();

  /// What is there, without its files. For planning; what is served comes from load().
  Ledger& ledger() { return ledger_; }
  const Ledger& ledger() const { return ledger_; }

  bool holds(const std::string& id) const { return ledger_.place(id) != Ledger::Place::nowhere; }
  /// Ids of orders that a former process left unfinished.
  const std::vector<std::string>& journalled() const { return journalled_; }

  /// Asks which generations of these the folders hold; where the ledger knows another, it forgets
  /// what it knew.
  boost::asio::awaitable<void> compare(std::vector<std::string> ids);
  /// Reads what the files of one say of it, and notes that in the ledger. After compare().
  boost::asio::awaitable<base::Result<CertificateNote>> look(std::string id);
  /// Writes the changed parts of the index.
  boost::asio::awaitable<base::Result<void>> save_index();

  /// `name`'s, from certs/, or back from archive/. A generation that is whole and not a certificate
  /// of that name is set aside for the one before it. not_found also when nothing whole is left.
  boost::asio::awaitable<base::Result<StoredCertificate>> load(std::string id, std::string name);
  /// The certificate with this fingerprint, if it is the current generation, goes to quarantine/,
  /// and the one before it is current again. False: it was not, or there is none before it.
  boost::asio::awaitable<bool> roll_back(std::string id, std::string fingerprint);
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
  boost::asio::awaitable<bool> roll_back_internal(std::string id, std::string fingerprint);

 private:
  boost::asio::awaitable<base::Result<StoredCertificate>> roll_back_in(std::string folder,
                                                                       std::string fingerprint);
  boost::asio::awaitable<base::Result<StoredCertificate>> load_from(std::string folder);
  boost::asio::awaitable<std::string> current_of(std::string folder);
  boost::asio::awaitable<bool> set_aside(std::string folder);
  void nothing_left(const std::string& id);
  bool remembers(const std::string& id, const CertificateNote& note) const;
  boost::asio::awaitable<void> remember(std::string id, CertificateNote note);
  void remember(const std::string& id, const CertificateNote& note, uint32_t generation);

  Storage& storage_;
  Ledger ledger_;
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
