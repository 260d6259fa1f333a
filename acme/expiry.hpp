// How near its end a certificate is, in the steps that a person is told of.
//
// Not when it is renewed (schedule). Pure, any thread.
#pragma once

#include <cstdint>

#include "acme/times.hpp"

namespace gatehouse::acme {

/// Of a certificate's lifetime, what is left.
enum class ExpiryStage : uint8_t { fresh, quarter, tenth, twentieth, over };

/// `over` from not_after on; a lifetime that is not one counts as fresh until then.
ExpiryStage expiry_stage(WallTime not_before, WallTime not_after, WallTime now);

/// When the stage after `stage` begins; meaningless after `over`.
WallTime next_stage_begins(WallTime not_before, WallTime not_after, ExpiryStage stage);

/// "25 %" and so on, for a sentence; empty for fresh and over.
const char* share_left(ExpiryStage stage);

}  // namespace gatehouse::acme
