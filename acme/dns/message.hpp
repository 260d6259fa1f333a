// Questions to a DNS resolver and its answers, as bytes and as plain data (RFC 1035, 6891, 8659).
//
// Does not send anything (resolver) and does not know what records mean (caa, look). An answer is
// hostile input: what is not whole, or not the answer to the question asked, is refused. The only
// place that knows ldns. Pure, any thread.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.hpp"

namespace gatehouse::acme::dns {

/// What is asked for, by its number in the protocol.
enum class Type : uint16_t { a = 1, ns = 2, cname = 5, soa = 6, txt = 16, aaaa = 28, caa = 257 };

/// The answer's verdict (RFC 1035 section 4.1.1), the upper bits from EDNS (RFC 6891
/// section 6.1.3); others are kept as their number.
enum class Rcode : uint16_t {
  no_error = 0,
  format_error = 1,
  server_failure = 2,
  no_such_name = 3,
  not_implemented = 4,
  refused = 5,
};

struct Question {
  std::string name;  // without the final dot; a byte that is no letter may be written as \DDD
  Type type = Type::a;
};

/// Names are in lower case and without the final dot; odd bytes in them stand as \DDD.
struct Record {
  std::string name;
  Type type = Type::a;
  uint32_t ttl = 0;
  /// A, AAAA: the address; CNAME, NS: the name; SOA: the primary's name; TXT: its strings joined;
  /// CAA: the property's value, its bytes as they came.
  std::string value;
  uint8_t flags = 0;  // CAA
  std::string tag;    // CAA, as it came
};

struct Answer {
  Rcode rcode = Rcode::no_error;
  bool authoritative = false;
  bool truncated = false;
  std::vector<Record> records;    // the answer section, as far as the types above go
  std::vector<Record> authority;  // the authority section, likewise
};

/// The largest answer that we ask for over UDP, so that none is fragmented.
inline constexpr uint16_t udp_answer_max = 1232;
inline constexpr size_t records_max = 256;

/// A question with recursion desired and EDNS. invalid: the name is no domain name.
base::Result<std::string> make_query(uint16_t id, const Question& question);

/// The answer to that question; protocol: it is damaged, or of another question or id.
base::Result<Answer> parse_answer(std::string_view bytes, uint16_t id, const Question& question);

/// As a line of a zone file, without TTL: `example.com. CAA 0 issue "ca.example"`. One line of
/// printable ASCII, whatever the record holds; a long value is cut.
std::string zone_line(const Record& record);

std::string_view type_name(Type type);
/// "SERVFAIL", "REFUSED", as the tools of the trade call them.
std::string rcode_name(Rcode rcode);

}  // namespace gatehouse::acme::dns
