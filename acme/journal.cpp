#include "acme/journal.hpp"

#include <boost/json/array.hpp>
#include <boost/json/object.hpp>
#include <boost/json/parse.hpp>
#include <boost/json/serialize.hpp>

#include "base/log.hpp"

namespace gatehouse::acme {

namespace json = boost::json;
using base::ErrorKind;
using base::Result;
using boost::asio::awaitable;

namespace {

std::string folder_of(const std::string& id) {
  return "orders/" + id;
}

std::string entry_json(const JournalEntry& entry) {
  json::array names;
  for (const auto& name : entry.names) names.emplace_back(name);
  json::object object;
  object["version"] = 1;
  object["directory"] = entry.directory;
  object["names"] = std::move(names);
  object["created"] = timestamp(entry.created);
  object["order"] = entry.order;
  return json::serialize(object);
}

std::optional<std::string> text_of(const json::object& object, std::string_view key) {
  const auto* value = object.if_contains(key);
  const auto* text = value == nullptr ? nullptr : value->if_string();
  if (text == nullptr) return std::nullopt;
  return std::string(text->data(), text->size());
}

std::optional<JournalEntry> parse_entry(std::string_view bytes) {
  boost::system::error_code error;
  const json::value value = json::parse(json::string_view(bytes), error);
  const auto* object = error ? nullptr : value.if_object();
  if (object == nullptr) return std::nullopt;
  const auto directory = text_of(*object, "directory");
  const auto order = text_of(*object, "order");
  const auto created = parse_timestamp(text_of(*object, "created").value_or(""));
  const auto* names = object->if_contains("names");
  if (!directory || !order || !created || names == nullptr || !names->is_array()) {
    return std::nullopt;
  }
  JournalEntry entry;
  entry.directory = *directory;
  entry.order = *order;
  entry.created = *created;
  for (const auto& name : names->as_array()) {
    if (!name.is_string()) return std::nullopt;
    entry.names.emplace_back(name.as_string());
  }
  return entry;
}

}  // namespace

Journal::Journal(Storage& storage) : storage_(storage) {}

awaitable<Result<Journal::Found>> Journal::find(const std::string& id) {
  Found found;
  if (const auto running = running_.find(id); running != running_.end()) {
    found.entry = running->second;
    co_return found;
  }
  const std::string folder = folder_of(id);
  const auto bytes = co_await storage_.load(folder + "/order.json");
  if (!bytes && bytes.error().kind == ErrorKind::not_found) co_return found;
  if (!bytes && bytes.error().kind != ErrorKind::corrupt) co_return bytes.error();
  if (bytes) found.entry = parse_entry(*bytes);
  if (!found.entry) {
    base::log::warn("{}/order.json is damaged: looking for the order at the CA", folder);
    found.doubtful = true;
    co_return found;
  }
  const auto pem = co_await storage_.load(folder + "/key.pem");
  if (pem) {
    auto key = tls::PrivateKey::from_pem(*pem, folder + "/key.pem");
    if (key) found.entry->key = std::move(*key);
  }
  if (found.entry->key) running_.insert_or_assign(id, *found.entry);
  co_return found;
}

awaitable<Result<void>> Journal::write_intent(const std::string& id, JournalEntry entry) {
  ASSERT(entry.key && entry.order.empty());
  const std::string folder = folder_of(id);
  const auto key = co_await storage_.store(folder + "/key.pem", entry.key->to_pem());
  if (!key) co_return key.error();
  const auto order = co_await storage_.store(folder + "/order.json", entry_json(entry));
  if (!order) co_return order.error();
  running_.insert_or_assign(id, std::move(entry));
  co_return Result<void>();
}

awaitable<Result<void>> Journal::write_order(const std::string& id, const std::string& url) {
  auto& entry = running_.at(id);
  entry.order = url;
  const std::string text = entry_json(entry);
  co_return co_await storage_.store(folder_of(id) + "/order.json", text);
}

awaitable<void> Journal::drop(const std::string& id) {
  running_.erase(id);
  const auto removed = co_await storage_.move(folder_of(id), "");
  if (!removed && removed.error().kind != ErrorKind::not_found) {
    base::log::warn("{} could not be removed: {}", folder_of(id), removed.error().context);
  }
}

awaitable<std::string> journalled_directory(Storage& storage, std::string id) {
  const auto bytes = co_await storage.load(folder_of(id) + "/order.json");
  if (!bytes) co_return std::string();
  const auto entry = parse_entry(*bytes);
  co_return entry ? entry->directory : std::string();
}

}  // namespace gatehouse::acme
