// Where the next control character stands: line ends, and what no line may hold. Pure, inline: it
// passes over every byte of every head, sixteen at a time where the machine can.
#pragma once

#if defined(__SSE2__)
#include <emmintrin.h>
#endif

#include <bit>
#include <cstddef>
#include <cstdint>
#include <string_view>

namespace gatehouse::http {

inline bool is_control(char c) {  // HTAB is none: it may stand in a value
  const auto byte = static_cast<uint8_t>(c);
  return (byte < 0x20 && byte != '\t') || byte == 0x7f;
}

/// The first control character at or after `at`, or the end.
inline size_t find_control(std::string_view bytes, size_t at) {
#if defined(__SSE2__)
  constexpr size_t block = sizeof(__m128i);
  for (; bytes.size() - at >= block; at += block) {
    const __m128i data = _mm_loadu_si128(reinterpret_cast<const __m128i*>(bytes.data() + at));
    const __m128i low = _mm_cmpeq_epi8(_mm_min_epu8(data, _mm_set1_epi8(0x1f)), data);
    const __m128i tab = _mm_cmpeq_epi8(data, _mm_set1_epi8('\t'));
    const __m128i del = _mm_cmpeq_epi8(data, _mm_set1_epi8(0x7f));
    const __m128i control = _mm_or_si128(_mm_andnot_si128(tab, low), del);
    const auto found = static_cast<unsigned>(_mm_movemask_epi8(control));
    if (found != 0) return at + static_cast<size_t>(std::countr_zero(found));
  }
#endif
  while (at < bytes.size() && !is_control(bytes[at])) ++at;
  return at;
}

}  // namespace gatehouse::http
