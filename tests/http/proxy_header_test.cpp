#include "http/proxy_header.hpp"

#include <string>
#include <vector>

#include <catch2/catch.hpp>

using namespace gatehouse;
using http::parse_proxy_header;
using http::ProxyAddresses;
using http::ProxyHeader;
using http::ProxyHeaderParse;
using http::write_proxy_header;
using Speaker = ProxyHeader::Speaker;
using Status = ProxyHeaderParse::Status;
using config::ProxyProtocol;

namespace {

const std::string signature("\r\n\r\n\0\r\nQUIT\n", 12);

std::string number(size_t value) {
  return {static_cast<char>(value >> 8), static_cast<char>(value)};
}

/// A header of version 2: command 0x21 is PROXY, 0x20 LOCAL.
std::string v2(int command, int family, const std::string& rest) {
  return signature + static_cast<char>(command) + static_cast<char>(family) + number(rest.size()) +
         rest;
}

std::string tlv(int type, const std::string& value) {
  return static_cast<char>(type) + number(value.size()) + value;
}

/// 192.0.2.1:56324 to 198.51.100.1:443
const std::string inet =
    std::string("\xc0\x00\x02\x01\xc6\x33\x64\x01", 8) + number(56324) + number(443);
/// [2001:db8::1]:56324 to [2001:db8::2]:443
const std::string inet6 = "\x20\x01\x0d\xb8" + std::string(11, '\0') + "\x01\x20\x01\x0d\xb8" +
                          std::string(11, '\0') + "\x02" + number(56324) + number(443);
const std::string unix_paths(216, 'u');

std::string text(const boost::asio::ip::tcp::endpoint& endpoint) {
  return endpoint.address().to_string() + ' ' + std::to_string(endpoint.port());
}

/// "source port > destination port", or who else speaks, or what is wrong.
std::string said(const std::string& bytes) {
  const auto parse = parse_proxy_header(bytes);
  if (parse.status == Status::need_more) return "more";
  if (parse.status == Status::malformed) return parse.problem;
  CHECK(parse.header.size <= bytes.size());
  if (parse.header.speaker == Speaker::unnamed) return "unnamed";
  if (parse.header.speaker == Speaker::itself) return "itself";
  return text(parse.header.addresses.source) + " > " + text(parse.header.addresses.destination);
}

ProxyAddresses addresses(const char* source, uint16_t source_port, const char* destination,
                         uint16_t destination_port) {
  using boost::asio::ip::make_address;
  return {{make_address(source), source_port}, {make_address(destination), destination_port}};
}

const std::vector<std::string> whole_headers = {
    "PROXY TCP4 192.0.2.1 198.51.100.1 56324 443\r\n",
    "PROXY TCP6 2001:db8::1 2001:db8::2 56324 443\r\n",
    "PROXY UNKNOWN\r\n",
    "PROXY UNKNOWN ffff:f...f:ffff ffff:f...f:ffff 65535 65535\r\n",
    v2(0x21, 0x11, inet),
    v2(0x21, 0x21, inet6),
    v2(0x21, 0x31, unix_paths),
    v2(0x21, 0x00, ""),
    v2(0x20, 0x00, ""),
    v2(0x21, 0x11, inet + tlv(0x02, "example.test") + tlv(0x04, std::string(300, 'n'))),
};

}  // namespace

TEST_CASE("a version 1 line names who connected to what") {
  CHECK(said("PROXY TCP4 192.0.2.1 198.51.100.1 56324 443\r\n") ==
        "192.0.2.1 56324 > 198.51.100.1 443");
  CHECK(said("PROXY TCP4 0.0.0.0 255.255.255.255 0 65535\r\nGET /") ==
        "0.0.0.0 0 > 255.255.255.255 65535");
  CHECK(said("PROXY TCP6 2001:db8::1 2001:DB8:0:0:0:0:0:2 1 2\r\n") ==
        "2001:db8::1 1 > 2001:db8::2 2");
  // A dual-stack sender's IPv4 client.
  CHECK(said("PROXY TCP6 ::ffff:192.0.2.1 ::ffff:198.51.100.1 1 2\r\n") ==
        "192.0.2.1 1 > 198.51.100.1 2");
  CHECK(said("PROXY UNKNOWN\r\n") == "unnamed");
  CHECK(said("PROXY UNKNOWN whatever stands here\r\n") == "unnamed");
}

