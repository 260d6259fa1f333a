#include "acme/profile.hpp"

#include <algorithm>

#include <fmt/format.h>

namespace gatehouse::acme {

using boost::asio::awaitable;

namespace {

/// Let's Encrypt's for certificates of a few days, the only one that IP addresses may have there.
constexpr const char* address_profile = "shortlived";

bool has(const Directory& directory, const std::string& profile) {
  const auto& all = directory.profiles;
  return std::find(all.begin(), all.end(), profile) != all.end();
}

Failure missing(const Directory& directory, const config::CertificateAuthority& authority,
                const Attempt& attempt) {
  Failure failure;
  failure.kind = FailureClass::policy;
  failure.type = "invalidProfile";
  const auto& all = directory.profiles;
  failure.sentence = fmt::format(
      "{0}: {1} has no profile \"{2}\", which is required (it has: {3}): correct [ca.{1}] profile, "
      "or remove profile_required",
      attempt.names, authority.name, authority.profile,
      all.empty() ? std::string("none") : fmt::format("{}", fmt::join(all, ", ")));
  return failure;
}

}  // namespace

awaitable<Outcome<std::string>> choose_profile(Transport& transport,
                                               const std::vector<std::string>& names,
                                               const Errand& errand) {
  const auto& authority = transport.authority();
  const bool required = authority.profile_required && !authority.profile.empty();
  const bool address = std::any_of(names.begin(), names.end(), [](const std::string& name) {
    return identifier_of(name).type == "ip";
  });
  if (!required && !(address && authority.profile.empty())) co_return authority.profile;
  auto directory = co_await transport.directory(errand);
  if (directory && required && !has(*directory, authority.profile)) {
    directory = co_await transport.refetch_directory(errand);  // the kept one may be a day old
  }
  if (!directory) co_return directory.error();
  if (!required) co_return has(*directory, address_profile) ? address_profile : std::string();
  if (!has(*directory, authority.profile)) {
    co_return missing(*directory, authority, errand.attempt);
  }
  co_return authority.profile;
}

}  // namespace gatehouse::acme
