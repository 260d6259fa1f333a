#include "acme/dns/message.hpp"

#include <algorithm>
#include <cstdlib>
#include <memory>
#include <optional>

#include <boost/asio/ip/address.hpp>
#include <fmt/format.h>

// ldns makes macros of bool, true and false, unless the first of these was there.
// clang-format off
#include <stdbool.h>
#include <ldns/ldns.h>
// clang-format on

namespace gatehouse::acme::dns {

namespace {

using base::Error;
using base::ErrorKind;
using base::Result;

constexpr size_t header_bytes = 12;
constexpr size_t message_bytes_max = 65535;
constexpr size_t name_text_max = 1024;  // 255 bytes, each at most as \DDD
constexpr size_t value_shown_max = 256;

struct Free {
  void operator()(ldns_pkt* packet) const { ldns_pkt_free(packet); }
  void operator()(ldns_rdf* data) const { ldns_rdf_deep_free(data); }
  void operator()(uint8_t* bytes) const { std::free(bytes); }
  void operator()(char* text) const { std::free(text); }
};
using Packet = std::unique_ptr<ldns_pkt, Free>;
using Data = std::unique_ptr<ldns_rdf, Free>;

Error nonsense(std::string_view what) {
  return Error(ErrorKind::protocol, fmt::format("a DNS answer {}", what));
}

Data parsed_name(const std::string& name) {
  if (name.empty() || name.size() > name_text_max) return nullptr;
  if (name.find('\0') != std::string::npos) return nullptr;
  return Data(ldns_dname_new_frm_str(name.c_str()));
}

/// Lower case, without the final dot: "." itself is empty.
std::string name_text(const ldns_rdf* name) {
  const std::unique_ptr<char, Free> text(ldns_rdf2str(name));
  std::string result(text ? text.get() : "");
  for (char& c : result) {
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
    // What ldns leaves as it is must not break a line of the log.
    if (static_cast<unsigned char>(c) <= 0x20 || static_cast<unsigned char>(c) >= 0x7f) c = '?';
  }
  if (result.ends_with('.')) result.pop_back();
  return result;
}

std::string_view bytes_of(const ldns_rdf* data) {
  return {reinterpret_cast<const char*>(ldns_rdf_data(data)), ldns_rdf_size(data)};
}

std::optional<Type> known_type(ldns_rr_type type) {
  for (const Type known :
       {Type::a, Type::ns, Type::cname, Type::soa, Type::txt, Type::aaaa, Type::caa}) {
    if (static_cast<uint16_t>(known) == static_cast<uint16_t>(type)) return known;
  }
  return std::nullopt;
}

std::string address_text(std::string_view bytes) {
  namespace ip = boost::asio::ip;
  if (bytes.size() == 4) {
    ip::address_v4::bytes_type raw;
    std::copy(bytes.begin(), bytes.end(), raw.begin());
    return ip::address_v4(raw).to_string();
  }
  if (bytes.size() == 16) {
    ip::address_v6::bytes_type raw;
    std::copy(bytes.begin(), bytes.end(), raw.begin());
    return ip::address_v6(raw).to_string();
  }
  return {};
}

/// Character strings, each with its length in front (RFC 1035 section 3.3).
std::string joined_strings(const ldns_rr* rr) {
  std::string result;
  for (size_t i = 0; i < ldns_rr_rd_count(rr); ++i) {
    const auto bytes = bytes_of(ldns_rr_rdf(rr, i));
    if (!bytes.empty()) result += bytes.substr(1);
  }
  return result;
}

/// RFC 8659 section 4.1: flags, the tag with its length in front, and the value as the rest.
bool take_caa(const ldns_rr* rr, Record& record) {
  const size_t count = ldns_rr_rd_count(rr);  // 2: the value is empty
  if (count != 2 && count != 3) return false;
  const auto flags = bytes_of(ldns_rr_rdf(rr, 0));
  const auto tag = bytes_of(ldns_rr_rdf(rr, 1));
  if (flags.size() != 1 || tag.empty()) return false;
  record.flags = static_cast<uint8_t>(flags.front());
  record.tag = tag.substr(1);
  if (count == 3) record.value = bytes_of(ldns_rr_rdf(rr, 2));
  return true;
}

bool take_data(const ldns_rr* rr, Record& record) {
  if (record.type == Type::caa) return take_caa(rr, record);
  if (record.type == Type::txt) {
    record.value = joined_strings(rr);
    return true;
  }
  const auto* first = ldns_rr_rd_count(rr) == 0 ? nullptr : ldns_rr_rdf(rr, 0);
  if (first == nullptr) return false;
  const bool address = record.type == Type::a || record.type == Type::aaaa;
  record.value = address ? address_text(bytes_of(first)) : name_text(first);
  return !address || !record.value.empty();
}

/// False: there are too many, or one is damaged.
bool take_records(const ldns_rr_list* list, std::vector<Record>& target) {
  const size_t count = list == nullptr ? 0 : ldns_rr_list_rr_count(list);
  if (count > records_max) return false;
  for (size_t i = 0; i < count; ++i) {
    const auto* rr = ldns_rr_list_rr(list, i);
    const auto type = known_type(ldns_rr_get_type(rr));
    if (!type || ldns_rr_get_class(rr) != LDNS_RR_CLASS_IN) continue;
    Record record;
    record.name = name_text(ldns_rr_owner(rr));
    record.type = *type;
    record.ttl = ldns_rr_ttl(rr);
    if (!take_data(rr, record)) return false;
    target.push_back(std::move(record));
  }
  return true;
}

bool answers(const ldns_pkt* packet, const Question& question) {
  const auto* list = ldns_pkt_question(packet);
  if (list == nullptr || ldns_rr_list_rr_count(list) != 1) return false;
  const auto* rr = ldns_rr_list_rr(list, 0);
  const auto name = parsed_name(question.name);
  return name && ldns_rr_get_class(rr) == LDNS_RR_CLASS_IN &&
         static_cast<uint16_t>(ldns_rr_get_type(rr)) == static_cast<uint16_t>(question.type) &&
         ldns_dname_compare(ldns_rr_owner(rr), name.get()) == 0;
}

/// In quotes, as a zone file has it (RFC 1035 section 5.1).
std::string in_quotes(std::string_view text) {
  std::string result = "\"";
  for (const char c : text.substr(0, value_shown_max)) {
    const auto byte = static_cast<unsigned char>(c);
    if (byte < 0x20 || byte >= 0x7f) {
      result += fmt::format("\\{:03}", byte);
      continue;
    }
    if (c == '"' || c == '\\') result += '\\';
    result += c;
  }
  if (text.size() > value_shown_max) result += "...";
  return result + '"';
}

std::string plain(std::string_view text) {
  std::string result(text);
  for (char& c : result) {
    if (static_cast<unsigned char>(c) <= 0x20 || static_cast<unsigned char>(c) >= 0x7f) c = '?';
  }
  return result;
}

}  // namespace

Result<std::string> make_query(uint16_t id, const Question& question) {
  auto name = parsed_name(question.name);
  if (!name) {
    return Error(ErrorKind::invalid, fmt::format("\"{}\" is no domain name", question.name));
  }
  const Packet packet(ldns_pkt_query_new(name.release(), static_cast<ldns_rr_type>(question.type),
                                         LDNS_RR_CLASS_IN, LDNS_RD));
  ASSERT(packet);
  ldns_pkt_set_id(packet.get(), id);
  ldns_pkt_set_edns_udp_size(packet.get(), udp_answer_max);
  uint8_t* raw = nullptr;
  size_t size = 0;
  const auto status = ldns_pkt2wire(&raw, packet.get(), &size);
  const std::unique_ptr<uint8_t, Free> bytes(raw);
  ASSERT(status == LDNS_STATUS_OK);
  return std::string(reinterpret_cast<const char*>(bytes.get()), size);
}

Result<Answer> parse_answer(std::string_view bytes, uint16_t id, const Question& question) {
  if (bytes.size() < header_bytes || bytes.size() > message_bytes_max) {
    return nonsense("has no header");
  }
  ldns_pkt* parsed = nullptr;
  const auto status =
      ldns_wire2pkt(&parsed, reinterpret_cast<const uint8_t*>(bytes.data()), bytes.size());
  const Packet packet(status == LDNS_STATUS_OK ? parsed : nullptr);
  if (!packet) return nonsense("is damaged");
  if (ldns_pkt_id(packet.get()) != id || !ldns_pkt_qr(packet.get()) ||
      ldns_pkt_get_opcode(packet.get()) != LDNS_PACKET_QUERY || !answers(packet.get(), question)) {
    return nonsense("is not to the question asked");
  }
  Answer answer;
  const unsigned upper = ldns_pkt_edns_extended_rcode(packet.get());
  answer.rcode = static_cast<Rcode>(upper << 4 | ldns_pkt_get_rcode(packet.get()));
  answer.authoritative = ldns_pkt_aa(packet.get());
  answer.truncated = ldns_pkt_tc(packet.get());
  if (!take_records(ldns_pkt_answer(packet.get()), answer.records) ||
      !take_records(ldns_pkt_authority(packet.get()), answer.authority)) {
    return nonsense("holds damaged or too many records");
  }
  return answer;
}

std::string zone_line(const Record& record) {
  std::string line = fmt::format("{}. {} ", plain(record.name), type_name(record.type));
  if (record.type == Type::caa) {
    return line + fmt::format("{} {} {}", record.flags, plain(record.tag), in_quotes(record.value));
  }
  if (record.type == Type::txt) return line + in_quotes(record.value);
  const bool address = record.type == Type::a || record.type == Type::aaaa;
  return line + plain(record.value) + (address ? "" : ".");
}

std::string_view type_name(Type type) {
  switch (type) {
    case Type::a:
      return "A";
    case Type::ns:
      return "NS";
    case Type::cname:
      return "CNAME";
    case Type::soa:
      return "SOA";
    case Type::txt:
      return "TXT";
    case Type::aaaa:
      return "AAAA";
    case Type::caa:
      return "CAA";
  }
  return "?";
}

std::string rcode_name(Rcode rcode) {
  switch (rcode) {
    case Rcode::no_error:
      return "NOERROR";
    case Rcode::format_error:
      return "FORMERR";
    case Rcode::server_failure:
      return "SERVFAIL";
    case Rcode::no_such_name:
      return "NXDOMAIN";
    case Rcode::not_implemented:
      return "NOTIMP";
    case Rcode::refused:
      return "REFUSED";
  }
  return fmt::format("RCODE{}", static_cast<unsigned>(rcode));
}

}  // namespace gatehouse::acme::dns
