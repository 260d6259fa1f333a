#include "app/diagnosis.hpp"

#include <algorithm>

#include <boost/json.hpp>
#include <fmt/chrono.h>
#include <fmt/format.h>

#include "base/json_escape.hpp"

namespace gatehouse::app {

namespace json = boost::json;
using Wall = base::WallClock::time_point;

namespace {

std::string day(Wall time) {
  return fmt::format("{:%Y-%m-%d}", fmt::gmtime(base::WallClock::to_time_t(time)));
}

bool expired(const tls::Presented& shown, Wall now) {
  return shown.leaf.not_after < now;
}

/// What to do about OpenSSL's words, where they do not say so.
const char* cure(const std::string& objection) {
  const bool no_root = objection.find("local issuer") != std::string::npos ||
                       objection.find("certificate in certificate chain") != std::string::npos;
  return no_root ? ": add the intermediate that its chain lacks, or, if its CA is a private one, "
                   "have clients trust its root"
                 : "";
}

/// A visitor is served with it.
bool good(const tls::Presented& shown, Wall now) {
  return shown.objection.empty() && !expired(shown, now);
}

class Examination {
 public:
  Examination(const Findings& findings, Wall now) : f_(findings), now_(now) {}

  Diagnosis end() {
    look_at_dns();
    look_at_caa();
    for (const AddressFinding& address : f_.addresses) look_at_http(address);
    for (const AddressFinding& address : f_.addresses) look_at_https(address);
    look_at_certificate();
    judge();
    return std::move(out_);
  }

 private:
  void add(Mark mark, const char* topic, std::string text) {
    out_.lines.push_back({mark, topic, std::move(text)});
  }

  void look_at_dns() {
    if (!f_.dns_problem.empty()) return add(Mark::trouble, "DNS", f_.dns_problem);
    std::string list;
    bool any_here = false;
    for (const AddressFinding& address : f_.addresses) {
      list += (list.empty() ? "" : ", ") + address.address;
      any_here = any_here || address.of_this_machine;
    }
    add(Mark::well, "DNS", fmt::format("{} has {}", f_.host, list));
    for (const std::string& note : f_.dns_notes) add(Mark::note, "DNS", note);
    if (!any_here)
      add(Mark::note, "DNS",
          "none of these is an address of this machine: right behind a load balancer or NAT, "
          "otherwise change the A and AAAA records");
  }

  void look_at_caa() {
    const Mark refused = forbidden() == nullptr ? Mark::note : Mark::trouble;
    for (const CaaFinding& caa : f_.caa) add(caa.allowed ? Mark::well : refused, "CAA", caa.words);
    if (!f_.caa_unseen.empty()) add(Mark::unseen, "CAA", f_.caa_unseen);
  }

  void look_at_http(const AddressFinding& at) {
    const std::string where = fmt::format("{} port {}", at.address, f_.http_port);
    // Without http-01 nobody needs the port.
    const Mark bad = f_.http_challenge ? Mark::trouble : Mark::note;
    switch (at.http) {
      case Answerer::not_asked:
        add(Mark::unseen, "HTTP",
            where +
                " was not asked: no running gatehouse could tell its "
                "own answer from another's");
        break;
      case Answerer::ourselves:
        add(Mark::well, "HTTP", where + " is answered by this gatehouse");
        break;
      case Answerer::another:
        add(bad, "HTTP",
            fmt::format("{} is answered by another server ({})", where, at.http_problem));
        break;
      case Answerer::nobody:
        add(bad, "HTTP", fmt::format("{}: {}", where, at.http_problem));
        break;
    }
  }

