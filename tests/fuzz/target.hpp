// What a fuzz target is: one function that judges one input.
//
// Not the fuzzer (libFuzzer, which tools/fuzz runs). Promises are checked with ASSERT: a broken one
// stops the program, and the input that broke it is kept. One thread.
#pragma once

#include <string_view>

#include "base/error.hpp"

namespace gatehouse {

/// Defined by each target, once. `input` lies in memory of exactly its size, so that a sanitizer
/// sees every read past its end.
void fuzz(std::string_view input);

}  // namespace gatehouse
