// What `gatehouse doctor` makes of what it found: a line for each thing, and one verdict.
//
// Looks at nothing itself (doctor). Pure, any thread.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "base/clock.hpp"
#include "tls/presented.hpp"

namespace gatehouse::app {

/// Who answered a probe on plain HTTP.
enum class Answerer : uint8_t { not_asked, ourselves, another, nobody };

/// What is seen at one address of the host.
struct AddressFinding {
  std::string address;
  bool of_this_machine = false;
  Answerer http = Answerer::not_asked;
  std::string http_problem;  // with `nobody`: why; with `another`: what it answered
  std::optional<tls::Presented> shown;
  std::string https_problem;  // without `shown`: why
};

/// What the running gatehouse, or the storage, has for the host.
struct CertificateFinding {
  std::string state, authority, fingerprint;
  std::string not_after, renew_at;  // RFC 3339
  std::string last_error, next_attempt;
  int64_t failures = 0;
  std::vector<std::string> budgets;  // "letsencrypt: no order before …", only what holds one back
};

struct CaaFinding {
  std::string authority;
  bool allowed = true;
  std::string words;
};

struct Findings {
  std::string host;
  std::string not_running;                        // empty: a gatehouse runs and answers
  std::optional<CertificateFinding> certificate;  // none: see `unknown`
  std::string unknown;
  std::string dns_problem;
  std::vector<std::string> dns_notes;
  std::vector<AddressFinding> addresses;
  std::vector<CaaFinding> caa;
  std::string caa_unseen;  // why it could not be looked at
  uint16_t http_port = 80;
  uint16_t https_port = 443;
  bool http_challenge = true;  // http-01 is among the configured challenges
};

enum class Mark : uint8_t { well, note, trouble, unseen };

struct DiagnosisLine {
  Mark mark;
  std::string topic;
  std::string text;
};

struct Diagnosis {
  std::vector<DiagnosisLine> lines;
  bool well = false;
  std::string verdict;  // one sentence or two
};

Diagnosis diagnose(const Findings& findings, base::WallClock::time_point now);

std::string diagnosis_text(const Diagnosis& diagnosis);
std::string diagnosis_json(const std::string& host, const Diagnosis& diagnosis);

}  // namespace gatehouse::app
