#include "acme/renewal_info.hpp"

#include <algorithm>

#include <boost/json/parse.hpp>
#include <boost/json/value.hpp>

#include "acme/protocol.hpp"

namespace gatehouse::acme {

namespace json = boost::json;
using base::Error;
using base::ErrorKind;
using base::Result;

namespace {

constexpr int json_depth_max = 16;
constexpr size_t document_bytes_max = 64 * 1024;
constexpr size_t timestamp_bytes_max = 64;
constexpr std::chrono::hours window_max{24 * 400};  // no CA issues for longer
constexpr size_t id_bytes_max = 256;

Error nonsense(const char* what) {
  return Error(ErrorKind::protocol, std::string("renewal information ") + what);
}

std::optional<WallTime> time_of(const json::object& window, std::string_view key) {
  const auto* value = window.if_contains(key);
  const auto* text = value == nullptr ? nullptr : value->if_string();
  if (text == nullptr || text->size() > timestamp_bytes_max) return std::nullopt;
  return parse_timestamp(*text);
}

}  // namespace

Result<RenewalInfo> parse_renewal_info(std::string_view text) {
  if (text.size() > document_bytes_max) return nonsense("that is too long");
  json::parse_options options;
  options.max_depth = json_depth_max;
  boost::system::error_code error;
  const json::value value = json::parse(text, error, {}, options);
  const auto* object = error ? nullptr : value.if_object();
  if (object == nullptr) return nonsense("that is not a JSON object");
  const auto* member = object->if_contains("suggestedWindow");
  const auto* window = member == nullptr ? nullptr : member->if_object();
  if (window == nullptr) return nonsense("without a window");
  const auto start = time_of(*window, "start");
  const auto end = time_of(*window, "end");
  if (!start || !end) return nonsense("whose window has no dates");
  if (*end <= *start) return nonsense("whose window ends before it begins");
  // In seconds: the whole range of years fits.
  using std::chrono::seconds;
  const auto length = std::chrono::floor<seconds>(end->time_since_epoch()) -
                      std::chrono::floor<seconds>(start->time_since_epoch());
  if (length > window_max) return nonsense("whose window is longer than a certificate's life");
  RenewalInfo result;
  result.start = *start;
  result.end = *end;
  const auto* explanation = object->if_contains("explanationURL");
  if (explanation != nullptr && explanation->is_string()) {
    // A person's browser opens it, not we: of either scheme.
    const std::string_view url = explanation->get_string();
    if (usable_url(url, "http://")) result.explanation = url;
  }
  return result;
}

bool is_renewal_id(std::string_view text) {
  const size_t dot = text.find('.');
  if (text.size() > id_bytes_max || dot == 0 || dot == text.npos || dot + 1 == text.size()) {
    return false;
  }
  return std::all_of(text.begin(), text.end(), [&](const char& c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' ||
           c == '_' || &c == text.data() + dot;
  });
}

}  // namespace gatehouse::acme
