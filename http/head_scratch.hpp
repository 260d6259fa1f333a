// The calling thread's memory for writing a head: nothing in it lives across a suspension.
#pragma once

#include "http/http1_writer.hpp"

namespace gatehouse::http {

/// Larger than any head that the limits let through, with what is added to it.
inline constexpr size_t head_scratch_bytes = 96 * 1024;

HeadBuffer head_scratch();

}  // namespace gatehouse::http
