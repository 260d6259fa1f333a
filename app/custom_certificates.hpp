// Certificates that a person gave through the admin interface, kept in custom/ of the storage.
//
// Does not serve them (Certificates) and knows nothing of files that the configuration names.
// Control thread.
#pragma once

#include <map>
#include <string>

#include <boost/asio/awaitable.hpp>

#include "acme/storage/storage.hpp"
#include "base/clock.hpp"
#include "base/error.hpp"
#include "tls/certificate.hpp"

namespace gatehouse::app {

/// By name, also "*.zone".
using CustomTable = std::map<std::string, tls::CertificatePtr>;

/// What `chain` and `key`, both PEM, hold for `name`. An Error of kind invalid is a sentence on
/// what is wrong: no PEM, another's key, a weak one, other names, dates, the chain's order.
base::Result<tls::CertificatePtr> check_custom(const std::string& name, const std::string& chain,
                                               const std::string& key,
                                               base::WallClock::time_point now);

class CustomCertificates {
 public:
  /// All of them are in memory.
  static constexpr size_t count_max = 1000;

  /// `storage` outlives it and the handlers of its executor.
  explicit CustomCertificates(acme::Storage& storage) : storage_(storage) {}

  /// Those of former runs; before anything else. One that cannot be read is logged and left out.
  boost::asio::awaitable<void> read();

  /// Stored, then in all(), or neither. Replaces the one of that name.
  boost::asio::awaitable<base::Result<void>> put(std::string name, tls::CertificatePtr certificate);
  /// not_found: there is none.
  boost::asio::awaitable<base::Result<void>> remove(std::string name);

  const CustomTable& all() const { return table_; }

 private:
  acme::Storage& storage_;
  CustomTable table_;
};

}  // namespace gatehouse::app
