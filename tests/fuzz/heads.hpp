// What must hold for every head that was let through, shared by the targets of requests and of
// responses.
//
// Not the rules themselves: these are written anew here, from the RFCs. One thread.
#pragma once

#include <string>
#include <string_view>

#include "http/http1_parser.hpp"

namespace gatehouse::http {

/// What another party sees of the fields: those that are forwarded, without how they lay.
std::string forwarded(const Fields& fields);

/// `from` is what the head was parsed from.
void check_fields(const Fields& fields, std::string_view from);

/// Fed whole and byte by byte, a scanner says the same; then that.
HeadScanner scan_both_ways(std::string_view bytes, const HeadLimits& limits,
                           HeadScanner::Status& status);

/// The limits that every input is judged under: the usual ones, and some that short inputs reach.
inline constexpr HeadLimits limits_tried[] = {{}, {.bytes_max = 96, .fields_max = 3}};

}  // namespace gatehouse::http
