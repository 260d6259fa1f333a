// ${NAME} and ${NAME:-default} in a string of the configuration.
//
// Reads the process's environment; nothing else. Control thread.
#pragma once

#include <string>
#include <string_view>

#include "config/values.hpp"

namespace gatehouse::config {

/// The text with every reference replaced once (what a variable holds is not looked at again).
/// "$${" stands for a literal "${". The default is taken when the variable is unset or empty, and
/// ends at the first "}". Refused: an unset variable without a default, a reference without an end.
Parsed<std::string> expand_environment(std::string_view text);

}  // namespace gatehouse::config
