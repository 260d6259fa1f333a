// A configuration while it is being read: the snapshot so far, and where those things were written
// that can only be checked when every file is known.
//
// Gone once load() returns. Control thread.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "config/findings.hpp"
#include "config/snapshot.hpp"

namespace gatehouse::config {

/// A name that must exist somewhere: an upstream, a CA.
struct Use {
  std::string text;
  Mark mark;
  std::string key;
};

struct RouteDraft {
  bool own_upstream = false;  // otherwise the site's, unless it redirects or responds
  Use upstream;
};

/// Beside snapshot.sites, the same index.
struct SiteDraft {
  std::string path;  // "site[0]"
  Mark mark;
  Mark certificates;             // of the value, or of the site
  std::vector<Mark> hosts;       // beside Site::hosts
  bool mode_known = true;        // `certificates` could be read
  bool own_files_given = false;  // `certificate` or `key`, readable or not
  bool upstream_given = false;
  Use upstream;
  std::vector<RouteDraft> routes;  // beside Site::routes
};

struct ListenerDraft {
  ListenAddress address;
  Mark mark;
  std::string key;
};

struct Draft {
  Findings findings;
  Snapshot snapshot;
  std::vector<SiteDraft> sites;
  std::map<std::string, Mark> sections;  // "server", "upstream.shop": where each was first given
  std::map<std::string, CertificateAuthority> authorities;  // from [ca.NAME]
  std::vector<Use> ca_uses;
  std::vector<Use> challenges;  // of [acme], as far as they are well
  std::vector<ListenerDraft> listeners;
  bool http_given = false;  // server.http is in a file
  bool https_given = false;
  bool http_off = false;  // it is []
  bool https_off = false;
  bool site_given = false;  // some [[site]] is there, well or not
  bool whole = true;        // every file could be read: names that are missing are truly missing

  /// False, with a diagnostic, if that section was given before.
  bool first_time(const std::string& section, const Mark& mark);
};

}  // namespace gatehouse::config
