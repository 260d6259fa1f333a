#include "acme/expiry.hpp"

namespace gatehouse::acme {

WallTime next_stage_begins(WallTime not_before, WallTime not_after, ExpiryStage stage) {
  const auto lifetime = not_after - not_before;
  switch (stage) {
    case ExpiryStage::fresh:
      return not_after - lifetime / 4;
    case ExpiryStage::quarter:
      return not_after - lifetime / 10;
    case ExpiryStage::tenth:
      return not_after - lifetime / 20;
    default:
      return not_after;
  }
}

ExpiryStage expiry_stage(WallTime not_before, WallTime not_after, WallTime now) {
  if (now >= not_after) return ExpiryStage::over;
  if (not_after <= not_before) return ExpiryStage::fresh;
  auto stage = ExpiryStage::fresh;
  while (stage != ExpiryStage::twentieth &&
         now >= next_stage_begins(not_before, not_after, stage)) {
    stage = static_cast<ExpiryStage>(static_cast<int>(stage) + 1);
  }
  return stage;
}

const char* share_left(ExpiryStage stage) {
  switch (stage) {
    case ExpiryStage::quarter:
      return "25 %";
    case ExpiryStage::tenth:
      return "10 %";
    case ExpiryStage::twentieth:
      return "5 %";
    default:
      return "";
  }
}

}  // namespace gatehouse::acme
