// libFuzzer's entry: the same for every target.
#include "tests/fuzz/target.hpp"

#include <cstddef>
#include <cstdint>

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  // Never null: what comes from a socket or a file is not either.
  gatehouse::fuzz(size == 0 ? std::string_view("")
                            : std::string_view(reinterpret_cast<const char*>(data), size));
  return 0;
}
