#include "acme/import/known_authorities.hpp"

#include <algorithm>
#include <array>

#include <fmt/format.h>

#include "acme/import/tree.hpp"
#include "acme/protocol.hpp"
#include "config/parse_acme.hpp"

namespace gatehouse::acme {

namespace {

constexpr size_t unknown_max = 32;
constexpr std::array<const char*, 4> built_in_names = {"letsencrypt", "letsencrypt-staging",
                                                       "zerossl", "google"};

/// Clients differ in the scheme and the last slash that they note.
std::string_view bare(std::string_view url) {
  const size_t scheme = url.find("://");
  if (scheme != std::string_view::npos) url.remove_prefix(scheme + 3);
  while (url.ends_with('/')) url.remove_suffix(1);
  return url;
}

bool fits(const std::string& directory, const CaTrace& ca) {
  if (directory.empty()) return false;
  if (!ca.directory.empty()) return bare(directory) == bare(ca.directory);
  return !ca.host.empty() && host_of_url(directory) == ca.host;
}

/// Fit for [ca.NAME].
std::string name_from(std::string_view host) {
  std::string name(host.substr(0, 64));
  for (char& c : name) {
    const bool plain = (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9');
    if (!plain) c = '-';
  }
  return name;
}

}  // namespace

KnownAuthorities::KnownAuthorities(const std::vector<config::CertificateAuthority>& configured)
    : configured_(configured) {}

const config::CertificateAuthority* KnownAuthorities::configured(const CaTrace& ca) const {
  const auto found = std::find_if(configured_.begin(), configured_.end(),
                                  [&](const auto& one) { return fits(one.directory, ca); });
  return found == configured_.end() ? nullptr : &*found;
}

const config::CertificateAuthority* KnownAuthorities::find(const CaTrace& ca) {
  const auto* found = configured(ca);
  if (found == nullptr) name_of(ca);
  return found;
}

std::string KnownAuthorities::name_of(const CaTrace& ca) {
  if (const auto* found = configured(ca)) return found->name;
  for (const char* name : built_in_names) {
    const auto authority = config::built_in_authority(name);
    if (!authority || !fits(authority->directory, ca)) continue;
    if (!is_staging(ca)) unknown_[name] = Unknown{authority->directory, {}, true};
    return name;
  }
  const std::string host = ca.directory.empty() ? ca.host : host_of_url(ca.directory);
  const bool sound = ca.directory.empty() || usable_url(ca.directory, "http://");
  if (host.empty() || !sound) return "unknown";
  std::string name = name_from(host);
  if (unknown_.size() < unknown_max) {
    auto& unknown = unknown_[name];
    if (unknown.directory.empty()) unknown.directory = ca.directory;
    unknown.host = host;
  }
  return name;
}

bool KnownAuthorities::is_staging(const CaTrace& ca) const {
  if (configured(ca) != nullptr) return false;
  const auto built_in = config::built_in_authority("letsencrypt-staging");
  if (built_in && fits(built_in->directory, ca)) return true;
  return std::any_of(configured_.begin(), configured_.end(),
                     [&](const auto& one) { return fits(one.staging, ca); });
}

std::string KnownAuthorities::advice() const {
  if (unknown_.empty()) return {};
  std::string list;
  std::string sections;
  const auto add = [&](const std::string& name) {
    list += fmt::format("{}\"{}\"", list.empty() ? "" : ", ", name);
  };
  for (const auto& authority : configured_) add(authority.name);
  for (const auto& [name, unknown] : unknown_) {
    add(name);
    if (unknown.built_in) {
      if (name != "letsencrypt" && name != "letsencrypt-staging") {
        sections += fmt::format(
            "\n[ca.{}]\neab = {{ kid = \"\", hmac_key_file = \"\" }}  # from its "
            "website\n",
            name);
      }
      continue;
    }
    sections += fmt::format("\n[ca.{}]\n", name);
    // A host comes from a stranger's file: nothing in it may end the line.
    const bool plain = std::all_of(unknown.host.begin(), unknown.host.end(), [](char c) {
      return c > 0x20 && c < 0x7f && c != '"' && c != '\\';
    });
    sections += unknown.directory.empty()
                    ? fmt::format("directory = \"\"  # the ACME directory of {}\n",
                                  plain ? unknown.host : name)
                    : fmt::format("directory = \"{}\"\n", unknown.directory);
  }
  return fmt::format("[acme]\nca = [{}]\n{}", list, sections);
}

}  // namespace gatehouse::acme