TEST_CASE("a version 2 header names who connected to what") {
  CHECK(said(v2(0x21, 0x11, inet)) == "192.0.2.1 56324 > 198.51.100.1 443");
  CHECK(said(v2(0x21, 0x21, inet6)) == "2001:db8::1 56324 > 2001:db8::2 443");
  CHECK(said(v2(0x21, 0x12, inet)) == "192.0.2.1 56324 > 198.51.100.1 443");
  CHECK(said(v2(0x21, 0x22, inet6)) == "2001:db8::1 56324 > 2001:db8::2 443");
  const std::string mapped =
      std::string(10, '\0') + "\xff\xff" + std::string("\xc0\x00\x02\x01", 4);
  CHECK(said(v2(0x21, 0x21, mapped + mapped + number(1) + number(2))) ==
        "192.0.2.1 1 > 192.0.2.1 2");
}

TEST_CASE("a version 2 header may name nobody") {
  CHECK(said(v2(0x21, 0x31, unix_paths)) == "unnamed");
  CHECK(said(v2(0x21, 0x32, unix_paths + tlv(4, ""))) == "unnamed");
  for (const int family : {0x00, 0x01, 0x02, 0x10, 0x20, 0x30}) {
    CHECK(said(v2(0x21, family, unix_paths)) == "unnamed");
  }
  CHECK(said(v2(0x21, 0x00, "anything")) == "unnamed");
  // With LOCAL the family and everything behind it must be ignored.
  for (const int family : {0x00, 0x11, 0x21, 0x31, 0x4f, 0xff}) {
    CHECK(said(v2(0x20, family, "")) == "itself");
    CHECK(said(v2(0x20, family, "not a TLV")) == "itself");
  }
}

TEST_CASE("what follows a header is not its own") {
  for (const auto& header : whole_headers) {
    CAPTURE(header);
    for (const std::string& rest : {std::string(), std::string("GET / HTTP/1.1\r\n"), header}) {
      const auto parse = parse_proxy_header(header + rest);
      REQUIRE(parse.status == Status::complete);
      CHECK(parse.header.size == header.size());
    }
  }
}

TEST_CASE("a header that is not whole is waited for, wherever it is cut") {
  for (const auto& header : whole_headers) {
    for (size_t size = 0; size < header.size(); ++size) {
      CAPTURE(header, size);
      CHECK(parse_proxy_header(header.substr(0, size)).status == Status::need_more);
    }
  }
}

TEST_CASE("whatever does not begin with a header is refused at its first wrong byte") {
  for (const std::string& bytes :
       {std::string("GET / HTTP/1.1\r\n"), std::string("\x16\x03\x01"), std::string("\0", 1),
        std::string("proxy TCP4"), std::string("PROXX"), std::string("PROXY\r\n"),
        std::string("PROXY\tTCP4"), std::string(" PROXY "), std::string("\r\n\r\nG"),
        std::string("\n"), std::string("\r\n\r\n\0\r\nQUIT\r", 12)}) {
    CAPTURE(bytes);
    CHECK(said(bytes) == "there is none: the first bytes are something else");
  }
}

TEST_CASE("a version 1 line that is not exactly one is refused") {
  const std::string protocol = "its protocol is none of TCP4, TCP6 and UNKNOWN";
  CHECK(said("PROXY \r\n") == protocol);
  CHECK(said("PROXY  TCP4 192.0.2.1 192.0.2.2 1 2\r\n") == protocol);
  CHECK(said("PROXY tcp4 192.0.2.1 192.0.2.2 1 2\r\n") == protocol);
  CHECK(said("PROXY TCP5 192.0.2.1 192.0.2.2 1 2\r\n") == protocol);
  CHECK(said("PROXY UDP4 192.0.2.1 192.0.2.2 1 2\r\n") == protocol);
  CHECK(said("PROXY UNKNOWNS\r\n") == protocol);
  CHECK(said("PROXY TCP4\r\n") == "its addresses are missing");
  for (const std::string& rest : {std::string(""),
                                  std::string("192.0.2.1"),
                                  std::string("192.0.2.1 192.0.2.2"),
                                  std::string("192.0.2.1 192.0.2.2 1"),
                                  std::string("192.0.2.1 192.0.2.2 1 "),
                                  std::string("192.0.2.1 192.0.2.2 1 2 "),
                                  std::string("192.0.2.1 192.0.2.2 1 2 3"),
                                  std::string("192.0.2.1  192.0.2.2 1 2"),
                                  std::string("192.0.2.1\t192.0.2.2 1 2"),
                                  std::string("192.0.2.1 192.0.2.2 01 2"),
                                  std::string("192.0.2.1 192.0.2.2 1 65536"),
                                  std::string("192.0.2.1 192.0.2.2 -1 2"),
                                  std::string("192.0.2.1 192.0.2.2 +1 2"),
                                  std::string("192.0.2.1 192.0.2.2 1 0x2"),
                                  std::string("192.0.2.1 192.0.2.2 1 99999999999"),
                                  std::string("192.0.2 192.0.2.2 1 2"),
                                  std::string("192.0.2.256 192.0.2.2 1 2"),
                                  std::string("192.0.2.01 192.0.2.2 1 2"),
                                  std::string("1.2.3.4.5 192.0.2.2 1 2"),
                                  std::string("::1 192.0.2.2 1 2"),
                                  std::string("localhost 192.0.2.2 1 2"),
                                  std::string("192.0.2.1\0x 192.0.2.2 1 2", 25)}) {
    CAPTURE(rest);
    CHECK(said("PROXY TCP4 " + rest + "\r\n") == "its addresses are malformed");
  }
  for (const auto* rest :
       {"192.0.2.1 192.0.2.2 1 2", "::1 192.0.2.2 1 2", "::1%lo ::2 1 2", "::1%1 ::2 1 2",
        "[::1] ::2 1 2", "1:2:3:4:5:6:7:8:9 ::2 1 2", "1::2::3 ::2 1 2", "::12345 ::2 1 2"}) {
    CAPTURE(rest);
    CHECK(said("PROXY TCP6 " + std::string(rest) + "\r\n") == "its addresses are malformed");
  }
}

