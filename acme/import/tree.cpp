#include "acme/import/tree.hpp"

#include <algorithm>
#include <cerrno>
#include <climits>
#include <cstdlib>
#include <dirent.h>
#include <fcntl.h>
#include <memory>
#include <sys/stat.h>
#include <unistd.h>

#include <boost/json/parse.hpp>
#include <fmt/format.h>

namespace gatehouse::acme {

namespace json = boost::json;
using base::Error;
using base::ErrorKind;
using base::Result;

namespace {

constexpr int json_depth_max = 32;

struct Closing {
  ~Closing() {
    if (descriptor >= 0) ::close(descriptor);
  }
  int descriptor;
};

struct CloseFolder {
  void operator()(DIR* folder) const { ::closedir(folder); }
};

struct FreeText {
  void operator()(char* text) const { std::free(text); }
};

/// Without symbolic links; empty if it does not exist.
std::string real_path(const std::string& path) {
  const std::unique_ptr<char, FreeText> real(::realpath(path.c_str(), nullptr));
  return real ? std::string(real.get()) : std::string();
}

bool is_below(std::string_view path, std::string_view folder) {
  return folder == "/" || path == folder ||
         (path.starts_with(folder) && path.substr(folder.size()).starts_with("/"));
}

std::string leads_out(const std::string& name) {
  return name + ": a symbolic link that leads out of the folder: not followed";
}

/// Where an open file really is: it may have been replaced since its name was looked at.
std::string path_of(int descriptor) {
  char path[PATH_MAX];
  const ssize_t size =
      ::readlink(fmt::format("/proc/self/fd/{}", descriptor).c_str(), path, sizeof path);
  return size > 0 ? std::string(path, static_cast<size_t>(size)) : std::string();
}

/// `root`: where it must be; empty: anywhere.
Result<std::string> read_file(const std::string& path, const std::string& name, size_t bytes_max,
                              const std::string& root) {
  const Closing file{::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY)};
  if (file.descriptor < 0) {
    const int code = errno;
    Error error = base::from_errno(code, name);
    if (code == EACCES) {
      error.context += ": run the import as a user that may read it, such as root";
    }
    return error;
  }
  if (!root.empty() && !is_below(path_of(file.descriptor), root)) {
    return Error(ErrorKind::invalid, leads_out(name));
  }
  struct stat about {};
  if (::fstat(file.descriptor, &about) != 0) return base::from_errno(errno, name);
  if (!S_ISREG(about.st_mode)) return Error(ErrorKind::invalid, name + ": not a plain file");
  if (static_cast<size_t>(about.st_size) > bytes_max) {
    return Error(ErrorKind::invalid, fmt::format("{}: {} bytes, more than the {} that such a file "
                                                 "may have",
                                                 name, about.st_size, bytes_max));
  }
  std::string bytes(static_cast<size_t>(about.st_size), '\0');
  size_t filled = 0;
  while (filled < bytes.size()) {
    const ssize_t got = ::read(file.descriptor, bytes.data() + filled, bytes.size() - filled);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return base::from_errno(errno, name);
    if (got == 0) break;
    filled += static_cast<size_t>(got);
  }
  bytes.resize(filled);
  return bytes;
}

}  // namespace

Result<Tree> Tree::open(const std::string& folder) {
  const std::string root = real_path(folder);
  struct stat about {};
  if (root.empty() || ::stat(root.c_str(), &about) != 0) return base::from_errno(errno, folder);
  if (!S_ISDIR(about.st_mode)) return Error(ErrorKind::invalid, folder + ": not a folder");
  if (::access(root.c_str(), R_OK | X_OK) != 0) {
    Error error = base::from_errno(errno, folder);
    error.context += ": run the import as a user that may read it, such as root";
    return error;
  }
  return Tree(root);
}

Result<std::string> Tree::read(const std::string& path, size_t bytes_max) const {
  return read_file(root_ + "/" + path, path, bytes_max, root_);
}

/// Of a folder inside the tree; empty if it is none.
std::string Tree::resolved(const std::string& path) const {
  const std::string real = real_path(path.empty() ? root_ : root_ + "/" + path);
  struct stat about {};
  const bool inside = !real.empty() && is_below(real, root_);
  return inside && ::stat(real.c_str(), &about) == 0 && S_ISDIR(about.st_mode) ? real : "";
}

std::vector<std::string> Tree::folders(const std::string& path,
                                       std::vector<std::string>& problems) const {
  std::vector<std::string> names;
  for (auto& name : list(path)) {
    const std::string below = path + "/" + name;
    const std::string real = real_path(root_ + "/" + below);
    if (!real.empty() && !is_below(real, root_)) {
      problems.push_back(leads_out(below));
    } else if (!resolved(below).empty()) {
      names.push_back(std::move(name));
    }
  }
  return names;
}

std::vector<std::string> Tree::list(const std::string& path) const {
  std::vector<std::string> names;
  const std::string real = resolved(path);
  if (real.empty()) return names;
  const std::unique_ptr<DIR, CloseFolder> folder(::opendir(real.c_str()));
  while (const dirent* entry = folder ? ::readdir(folder.get()) : nullptr) {
    if (entry->d_name[0] == '.') continue;
    if (names.size() >= imported_folder_entries_max) break;
    names.emplace_back(entry->d_name);
  }
  std::sort(names.begin(), names.end());
  return names;
}

Result<std::string> read_plain_file(const std::string& path, size_t bytes_max) {
  return read_file(path, path, bytes_max, {});
}

Result<json::object> parse_json_object(std::string_view text, std::string_view file) {
  json::parse_options options;
  options.max_depth = json_depth_max;
  boost::system::error_code code;
  json::value value = json::parse(text, code, {}, options);
  if (code || !value.is_object()) {
    return Error(ErrorKind::invalid, fmt::format("{}: not a JSON object", file));
  }
  return std::move(value.as_object());
}

std::string json_text(const json::object& object, std::string_view key) {
  const auto* value = object.if_contains(key);
  const auto* text = value == nullptr ? nullptr : value->if_string();
  return text == nullptr ? std::string() : std::string(text->data(), text->size());
}

const json::object* json_object(const json::object& object, std::string_view key) {
  const auto* value = object.if_contains(key);
  return value == nullptr ? nullptr : value->if_object();
}

std::string host_of_url(std::string_view url) {
  const size_t scheme = url.find("://");
  if (scheme == std::string_view::npos || !url.starts_with("http")) return {};
  url.remove_prefix(scheme + 3);
  return std::string(url.substr(0, url.find('/')));
}

}  // namespace gatehouse::acme
