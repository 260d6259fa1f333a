#include "tls/pem_file.hpp"

#include <cerrno>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tls/openssl.hpp"

namespace gatehouse::tls {

namespace {

using base::Error;
using base::ErrorKind;

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

Error cannot_open(const std::string& path, int code) {
  switch (code) {
    case ENOENT:
    case ENOTDIR:
      return Error(ErrorKind::not_found, path + ": no such file; check the path", code);
    case EACCES:
    case EPERM:
      return Error(ErrorKind::denied,
                   path + ": not readable by Gatehouse's user; change its owner or mode", code);
    default:
      return base::from_errno(code, path + ": cannot be opened");
  }
}

}  // namespace

Result<std::string> read_pem_file(const std::string& path) {
  // O_NONBLOCK: a FIFO must not stop the program.
  const Descriptor file(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  if (file.number() < 0) return cannot_open(path, errno);
  struct stat status {};
  if (::fstat(file.number(), &status) != 0) return base::from_errno(errno, path);
  if (!S_ISREG(status.st_mode)) {
    return Error(ErrorKind::invalid, path + ": not a regular file; name a PEM file");
  }
  if (static_cast<size_t>(status.st_size) > pem_file_max) {
    return Error(ErrorKind::limit, path + ": larger than 1 MiB; name a PEM file");
  }

  std::string text(static_cast<size_t>(status.st_size), '\0');
  size_t filled = 0;
  while (filled < text.size()) {
    const ssize_t got = ::read(file.number(), text.data() + filled, text.size() - filled);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) {
      const int code = errno;
      cleanse(text);
      return base::from_errno(code, path + ": cannot be read");
    }
    if (got == 0) break;
    filled += static_cast<size_t>(got);
  }
  text.resize(filled);
  return text;
}

Result<CertificatePtr> load_certificate_pair(const std::string& certificate_path,
                                             const std::string& key_path) {
  if (certificate_path.empty() || key_path.empty()) {
    return Error(ErrorKind::invalid, certificate_path + key_path +
                                         ": a certificate and a key belong together; name both");
  }
  auto chain = read_pem_file(certificate_path);
  if (!chain) return chain.error();
  auto key = read_pem_file(key_path);
  if (!key) {
    cleanse(*chain);  // it may hold the key too
    return key.error();
  }
  const std::string source =
      certificate_path == key_path ? certificate_path : certificate_path + " with key " + key_path;
  auto made = Certificate::from_pem(*chain, *key, source);
  cleanse(*chain);
  cleanse(*key);
  return made;
}

}  // namespace gatehouse::tls
