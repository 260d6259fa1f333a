#include "acme/verdicts.hpp"

#include <fmt/format.h>

namespace gatehouse::acme {

bool Verdicts::add(const Validation::Verdict& verdict, const Failure& failure) {
  failures_.push_back(failure);
  preferences_.failed[verdict.identifier].insert(verdict.type);
  return verdict.other_ways && count() < most_;
}

Failure Verdicts::sum_up(const Failure& last, const Attempt& attempt) const {
  if (failures_.empty()) return last;
  // Where the next challenge came to no verdict, the one before stands, with its long wait: a quick
  // retry would only fail there again.
  const bool open = last.kind == FailureClass::transport || last.kind == FailureClass::policy;
  Failure result = open ? failures_.front() : last;
  result.verdicts = count();
  result.sentence = failures_.front().sentence;
  const std::string opening = fmt::format("{}: {} ", attempt.names, attempt.authority);
  const auto add = [&](std::string_view sentence) {
    const bool same = sentence.starts_with(opening);
    if (same) sentence.remove_prefix(opening.size());
    result.sentence += fmt::format("; {}{}", same ? "it " : "", sentence);
  };
  for (size_t i = 1; i < failures_.size(); ++i) add(failures_[i].sentence);
  if (last.sentence != failures_.back().sentence) add(last.sentence);
  return result;
}

}  // namespace gatehouse::acme
