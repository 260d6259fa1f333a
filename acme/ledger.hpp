// What is stored and when each certificate is to be looked at again: the index by which a start
// with 100,000 certificates reads none of them.
//
// Not the certificates (vault): what is served always comes from their own files, which correct a
// row that says otherwise. Pure; goes out and comes in as text, in parts, so that a change rewrites
// little. Moments are kept to the second. Control thread.
#pragma once

#include <array>
#include <bitset>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "base/clock.hpp"

namespace gatehouse::acme {

class Ledger {
 public:
  using Time = base::WallClock::time_point;
  /// Texts that the rows are spread over.
  static constexpr size_t parts = 64;
  /// Rows of one text; more make it a text of somebody else.
  static constexpr size_t part_rows_max = 100'000;

  enum class Place : uint8_t { nowhere, certs, archive };

  /// What a row knows of the certificate.
  struct Facts {
    Time not_after{};
    std::string authority;
    bool on_demand = false;
    uint32_t generation = 0;  // 0: not known
  };

  Place place(const std::string& id) const;
  void put(const std::string& id, Place place);
  void note(const std::string& id, const Facts& facts);
  std::optional<Facts> facts(const std::string& id) const;
  bool known(const std::string& id) const;
  /// 0: not known.
  uint32_t generation(const std::string& id) const;
  /// What the folder says now: a row of another generation loses its facts. False: it did.
  bool agrees(const std::string& id, uint32_t generation);

  /// Plans the next look at `name`, instead of any before. Names need not be stored.
  void look_at(const std::string& name, Time when);
  void forget_look(const std::string& name);
  std::optional<Time> look(const std::string& id) const;
  std::optional<Time> next_look() const;
  /// The name whose look is due longest, which has none planned any more; empty: none is due.
  std::string take_due(Time now);
  /// No look later than this before the end of what is looked at.
  void look_before_end(std::chrono::milliseconds before);

  /// Of one part: the whole of a large storage is seldom wanted at once.
  std::vector<std::string> ids(Place place, size_t part) const;
  /// Of a stored certificate; empty: only its meta.json tells.
  std::string name(const std::string& id) const;

  /// Takes in a text that text() made; false: it is none, and nothing was taken. What is not put()
  /// somewhere afterwards is dropped by settle().
  bool read(size_t part, std::string_view text);
  void settle();
  /// A part whose text is not the one last written.
  std::optional<size_t> changed_part() const;
  std::string text(size_t part);
  void mark_changed(size_t part) { changed_.set(part); }

 private:
  struct Row {
    uint32_t due = 0;  // seconds since 1970; 0: none
    uint32_t not_after = 0;
    uint32_t generation = 0;
    uint32_t heap_place = 0;  // while due
    uint16_t authority = 0;
    Place place = Place::nowhere;
    bool known = false;
    bool on_demand = false;
  };
  using Rows = std::unordered_map<std::string, Row>;
  using Node = Rows::value_type;

  static size_t part_of(std::string_view id);
  const Node* find(const std::string& id) const;
  Node* find(const std::string& id);
  Node& make(const std::string& id);
  void drop_if_empty(const std::string& id);
  uint16_t authority_number(const std::string& authority);
  void plan(Node& node, uint32_t due);
  void unplan(Node& node);
  void set_heap(size_t place, Node* node);
  void sift_up(size_t place);
  void sift_down(size_t place);
  void changed(const std::string& id) { changed_.set(part_of(id)); }
  std::string line(const Node& node) const;
  bool read_line(std::string_view line, Rows& rows);

  std::array<Rows, parts> rows_;
  std::vector<Node*> heap_;  // the soonest look first
  std::vector<std::string> authorities_;
  // Of ids that are digests.
  std::unordered_map<std::string, std::string> long_names_;
  std::bitset<parts> changed_;
};

}  // namespace gatehouse::acme
