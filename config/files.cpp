#include "config/files.hpp"

#include <array>
#include <cerrno>
#include <fcntl.h>
#include <filesystem>
#include <glob.h>
#include <sys/stat.h>
#include <system_error>
#include <unistd.h>

#include <fmt/format.h>

namespace gatehouse::config {

namespace {

class Descriptor {
 public:
  explicit Descriptor(int number) : number_(number) {}
  ~Descriptor() {
    if (number_ >= 0) ::close(number_);
  }
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  int number() const { return number_; }

 private:
  int number_;
};

std::string why(int code) {
  auto reason = std::generic_category().message(code);
  switch (code) {
    case ENOENT:
      return reason + ": create it or correct the path";
    case EACCES:
      return reason + ": let the user who starts gatehouse read it";
    default:
      return reason;
  }
}

Mistake cannot_read(const std::string& path, int code) {
  return Mistake{fmt::format("cannot read {}: {}", path, why(code))};
}

/// Opens without waiting for a pipe's other end.
Parsed<int> open_file(const std::string& path, bool regular_only) {
  if (path.find('\0') != path.npos) return Mistake{"a path cannot hold a NUL byte"};
  const int flags = O_RDONLY | O_CLOEXEC | O_NOCTTY | (regular_only ? O_NONBLOCK : 0);
  const int number = ::open(path.c_str(), flags);
  if (number < 0) return cannot_read(path, errno);
  struct stat status = {};
  std::string problem;
  if (::fstat(number, &status) != 0) problem = why(errno);
  if (S_ISDIR(status.st_mode)) problem = "it is a folder, a file is needed";
  if (problem.empty() && regular_only && !S_ISREG(status.st_mode)) {
    problem = "it is not a regular file";
  }
  if (problem.empty()) return number;
  ::close(number);
  return Mistake{fmt::format("cannot read {}: {}", path, problem)};
}

std::string escape_pattern(const std::string& folder) {
  std::string result;
  for (const char c : folder) {
    if (c == '*' || c == '?' || c == '[' || c == '\\') result += '\\';
    result += c;
  }
  return result;
}

}  // namespace

Parsed<std::string> read_file(const std::string& path, size_t bytes_max, bool regular_only) {
  const auto opened = open_file(path, regular_only);
  if (!opened) return opened.error();
  const Descriptor descriptor(*opened);
  Parsed<std::string> result(boost::system::in_place_value);
  std::array<char, 64 * 1024> buffer;
  while (true) {
    const auto count = ::read(descriptor.number(), buffer.data(), buffer.size());
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) return cannot_read(path, errno);
    if (count == 0) return result;
    result->append(buffer.data(), static_cast<size_t>(count));
    if (result->size() > bytes_max) {
      return Mistake{
          fmt::format("cannot read {}: it is larger than {} KiB", path, bytes_max / 1024)};
    }
  }
}

std::string unreadable(const std::string& path) {
  const auto opened = open_file(path, true);
  if (!opened) return opened.error().text;
  const Descriptor descriptor(*opened);
  return {};
}

std::string resolve_path(std::string_view path, const std::string& folder) {
  std::filesystem::path result(path);
  if (result.is_relative()) result = std::filesystem::path(folder) / result;
  std::error_code error;
  const auto absolute = std::filesystem::absolute(result, error);
  return (error ? result : absolute).lexically_normal().string();
}

std::string folder_of(const std::string& path) {
  return std::filesystem::path(path).parent_path().string();
}

bool is_pattern(std::string_view path) {
  return path.find_first_of("*?[") != path.npos;
}

Parsed<std::vector<std::string>> matching_files(const std::string& pattern,
                                                const std::string& folder, size_t files_max) {
  std::string full = pattern;
  if (!pattern.starts_with('/') && !folder.empty()) full = escape_pattern(folder) + "/" + pattern;
  glob_t found = {};
  const int code = ::glob(full.c_str(), 0, nullptr, &found);
  std::vector<std::string> result;
  for (size_t i = 0; code == 0 && i < found.gl_pathc && i <= files_max; ++i) {
    result.emplace_back(found.gl_pathv[i]);
  }
  ::globfree(&found);
  if (code == GLOB_NOSPACE) return Mistake{fmt::format("{}: too many files", in_quotes(pattern))};
  if (result.size() > files_max) {
    return Mistake{fmt::format("{} matches more than {} files", in_quotes(pattern), files_max)};
  }
  return result;
}

std::string file_identity(const std::string& path) {
  std::error_code error;
  const auto canonical = std::filesystem::canonical(path, error);
  return error ? resolve_path(path, "") : canonical.string();
}

}  // namespace gatehouse::config
