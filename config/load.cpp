#include "config/load.hpp"

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <sys/stat.h>
#include <unordered_map>

#include <fmt/format.h>

#include "config/check.hpp"
#include "config/draft.hpp"
#include "config/files.hpp"
#include "config/parse_acme.hpp"
#include "config/parse_notify.hpp"
#include "config/parse_server.hpp"
#include "config/parse_site.hpp"
#include "config/parse_upstream.hpp"
#include "config/reader.hpp"

namespace gatehouse::config {

namespace {

constexpr size_t files_max = 10'000;
constexpr size_t import_depth_max = 16;
constexpr size_t total_bytes_max = 256 * 1024 * 1024;

/// Reads a file and what it imports into one draft.
class Loader {
 public:
  void load_file(const std::string& name);
  void load_main_text(const std::string& text, const std::string& name);
  LoadResult finish();

 private:
  struct Import {
    std::string path;
    Mark mark;
    std::string key;
  };

  void parse(const std::string& text, uint32_t source);
  void collect_imports(Reader& root, std::vector<Import>& imports);
  void follow(const Import& entry);
  void refuse(const Import& entry, std::string text);

  Draft draft_;
  std::unordered_map<std::string, std::string> read_;  // identity → name
  std::vector<std::string> open_;                      // identities of the files being read
  size_t total_bytes_ = 0;
};

}  // namespace

LoadResult load(const std::string& file) {
  Loader loader;
  loader.load_file(file);
  return loader.finish();
}

LoadResult load_text(const std::string& text, const std::string& name) {
  Loader loader;
  loader.load_main_text(text, name);
  return loader.finish();
}

Located locate(const std::optional<std::string>& argument) {
  if (argument && argument->empty()) {
    return {"", "--config is empty: name a configuration file"};
  }
  if (argument) return {*argument, ""};
  const char* variable = std::getenv("GATEHOUSE_CONFIG");
  if (variable != nullptr && *variable != '\0') return {variable, ""};
  for (const char* file : {"gatehouse.toml", "/etc/gatehouse/gatehouse.toml"}) {
    struct stat status = {};
    // A file that is there but may not be read applies: load() then says why.
    if (::stat(file, &status) == 0 || errno == EACCES) return {file, ""};
  }
  return {
      "",
      "no configuration: give --config FILE, set GATEHOUSE_CONFIG, or write ./gatehouse.toml or "
      "/etc/gatehouse/gatehouse.toml"};
}

namespace {

void Loader::load_file(const std::string& name) {
  const auto source = draft_.findings.add_source(name, folder_of(name));
  const auto text = read_file(name, file_bytes_max, false);
  if (!text) {
    draft_.whole = false;
    draft_.findings.add({source, 0, 0}, "", text.error().text);
    return;
  }
  const auto identity = file_identity(name);
  read_.emplace(identity, name);
  open_.push_back(identity);
  parse(*text, source);
  open_.pop_back();
}

void Loader::load_main_text(const std::string& text, const std::string& name) {
  const auto source = draft_.findings.add_source(name, "");
  if (text.size() > file_bytes_max) {
    draft_.whole = false;
    draft_.findings.add({source, 0, 0}, "",
                        fmt::format("larger than {} MiB", file_bytes_max >> 20));
    return;
  }
  parse(text, source);
}

LoadResult Loader::finish() {
  check(draft_);
  LoadResult result;
  if (!draft_.findings.empty()) {
    result.diagnostics = draft_.findings.take();
    return result;
  }
  for (const auto& source : draft_.findings.sources()) {
    draft_.snapshot.files.push_back(source.name);
  }
  result.snapshot = std::make_shared<const Snapshot>(std::move(draft_.snapshot));
  return result;
}

void Loader::parse(const std::string& text, uint32_t source) {
  total_bytes_ += text.size();
  const auto document = parse_document(text, source);
  if (!document) {
    draft_.whole = false;
    draft_.findings.add(document.error().mark, "", document.error().text);
    return;
  }
  Reader root(*document, "", draft_.findings);
  std::vector<Import> imports;
  collect_imports(root, imports);
  parse_server_sections(root, draft_);
  parse_acme_sections(root, draft_);
  parse_notify_section(root, draft_);
  parse_sites(root, draft_);
  parse_upstreams(root, draft_);
  root.finish();
  for (const auto& entry : imports) follow(entry);
}

void Loader::collect_imports(Reader& root, std::vector<Import>& imports) {
  root.each_string(
      "import", [&](const std::string& pattern, const Mark& mark, const std::string& key) {
        const auto& folder = draft_.findings.source(mark).folder;
        if (pattern.empty() || pattern.find('\0') != pattern.npos) {
          refuse({pattern, mark, key}, "is no path: name a file, such as \"sites/*.toml\"");
        } else if (!is_pattern(pattern)) {
          const bool absolute = pattern.starts_with('/') || folder.empty();
          imports.push_back({absolute ? pattern : folder + "/" + pattern, mark, key});
        } else if (auto files = matching_files(pattern, folder, files_max); !files) {
          refuse({pattern, mark, key}, files.error().text);
        } else {
          for (auto& file : *files) imports.push_back({std::move(file), mark, key});
        }
      });
}

void Loader::follow(const Import& entry) {
  if (open_.size() >= import_depth_max) {
    return refuse(
        entry, fmt::format("{} is imported more than {} files deep", entry.path, import_depth_max));
  }
  if (draft_.findings.sources().size() > files_max) {
    return refuse(entry, fmt::format("more than {} files are imported", files_max));
  }
  const auto identity = file_identity(entry.path);
  if (std::find(open_.begin(), open_.end(), identity) != open_.end()) {
    return refuse(entry,
                  fmt::format("{} imports itself in a circle: take one import out", entry.path));
  }
  if (const auto [first, added] = read_.emplace(identity, entry.path); !added) {
    return refuse(entry, fmt::format("{} is imported twice (as {} before): take one import out",
                                     entry.path, first->second));
  }
  const auto text = read_file(entry.path, file_bytes_max);
  if (!text) return refuse(entry, text.error().text);
  if (total_bytes_ + text->size() > total_bytes_max) {
    return refuse(entry,
                  fmt::format("all files together are larger than {} MiB", total_bytes_max >> 20));
  }
  open_.push_back(identity);
  parse(*text, draft_.findings.add_source(entry.path, folder_of(entry.path)));
  open_.pop_back();
}

void Loader::refuse(const Import& entry, std::string text) {
  draft_.whole = false;  // what the file would have defined is not known
  draft_.findings.add(entry.mark, entry.key, std::move(text));
}

}  // namespace

}  // namespace gatehouse::config
