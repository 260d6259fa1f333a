#include "acme/answers.hpp"

namespace gatehouse::acme {

void Answers::put_first(Node& node) {
  Line& line = line_of(node);
  node.second.newer = nullptr;
  node.second.older = line.newest;
  if (line.newest != nullptr) line.newest->second.newer = &node;
  line.newest = &node;
  if (line.oldest == nullptr) line.oldest = &node;
}

void Answers::take_out(Node& node) {
  Line& line = line_of(node);
  Memory& memory = node.second;
  (memory.newer == nullptr ? line.newest : memory.newer->second.older) = memory.older;
  (memory.older == nullptr ? line.oldest : memory.older->second.newer) = memory.newer;
}

void Answers::erase(Node& node) {
  take_out(node);
  names_.erase(names_.find(node.first));
}

void Answers::make_room(Time now) {
  for (const Line& line : lines_)
    while (line.oldest != nullptr && line.oldest->second.until <= now) erase(*line.oldest);
  while (names_.size() >= most_) {
    Node* soonest = nullptr;
    for (const Line& line : lines_) {
      if (line.oldest == nullptr) continue;
      if (soonest == nullptr || line.oldest->second.until < soonest->second.until)
        soonest = line.oldest;
    }
    erase(*soonest);
  }
}

void Answers::remember(const std::string& name, Answer answer, Time now,
                       std::chrono::seconds counts) {
  if (const auto old = names_.find(name); old != names_.end()) erase(*old);
  make_room(now);
  Node& node = *names_.try_emplace(name).first;
  node.second.until = now + counts;
  node.second.answer = answer;
  put_first(node);
}

std::optional<Answer> Answers::recall(const std::string& name, Time now) {
  const auto found = names_.find(name);
  if (found == names_.end()) return std::nullopt;
  Node& node = *found;
  if (node.second.until <= now) {
    erase(node);
    return std::nullopt;
  }
  take_out(node);
  put_first(node);
  return node.second.answer;
}

void Answers::clear() {
  names_ = Names();
  lines_ = {};
}

}  // namespace gatehouse::acme