  void look_at_https(const AddressFinding& at) {
    const std::string where = fmt::format("{} port {}", at.address, f_.https_port);
    if (!at.shown)
      return add(Mark::trouble, "HTTPS", fmt::format("{}: {}", where, at.https_problem));
    const tls::Presented& shown = *at.shown;
    std::string words =
        fmt::format("{} shows a certificate of {}, valid until {}", where,
                    shown.self_signed ? "itself" : shown.leaf.issuer, day(shown.leaf.not_after));
    const bool known = f_.certificate && !f_.certificate->fingerprint.empty();
    const bool same = known && f_.certificate->fingerprint == shown.fingerprint;
    if (same) words += ", the one that gatehouse has";
    if (known && !same) words += ", not the one that gatehouse has";
    if (expired(shown, now_)) return add(Mark::trouble, "HTTPS", words + ": it has expired");
    if (!shown.objection.empty())
      return add(Mark::trouble, "HTTPS",
                 fmt::format("{}: clients refuse it ({})", words, shown.objection));
    add(known && !same ? Mark::note : Mark::well, "HTTPS", words);
  }

  void look_at_certificate() {
    if (!f_.not_running.empty())
      add(Mark::unseen, "gatehouse",
          f_.not_running + ": its budget, last error and next attempt are not known");
    if (!f_.certificate)
      return add(f_.not_running.empty() ? Mark::trouble : Mark::unseen, "certificate", f_.unknown);
    const CertificateFinding& c = *f_.certificate;
    std::string words = c.state;
    const bool own = c.authority == "file" || c.authority == "custom";
    if (own) words += ", your own";
    if (!own && !c.authority.empty()) words += ", of " + c.authority;
    if (!c.not_after.empty()) words += ", valid until " + c.not_after;
    if (!c.renew_at.empty()) words += ", to be renewed at " + c.renew_at;
    add(serves() ? Mark::well : Mark::trouble, "certificate", words);
    if (!c.last_error.empty()) add(Mark::trouble, "last error", c.last_error);
    if (!c.next_attempt.empty()) add(Mark::note, "next attempt", c.next_attempt);
    for (const std::string& budget : c.budgets) add(Mark::note, "budget", budget);
  }

  /// Its own certificate is one that is served.
  bool serves() const {
    const std::string& state = f_.certificate->state;
    return state == "active" || state == "stored" || state == "file" || state == "custom" ||
           (state == "ordering" && !f_.certificate->not_after.empty());
  }

  void conclude(bool well, std::string words) {
    out_.well = well;
    out_.verdict = std::move(words);
  }

  /// The first of these that holds, the one nearest to the visitor first.
  void judge() {
    const std::string& host = f_.host;
    if (!f_.certificate && f_.not_running.empty())
      return conclude(false, fmt::format("{} is not served here: {}", host, f_.unknown));
    if (!f_.dns_problem.empty())
      return conclude(false, fmt::format("{} cannot be reached: {}", host, f_.dns_problem));
    const auto bad = std::find_if(f_.addresses.begin(), f_.addresses.end(), [&](const auto& at) {
      return !at.shown || !good(*at.shown, now_);
    });
    if (bad == f_.addresses.end()) return judge_served();
    if (bad->shown && !bad->shown->self_signed && !another(*bad)) {
      return conclude(
          false, expired(*bad->shown, now_)
                     ? fmt::format("{} is served with an expired certificate: {}", host, reason())
                     : fmt::format("{} is served, but clients refuse its certificate: {}{}", host,
                                   bad->shown->objection, cure(bad->shown->objection)));
    }
    if (!bad->shown)
      return conclude(false, fmt::format("{} is not reached on HTTPS at {}: {}", host, bad->address,
                                         bad->https_problem));
    if (another(*bad) && f_.certificate && serves())
      return conclude(false,
                      fmt::format("{} shows another certificate than gatehouse has: {} leads to "
                                  "another server, or the fallback is still served",
                                  host, bad->address));
    conclude(false, fmt::format("{} has no certificate yet: {}", host, reason()));
  }

