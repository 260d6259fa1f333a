#include "http/head_scratch.hpp"

#include <memory>

namespace gatehouse::http {

HeadBuffer head_scratch() {
  thread_local const std::unique_ptr<char[]> memory(new char[head_scratch_bytes]);
  return HeadBuffer{memory.get(), 0, head_scratch_bytes, false};
}

}  // namespace gatehouse::http
