// Takes over what another ACME client has left: into our storage, under our names.
//
// Does not read the other's files (the sources) and orders nothing: what is imported is as if we
// had obtained it, and its renewal goes on from there. Control thread, or a command line.
#pragma once

#include <string>
#include <vector>

#include <boost/asio/awaitable.hpp>

#include "acme/import/source.hpp"
#include "acme/storage/storage.hpp"
#include "acme/times.hpp"
#include "config/snapshot.hpp"

namespace gatehouse::acme {

/// What became of one thing that was found.
struct ImportLine {
  enum class Kind : uint8_t { certificate, account } kind = Kind::certificate;
  enum class Outcome : uint8_t { imported, kept, expired } outcome = Outcome::imported;
  std::string name;  // the certificate's, or the CA's whose account it is
  std::string from;
  std::string issuer;    // of a certificate
  WallTime not_after{};  // of a certificate
  std::string note;      // for a person, may be empty
};

struct ImportReport {
  std::vector<ImportLine> lines;
  std::vector<std::string> problems;  // what could not be taken over, each one line
  std::string advice;                 // lines to add to the configuration, may be empty
};

struct ImportOrder {
  const config::Acme& acme;
  std::vector<std::string> hosts;  // configured names that a certificate is kept for
  WallTime now;
  bool dry_run = false;
};

/// Stores each certificate under each of its names, and under those of `hosts` that only a wildcard
/// of it covers; one account for each configured CA. What is stored already stays if it is newer,
/// or an account. `storage` null: nothing is stored yet (a dry run before the first start). The
/// storage, findings and order outlive the call.
boost::asio::awaitable<ImportReport> import_findings(Storage* storage, Findings findings,
                                                     const ImportOrder& order);

}  // namespace gatehouse::acme