  void judge_served() {
    const std::string& host = f_.host;
    if (!f_.not_running.empty())
      return conclude(false, fmt::format("{} is served with a valid certificate, but no gatehouse "
                                         "runs here that would renew it",
                                         host));
    if (f_.certificate->failures > 0 || !serves())
      return conclude(false, fmt::format("{} is served, but its certificate cannot be renewed: {}",
                                         host, reason()));
    const auto other = std::find_if(f_.addresses.begin(), f_.addresses.end(),
                                    [&](const auto& at) { return another(at); });
    if (other != f_.addresses.end())
      return conclude(false,
                      fmt::format("{} is served with a valid certificate at {}, but not with "
                                  "the one of this gatehouse",
                                  host, other->address));
    std::string words = fmt::format("{} is well", host);
    if (!f_.certificate->renew_at.empty())
      words += fmt::format(", its certificate is renewed at {}", f_.certificate->renew_at);
    if (const CaaFinding* refused = forbidden())
      return conclude(false, fmt::format("{} is served, but its certificate cannot be renewed: {}",
                                         host, refused->words));
    conclude(true, words);
  }

  /// The first refusal, if no CA may issue.
  const CaaFinding* forbidden() const {
    if (std::any_of(f_.caa.begin(), f_.caa.end(), [](const auto& caa) { return caa.allowed; }))
      return nullptr;
    return f_.caa.empty() ? nullptr : &f_.caa.front();
  }

  bool another(const AddressFinding& at) const {
    return at.shown && f_.certificate && !f_.certificate->fingerprint.empty() &&
           at.shown->fingerprint != f_.certificate->fingerprint;
  }

  /// Why there is no new certificate, as far as is known.
  std::string reason() const {
    if (const CaaFinding* refused = forbidden()) return refused->words;
    if (f_.certificate && !f_.certificate->last_error.empty()) {
      const std::string& next = f_.certificate->next_attempt;
      return f_.certificate->last_error + (next.empty() ? "" : "; next attempt at " + next);
    }
    for (const AddressFinding& at : f_.addresses)
      if (f_.http_challenge && (at.http == Answerer::another || at.http == Answerer::nobody))
        return fmt::format("port {} of {} does not lead to this gatehouse, so no CA can check it",
                           f_.http_port, at.address);
    if (f_.certificate && !f_.certificate->budgets.empty()) return f_.certificate->budgets.front();
    if (f_.certificate && f_.certificate->state == "ordering") return "it is being ordered now";
    if (!f_.not_running.empty()) return "no gatehouse runs here that would order one";
    return "see above";
  }

  const Findings& f_;
  const Wall now_;
  Diagnosis out_;
};

const char* mark_word(Mark mark) {
  switch (mark) {
    case Mark::well:
      return "well";
    case Mark::note:
      return "note";
    case Mark::trouble:
      return "trouble";
    case Mark::unseen:
      break;
  }
  return "unseen";
}

}  // namespace

Diagnosis diagnose(const Findings& findings, Wall now) {
  return Examination(findings, now).end();
}

std::string diagnosis_text(const Diagnosis& diagnosis) {
  std::string out;
  for (const DiagnosisLine& line : diagnosis.lines) {
    out += fmt::format("{:<8} {:<12} ", mark_word(line.mark), line.topic);
    base::append_harmless(out, line.text);  // some of it is another server's
    out += '\n';
  }
  out += '\n';
  base::append_harmless(out, diagnosis.verdict);
  return out + '\n';
}

std::string diagnosis_json(const std::string& host, const Diagnosis& diagnosis) {
  json::array lines;
  for (const DiagnosisLine& line : diagnosis.lines)
    lines.push_back(
        json::object{{"mark", mark_word(line.mark)}, {"topic", line.topic}, {"text", line.text}});
  json::object out;
  out["host"] = host;
  out["well"] = diagnosis.well;
  out["verdict"] = diagnosis.verdict;
  out["findings"] = std::move(lines);
  return json::serialize(out) + "\n";
}

}  // namespace gatehouse::app