TEST_CASE("a version 1 line ends with CR LF, the only ones in it") {
  const std::string end = "its line does not end with CR LF";
  CHECK(said("PROXY TCP4 192.0.2.1 192.0.2.2 1 2\n") == end);
  CHECK(said("PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\r\n") == end);
  CHECK(said("PROXY TCP4 192.0.2.1\r192.0.2.2 1 2\r\n") == end);
  CHECK(said("PROXY UNKNOWN a\rb\r\n") == end);
  CHECK(said("PROXY UNKNOWN\nGET / HTTP/1.1\r\n") == end);
  CHECK(said("PROXY \n") == end);
}

TEST_CASE("a version 1 line has at most 107 bytes") {
  const std::string begin = "PROXY UNKNOWN ";
  const std::string longest = begin + std::string(107 - begin.size() - 2, 'x') + "\r\n";
  CHECK(longest.size() == http::proxy_v1_bytes_max);
  CHECK(said(longest) == "unnamed");
  const std::string longer = begin + std::string(108 - begin.size() - 2, 'x') + "\r\n";
  CHECK(said(longer) == "its line is longer than 107 bytes");
  CHECK(said(longer.substr(0, 106)) == "more");
  CHECK(said(longer.substr(0, 107)) == "its line is longer than 107 bytes");
  const std::string six = "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff";
  CHECK(said("PROXY TCP6 " + six + ' ' + six + " 65535 65535\r\n") ==
        six + " 65535 > " + six + " 65535");
}

TEST_CASE("a version 2 header's version, command, family and length are checked as they come") {
  for (int byte = 0; byte < 256; ++byte) {
    CAPTURE(byte);
    const std::string expected = byte >> 4 != 2                 ? "its version is not 2"
                                 : byte == 0x20 || byte == 0x21 ? "more"
                                                                : "its command is neither LOCAL "
                                                                  "nor PROXY";
    CHECK(said(signature + static_cast<char>(byte)) == expected);
  }
  for (int byte = 0; byte < 256; ++byte) {
    CAPTURE(byte);
    const bool known = byte >> 4 <= 3 && (byte & 0xf) <= 2;
    CHECK(said(signature + '\x21' + static_cast<char>(byte)) ==
          (known ? "more" : "its address family or transport is unknown"));
    CHECK(said(signature + '\x20' + static_cast<char>(byte)) == "more");
  }
  for (const auto& [family, size] : {std::pair(0x11, 12), {0x12, 12}, {0x21, 36}, {0x31, 216}}) {
    const std::string start = signature + '\x21' + static_cast<char>(family);
    CHECK(said(start + number(static_cast<size_t>(size) - 1)) ==
          "it is shorter than its addresses");
    CHECK(said(start + number(static_cast<size_t>(size))) == "more");
    CHECK(said(start + number(0)) == "it is shorter than its addresses");
  }
}

TEST_CASE("a version 2 header has at most 4096 bytes") {
  const size_t most = http::proxy_v2_bytes_max - 16;
  const size_t value = most - inet.size() - 3;
  CHECK(said(v2(0x21, 0x11, inet + tlv(0x04, std::string(value, 'x')))) ==
        "192.0.2.1 56324 > 198.51.100.1 443");
  CHECK(said(v2(0x20, 0x00, std::string(most, 'x'))) == "itself");
  for (const int command : {0x20, 0x21}) {
    const std::string start = signature + static_cast<char>(command) + '\x11';
    CHECK(said(start + number(most)) == "more");
    CHECK(said(start + number(most + 1)) == "it is longer than 4096 bytes");
    CHECK(said(start + number(65535)) == "it is longer than 4096 bytes");
  }
}

