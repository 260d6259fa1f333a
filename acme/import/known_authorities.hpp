// Which configured CA something that was found belongs to, and what to add for those that are not
// configured.
//
// Pure but for what it remembers of the unknown ones; one for each import.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "acme/import/source.hpp"
#include "config/snapshot.hpp"

namespace gatehouse::acme {

class KnownAuthorities {
 public:
  /// `configured` outlives it.
  explicit KnownAuthorities(const std::vector<config::CertificateAuthority>& configured);

  bool knows(const CaTrace& ca) const { return configured(ca) != nullptr; }
  /// By the directory's address, or by the host where only that is known. Null: not configured;
  /// then advice() speaks of it.
  const config::CertificateAuthority* find(const CaTrace& ca);
  /// The configured name; else the built-in one, or one made of its host; "unknown" without a
  /// trace.
  std::string name_of(const CaTrace& ca);
  /// Of a CA's staging that is not configured itself.
  bool is_staging(const CaTrace& ca) const;

  /// The lines that would make the unknown CAs known; empty if there are none.
  std::string advice() const;

 private:
  const config::CertificateAuthority* configured(const CaTrace& ca) const;

  const std::vector<config::CertificateAuthority>& configured_;
  struct Unknown {
    std::string directory;  // empty: only the host is known
    std::string host;
    bool built_in = false;
  };
  std::map<std::string, Unknown> unknown_;  // by name
};

}  // namespace gatehouse::acme
