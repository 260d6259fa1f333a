// What a DNS server answers: whatever it sends, names and addresses that come out are text of one
// line, what is shown of a record is too, and a name can be asked for again.
#include <algorithm>
#include <string>

#include "acme/caa.hpp"
#include "acme/dns/message.hpp"
#include "tests/fuzz/target.hpp"

namespace gatehouse {

namespace acme {

namespace {

constexpr const char* asked_name = "www.example.com";

bool is_plain(std::string_view text) {
  return std::all_of(text.begin(), text.end(), [](char c) {
    return static_cast<unsigned char>(c) > 0x20 && static_cast<unsigned char>(c) < 0x7f;
  });
}

bool is_line(std::string_view text) {
  return std::all_of(text.begin(), text.end(), [](char c) {
    return static_cast<unsigned char>(c) >= 0x20 && static_cast<unsigned char>(c) < 0x7f;
  });
}

void check_record(const dns::Record& record) {
  ASSERT(is_plain(record.name) && record.name.size() <= 1024);
  const std::string line = dns::zone_line(record);
  ASSERT(is_line(line) && line.size() <= 4096);
  const bool caa = record.type == dns::Type::caa;
  if (caa) ASSERT(record.tag.size() <= 255);
  if (caa || record.type == dns::Type::txt) return;
  ASSERT(is_plain(record.value));
  const bool target = record.type == dns::Type::cname || record.type == dns::Type::ns;
  if (!target || record.value.empty()) return;
  const dns::Question next{record.value, dns::Type::caa};
  ASSERT(dns::make_query(1, next));
}

/// The sentence that a person reads in the log.
void judge_set(const std::vector<dns::Record>& records) {
  std::vector<dns::Record> set;
  for (const auto& record : records) {
    if (record.type == dns::Type::caa) set.push_back(record);
  }
  CaaApplicant applicant;
  applicant.authority = "letsencrypt";
  applicant.identities = {"ca.example"};
  applicant.challenges = {"http-01", "tls-alpn-01"};
  applicant.account = "https://ca.example/acct/1";
  for (const bool wildcard : {false, true}) {
    const auto verdict = judge_caa(set, wildcard, applicant);
    ASSERT(verdict.allowed == !verdict.challenges.empty());
    if (verdict.allowed) continue;
    CaaPlace place;
    place.owner = set.front().name;
    place.asked = asked_name;
    const auto failure = caa_failure(asked_name, applicant, verdict, place);
    ASSERT(failure.local && is_line(failure.sentence) && failure.sentence.size() <= 8192);
  }
}

void judge(std::string_view input, dns::Type type) {
  if (input.size() < 2) return;
  const auto byte = [&](size_t at) { return static_cast<unsigned char>(input[at]); };
  const auto id = static_cast<uint16_t>(byte(0) << 8 | byte(1));
  const auto answer = dns::parse_answer(input, id, dns::Question{asked_name, type});
  if (!answer) {
    ASSERT(answer.error().kind == base::ErrorKind::protocol);
    ASSERT(is_line(answer.error().context));
    return;
  }
  ASSERT(!dns::parse_answer(input, static_cast<uint16_t>(id + 1), {asked_name, type}));
  ASSERT(answer->records.size() <= dns::records_max);
  ASSERT(answer->authority.size() <= dns::records_max);
  for (const auto& record : answer->records) check_record(record);
  for (const auto& record : answer->authority) check_record(record);
  judge_set(answer->records);
}

/// A name from the configuration or a handshake.
void judge_name(std::string_view input) {
  const auto query = dns::make_query(7, {std::string(input), dns::Type::caa});
  if (!query) return ASSERT(query.error().kind == base::ErrorKind::invalid);
  ASSERT(query->size() <= 512);
}

}  // namespace

}  // namespace acme

void fuzz(std::string_view input) {
  using acme::dns::Type;
  for (const auto type :
       {Type::a, Type::ns, Type::cname, Type::soa, Type::txt, Type::aaaa, Type::caa})
    acme::judge(input, type);
  acme::judge_name(input);
}

}  // namespace gatehouse
