#include "acme/setbacks.hpp"

#include <algorithm>

#include <boost/json.hpp>

#include "acme/times.hpp"

namespace gatehouse::acme {

namespace json = boost::json;
using Time = Setbacks::Time;

namespace {

constexpr std::chrono::hours validations_count{1};
constexpr std::chrono::hours heeded_counts{24};
constexpr std::chrono::hours kept_after{30 * 24};
/// What a clock that was wrong may have left behind.
constexpr std::chrono::hours furthest = retry_after_believed_max;
constexpr size_t name_max = 255;
constexpr size_t word_max = 64;
constexpr int64_t seconds_max = 253402300799 / 32;  // keeps a time point from overflowing

constexpr std::array<std::pair<FailureClass, std::string_view>, 7> class_names = {{
    {FailureClass::transport, "transport"},
    {FailureClass::validation, "validation"},
    {FailureClass::rate_limit, "rate_limit"},
    {FailureClass::policy, "policy"},
    {FailureClass::account, "account"},
    {FailureClass::storage, "storage"},
    {FailureClass::internal, "internal"},
}};

std::string_view name_of_class(FailureClass kind) {
  for (const auto& [one, name] : class_names)
    if (one == kind) return name;
  return "internal";
}

/// Rounded up: what must not happen before a moment does not because of it.
int64_t to_number(Time time) {
  return std::chrono::ceil<std::chrono::seconds>(time.time_since_epoch()).count();
}

std::string hex_of(uint64_t value) {
  constexpr std::string_view digits = "0123456789abcdef";
  std::string text;
  for (int shift = 60; shift >= 0; shift -= 4) text += digits[(value >> shift) & 15];
  return text;
}

// --- writing: only what differs from a blank

void put(json::object& object, std::string_view key, Time time) {
  if (time != Time{}) object[key] = to_number(time);
}
/// One text that is no UTF-8 (a path, a sentence that was cut) would make the whole shard
/// unreadable.
std::string sound(std::string_view text) {
  std::string result(text.substr(0, Setback::sentence_max));
  boost::system::error_code code;
  json::parse(json::serialize(json::string(result)), code);
  if (!code) return result;
  for (char& c : result)
    if (static_cast<unsigned char>(c) >= 0x80) c = '?';
  return result;
}

void put(json::object& object, std::string_view key, std::string_view text) {
  if (!text.empty()) object[key] = sound(text);
}
void put(json::object& object, std::string_view key, unsigned number) {
  if (number != 0) object[key] = number;
}

json::object written(const Setback& setback) {
  json::object object;
  if (setback.failures > 0) {
    put(object, "failures", setback.failures);
    put(object, "step", setback.step);
    put(object, "class", name_of_class(setback.kind));
    if (setback.local) object["local"] = true;
    put(object, "sentence", setback.sentence);
    put(object, "next_attempt", setback.next_attempt);
    put(object, "told", setback.told);
    put(object, "rehearsal", static_cast<unsigned>(setback.rehearsal));
    put(object, "pinned", setback.pinned);
  }
  if (!setback.failed_validations.empty()) {
    json::array times;
    for (const Time time : setback.failed_validations) times.emplace_back(to_number(time));
    object["failed_validations"] = std::move(times);
  }
  if (!setback.holds.empty()) {
    json::object holds;
    for (const auto& [authority, hold] : setback.holds) {
      json::object one{{"until", to_number(hold.until)}};
      if (hold.refused) one["refused"] = hex_of(hold.settings);
      holds[authority] = std::move(one);
    }
    object["holds"] = std::move(holds);
  }
  return object;
}

json::object written(const Past& past) {
  json::object object = written(past.setback);
  put(object, "challenge", past.challenge);
  if (past.advice.certificate != 0)
    object["advice"] =
        json::array{hex_of(past.advice.certificate), to_number(past.advice.window.start),
                    to_number(past.advice.window.end), to_number(past.advice.instant)};
  put(object, "explanation", past.advice.explanation);
  put(object, "heeded", past.heeded);
  if (past.warned != 0) object["warned"] = json::array{hex_of(past.warned_of), past.warned};
  if (past.warned != 0) put(object, "mourned", past.mourned);
  return object;
}

// --- reading: whatever is odd is as if it were not there

std::string text_in(const json::object& object, std::string_view key, size_t most) {
  const auto* value = object.if_contains(key);
  const auto* text = value == nullptr ? nullptr : value->if_string();
  if (text == nullptr) return {};
  return std::string(text->data(), std::min(text->size(), most));
}

unsigned count_in(const json::object& object, std::string_view key) {
  const auto* value = object.if_contains(key);
  if (value == nullptr || !value->is_int64()) return 0;
  return static_cast<unsigned>(std::clamp<int64_t>(value->get_int64(), 0, 1'000'000));
}

Time to_time(const json::value& value) {
  const int64_t number = value.is_int64() ? value.get_int64() : 0;
  return Time(std::chrono::seconds(std::clamp<int64_t>(number, 0, seconds_max)));
}

Time time_in(const json::object& object, std::string_view key, Time latest) {
  const auto* value = object.if_contains(key);
  return value == nullptr ? Time{} : std::min(to_time(*value), latest);
}

uint64_t mark_in(const json::value& value) {
  const auto* text = value.if_string();
  if (text == nullptr || text->size() != 16) return 0;
  uint64_t result = 0;
  for (const char c : *text) {
    const bool digit = c >= '0' && c <= '9';
    if (!digit && (c < 'a' || c > 'f')) return 0;
    result = result * 16 + static_cast<uint64_t>(digit ? c - '0' : c - 'a' + 10);
  }
  return result;
}

Setback setback_in(const json::object& object, Time now) {
  Setback setback;
  setback.failures = count_in(object, "failures");
  setback.step = count_in(object, "step");
  const std::string kind = text_in(object, "class", word_max);
  for (const auto& [one, name] : class_names)
    if (name == kind) setback.kind = one;
  setback.local = object.contains("local");
  setback.sentence = text_in(object, "sentence", Setback::sentence_max);
  setback.next_attempt = time_in(object, "next_attempt", now + furthest);
  setback.told = time_in(object, "told", now);
  const unsigned rehearsal = count_in(object, "rehearsal");
  if (rehearsal <= static_cast<unsigned>(Rehearsal::over))
    setback.rehearsal = static_cast<Rehearsal>(rehearsal);
  setback.pinned = text_in(object, "pinned", word_max);
  const auto* times = object.if_contains("failed_validations");
  if (times != nullptr && times->is_array())
    for (const auto& time : times->get_array())
      if (setback.failed_validations.size() < Setback::failed_validations_max)
        setback.failed_validations.push_back(std::min(to_time(time), now));
  const auto* holds = object.if_contains("holds");
  if (holds == nullptr || !holds->is_object()) return setback;
  for (const auto& [authority, value] : holds->get_object()) {
    const auto* one = value.if_object();
    if (one == nullptr || authority.size() > word_max || setback.holds.size() >= Setback::holds_max)
      continue;
    Hold hold;
    hold.until = time_in(*one, "until", now + furthest);
    const auto* refused = one->if_contains("refused");
    hold.refused = refused != nullptr;
    if (hold.refused) hold.settings = mark_in(*refused);
    setback.holds.emplace(std::string(authority), hold);
  }
  return setback;
}

Past past_in(const json::object& object, Time now) {
  Past past;
  past.setback = setback_in(object, now);
  past.challenge = text_in(object, "challenge", word_max);
  const auto* advice = object.if_contains("advice");
  const auto* parts = advice == nullptr ? nullptr : advice->if_array();
  if (parts != nullptr && parts->size() == 4) {
    past.advice.certificate = mark_in(parts->at(0));
    past.advice.window = {to_time(parts->at(1)), to_time(parts->at(2))};
    past.advice.instant = to_time(parts->at(3));
    past.advice.explanation = text_in(object, "explanation", RenewalAdvice::explanation_max);
  }
  past.heeded = time_in(object, "heeded", now);
  past.mourned = time_in(object, "mourned", now);
  const auto* warned = object.if_contains("warned");
  const auto* stage = warned == nullptr ? nullptr : warned->if_array();
  if (stage != nullptr && stage->size() == 2 && stage->at(1).is_int64()) {
    past.warned_of = mark_in(stage->at(0));
    past.warned =
        static_cast<unsigned>(std::clamp<int64_t>(stage->at(1).get_int64(), 0, stages_max));
  }
  return past;
}

}  // namespace

uint64_t mark(std::string_view text) {
  uint64_t hash = 14695981039346656037ULL;  // FNV-1a
  for (const char c : text) hash = (hash ^ static_cast<unsigned char>(c)) * 1099511628211ULL;
  return hash == 0 ? 1 : hash;
}

bool Past::empty(Time now) const {
  const auto counts = [now](Time time) { return now - time < validations_count; };
  const auto holds = [now](const auto& one) { return one.second.until > now; };
  return setback.failures == 0 && challenge.empty() && advice.certificate == 0 && warned == 0 &&
         now - heeded >= heeded_counts &&
         std::none_of(setback.holds.begin(), setback.holds.end(), holds) &&
         std::none_of(setback.failed_validations.begin(), setback.failed_validations.end(), counts);
}

size_t Setbacks::shard_of(const std::string& name) {
  return mark(name) % shard_count;
}

Past Setbacks::recall(const std::string& name) const {
  const auto& shard = shards_[shard_of(name)];
  const auto found = shard.find(name);
  return found == shard.end() ? Past() : found->second;
}

void Setbacks::remember(const std::string& name, const Past& past, Time now) {
  if (past.empty(now)) return forget(name);
  const size_t number = shard_of(name);
  auto& shard = shards_[number];
  const auto found = shard.find(name);
  if (found == shard.end() && size() >= count_max) return;
  if (found == shard.end())
    shard.emplace(name, past);
  else
    found->second = past;
  changed_[number] = true;
}

void Setbacks::forget(const std::string& name) {
  const size_t number = shard_of(name);
  if (shards_[number].erase(name) > 0) changed_[number] = true;
}

size_t Setbacks::size() const {
  size_t sum = 0;
  for (const auto& shard : shards_) sum += shard.size();
  return sum;
}

void Setbacks::tidy(Time now, const std::function<bool(const std::string&)>& kept) {
  const auto stale = [&](const auto& one) {
    const Past& past = one.second;
    if (past.empty(now)) return true;
    Time last = std::max(past.setback.next_attempt, past.advice.instant);
    for (const auto& [authority, hold] : past.setback.holds) last = std::max(last, hold.until);
    return now - last > kept_after && !kept(one.first);
  };
  for (size_t number = 0; number < shard_count; ++number)
    if (std::erase_if(shards_[number], stale) > 0) changed_[number] = true;
}

std::optional<size_t> Setbacks::changed(size_t last) const {
  for (size_t step = 1; step <= shard_count; ++step) {
    const size_t number = (last + step) % shard_count;
    if (changed_[number]) return number;
  }
  return std::nullopt;
}

std::string Setbacks::to_json(size_t number) {
  json::object names;
  names.reserve(shards_[number].size());
  for (const auto& [name, past] : shards_[number]) names[name] = written(past);
  changed_[number] = false;
  return json::serialize(json::object{{"version", 1}, {"names", std::move(names)}}) + "\n";
}

bool Setbacks::read(std::string_view text, Time now) {
  boost::system::error_code code;
  const json::value document = json::parse(text, code);
  const auto* object = code ? nullptr : document.if_object();
  const auto* version = object == nullptr ? nullptr : object->if_contains("version");
  const auto* names = object == nullptr ? nullptr : object->if_contains("names");
  const bool known = version != nullptr && version->is_int64() && version->get_int64() == 1;
  if (!known || names == nullptr || !names->is_object()) return false;
  for (const auto& [name, value] : names->get_object()) {
    const auto* one = value.if_object();
    if (one == nullptr || name.empty() || name.size() > name_max || size() >= count_max) continue;
    Past past = past_in(*one, now);
    const std::string key(name);
    if (!past.empty(now)) shards_[shard_of(key)].insert_or_assign(key, std::move(past));
  }
  return true;
}

}  // namespace gatehouse::acme
