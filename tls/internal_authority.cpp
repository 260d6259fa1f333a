#include "tls/internal_authority.hpp"

#include <algorithm>

#include "tls/certificate_builder.hpp"

namespace gatehouse::tls {

namespace {

using base::Error;
using base::ErrorKind;
using base::WallClock;

constexpr std::chrono::hours clock_tolerance{1};  // a client's clock may be behind

}  // namespace

Result<CertificatePtr> InternalAuthority::create(const std::string& common_name) {
  const auto now = WallClock::now();
  CertificateDraft draft;
  draft.common_name = common_name;
  draft.not_before = now - clock_tolerance;
  draft.not_after = now + root_lifetime;
  draft.authority = true;
  return build_with_key(draft, nullptr);
}

Result<CertificatePtr> InternalAuthority::issue(const Certificate& root,
                                                const std::vector<std::string>& names,
                                                std::chrono::seconds lifetime) {
  if (names.empty()) return Error(ErrorKind::invalid, "a certificate needs at least one name");
  if (X509_check_ca(root.leaf()) != 1) {
    return Error(ErrorKind::invalid,
                 "the internal authority's root is no authority; remove it to have a new one made");
  }
  const auto now = WallClock::now();
  if (root.not_after() <= now) {
    return Error(ErrorKind::invalid,
                 "the internal authority's root has expired; remove it to have a new one made");
  }
  CertificateDraft draft;
  draft.common_name = names.front();
  draft.names = names;
  draft.not_before = std::max(now - clock_tolerance, root.not_before());
  draft.not_after = std::min<WallClock::time_point>(now + lifetime, root.not_after());
  return build_with_key(draft, &root);
}

}  // namespace gatehouse::tls
