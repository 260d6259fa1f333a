#include "tests/fuzz/heads.hpp"

#include <algorithm>

#include <fmt/format.h>

#include "tests/fuzz/target.hpp"

namespace gatehouse::http {

namespace {

bool blank_at_the_ends(std::string_view value) {
  constexpr std::string_view blanks = " \t";
  return !value.empty() &&
         (blanks.find(value.front()) != blanks.npos || blanks.find(value.back()) != blanks.npos);
}

/// Only from one hop to the next (RFC 9110 section 7.6.1).
bool is_hop_by_hop(std::string_view name) {
  constexpr std::string_view names[] = {"connection", "keep-alive",        "proxy-connection", "te",
                                        "upgrade",    "transfer-encoding", "http2-settings"};
  return std::any_of(std::begin(names), std::end(names),
                     [&](std::string_view each) { return equal_ignoring_case(each, name); });
}

}  // namespace

std::string forwarded(const Fields& fields) {
  std::string text;
  for (const Field& field : fields) {
    if (!field.skip) text += fmt::format("{}={}\n", field.name, field.value);
  }
  return text;
}

void check_fields(const Fields& fields, std::string_view from) {
  size_t lengths = 0;
  for (const Field& field : fields) {
    ASSERT(is_token(field.name));
    ASSERT(is_field_value(field.value));
    ASSERT(!blank_at_the_ends(field.value));
    ASSERT(field.id == field_id(field.name));
    ASSERT(field.skip || !is_hop_by_hop(field.name));
    ASSERT(field.name.data() >= from.data());
    ASSERT(field.value.data() + field.value.size() <= from.data() + from.size());
    if (field.verbatim) {
      const auto at = static_cast<size_t>(field.name.data() - from.data());
      ASSERT(from.substr(at).starts_with(fmt::format("{}: {}\r\n", field.name, field.value)));
    }
    lengths += equal_ignoring_case(field.name, "content-length");
  }
  ASSERT(lengths <= 1);
}

HeadScanner scan_both_ways(std::string_view bytes, const HeadLimits& limits,
                           HeadScanner::Status& status) {
  HeadScanner whole, split;
  status = whole.scan(bytes, limits);
  auto last = HeadScanner::Status::need_more;
  for (size_t size = 1; size <= bytes.size(); ++size) {
    last = split.scan(bytes.substr(0, size), limits);
    if (last != HeadScanner::Status::need_more) break;
  }
  ASSERT(last == status);
  ASSERT(whole.length() == split.length());
  ASSERT(whole.refusal().status == split.refusal().status);
  ASSERT(std::string_view(whole.refusal().reason) == split.refusal().reason);
  return whole;
}

}  // namespace gatehouse::http
