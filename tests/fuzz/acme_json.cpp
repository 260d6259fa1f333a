// What a CA answers: whatever it sends, every address that comes out may be asked, every text is
// one line, every time is one that can be written and read again.
#include <algorithm>
#include <string>

#include "acme/budget.hpp"
#include "acme/problem.hpp"
#include "acme/protocol.hpp"
#include "acme/renewal_info.hpp"
#include "acme/times.hpp"
#include "acme/visits.hpp"
#include "tests/fuzz/target.hpp"

namespace gatehouse {

namespace acme {

namespace {

constexpr std::string_view base_url = "https://ca.example/directory";
constexpr WallTime now{std::chrono::seconds(1'800'000'000)};

void check_line(std::string_view text) {
  ASSERT(std::none_of(text.begin(), text.end(),
                      [](char c) { return static_cast<unsigned char>(c) < 0x20 || c == 0x7f; }));
}

void check_url(const std::string& url) {
  ASSERT(url.starts_with("https://") && url.size() <= 2048);
  ASSERT(url.find_first_of(" #\r\n\t") == url.npos);
}

void check_optional_url(const std::string& url) {
  if (!url.empty()) check_url(url);
}

void check_time(const std::optional<WallTime>& time) {
  if (!time) return;
  // An offset may lead a day out of the years that are read.
  if (*time < WallTime{}) return ASSERT(*time > WallTime{} - std::chrono::hours(24));
  ASSERT(parse_timestamp(timestamp(*time)) == *time);
}

void check_problem(const Problem& problem) {
  for (const auto* text : {&problem.type, &problem.detail, &problem.identifier, &problem.instance})
    check_line(*text);
  ASSERT(problem.detail.size() <= 1024 && problem.subproblems.size() <= 16);
  for (const auto& part : problem.subproblems) {
    ASSERT(part.subproblems.empty());
    check_problem(part);
  }
}

/// The sentence that a person reads in the log.
void check_failure(const Problem& problem, const std::string& address) {
  for (const auto* challenge : {"", "http-01", "tls-alpn-01"}) {
    const Attempt attempt{"a.example", "letsencrypt",  challenge,
                          address,     "me@a.example", "https://ca.example/"};
    const auto failure = failure_of(problem, attempt, now, std::nullopt);
    ASSERT(failure.sentence.starts_with("a.example: letsencrypt"));
    check_line(failure.sentence);
    check_time(failure.retry_at);
  }
}

void check_error(const std::optional<Problem>& error) {
  if (!error) return;
  check_problem(*error);
  check_failure(*error, "");
}

void check_challenge(const OfferedChallenge& challenge) {
  check_optional_url(challenge.url);
  for (const auto* text : {&challenge.type, &challenge.status, &challenge.address_used})
    check_line(*text);
  const auto& token = challenge.token;
  ASSERT(token.empty() || (token.size() >= 16 && token.size() <= 256));
  for (const char c : token) ASSERT(isalnum(static_cast<unsigned char>(c)) || c == '-' || c == '_');
  check_error(challenge.error);
  ASSERT(challenge.address_used.size() <= 64);
  if (challenge.error) check_failure(*challenge.error, challenge.address_used);
}

template <class T>
void check_refusal(const Result<T>& result) {
  if (result) return;
  ASSERT(result.error().kind == base::ErrorKind::protocol && !result.error().context.empty());
  check_line(result.error().context);
}

void judge_directory(std::string_view text) {
  const auto directory = parse_directory(text, base_url);
  check_refusal(directory);
  if (!directory) return;
  for (const auto* url : {&directory->new_nonce, &directory->new_account, &directory->new_order})
    check_url(*url);
  for (const auto* url :
       {&directory->revoke_certificate, &directory->key_change, &directory->renewal_info})
    check_optional_url(*url);
  ASSERT(directory->caa_identities.size() <= 32);
  for (const auto& identity : directory->caa_identities) {
    check_line(identity);
    ASSERT(!identity.empty() && identity.size() <= 255);
  }
  check_line(directory->terms_of_service);
  check_line(directory->website);
  const std::string json = directory_json(*directory);
  const auto again = parse_directory(json, base_url);
  ASSERT(again && directory_json(*again) == json);
}

void judge_order(std::string_view text) {
  const auto order = parse_order(text, base_url);
  check_refusal(order);
  if (!order) return;
  check_time(order->expires);
  ASSERT(!order->identifiers.empty());
  for (const auto& url : order->authorizations) check_url(url);
  check_url(order->finalize);
  check_optional_url(order->certificate);
  ASSERT(order->status != OrderStatus::valid || !order->certificate.empty());
  check_error(order->error);
}

void judge_authorization(std::string_view text) {
  const auto authorization = parse_authorization(text, base_url);
  check_refusal(authorization);
  if (!authorization) return;
  check_time(authorization->expires);
  ASSERT(!authorization->identifier.type.empty() && !authorization->identifier.value.empty());
  for (const auto& challenge : authorization->challenges) check_challenge(challenge);
}

void judge_others(std::string_view text) {
  const auto challenge = parse_challenge(text, base_url);
  check_refusal(challenge);
  if (challenge) check_challenge(*challenge);
  const auto account = parse_account(text, base_url);
  check_refusal(account);
  if (account) check_optional_url(account->orders);
  const auto list = parse_order_list(text, base_url);
  check_refusal(list);
  if (list) std::for_each(list->begin(), list->end(), check_url);
  for (const int status : {400, 429, 500}) {
    const auto problem = parse_problem(text, status);
    ASSERT(problem.status == status);
    check_problem(problem);
    check_failure(problem, "2001:db8::1");
  }
}

void judge_renewal_info(std::string_view text) {
  ASSERT(!is_renewal_id(text) || usable_url("https://ca.example/" + std::string(text), base_url));
  const auto info = parse_renewal_info(text);
  check_refusal(info);
  if (!info) return;
  check_time(info->start);
  check_time(info->end);
  ASSERT(info->start < info->end && !info->retry_after);
  const auto& explanation = info->explanation;
  if (!explanation.starts_with("http://")) check_optional_url(explanation);
  check_line(explanation);
}

/// What may stand in a field of a CA's answer.
void judge_fields(std::string_view text) {
  check_time(parse_timestamp(text));
  check_time(parse_http_date(text));
  check_time(parse_retry_time(text));
  const auto wait = parse_retry_after(text, now);
  ASSERT(!wait || (*wait >= std::chrono::hours(0) && *wait <= retry_after_believed_max));
  for (const auto& url : links(text, "alternate", base_url)) check_url(url);
}

/// Our own records, as a damaged disk gives them back.
void judge_records(std::string_view text) {
  auto buckets = Buckets::from_json(text, now);
  const auto kept = buckets.to_json();
  ASSERT(Buckets::from_json(kept, now).to_json() == kept);
  auto visits = Visits::from_json(text, now);
  const auto remembered = visits.to_json(now);
  auto again = Visits::from_json(remembered, now);
  ASSERT(again.to_json(now).size() == remembered.size());
}

}  // namespace

}  // namespace acme

void fuzz(std::string_view input) {
  acme::judge_directory(input);
  acme::judge_order(input);
  acme::judge_authorization(input);
  acme::judge_others(input);
  acme::judge_renewal_info(input);
  acme::judge_fields(input);
  acme::judge_records(input);
}

}  // namespace gatehouse
