// When a CA wants one certificate renewed (RFC 9773): its document, as plain data.
//
// Does not ask for it (client) or decide when to renew (schedule). Input comes from the network:
// every length is limited. Pure, any thread.
#pragma once

#include <chrono>
#include <optional>
#include <string>
#include <string_view>

#include "acme/times.hpp"
#include "base/error.hpp"

namespace gatehouse::acme {

/// Between two looks: Retry-After within these limits, or the usual time without one (section
/// 4.3.2).
inline constexpr std::chrono::minutes renewal_look_pause_min{1};
inline constexpr std::chrono::hours renewal_look_pause_max{24};
inline constexpr std::chrono::hours renewal_look_pause_usual{6};

struct RenewalInfo {
  WallTime start, end;                                   // the window to renew in; start < end
  std::string explanation;                               // URL for a person, may be empty
  std::optional<std::chrono::milliseconds> retry_after;  // Retry-After as it came, unclamped
};

/// The body of renewalInfo, without Retry-After. A window that ends before it begins, or that is
/// longer than any certificate lives, is `protocol`, as is everything else that makes no sense.
base::Result<RenewalInfo> parse_renewal_info(std::string_view json);

/// Whether the text has the form of a certificate's id (section 4.1): it goes into a URL.
bool is_renewal_id(std::string_view text);

}  // namespace gatehouse::acme
