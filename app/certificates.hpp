// Where certificates meet: what acme obtains and what the user's files hold becomes the table that
// the workers serve from.
//
// Joins acme::Manager, tls::CertificateFiles and proxy::Server, which do not know each other; does
// not obtain, check or serve anything itself. Lives on the control thread; only the functions in
// server_hooks() are called on workers' threads.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include <boost/asio/io_context.hpp>

#include "acme/certificate_details.hpp"
#include "acme/manager.hpp"
#include "acme/solver/solvers.hpp"
#include "app/custom_certificates.hpp"
#include "base/error.hpp"
#include "config/snapshot.hpp"
#include "proxy/server.hpp"
#include "tls/certificate_files.hpp"
#include "tls/certificate_table.hpp"

namespace gatehouse::app {

class Certificates {
 public:
  Certificates(boost::asio::io_context& control, size_t workers);
  /// As close().
  ~Certificates();
  Certificates(const Certificates&) = delete;
  Certificates& operator=(const Certificates&) = delete;

  // What the others are made with.
  proxy::ServerHooks server_hooks();
  acme::ManagerHooks manager_hooks();
  acme::PublishChallenges challenge_publisher();
  acme::PublishAlpnCertificates alpn_publisher();

  /// From now on changes are published to `server`, and wishes go to `manager`. Both outlive
  /// close().
  void connect(proxy::Server& server, acme::Manager& manager);

  /// The user's own certificates and the choice of the default one, at start and at each reload. If
  /// a file cannot be loaded nothing changes, and every mistake is returned; empty: well.
  std::vector<base::Error> configure(config::SnapshotPtr snapshot);

  /// Publishes what has changed now rather than at the end of this turn.
  void publish_now();

  /// From now on these are served too, where a site has their name and no file of its own.
  void set_custom(CustomTable custom);

  /// The user's own ones, for the list that the manager's are in too.
  std::vector<acme::CertificateStatus> status() const;
  /// One of them by the exact name it is served for.
  std::optional<acme::CertificateDetails> details(const std::string& name) const;
  /// One that serves `name` among others: of "*.zone", or the file of the default site.
  std::optional<acme::CertificateDetails> shared_details(const std::string& name) const;
  /// Why a name that a site has is without a certificate; none: it is no site's, or nobody knows.
  std::optional<base::Error> absence(const std::string& name) const;
  /// Why a custom certificate for `name` would not be served.
  std::optional<base::Error> objection(const std::string& name) const;

  /// What the user's files hold, for each site that names them: also of "*", and the fallbacks.
  std::vector<acme::CertificateStatus> file_status() const;

  const tls::CertificateTablePtr& table() const;

  /// Before the server stops: no worker is called any more.
  void close();

 private:
  struct State;
  std::shared_ptr<State> state_;
};

}  // namespace gatehouse::app
