#include "config/reader.hpp"

#include <algorithm>

#include <fmt/format.h>

#include "config/environment.hpp"
#include "config/files.hpp"
#include "config/suggestion.hpp"

namespace gatehouse::config {

namespace {

/// For a message: the largest unit that divides it.
std::string written(Duration duration) {
  const auto ms = duration.count();
  if (ms % 86'400'000 == 0 && ms > 0) return fmt::format("{}d", ms / 86'400'000);
  if (ms % 3'600'000 == 0 && ms > 0) return fmt::format("{}h", ms / 3'600'000);
  if (ms % 1000 == 0) return fmt::format("{}s", ms / 1000);
  return fmt::format("{}ms", ms);
}

std::string written(uint64_t bytes) {
  if (bytes % (1024 * 1024) == 0 && bytes > 0) return fmt::format("{}MiB", bytes >> 20);
  if (bytes % 1024 == 0 && bytes > 0) return fmt::format("{}KiB", bytes >> 10);
  return fmt::format("{}B", bytes);
}

std::string listed(std::span<const std::string_view> words) {
  std::string result;
  for (const auto word : words) result += (result.empty() ? "" : ", ") + std::string(word);
  return result;
}

}  // namespace

Reader::Reader(const Value& table, std::string path, Findings& findings)
    : table_(table), path_(std::move(path)), findings_(findings) {}

void Reader::finish() {
  for (const auto& member : table_.members) {
    if (std::find(known_.begin(), known_.end(), member.name) != known_.end()) continue;
    if (findings_.full()) {
      findings_.add(member.mark, {}, {});
      continue;
    }
    findings_.add(member.mark, path(member.name),
                  "unknown key" + did_you_mean(member.name, known_));
  }
}

Mark Reader::mark(std::string_view key) {
  const auto* value = find(key);
  return value != nullptr ? value->mark : table_.mark;
}

std::string Reader::path(std::string_view key) const {
  const bool bare = is_token(key) && key.size() <= 80 && key.find('.') == key.npos;
  const auto name = bare ? std::string(key) : in_quotes(key);
  return path_.empty() ? name : path_ + "." + name;
}

void Reader::refuse(std::string_view key, std::string text) {
  findings_.add(mark(key), path(key), std::move(text));
}

bool Reader::read(std::string_view key, std::string& target) {
  const auto* value = find(key, ValueKind::string, "a string in quotes");
  return value != nullptr && expand(*value, path(key), target);
}

bool Reader::read(std::string_view key, bool& target) {
  const auto* value = find(key, ValueKind::boolean, "true or false, without quotes");
  if (value == nullptr) return false;
  target = value->boolean;
  return true;
}

bool Reader::read(std::string_view key, uint32_t& target, uint32_t least, uint32_t most) {
  const auto* value = find(key, ValueKind::integer, "a whole number, without quotes");
  if (value == nullptr) return false;
  if (value->integer < int64_t{least} || value->integer > int64_t{most}) {
    refuse(key, fmt::format("{} is out of range: use {} to {}", value->integer, least, most));
    return false;
  }
  target = static_cast<uint32_t>(value->integer);
  return true;
}

bool Reader::read(std::string_view key, double& target, double least, double most) {
  const auto* value = find(key);
  if (value == nullptr) return false;
  if (value->kind != ValueKind::number && value->kind != ValueKind::integer) {
    refuse_kind(*value, path(key), "a number, without quotes");
    return false;
  }
  const double number =
      value->kind == ValueKind::number ? value->number : static_cast<double>(value->integer);
  if (!(number >= least && number <= most)) {
    refuse(key, fmt::format("{} is out of range: use {} to {}", number, least, most));
    return false;
  }
  target = number;
  return true;
}

bool Reader::read(std::string_view key, Duration& target, Duration least, Duration most) {
  const auto* value = find(key, ValueKind::string, "a duration in quotes, such as \"10s\"");
  std::string text;
  if (value == nullptr || !expand(*value, path(key), text)) return false;
  const auto duration = parse_duration(text);
  if (!duration) {
    refuse(key, duration.error().text);
    return false;
  }
  if (*duration < least || *duration > most) {
    refuse(key, fmt::format("the duration {} is out of range: use {} to {}", in_quotes(text),
                            written(least), written(most)));
    return false;
  }
  target = *duration;
  return true;
}

bool Reader::read_size(std::string_view key, uint64_t& target, uint64_t least, uint64_t most) {
  const auto* value = find(key);
  if (value == nullptr) return false;
  std::string text;
  if (value->kind == ValueKind::integer) {
    text = std::to_string(value->integer);
  } else if (value->kind != ValueKind::string) {
    refuse_kind(*value, path(key), "a size in quotes, such as \"16KiB\"");
    return false;
  } else if (!expand(*value, path(key), text)) {
    return false;
  }
  const auto size = parse_size(text);
  if (!size) {
    refuse(key, size.error().text);
    return false;
  }
  if (*size < least || *size > most) {
    refuse(key, fmt::format("the size {} is out of range: use {} to {}", in_quotes(text),
                            written(least), written(most)));
    return false;
  }
  target = *size;
  return true;
}

bool Reader::read(std::string_view key, std::vector<std::string>& target) {
  std::vector<std::string> result;
  const auto take = [&](const std::string& text, const Mark&, const std::string&) {
    result.push_back(text);
  };
  if (!each_string(key, take)) return false;
  target = std::move(result);
  return true;
}

bool Reader::read(std::string_view key, std::vector<Network>& target) {
  std::vector<Network> result;
  const auto take = [&](const std::string& text, const Mark& mark, const std::string& path) {
    auto network = parse_network(text);
    if (network) {
      result.push_back(*network);
    } else {
      findings_.add(mark, path, network.error().text);
    }
  };
  if (!each_string(key, take)) return false;
  target = std::move(result);
  return true;
}

bool Reader::read(std::string_view key, std::vector<HostGlob>& target) {
  std::vector<HostGlob> result;
  const auto take = [&](const std::string& text, const Mark& mark, const std::string& path) {
    auto glob = parse_host_glob(text);
    if (glob) {
      result.push_back(std::move(*glob));
    } else {
      findings_.add(mark, path, glob.error().text);
    }
  };
  if (!each_string(key, take)) return false;
  target = std::move(result);
  return true;
}

bool Reader::read_path(std::string_view key, std::string& target) {
  std::string text;
  if (!read(key, text) || text.empty()) return false;
  if (text.find('\0') != text.npos) {
    refuse(key, "a path cannot hold a NUL byte");
    return false;
  }
  target = resolve_path(text, findings_.source(table_.mark).folder);
  return true;
}

bool Reader::read_file_path(std::string_view key, std::string& target) {
  std::string resolved;
  if (!read_path(key, resolved)) return false;
  if (auto problem = unreadable(resolved); !problem.empty()) {
    refuse(key, std::move(problem));
    return false;
  }
  target = std::move(resolved);
  return true;
}

bool Reader::read_secret(std::string_view key, std::string& target) {
  std::string text;
  if (!read(key, text) || text.empty()) return false;
  if (!text.starts_with("file:")) {
    target = std::move(text);
    return true;
  }
  return take_secret(key, text.substr(5), target);
}

bool Reader::read_secret_file(std::string_view key, std::string& target) {
  std::string text;
  if (!read(key, text) || text.empty()) return false;
  return take_secret(key, text.starts_with("file:") ? text.substr(5) : text, target);
}

bool Reader::take_secret(std::string_view key, const std::string& file, std::string& target) {
  if (file.empty()) {
    refuse(key, "'file:' lacks its path: write file:/path/of/the/secret");
    return false;
  }
  const auto resolved = resolve_path(file, findings_.source(table_.mark).folder);
  auto content = read_file(resolved, secret_bytes_max);
  if (!content) {
    refuse(key, content.error().text);
    return false;
  }
  if (content->ends_with('\n')) content->pop_back();
  if (content->ends_with('\r')) content->pop_back();
  if (content->empty()) {
    refuse(key, fmt::format("{} is empty: write the secret into it", resolved));
    return false;
  }
  target = std::move(*content);
  return true;
}

bool Reader::each_string(std::string_view key, const EachString& each) {
  const auto* value = find(key, ValueKind::array, "a list of strings, such as [\"a\", \"b\"]");
  if (value == nullptr) return false;
  std::string text;
  for (size_t i = 0; i < value->items.size(); ++i) {
    const auto& item = value->items[i];
    const auto item_path = fmt::format("{}[{}]", path(key), i);
    if (item.kind != ValueKind::string) {
      refuse_kind(item, item_path, "a string in quotes");
    } else if (expand(item, item_path, text)) {
      each(text, item.mark, item_path);
    }
  }
  return true;
}

bool Reader::each_value(std::string_view key, const EachValue& each) {
  const auto* value = find(key, ValueKind::array, "a list");
  if (value == nullptr) return false;
  for (size_t i = 0; i < value->items.size(); ++i) {
    each(value->items[i], fmt::format("{}[{}]", path(key), i));
  }
  return true;
}

bool Reader::each_table(std::string_view key, const EachValue& each) {
  const auto expected = fmt::format("sections written as [[{}]]", key);
  const auto* value = find(key, ValueKind::array, expected);
  if (value == nullptr) return false;
  for (size_t i = 0; i < value->items.size(); ++i) {
    const auto item_path = fmt::format("{}[{}]", path(key), i);
    if (value->items[i].kind != ValueKind::table) {
      refuse_kind(value->items[i], item_path, expected);
    } else {
      each(value->items[i], item_path);
    }
  }
  return true;
}

const Value* Reader::table(std::string_view key) {
  return find(key, ValueKind::table, "a table, such as { name = \"value\" }");
}

void Reader::unsupported(std::string_view key) {
  if (given(key)) refuse(key, "not supported in this version: remove it");
}

bool Reader::given(std::string_view key) {
  const auto* value = find(key);
  return value != nullptr && !is_off(*value);
}

bool Reader::expand(const Value& value, const std::string& path, std::string& target) {
  auto text = expand_environment(value.string);
  if (!text) {
    findings_.add(value.mark, path, text.error().text);
    return false;
  }
  target = std::move(*text);
  return true;
}

void Reader::refuse_kind(const Value& value, const std::string& path, std::string_view expected) {
  findings_.add(value.mark, path,
                fmt::format("expected {}, found {}", expected, describe(value.kind)));
}

const Value* Reader::find(std::string_view key) {
  if (std::find(known_.begin(), known_.end(), key) == known_.end()) known_.push_back(key);
  return table_.find(key);
}

const Value* Reader::find(std::string_view key, ValueKind kind, std::string_view expected) {
  const auto* value = find(key);
  if (value == nullptr || value->kind == kind) return value;
  refuse_kind(*value, path(key), expected);
  return nullptr;
}

void Reader::refuse_word(std::string_view key, const std::string& word,
                         std::span<const std::string_view> words, Later later) {
  if (later != nullptr && later(word)) {
    refuse(key, fmt::format("{} is not supported in this version: use one of {}", in_quotes(word),
                            listed(words)));
    return;
  }
  auto suggestion = did_you_mean(word, words);
  if (suggestion.empty()) suggestion = ": use one of " + listed(words);
  refuse(key, in_quotes(word) + " is unknown" + suggestion);
}

bool Reader::is_off(const Value& value) const {
  switch (value.kind) {
    case ValueKind::string: {
      const auto text = expand_environment(value.string);
      return text && text->empty();
    }
    case ValueKind::integer:
      return value.integer == 0;
    case ValueKind::boolean:
      return !value.boolean;
    case ValueKind::array:
      return value.items.empty();
    case ValueKind::table:
      return std::all_of(value.members.begin(), value.members.end(),
                         [this](const Member& member) { return is_off(member.value); });
    default:
      return false;
  }
}

}  // namespace gatehouse::config
