#include "app/stored_certificates.hpp"

#include <cerrno>
#include <optional>

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/io_context.hpp>
#include <fmt/format.h>

#include "acme/names.hpp"
#include "acme/storage/file.hpp"
#include "config/suggestion.hpp"

namespace gatehouse::app {

namespace asio = boost::asio;
using base::Error;
using base::ErrorKind;
using base::Result;

namespace {

template <class T>
using Read = std::function<asio::awaitable<Result<T>>(acme::Storage&)>;

template <class T>
asio::awaitable<void> keep(acme::Storage& storage, Read<T> read, std::optional<Result<T>>& out) {
  auto result = co_await read(storage);
  out.emplace(std::move(result));
}

/// Opens the folder beside whoever uses it, and reads.
template <class T>
Result<T> from_storage(const std::string& folder, Read<T> read) {
  asio::io_context io;  // outlives the storage, whose threads end their work in it
  auto storage = acme::FileStorage::open(folder, acme::Disk::Access::read_only);
  if (!storage && storage.error().cause == EACCES)
    return Error(
        ErrorKind::denied,
        fmt::format("only root and the user that gatehouse runs as may read {}: run this as "
                    "one of them",
                    folder));
  if (!storage) return storage.error();
  std::optional<Result<T>> out;
  asio::co_spawn(io, keep<T>(**storage, std::move(read), out), [](std::exception_ptr problem) {
    if (problem) std::rethrow_exception(problem);
  });
  io.run();
  return std::move(*out);
}

asio::awaitable<Result<acme::FileSet>> read_files(acme::Storage& storage, std::string name) {
  Error problem(ErrorKind::not_found, fmt::format("there is no certificate for {}", name));
  for (const std::string& place : acme::stored_places(acme::certificate_id(name))) {
    auto files = co_await storage.load_set(place);
    if (files) co_return files;
    if (files.error().kind != ErrorKind::not_found) problem = files.error();
  }
  co_return problem;
}

asio::awaitable<Result<acme::FileSet>> read_root(acme::Storage& storage) {
  auto files = co_await storage.load_set("internal/root");
  if (files || files.error().kind != ErrorKind::not_found) co_return files;
  co_return Error(ErrorKind::not_found,
                  "gatehouse's own authority has no root yet: it is made for the first site with "
                  "certificates = \"internal\"");
}

}  // namespace

Result<std::vector<acme::CertificateStatus>> stored_certificates(const std::string& folder) {
  return from_storage<std::vector<acme::CertificateStatus>>(
      folder, [](acme::Storage& storage) { return acme::read_status(storage); });
}

Result<acme::CertificateDetails> stored_details(const std::string& folder,
                                                const std::string& name) {
  return from_storage<acme::CertificateDetails>(
      folder, [name](acme::Storage& storage) { return acme::read_details(storage, name); });
}

Result<acme::FileSet> stored_files(const std::string& folder, const std::string& name) {
  return from_storage<acme::FileSet>(
      folder, [name](acme::Storage& storage) { return read_files(storage, name); });
}

Result<std::string> stored_root(const std::string& folder) {
  auto files = from_storage<acme::FileSet>(folder, read_root);
  if (!files) return files.error();
  return (*files)["root.pem"];
}

Error unknown_certificate(const std::string& name,
                          const std::vector<acme::CertificateStatus>& known) {
  std::vector<std::string_view> names;
  names.reserve(known.size());
  for (const auto& status : known) names.push_back(status.name);
  return Error(ErrorKind::not_found, fmt::format("there is no certificate for {}{}", name,
                                                 config::did_you_mean(name, names)));
}

}  // namespace gatehouse::app
