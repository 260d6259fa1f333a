// An HTTP/1.1 origin that costs as little as one can: every request is answered with the same 1 KB.
//
//   bench_origin PORT
//
// It shares its CPU with the load. With a dearer one, such as nginx, a cheap proxy waits for its
// origin, is woken for every answer, and what is measured is the waking. Requests have no body.
#include <string>

#include "serve.hpp"

namespace {

constexpr size_t body_bytes = 1024;

const std::string& answer() {
  static const std::string text =
      "HTTP/1.1 200 OK\r\nServer: bench\r\nDate: Sun, 06 Nov 1994 08:49:37 GMT\r\n"
      "Content-Type: application/octet-stream\r\nContent-Length: " +
      std::to_string(body_bytes) + "\r\nConnection: keep-alive\r\n\r\n" +
      std::string(body_bytes, 'x');
  return text;
}

class Kilobyte : public Peer {
 public:
  using Peer::Peer;

  bool on_readable() {
    char bytes[16384];
    auto come = read(bytes);
    if (!come) return false;
    bool alone =
        come->ends_with(head_end) && come->find(head_end) == come->size() - head_end.size();
    if (begun_.empty() && alone) return write(answer());
    begun_ += *come;
    for (size_t end; (end = begun_.find(head_end)) != begun_.npos;) {
      begun_.erase(0, end + head_end.size());
      if (!write(answer())) return false;
    }
    return true;
  }

 private:
  static constexpr std::string_view head_end = "\r\n\r\n";
  std::string begun_;  // of a head that has not all come
};

}  // namespace

int main(int count, char** arguments) {
  if (count != 2) fail("usage: PORT");
  allow_many_files();
  serve<Kilobyte>(std::atoi(arguments[1]));
}
