// What `ask` said of names, for as long as it counts.
//
// Does not ask (ask). Keeps each name once: 100,000 of them are under 20 MB. When it is full, what
// no longer counts leaves first, then what counts for the shortest time of what was not looked at
// for longest: a flood of denied names pushes out no allowed one. Pure; times come in. Control
// thread.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <unordered_map>
#include <utility>

#include "base/clock.hpp"

namespace gatehouse::acme {

enum class Answer : uint8_t {
  allowed,
  denied,
  unknown,  // no answer, or one that says nothing (5xx, 429): counts as denied, for 5 s
};

class Answers {
 public:
  using Time = base::Monotonic::time_point;

  explicit Answers(size_t most) : most_(most) {}
  Answers(const Answers&) = delete;
  Answers& operator=(const Answers&) = delete;

  /// In place of what was said before. Each kind of answer counts for the same time, always.
  void remember(const std::string& name, Answer answer, Time now, std::chrono::seconds counts);
  /// Nothing: it was never said, or counts no longer.
  std::optional<Answer> recall(const std::string& name, Time now);
  size_t size() const { return names_.size(); }
  void clear();

 private:
  struct Memory;
  using Node = std::pair<const std::string, Memory>;
  struct Memory {
    Node* newer = nullptr;
    Node* older = nullptr;
    Time until{};
    Answer answer = Answer::denied;
  };
  using Names = std::unordered_map<std::string, Memory>;
  /// The nodes of one kind of answer, by their last use.
  struct Line {
    Node* newest = nullptr;
    Node* oldest = nullptr;
  };

  Line& line_of(const Node& node) { return lines_[static_cast<size_t>(node.second.answer)]; }
  void put_first(Node& node);
  void take_out(Node& node);
  void erase(Node& node);
  void make_room(Time now);

  const size_t most_;
  Names names_;
  std::array<Line, 3> lines_;
};

}  // namespace gatehouse::acme
