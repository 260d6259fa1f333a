// PROXY protocol headers: no input breaks the parser, its verdict on a prefix never contradicts the
// one on more bytes, and what it understood survives being written and read again.
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "base/error.hpp"
#include "http/proxy_header.hpp"

namespace {

using namespace gatehouse;
using http::parse_proxy_header;
using http::ProxyHeader;
using Status = http::ProxyHeaderParse::Status;

void check_prefix(std::string_view bytes, size_t size, const http::ProxyHeaderParse& whole) {
  const auto part = parse_proxy_header(bytes.substr(0, size));
  if (part.status == Status::need_more) return;
  ASSERT(part.status == whole.status);
  ASSERT(part.header.size == whole.header.size);
}

void check_again(const ProxyHeader& header, config::ProxyProtocol version) {
  const auto text = http::write_proxy_header(version, header.addresses);
  const auto again = parse_proxy_header(text.view());
  ASSERT(again.status == Status::complete);
  ASSERT(again.header.size == text.size);
  ASSERT(again.header.speaker == ProxyHeader::Speaker::client);
  ASSERT(again.header.addresses.source == header.addresses.source);
  ASSERT(again.header.addresses.destination == header.addresses.destination);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view bytes(reinterpret_cast<const char*>(data), size);
  const auto parse = parse_proxy_header(bytes);
  for (size_t part = 0; part < size && part < 256; ++part) check_prefix(bytes, part, parse);
  if (parse.status == Status::malformed) ASSERT(parse.problem != nullptr);
  if (parse.status != Status::complete) return 0;
  ASSERT(parse.header.size <= size);
  ASSERT(parse.header.size <= http::proxy_v2_bytes_max);
  if (parse.header.speaker == ProxyHeader::Speaker::client) {
    check_again(parse.header, config::ProxyProtocol::v1);
    check_again(parse.header, config::ProxyProtocol::v2);
  }
  return 0;
}