TEST_CASE("TLVs are skipped if they end where the header does") {
  const std::string inside = "it ends inside a TLV";
  CHECK(said(v2(0x21, 0x11, inet + tlv(0xea, "") + tlv(1, "h2"))) ==
        "192.0.2.1 56324 > 198.51.100.1 443");
  CHECK(said(v2(0x21, 0x11, inet + "\x04")) == inside);
  CHECK(said(v2(0x21, 0x11, inet + std::string("\x04\x00", 2))) == inside);
  CHECK(said(v2(0x21, 0x11, inet + std::string("\x04\x00\x01", 3))) == inside);
  CHECK(said(v2(0x21, 0x11, inet + std::string("\x04\xff\xff", 3) + "xx")) == inside);
  CHECK(said(v2(0x21, 0x11, inet + tlv(4, "ok") + std::string("\x04\x00\x02x", 4))) == inside);
  CHECK(said(v2(0x21, 0x21, inet6 + "\x04")) == inside);
  CHECK(said(v2(0x21, 0x31, unix_paths + "\x04")) == inside);
}

TEST_CASE("a CRC32C is verified") {
  // Made by an implementation of RFC 9260's checksum that shares nothing with ours.
  const std::string sum("\x73\x7e\xe9\x19", 4);
  const std::string good = v2(0x21, 0x11, inet + tlv(0x03, sum));
  CHECK(said(good) == "192.0.2.1 56324 > 198.51.100.1 443");
  for (size_t at = 12; at < good.size(); ++at) {
    if (at == 28) continue;  // the TLV's type: then it is another one
    std::string bad = good;
    bad[at] = static_cast<char>(bad[at] ^ 0x01);
    CAPTURE(at);
    CHECK(said(bad) != said(good));
  }
  std::string wrong = good;
  wrong[16] = static_cast<char>(wrong[16] ^ 0x80);
  CHECK(said(wrong) == "its CRC32C does not match");
  CHECK(said(v2(0x21, 0x11, inet + tlv(0x03, "abc"))) == "its CRC32C is malformed");
  CHECK(said(v2(0x21, 0x11, inet + tlv(0x03, ""))) == "its CRC32C is malformed");
  CHECK(said(v2(0x21, 0x11, inet + tlv(0x03, sum) + tlv(0x03, sum))) != said(good));
}

TEST_CASE("what is written is what others expect") {
  const auto v4 = addresses("192.0.2.1", 56324, "198.51.100.1", 443);
  const auto v6 = addresses("2001:db8::1", 56324, "2001:db8::2", 443);
  CHECK(write_proxy_header(ProxyProtocol::v1, v4).view() ==
        "PROXY TCP4 192.0.2.1 198.51.100.1 56324 443\r\n");
  CHECK(write_proxy_header(ProxyProtocol::v1, v6).view() ==
        "PROXY TCP6 2001:db8::1 2001:db8::2 56324 443\r\n");
  CHECK(write_proxy_header(ProxyProtocol::v1, std::nullopt).view() == "PROXY UNKNOWN\r\n");
  CHECK(write_proxy_header(ProxyProtocol::v2, v4).view() == v2(0x21, 0x11, inet));
  CHECK(write_proxy_header(ProxyProtocol::v2, v6).view() == v2(0x21, 0x21, inet6));
  CHECK(write_proxy_header(ProxyProtocol::v2, std::nullopt).view() == v2(0x21, 0x00, ""));
}

TEST_CASE("a header of two families, or with a zone, is written so that it can be read") {
  const auto mixed = addresses("192.0.2.1", 1, "2001:db8::2", 2);
  CHECK(write_proxy_header(ProxyProtocol::v1, mixed).view() ==
        "PROXY TCP6 ::ffff:192.0.2.1 2001:db8::2 1 2\r\n");
  const auto zoned = addresses("fe80::1%1", 1, "fe80::2%1", 2);
  CHECK(write_proxy_header(ProxyProtocol::v1, zoned).view() ==
        "PROXY TCP6 fe80::1 fe80::2 1 2\r\n");
  const auto longest = addresses("ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", 65535,
                                 "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", 65535);
  for (const auto version : {ProxyProtocol::v1, ProxyProtocol::v2}) {
    CHECK(said(std::string(write_proxy_header(version, mixed).view())) ==
          "192.0.2.1 1 > 2001:db8::2 2");
    CHECK(said(std::string(write_proxy_header(version, zoned).view())) == "fe80::1 1 > fe80::2 2");
    CHECK(parse_proxy_header(write_proxy_header(version, longest).view()).status ==
          Status::complete);
  }
}
