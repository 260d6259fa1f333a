// normalise_path (rules.hpp): the path as routing sees it.
#include <string>

#include "http/characters.hpp"
#include "http/rules.hpp"

namespace gatehouse::http {

namespace {

/// Appends the character that `%XX` at `text[at]` stands for, or the escape itself in upper case.
bool append_escape(std::string_view text, size_t at, std::string& out, bool& encoded_slash) {
  if (at + 2 >= text.size()) return false;
  const int high = characters::hex_digit(text[at + 1]);
  const int low = characters::hex_digit(text[at + 2]);
  if (high < 0 || low < 0 || (high == 0 && low == 0)) return false;
  const char decoded = static_cast<char>(high * 16 + low);
  if (characters::is(characters::unreserved, decoded)) {
    out += decoded;
    return true;
  }
  encoded_slash = encoded_slash || decoded == '/' || decoded == '\\';
  constexpr char digits[] = "0123456789ABCDEF";
  out += '%';
  out += digits[high];
  out += digits[low];
  return true;
}

/// Resolves the segment that begins at `begin` and has just ended: "." and ".." disappear. Behind
/// "//" a ".." is refused: whether it takes the empty segment or the one before is each origin's
/// own.
bool end_segment(std::string& out, size_t begin, bool merged) {
  const std::string_view segment = std::string_view(out).substr(begin);
  // Some origins cut ";parameters" off before they resolve dots; nobody writes this innocently.
  if (segment.starts_with(".;") || segment.starts_with("..;")) return false;
  if (segment == ".") {
    out.resize(begin);
  } else if (segment == "..") {
    if (begin < 2 || merged) return false;
    out.resize(out.rfind('/', begin - 2) + 1);
  }
  return true;
}

}  // namespace

bool normalise_path(std::string_view target, std::string& out, bool& encoded_slash) {
  out.clear();
  encoded_slash = false;
  const std::string_view path = target.substr(0, target.find('?'));
  if (path.empty() || path.front() != '/') {
    out = path;
    return path == "*";
  }
  size_t segment = 1;   // where the segment under way begins in `out`
  bool merged = false;  // "//" came before it
  out += '/';
  for (size_t i = 1; i < path.size(); ++i) {
    if (path[i] == '/') {
      if (!end_segment(out, segment, merged)) return false;
      merged = merged || path[i - 1] == '/';  // "//" routes like "/": many origins merge them
      if (out.back() != '/') out += '/';
      segment = out.size();
    } else if (path[i] == '%') {
      if (!append_escape(path, i, out, encoded_slash)) return false;
      i += 2;
    } else {
      encoded_slash = encoded_slash || path[i] == '\\';
      out += path[i];
    }
  }
  return end_segment(out, segment, merged);
}

}  // namespace gatehouse::http
