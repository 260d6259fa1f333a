#include "tls/record_layer.hpp"

#include <algorithm>
#include <string>
#include <vector>

#include <catch2/catch.hpp>

namespace gatehouse::tls {

namespace {

using ContentType = RecordLayer::ContentType;
using Opened = RecordLayer::Opened;

constexpr uint16_t aes_128_gcm = 0x1301, aes_256_gcm = 0x1302, chacha20 = 0x1303;

/// Two ends: what one writes under its server's secret, the other reads as its client's.
struct Ends {
  explicit Ends(uint16_t suite = aes_128_gcm, uint64_t records_sent = 0) {
    const size_t size = suite == aes_256_gcm ? 48 : 32;
    TrafficSecrets secrets, mirrored;
    secrets.client = mirrored.server = Secret(std::vector<uint8_t>(size, 1));
    secrets.server = mirrored.client = Secret(std::vector<uint8_t>(size, 2));
    ours = RecordLayer::create(suite, secrets, records_sent);
    peer = RecordLayer::create(suite, mirrored, 0);
    REQUIRE(ours != nullptr);
    REQUIRE(peer != nullptr);
  }
  std::unique_ptr<RecordLayer> ours, peer;
};

std::string sealed(RecordLayer& layer, ContentType type, std::string_view content) {
  std::string record(content.size() + RecordLayer::overhead_bytes, '\0');
  REQUIRE(layer.seal(type, content, record.data()) == record.size());
  return record;
}

/// A record whose inner plaintext is given whole: content, type, padding.
std::string sealed_inner(RecordLayer& layer, std::string_view inner) {
  return sealed(layer, static_cast<ContentType>(inner.back()), inner.substr(0, inner.size() - 1));
}

struct Result {
  Opened opened;
  std::string content;
};

Result open(RecordLayer& layer, std::string_view record) {
  std::vector<char> out(RecordLayer::ciphertext_bytes_max);
  size_t size = 0;
  const Opened opened = layer.open(record, out.data(), size);
  return {opened, opened == Opened::data ? std::string(out.data(), size) : std::string()};
}

std::string alert_of(RecordLayer& layer, std::string_view record) {
  REQUIRE(open(layer, record).opened == Opened::failed);
  REQUIRE(layer.problem() != nullptr);
  return std::to_string(static_cast<int>(layer.alert()));
}

std::string text_of(Alert alert) {
  return std::to_string(static_cast<int>(alert));
}

constexpr std::string_view key_update("\x18\x00\x00\x01\x00", 5);
constexpr std::string_view key_update_requested("\x18\x00\x00\x01\x01", 5);

}  // namespace

TEST_CASE("records of every size and suite are opened as they were sealed") {
  const uint16_t suite = GENERATE(aes_128_gcm, aes_256_gcm, chacha20);
  Ends ends(suite);
  for (const size_t size : {1, 15, 16, 17, 1000, 16383, 16384}) {
    const std::string content(size, static_cast<char>(size));
    const std::string record = sealed(*ends.peer, ContentType::application_data, content);
    CHECK(RecordLayer::record_size(record) == record.size());
    const Result result = open(*ends.ours, record);
    CHECK(result.opened == Opened::data);
    CHECK((result.content == content));
  }
}

TEST_CASE("a content sealed where it lies makes the same record") {
  Ends one, two;
  const std::string content = "some content that is longer than a block of the cipher";
  const std::string apart = sealed(*one.ours, ContentType::application_data, content);
  std::string in_place(content.size() + RecordLayer::overhead_bytes, '\0');
  char* const place = in_place.data() + RecordLayer::header_bytes;
  std::copy(content.begin(), content.end(), place);
  REQUIRE(two.ours->seal(ContentType::application_data, {place, content.size()}, in_place.data()) ==
          in_place.size());
  CHECK(in_place == apart);
}

TEST_CASE("records that OpenSSL sealed before count") {
  Ends ends(aes_128_gcm, 2);
  Ends fresh;
  const std::string record = sealed(*ends.ours, ContentType::application_data, "x");
  CHECK(open(*fresh.peer, record).opened == Opened::failed);
  // The peer that has seen two records opens the third.
  Ends counted;
  sealed(*counted.ours, ContentType::application_data, "a");
  sealed(*counted.ours, ContentType::application_data, "b");
  CHECK(sealed(*counted.ours, ContentType::application_data, "x") == record);
}

TEST_CASE("a record changed in any byte, out of order or twice is refused") {
  const std::string content = "GET / HTTP/1.1";
  Ends reference;
  const std::string record = sealed(*reference.peer, ContentType::application_data, content);
  for (size_t i = 0; i < record.size(); ++i) {
    Ends ends;
    std::string changed = record;
    changed[i] = static_cast<char>(changed[i] ^ 0x40);
    const auto expected = i == 0 ? Alert::unexpected_message : Alert::bad_record_mac;
    // The length is the stream's to read; here it is authenticated like the rest of the header.
    CHECK(alert_of(*ends.ours, changed) == text_of(expected));
  }
  Ends ends;
  const std::string first = sealed(*ends.peer, ContentType::application_data, "1");
  const std::string second = sealed(*ends.peer, ContentType::application_data, "2");
  SECTION("out of order") {
    CHECK(alert_of(*ends.ours, second) == text_of(Alert::bad_record_mac));
  }
  SECTION("twice") {
    REQUIRE(open(*ends.ours, first).opened == Opened::data);
    CHECK(alert_of(*ends.ours, first) == text_of(Alert::bad_record_mac));
  }
}

TEST_CASE("records too short, too long, or not encrypted are refused with the right alert") {
  Ends ends;
  const auto raw = [](char type, size_t length) {
    std::string record{type, 3, 3, static_cast<char>(length >> 8), static_cast<char>(length)};
    return record + std::string(length, 'x');
  };
  for (const size_t length : {0, 1, 16}) {
    CHECK(alert_of(*ends.ours, raw(23, length)) == text_of(Alert::bad_record_mac));
  }
  CHECK(alert_of(*ends.ours, raw(23, RecordLayer::ciphertext_bytes_max + 1)) ==
        text_of(Alert::record_overflow));
  for (const char type : {20, 21, 22, 24, 0}) {
    CHECK(alert_of(*ends.ours, raw(type, 40)) == text_of(Alert::unexpected_message));
  }
}

TEST_CASE("padding is taken off, and a record of nothing else is refused") {
  Ends ends;
  const auto padded = [&](std::string inner, size_t zeros) {
    return sealed_inner(*ends.peer, inner.append(zeros, '\0'));
  };
  const size_t zeros = GENERATE(as<size_t>{}, 1, 16, 200);
  Result result = open(*ends.ours, padded("content\x17", zeros));
  CHECK(result.opened == Opened::data);
  CHECK(result.content == "content");
  result = open(*ends.ours, padded("\x17", zeros));
  CHECK(result.opened == Opened::data);
  CHECK(result.content.empty());
  CHECK(alert_of(*ends.ours, padded("", zeros)) == text_of(Alert::unexpected_message));
}

TEST_CASE("alerts end the connection as they say") {
  Ends ends;
  const auto alert = [&](std::string_view content) {
    return sealed(*ends.peer, ContentType::alert, content);
  };
  CHECK(open(*ends.ours, alert({"\x01\x5a", 2})).opened == Opened::nothing);  // user_canceled
  CHECK(open(*ends.ours, alert({"\x01\x00", 2})).opened == Opened::closed);
  // The peer has given up: it is told nothing.
  CHECK(alert_of(*ends.ours, alert({"\x02\x28", 2})) == text_of(Alert::close_notify));
  CHECK(alert_of(*ends.ours, alert({"\x02", 1})) == text_of(Alert::decode_error));
  CHECK(alert_of(*ends.ours, alert({"\x02\x00\x00", 3})) == text_of(Alert::decode_error));
}

TEST_CASE("alerts that we send are understood") {
  Ends ends;
  std::array<char, RecordLayer::small_record_bytes> record;
  size_t size = ends.ours->seal_alert(Alert::bad_record_mac, record.data());
  CHECK(open(*ends.peer, {record.data(), size}).opened == Opened::failed);
  size = ends.ours->seal_alert(Alert::close_notify, record.data());
  CHECK(open(*ends.peer, {record.data(), size}).opened == Opened::closed);
}

TEST_CASE("both directions go on under new keys after a KeyUpdate") {
  const uint16_t suite = GENERATE(aes_128_gcm, aes_256_gcm, chacha20);
  Ends ends(suite);
  std::array<char, RecordLayer::small_record_bytes> record;
  for (int round = 0; round < 3; ++round) {
    const size_t size = ends.peer->seal_key_update(record.data());
    REQUIRE(size > 0);
    CHECK(open(*ends.ours, {record.data(), size}).opened == Opened::nothing);
    CHECK_FALSE(ends.ours->key_update_due());
    const auto up = sealed(*ends.peer, ContentType::application_data, "up");
    CHECK(open(*ends.ours, up).content == "up");
    const auto down = sealed(*ends.ours, ContentType::application_data, "down");
    CHECK(open(*ends.peer, down).content == "down");
  }
}

TEST_CASE("a KeyUpdate that asks for one is answered with one") {
  Ends ends;
  const auto asked = sealed(*ends.peer, ContentType::handshake, key_update_requested);
  CHECK(open(*ends.ours, asked).opened == Opened::nothing);
  REQUIRE(ends.ours->key_update_due());
  std::array<char, RecordLayer::small_record_bytes> record;
  const size_t size = ends.ours->seal_key_update(record.data());
  CHECK_FALSE(ends.ours->key_update_due());
  CHECK(open(*ends.peer, {record.data(), size}).opened == Opened::nothing);
  CHECK_FALSE(ends.peer->key_update_due());
  const auto down = sealed(*ends.ours, ContentType::application_data, "down");
  CHECK(open(*ends.peer, down).content == "down");
}

TEST_CASE("a KeyUpdate may come in pieces, with nothing in between") {
  const size_t split = GENERATE(as<size_t>{}, 1, 2, 3, 4);
  Ends ends;
  const auto piece = [&](std::string_view part) {
    return open(*ends.ours, sealed(*ends.peer, ContentType::handshake, part)).opened;
  };
  CHECK(piece(key_update_requested.substr(0, split)) == Opened::nothing);
  SECTION("whole in the end") {
    CHECK_FALSE(ends.ours->key_update_due());
    CHECK(piece(key_update_requested.substr(split)) == Opened::nothing);
    CHECK(ends.ours->key_update_due());
  }
  SECTION("data in between") {
    const auto data = sealed(*ends.peer, ContentType::application_data, "x");
    CHECK(alert_of(*ends.ours, data) == text_of(Alert::unexpected_message));
  }
}

TEST_CASE("other messages after the handshake are refused") {
  Ends ends;
  const auto refused = [&](std::string_view message) {
    return alert_of(*ends.ours, sealed(*ends.peer, ContentType::handshake, message));
  };
  SECTION("a ticket") {
    CHECK(refused({"\x04\x00\x00\x01\x00", 5}) == text_of(Alert::unexpected_message));
  }
  SECTION("a ClientHello") {
    CHECK(refused({"\x01\x00\x00\x01\x00", 5}) == text_of(Alert::unexpected_message));
  }
  SECTION("a KeyUpdate too long") {
    CHECK(refused({"\x18\x00\x00\x02\x00\x00", 6}) == text_of(Alert::unexpected_message));
  }
  SECTION("a KeyUpdate that asks for what there is not") {
    CHECK(refused({"\x18\x00\x00\x01\x02", 5}) == text_of(Alert::illegal_parameter));
  }
  SECTION("two KeyUpdates in one record: the second lies under the old key") {
    const std::string both = std::string(key_update).append(key_update);
    CHECK(refused(both) == text_of(Alert::unexpected_message));
  }
  SECTION("nothing at all") {
    // A handshake record must not be empty (RFC 8446 section 5.1).
    CHECK(alert_of(*ends.ours, sealed_inner(*ends.peer, "\x16")) ==
          text_of(Alert::unexpected_message));
  }
}

TEST_CASE("unknown suites and missing secrets make no record layer") {
  TrafficSecrets secrets;
  CHECK(RecordLayer::create(aes_128_gcm, secrets, 0) == nullptr);
  secrets.client = secrets.server = Secret(std::vector<uint8_t>(32, 1));
  CHECK(RecordLayer::create(0x1304, secrets, 0) == nullptr);
  CHECK(RecordLayer::create(0xc02b, secrets, 0) == nullptr);
  CHECK(RecordLayer::create(aes_128_gcm, secrets, 0) != nullptr);
}

TEST_CASE("the size of a record is known once its header is whole") {
  CHECK(RecordLayer::record_size("") == 0);
  CHECK(RecordLayer::record_size({"\x17\x03\x03\x40", 4}) == 0);
  CHECK(RecordLayer::record_size({"\x17\x03\x03\x40\x11", 5}) == 5 + 0x4011);
  CHECK(RecordLayer::record_size({"\x17\x03\x03\xff\xff", 5}) == 5 + 0xffff);
}

TEST_CASE("KeyUpdates between single bytes are refused when there are too many for so little") {
  Ends ends;
  std::array<char, RecordLayer::small_record_bytes> record;
  const auto update = [&] {
    return std::string(record.data(), ends.peer->seal_key_update(record.data()));
  };
  for (uint64_t i = 0; i < RecordLayer::key_updates_max; ++i) {
    REQUIRE(open(*ends.ours, update()).opened == Opened::nothing);
    REQUIRE(open(*ends.ours, sealed(*ends.peer, ContentType::application_data, "x")).content ==
            "x");
  }
  SECTION("too many") {
    CHECK(alert_of(*ends.ours, update()) == text_of(Alert::unexpected_message));
  }
  SECTION("enough was sent meanwhile") {
    for (uint64_t i = 0; i < RecordLayer::records_a_key_update_min; ++i) {
      const auto data = sealed(*ends.peer, ContentType::application_data, "x");
      REQUIRE(open(*ends.ours, data).opened == Opened::data);
    }
    CHECK(open(*ends.ours, update()).opened == Opened::nothing);
    CHECK(alert_of(*ends.ours, update()) == text_of(Alert::unexpected_message));
  }
}

}  // namespace gatehouse::tls
