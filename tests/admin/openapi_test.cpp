#include <algorithm>
#include <fstream>
#include <set>
#include <sstream>

#include <boost/json.hpp>
#include <catch2/catch.hpp>

#include "admin/api.hpp"

using namespace gatehouse::admin;
namespace json = boost::json;

namespace {

json::value document() {
  std::ifstream file(GATEHOUSE_SOURCE_DIR "/docs/openapi.json");
  REQUIRE(file.good());
  std::ostringstream text;
  text << file.rdbuf();
  return json::parse(text.str());
}

std::string upper(std::string_view word) {
  std::string out(word);
  for (char& c : out) c = static_cast<char>(std::toupper(static_cast<unsigned char>(c)));
  return out;
}

std::set<std::string> described() {
  std::set<std::string> out;
  const json::value all = document();
  for (const auto& path : all.at("paths").as_object())
    for (const auto& operation : path.value().as_object())
      if (operation.key() != "parameters")
        out.insert(upper(operation.key()) + " " + std::string(path.key()));
  return out;
}

std::set<std::string> served() {
  std::set<std::string> out;
  for (const auto& [method, path] : Api::endpoints())
    out.insert(std::string(method) + " " + std::string(path));
  return out;
}

/// Every "$ref" below, each as a path such as "#/components/schemas/Error".
void references(const json::value& value, std::vector<std::string>& out) {
  if (value.is_array())
    for (const auto& item : value.get_array()) references(item, out);
  if (!value.is_object()) return;
  for (const auto& member : value.get_object()) {
    if (member.key() == "$ref") out.emplace_back(member.value().as_string());
    references(member.value(), out);
  }
}

}  // namespace

TEST_CASE("openapi.json describes every endpoint, and no other") {
  CHECK(described() == served());
}

TEST_CASE("openapi.json is of version 3.0 and every reference in it leads somewhere") {
  const json::value all = document();
  CHECK(std::string_view(all.at("openapi").as_string()).substr(0, 4) == "3.0.");
  std::vector<std::string> found;
  references(all, found);
  CHECK(!found.empty());
  for (const std::string& reference : found) {
    INFO(reference);
    REQUIRE(reference.starts_with("#/"));
    boost::system::error_code code;
    CHECK(all.find_pointer(reference.substr(1), code) != nullptr);
  }
}

TEST_CASE("openapi.json names the parameters of a path, and what may go wrong") {
  const json::value all = document();
  for (const auto& path : all.at("paths").as_object()) {
    INFO(std::string(path.key()));
    const std::string_view text = path.key();
    const auto& item = path.value().as_object();
    CHECK((text.find('{') != std::string_view::npos) == item.contains("parameters"));
    for (const auto& operation : item) {
      if (operation.key() == "parameters") continue;
      const auto& answers = operation.value().at("responses").as_object();
      CHECK(std::any_of(answers.begin(), answers.end(),
                        [](const auto& answer) { return answer.key()[0] == '2'; }));
      if (text.find('{') != std::string_view::npos) CHECK(answers.contains("400"));
    }
  }
}

namespace {

using Names = std::set<std::string>;

Names members(const json::object& object) {
  Names out;
  for (const auto& member : object) out.emplace(member.key());
  return out;
}

/// What a schema demands; it describes nothing else.
Names demanded(const json::value& all, const std::string& schema) {
  const json::value& described = all.at("components").at("schemas").at(schema);
  Names required;
  for (const auto& name : described.at("required").as_array()) required.emplace(name.as_string());
  INFO(schema);
  CHECK(required == members(described.at("properties").as_object()));
  return required;
}

}  // namespace

TEST_CASE("openapi.json describes each object field by field") {
  const json::value all = document();
  const auto check = [&](const std::string& schema, const json::value& written) {
    INFO(schema);
    CHECK(members(written.as_object()) == demanded(all, schema));
  };
  check("Status", json::parse(status_json({})));
  gatehouse::acme::CertificateDetails details;
  details.status.name = "a.example";
  details.window.emplace();
  details.chain.emplace_back();
  details.budgets.emplace_back();
  const json::value shown = json::parse(details_json(details));
  check("Details", shown);
  check("ChainLink", shown.at("chain").at(0));
  check("NameBudget", shown.at("budgets").at(0));
  check("RenewalWindow", shown.at("renewal_window"));
  check("Certificate", json::parse(certificates_json({details.status})).at("certificates").at(0));
  gatehouse::acme::BudgetStatus authority;
  authority.buckets.push_back({"orders", 300, 299, {}});
  const json::value row = json::parse(authorities_json({authority})).at("authorities").at(0);
  check("Authority", row);
  check("Limit", row.at("limits").at(0));
  check("Error", json::parse(error_response(404, "no").body));
}
