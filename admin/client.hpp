// Asks a running gatehouse through its admin interface, for the command line.
//
// Blocks the calling thread, for `timeout` at most: not for the proxy itself.
#pragma once

#include <chrono>
#include <string>

#include "admin/address.hpp"
#include "base/error.hpp"

namespace gatehouse::admin {

struct Answer {
  int status = 0;
  std::string body;
};

class Client {
 public:
  static constexpr std::chrono::seconds timeout{65};             // longer than the server's own
  static constexpr size_t answer_bytes_max = 256 * 1024 * 1024;  // 100,000 certificates' list

  Client(Address address, std::string token)
      : address_(std::move(address)), token_(std::move(token)) {}

  /// Any status is a success. An Error of kind not_found or refused says that nobody listens there.
  base::Result<Answer> request(std::string method, std::string path, std::string body = {}) const;

 private:
  Address address_;
  std::string token_;
};

}  // namespace gatehouse::admin
