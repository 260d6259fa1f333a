// Memory for OpenSSL's record buffers, from a free list of the calling thread.
//
// With SSL_MODE_RELEASE_BUFFERS OpenSSL takes and frees two buffers of about 17 KB for each
// request, which the C library serves from its slow path. Only that size is kept; everything else
// goes straight to malloc and free. Any thread.
#pragma once

namespace gatehouse::tls {

/// Must be called before OpenSSL allocates anything: first thing in the program. False: too late.
bool keep_record_memory();

}  // namespace gatehouse::tls
