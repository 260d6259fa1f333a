#include "acme/expiry.hpp"

#include <catch2/catch.hpp>

namespace gatehouse::acme {

using namespace std::chrono_literals;

TEST_CASE("A certificate's last quarter, tenth and twentieth are stages of their own") {
  const WallTime start{std::chrono::seconds(1'700'000'000)};
  for (const auto lifetime :
       {std::chrono::seconds(90 * 24h), std::chrono::seconds(160h), std::chrono::seconds(1000s)}) {
    const auto end = start + lifetime;
    const auto stage = [&](WallTime now) { return expiry_stage(start, end, now); };
    CHECK(stage(start) == ExpiryStage::fresh);
    CHECK(stage(start - 1h) == ExpiryStage::fresh);
    CHECK(stage(end - lifetime / 4 - 1s) == ExpiryStage::fresh);
    CHECK(stage(end - lifetime / 4) == ExpiryStage::quarter);
    CHECK(stage(end - lifetime / 10 - 1s) == ExpiryStage::quarter);
    CHECK(stage(end - lifetime / 10) == ExpiryStage::tenth);
    CHECK(stage(end - lifetime / 20) == ExpiryStage::twentieth);
    CHECK(stage(end - 1s) == ExpiryStage::twentieth);
    CHECK(stage(end) == ExpiryStage::over);
    CHECK(stage(end + 24h) == ExpiryStage::over);
  }
}

TEST_CASE("Each stage ends where the next begins") {
  const WallTime start{std::chrono::seconds(1'700'000'000)};
  const auto end = start + 45 * 24h;
  auto stage = ExpiryStage::fresh;
  for (const auto next :
       {ExpiryStage::quarter, ExpiryStage::tenth, ExpiryStage::twentieth, ExpiryStage::over}) {
    const auto begins = next_stage_begins(start, end, stage);
    CHECK(expiry_stage(start, end, begins) == next);
    CHECK(expiry_stage(start, end, begins - 1ns) == stage);
    stage = next;
  }
}

TEST_CASE("A lifetime that is none has no stages before its end") {
  const WallTime end{std::chrono::seconds(1'700'000'000)};
  CHECK(expiry_stage(end, end, end - 1s) == ExpiryStage::fresh);
  CHECK(expiry_stage(end + 1h, end, end - 1s) == ExpiryStage::fresh);
  CHECK(expiry_stage(end + 1h, end, end) == ExpiryStage::over);
}

}  // namespace gatehouse::acme
