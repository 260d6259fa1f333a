// PROXY protocol headers: no input breaks the parser, its verdict on a prefix never contradicts the
// one on more bytes, and what it understood survives being written and read again.
#include "http/proxy_header.hpp"

#include "tests/fuzz/target.hpp"

namespace gatehouse {

namespace http {

namespace {

using Status = ProxyHeaderParse::Status;

void check_prefix(std::string_view bytes, size_t size, const ProxyHeaderParse& whole) {
  const auto part = parse_proxy_header(bytes.substr(0, size));
  if (part.status == Status::need_more) return;
  ASSERT(part.status == whole.status);
  ASSERT(part.header.size == whole.header.size);
}

void check_again(const ProxyHeader& header, config::ProxyProtocol version) {
  const auto text = write_proxy_header(version, header.addresses);
  const auto again = parse_proxy_header(text.view());
  ASSERT(again.status == Status::complete);
  ASSERT(again.header.size == text.size);
  ASSERT(again.header.speaker == ProxyHeader::Speaker::client);
  ASSERT(again.header.addresses.source == header.addresses.source);
  ASSERT(again.header.addresses.destination == header.addresses.destination);
}

void judge(std::string_view input) {
  const auto parse = parse_proxy_header(input);
  for (size_t part = 0; part < input.size() && part < 256; ++part) check_prefix(input, part, parse);
  if (parse.status == Status::malformed) ASSERT(parse.problem != nullptr);
  if (parse.status != Status::complete) return;
  ASSERT(parse.header.size <= input.size());
  ASSERT(parse.header.size <= proxy_v2_bytes_max);
  if (parse.header.speaker != ProxyHeader::Speaker::client) return;
  check_again(parse.header, config::ProxyProtocol::v1);
  check_again(parse.header, config::ProxyProtocol::v2);
}

}  // namespace

}  // namespace http

void fuzz(std::string_view input) {
  http::judge(input);
}

}  // namespace gatehouse
