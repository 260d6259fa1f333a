#include "tls/certificate_table.hpp"

#include <algorithm>
#include <array>
#include <functional>
#include <utility>
#include <vector>

namespace gatehouse::tls {

namespace {

constexpr size_t fan_out = 64;  // two levels of it: 4096 leaves, 25 names each at 100,000

/// An immutable map from names to certificates: a change copies one leaf and the way to it.
class NameIndex {
 public:
  const CertificatePtr* find(std::string_view name) const;
  void set(std::string_view name, CertificatePtr certificate);
  void erase(std::string_view name);
  size_t size() const { return size_; }

 private:
  struct Entry {
    size_t hash;
    std::string name;
    CertificatePtr certificate;
  };
  using Leaf = std::vector<Entry>;
  using Branch = std::array<std::shared_ptr<const Leaf>, fan_out>;
  using Root = std::array<std::shared_ptr<const Branch>, fan_out>;

  static size_t hash_of(std::string_view name) { return std::hash<std::string_view>{}(name); }
  static size_t branch_of(size_t hash) { return hash % fan_out; }
  static size_t leaf_of(size_t hash) { return hash / fan_out % fan_out; }
  static Leaf::const_iterator locate(const Leaf& leaf, size_t hash, std::string_view name);

  const Leaf* leaf_at(size_t hash) const;
  void replace_leaf(size_t hash, Leaf leaf);

  std::shared_ptr<const Root> root_;
  size_t size_ = 0;
};

/// What follows the first label, empty for a single label.
std::string_view parent_of(std::string_view name) {
  const size_t dot = name.find('.');
  return dot == std::string_view::npos ? std::string_view() : name.substr(dot + 1);
}

std::string lower_case(std::string_view name) {
  std::string text(name);
  for (char& c : text) {
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
  }
  return text;
}

}  // namespace

struct CertificateTable::Parts {
  NameIndex exact;
  NameIndex wildcard;  // by what follows "*."
  NameIndex fallback;  // by zone
  CertificatePtr default_certificate;

  /// Where `name` is kept, which loses its "*.".
  NameIndex& index_for(std::string& name) {
    if (!name.starts_with("*.")) return exact;
    name.erase(0, 2);
    return wildcard;
  }
};

CertificateTablePtr CertificateTable::empty() {
  static const CertificateTablePtr table(new CertificateTable(std::make_unique<Parts>()));
  return table;
}

CertificateTablePtr CertificateTable::with(std::string_view name,
                                           CertificatePtr certificate) const {
  auto parts = std::make_unique<Parts>(*parts_);
  std::string key = lower_case(name);
  NameIndex& index = parts->index_for(key);
  index.set(key, std::move(certificate));
  return CertificateTablePtr(new CertificateTable(std::move(parts)));
}

CertificateTablePtr CertificateTable::without(std::string_view name) const {
  auto parts = std::make_unique<Parts>(*parts_);
  std::string key = lower_case(name);
  NameIndex& index = parts->index_for(key);
  index.erase(key);
  return CertificateTablePtr(new CertificateTable(std::move(parts)));
}

CertificateTablePtr CertificateTable::with_fallback(std::string_view zone,
                                                    CertificatePtr certificate) const {
  auto parts = std::make_unique<Parts>(*parts_);
  const std::string key = lower_case(zone);
  if (certificate) {
    parts->fallback.set(key, std::move(certificate));
  } else {
    parts->fallback.erase(key);
  }
  return CertificateTablePtr(new CertificateTable(std::move(parts)));
}

CertificateTablePtr CertificateTable::with_default(CertificatePtr certificate) const {
  auto parts = std::make_unique<Parts>(*parts_);
  parts->default_certificate = std::move(certificate);
  return CertificateTablePtr(new CertificateTable(std::move(parts)));
}

CertificateTable::Found CertificateTable::find(std::string_view name) const {
  if (const auto* exact = parts_->exact.find(name)) return {Match::exact, exact};
  const std::string_view parent = parent_of(name);
  if (!parent.empty()) {
    if (const auto* wildcard = parts_->wildcard.find(parent)) return {Match::wildcard, wildcard};
  }
  if (const auto* own = parts_->fallback.find(name)) return {Match::fallback, own};
  if (!parent.empty()) {
    if (const auto* above = parts_->fallback.find(parent)) return {Match::fallback, above};
  }
  return {};
}

const CertificatePtr& CertificateTable::default_certificate() const {
  return parts_->default_certificate;
}

size_t CertificateTable::size() const {
  return parts_->exact.size() + parts_->wildcard.size();
}

CertificateTable::CertificateTable(std::unique_ptr<Parts> parts) : parts_(std::move(parts)) {}
CertificateTable::~CertificateTable() = default;

namespace {

const CertificatePtr* NameIndex::find(std::string_view name) const {
  if (!root_) return nullptr;
  const size_t hash = hash_of(name);
  const Leaf* leaf = leaf_at(hash);
  if (!leaf) return nullptr;
  const auto at = locate(*leaf, hash, name);
  return at == leaf->end() ? nullptr : &at->certificate;
}

void NameIndex::set(std::string_view name, CertificatePtr certificate) {
  const size_t hash = hash_of(name);
  const Leaf* old = leaf_at(hash);
  Leaf leaf;
  if (old) {
    leaf.reserve(old->size() + 1);
    leaf = *old;
  }
  const auto at = locate(leaf, hash, name);
  if (at != leaf.end()) {
    leaf[static_cast<size_t>(at - leaf.begin())].certificate = std::move(certificate);
  } else {
    leaf.push_back({hash, std::string(name), std::move(certificate)});
    ++size_;
  }
  replace_leaf(hash, std::move(leaf));
}

void NameIndex::erase(std::string_view name) {
  const size_t hash = hash_of(name);
  const Leaf* old = leaf_at(hash);
  if (!old || locate(*old, hash, name) == old->end()) return;
  Leaf leaf = *old;
  leaf.erase(locate(leaf, hash, name));
  --size_;
  replace_leaf(hash, std::move(leaf));
}

NameIndex::Leaf::const_iterator NameIndex::locate(const Leaf& leaf, size_t hash,
                                                  std::string_view name) {
  return std::find_if(leaf.begin(), leaf.end(),
                      [&](const Entry& entry) { return entry.hash == hash && entry.name == name; });
}

const NameIndex::Leaf* NameIndex::leaf_at(size_t hash) const {
  if (!root_) return nullptr;
  const Branch* branch = (*root_)[branch_of(hash)].get();
  return branch ? (*branch)[leaf_of(hash)].get() : nullptr;
}

void NameIndex::replace_leaf(size_t hash, Leaf leaf) {
  auto root = root_ ? std::make_shared<Root>(*root_) : std::make_shared<Root>();
  auto& slot = (*root)[branch_of(hash)];
  auto branch = slot ? std::make_shared<Branch>(*slot) : std::make_shared<Branch>();
  (*branch)[leaf_of(hash)] = leaf.empty() ? nullptr : std::make_shared<const Leaf>(std::move(leaf));
  slot = std::move(branch);
  root_ = std::move(root);
}

}  // namespace

}  // namespace gatehouse::tls
