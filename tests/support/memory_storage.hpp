// A Storage in memory for tests: keeps what it is given, counts, and fails on demand.
#pragma once

#include <functional>
#include <map>
#include <set>
#include <string>
#include <vector>

#include <fmt/format.h>

#include "acme/storage/storage.hpp"

namespace gatehouse::test {

class MemoryStorage final : public acme::Storage {
 public:
  template <class T>
  using Awaitable = boost::asio::awaitable<T>;

  std::map<std::string, std::string> files;                   // path → bytes
  std::map<std::string, std::vector<acme::FileSet>> folders;  // folder → generations, newest last
  std::set<std::string> damaged;                              // paths whose load is `corrupt`
  int stores = 0;
  /// Called before anything is stored, moved or removed; false: the verb fails with `io`.
  std::function<bool(const std::string& verb, const std::string& path)> permit;

  Awaitable<base::Result<std::string>> load(std::string path) override {
    if (damaged.contains(path)) {
      co_return base::Error(base::ErrorKind::corrupt, path + " is damaged");
    }
    const auto found = files.find(path);
    if (found == files.end()) co_return missing(path);
    co_return found->second;
  }

  Awaitable<base::Result<void>> store(std::string path, std::string bytes) override {
    if (!permitted("store", path)) co_return refused(path);
    ++stores;
    damaged.erase(path);
    files[path] = std::move(bytes);
    co_return base::Result<void>();
  }

  Awaitable<base::Result<void>> store_set(std::string folder, acme::FileSet set) override {
    if (!permitted("store_set", folder)) co_return refused(folder);
    ++stores;
    folders[folder].push_back(std::move(set));
    co_return base::Result<void>();
  }

  Awaitable<base::Result<acme::FileSet>> load_set(std::string folder) override {
    const auto found = folders.find(folder);
    if (found == folders.end() || found->second.empty()) co_return missing(folder);
    co_return found->second.back();
  }

  Awaitable<base::Result<void>> move(std::string from, std::string to) override {
    if (!permitted("move", from)) co_return refused(from);
    // The newest generation of a set, as on a disk.
    const size_t slash = from.rfind('/');
    const auto whole = folders.find(from.substr(0, slash == std::string::npos ? 0 : slash));
    if (whole != folders.end() && from == whole->first + "/" + newest(whole->second)) {
      if (!to.empty()) folders[to] = {whole->second.back()};
      whole->second.pop_back();
      co_return base::Result<void>();
    }
    const bool file = rename_keys(files, from, to);
    const bool set = rename_keys(folders, from, to);
    std::erase_if(damaged, [&](const std::string& path) { return is_under(path, from); });
    if (!file && !set) co_return missing(from);
    co_return base::Result<void>();
  }

  Awaitable<base::Result<std::vector<std::string>>> list(std::string folder) override {
    std::set<std::string> names;
    const std::string prefix = folder.empty() ? std::string() : folder + "/";
    const auto add = [&](const std::string& path) {
      if (!path.starts_with(prefix)) return;
      const std::string rest = path.substr(prefix.size());
      names.insert(rest.substr(0, rest.find('/')));
    };
    for (const auto& entry : files) add(entry.first);
    for (const auto& entry : folders) add(entry.first);
    const auto set = folders.find(folder);
    for (size_t number = 1; set != folders.end() && number <= set->second.size(); ++number)
      names.insert(fmt::format("{:08}", number));
    co_return std::vector<std::string>(names.begin(), names.end());
  }

  Awaitable<std::vector<std::string>> current(std::vector<std::string> wanted) override {
    std::vector<std::string> generations;
    for (const auto& folder : wanted) {
      const auto found = folders.find(folder);
      generations.push_back(found == folders.end() ? "" : newest(found->second));
    }
    co_return generations;
  }

 private:
  static std::string newest(const std::vector<acme::FileSet>& generations) {
    return generations.empty() ? std::string() : fmt::format("{:08}", generations.size());
  }

  bool permitted(const std::string& verb, const std::string& path) {
    return !permit || permit(verb, path);
  }

  static base::Error missing(const std::string& path) {
    return base::Error(base::ErrorKind::not_found, path + " does not exist");
  }
  static base::Error refused(const std::string& path) {
    return base::Error(base::ErrorKind::io, path + ": No space left on device");
  }
  static bool is_under(const std::string& path, const std::string& folder) {
    return path == folder || path.starts_with(folder + "/");
  }

  template <class Map>
  static bool rename_keys(Map& map, const std::string& from, const std::string& to) {
    Map taken;
    for (auto it = map.begin(); it != map.end();) {
      if (is_under(it->first, from)) {
        if (!to.empty()) taken.emplace(to + it->first.substr(from.size()), std::move(it->second));
        it = map.erase(it);
        if (to.empty()) taken.emplace(std::string(), typename Map::mapped_type());
      } else {
        ++it;
      }
    }
    const bool any = !taken.empty();
    if (!to.empty()) map.merge(taken);
    return any;
  }
};

}  // namespace gatehouse::test
