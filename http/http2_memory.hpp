// The memory of HTTP/2 sessions: small pieces from the thread's free lists, and the one large piece
// that each session has, for a frame, from pages of its own.
//
// Not for our own objects. Memory is freed on the thread that took it.
#pragma once

#include <cstddef>

namespace gatehouse::http {

/// Like malloc(3), realloc(3) and free(3).
void* http2_allocate(size_t size);
void* http2_reallocate(void* memory, size_t size);
void http2_free(void* memory);

/// Whether a piece of that size lies on pages of its own.
bool http2_has_pages(size_t size);
/// Gives the pages of such a piece back until they are next written to. What it held is lost.
void http2_forget(void* memory);

}  // namespace gatehouse::http
