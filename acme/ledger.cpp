#include "acme/ledger.hpp"

#include <algorithm>
#include <charconv>

#include <fmt/format.h>

#include "acme/names.hpp"

namespace gatehouse::acme {

namespace {

constexpr std::string_view header = "gatehouse certificates 1\n";
constexpr size_t authorities_max = 1000;
constexpr size_t id_bytes_max = 255;

uint32_t to_seconds(Ledger::Time time) {
  const auto seconds = std::chrono::ceil<std::chrono::seconds>(time.time_since_epoch()).count();
  return static_cast<uint32_t>(std::clamp<int64_t>(seconds, 1, UINT32_MAX));
}

Ledger::Time to_time(uint32_t seconds) {
  return Ledger::Time(std::chrono::seconds(seconds));
}

/// What comes before the next space, which is taken off too.
std::string_view next_word(std::string_view& line) {
  const size_t space = std::min(line.find(' '), line.size());
  const std::string_view word = line.substr(0, space);
  line.remove_prefix(std::min(space + 1, line.size()));
  return word;
}

bool read_number(std::string_view word, uint32_t& number) {
  const auto [end, error] = std::from_chars(word.data(), word.data() + word.size(), number);
  return error == std::errc() && end == word.data() + word.size();
}

bool is_word(std::string_view text) {
  return !text.empty() && text.size() <= id_bytes_max &&
         std::all_of(text.begin(), text.end(),
                     [](unsigned char c) { return c > 0x20 && c != 0x7f && c != '/'; });
}

}  // namespace

/// FNV-1a: the same in every build, as the texts are.
size_t Ledger::part_of(std::string_view id) {
  uint64_t hash = 14695981039346656037ULL;
  for (const char c : id) hash = (hash ^ static_cast<unsigned char>(c)) * 1099511628211ULL;
  return (hash ^ hash >> 32) % parts;
}

const Ledger::Node* Ledger::find(const std::string& id) const {
  const auto& rows = rows_[part_of(id)];
  const auto found = rows.find(id);
  return found == rows.end() ? nullptr : &*found;
}

Ledger::Node* Ledger::find(const std::string& id) {
  return const_cast<Node*>(std::as_const(*this).find(id));
}

Ledger::Node& Ledger::make(const std::string& id) {
  return *rows_[part_of(id)].try_emplace(id).first;
}

void Ledger::drop_if_empty(const std::string& id) {
  const Node* node = find(id);
  if (node == nullptr || node->second.place != Place::nowhere || node->second.due != 0) return;
  long_names_.erase(id);
  rows_[part_of(id)].erase(id);
}

// --- what is stored

Ledger::Place Ledger::place(const std::string& id) const {
  const Node* node = find(id);
  return node == nullptr ? Place::nowhere : node->second.place;
}

void Ledger::put(const std::string& id, Place place) {
  if (place == Place::nowhere) {
    Node* node = find(id);
    if (node == nullptr) return;
    if (node->second.place != Place::nowhere) changed(id);
    node->second.place = place;
    node->second.known = false;
    return drop_if_empty(id);
  }
  Row& row = make(id).second;
  if (row.place != place) changed(id);
  row.place = place;
}

void Ledger::note(const std::string& id, const Facts& facts) {
  Row& row = make(id).second;
  row.not_after = to_seconds(facts.not_after);
  row.authority = authority_number(facts.authority);
  row.on_demand = facts.on_demand;
  row.generation = facts.generation;
  row.known = true;
  changed(id);
}

std::optional<Ledger::Facts> Ledger::facts(const std::string& id) const {
  const Node* node = find(id);
  if (node == nullptr || !node->second.known) return std::nullopt;
  const Row& row = node->second;
  Facts facts;
  facts.not_after = to_time(row.not_after);
  if (row.authority > 0) facts.authority = authorities_[row.authority - 1];
  facts.on_demand = row.on_demand;
  facts.generation = row.generation;
  return facts;
}

bool Ledger::known(const std::string& id) const {
  const Node* node = find(id);
  return node != nullptr && node->second.known;
}

uint32_t Ledger::generation(const std::string& id) const {
  const Node* node = find(id);
  return node == nullptr ? 0 : node->second.generation;
}

bool Ledger::agrees(const std::string& id, uint32_t generation) {
  Node* node = find(id);
  if (node == nullptr || node->second.generation == generation) return true;
  const bool first = node->second.generation == 0;
  node->second.generation = generation;
  changed(id);
  if (first) return true;
  node->second.known = false;
  return false;
}

uint16_t Ledger::authority_number(const std::string& authority) {
  const auto found = std::find(authorities_.begin(), authorities_.end(), authority);
  if (found == authorities_.end() && (authority.empty() || authorities_.size() == authorities_max))
    return 0;
  const auto number = static_cast<uint16_t>(found - authorities_.begin() + 1);
  if (found == authorities_.end()) authorities_.push_back(authority);
  return number;
}

std::vector<std::string> Ledger::ids(Place place, size_t part) const {
  std::vector<std::string> found;
  for (const auto& [id, row] : rows_[part])
    if (row.place == place) found.push_back(id);
  return found;
}

std::string Ledger::name(const std::string& id) const {
  const auto found = long_names_.find(id);
  return found == long_names_.end() ? name_of(id) : found->second;
}

// --- looks

void Ledger::look_at(const std::string& name, Time when) {
  const std::string id = certificate_id(name);
  if (name_of(id).empty()) long_names_[id] = name;
  Node& node = make(id);
  const uint32_t due = to_seconds(when);
  if (node.second.due == due) return;
  if (node.second.place != Place::nowhere) changed(id);
  plan(node, due);
}

void Ledger::forget_look(const std::string& name) {
  const std::string id = certificate_id(name);
  Node* node = find(id);
  if (node == nullptr || node->second.due == 0) return;
  unplan(*node);
  if (node->second.place != Place::nowhere) changed(id);
  drop_if_empty(id);
}

std::optional<Ledger::Time> Ledger::look(const std::string& id) const {
  const Node* node = find(id);
  if (node == nullptr || node->second.due == 0) return std::nullopt;
  return to_time(node->second.due);
}

std::optional<Ledger::Time> Ledger::next_look() const {
  if (heap_.empty()) return std::nullopt;
  return to_time(heap_.front()->second.due);
}

// The part is not marked: a process that ends now should look again.
std::string Ledger::take_due(Time now) {
  while (!heap_.empty() && to_time(heap_.front()->second.due) <= now) {
    Node& node = *heap_.front();
    const std::string id = node.first;
    std::string found = name(id);
    unplan(node);
    drop_if_empty(id);
    if (!found.empty()) return found;
  }
  return {};
}

void Ledger::look_before_end(std::chrono::milliseconds before) {
  const auto margin = std::chrono::duration_cast<std::chrono::seconds>(before).count();
  for (auto& rows : rows_)
    for (auto& node : rows) {
      const Row& row = node.second;
      const auto latest = static_cast<uint32_t>(std::max<int64_t>(row.not_after - margin, 1));
      if (row.known && row.due > latest) plan(node, latest);
    }
}

void Ledger::plan(Node& node, uint32_t due) {
  const bool planned = node.second.due != 0;
  node.second.due = due;
  if (!planned) {
    heap_.push_back(nullptr);
    set_heap(heap_.size() - 1, &node);
  }
  sift_up(node.second.heap_place);
  sift_down(node.second.heap_place);
}

void Ledger::unplan(Node& node) {
  if (node.second.due == 0) return;
  const size_t hole = node.second.heap_place;
  node.second.due = 0;
  Node* const last = heap_.back();
  heap_.pop_back();
  if (last == &node) return;
  set_heap(hole, last);
  sift_up(hole);
  sift_down(last->second.heap_place);
}

void Ledger::set_heap(size_t place, Node* node) {
  heap_[place] = node;
  node->second.heap_place = static_cast<uint32_t>(place);
}

void Ledger::sift_up(size_t place) {
  while (place > 0) {
    const size_t above = (place - 1) / 2;
    if (heap_[above]->second.due <= heap_[place]->second.due) return;
    Node* const moved = heap_[above];
    set_heap(above, heap_[place]);
    set_heap(place, moved);
    place = above;
  }
}

void Ledger::sift_down(size_t place) {
  for (;;) {
    size_t least = place;
    for (const size_t below : {2 * place + 1, 2 * place + 2})
      if (below < heap_.size() && heap_[below]->second.due < heap_[least]->second.due)
        least = below;
    if (least == place) return;
    Node* const moved = heap_[least];
    set_heap(least, heap_[place]);
    set_heap(place, moved);
    place = least;
  }
}

// --- as text

bool Ledger::read(size_t part, std::string_view text) {
  if (!text.starts_with(header)) return false;
  text.remove_prefix(header.size());
  Rows rows;
  while (!text.empty()) {
    const size_t end = text.find('\n');
    if (end == std::string_view::npos || rows.size() == part_rows_max) return false;
    if (!read_line(text.substr(0, end), rows)) return false;
    text.remove_prefix(end + 1);
  }
  for (auto& [id, row] : rows) {
    if (part_of(id) != part || find(id) != nullptr) continue;
    Node& node = make(id);
    node.second = row;
    if (const uint32_t due = std::exchange(node.second.due, 0); due != 0) plan(node, due);
  }
  return true;
}

/// "ID GENERATION NOT_AFTER DUE AUTHORITY MODE[ NAME]"
bool Ledger::read_line(std::string_view line, Rows& rows) {
  Row row;
  row.known = true;
  const std::string_view id = next_word(line);
  const bool numbers = is_word(id) && read_number(next_word(line), row.generation) &&
                       read_number(next_word(line), row.not_after) &&
                       read_number(next_word(line), row.due);
  const std::string_view authority = next_word(line);
  const std::string_view mode = next_word(line);
  if (!numbers || !is_word(authority) || (mode != "standing" && mode != "on_demand")) return false;
  row.on_demand = mode == "on_demand";
  if (authority != "-") row.authority = authority_number(std::string(authority));
  if (!line.empty()) {
    if (!is_word(line) || certificate_id(line) != id) return false;
    long_names_[std::string(id)] = std::string(line);
  }
  return rows.try_emplace(std::string(id), row).second;
}

void Ledger::settle() {
  for (auto& rows : rows_) {
    for (auto one = rows.begin(); one != rows.end();) {
      if (one->second.place != Place::nowhere) {
        ++one;
        continue;
      }
      changed(one->first);
      unplan(*one);
      long_names_.erase(one->first);
      one = rows.erase(one);
    }
  }
}

std::optional<size_t> Ledger::changed_part() const {
  for (size_t part = 0; part < parts; ++part)
    if (changed_.test(part)) return part;
  return std::nullopt;
}

std::string Ledger::text(size_t part) {
  changed_.reset(part);
  std::string text(header);
  text.reserve(rows_[part].size() * 80);
  for (const auto& node : rows_[part])
    if (node.second.known && node.second.place == Place::certs) text += line(node);
  return text;
}

std::string Ledger::line(const Node& node) const {
  const auto& [id, row] = node;
  const std::string authority = row.authority == 0 ? "-" : authorities_[row.authority - 1];
  const auto name = long_names_.find(id);
  return fmt::format("{} {} {} {} {} {}{}{}\n", id, row.generation, row.not_after, row.due,
                     is_word(authority) ? authority : "-", row.on_demand ? "on_demand" : "standing",
                     name == long_names_.end() ? "" : " ",
                     name == long_names_.end() ? "" : name->second);
}

}  // namespace gatehouse::acme
