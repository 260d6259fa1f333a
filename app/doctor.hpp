// `gatehouse doctor HOST`: looks at the DNS, at ports 80 and 443 and at the running gatehouse, and
// says in words what is wrong with the host's certificate.
//
// Does not judge (diagnosis) and changes nothing, except that the running gatehouse answers one
// probe for a minute. Blocks; command line only.
#pragma once

#include "app/console.hpp"

namespace gatehouse::app {

/// Exit status 0: well; 1: there is trouble.
int examine(const Options& options);

}  // namespace gatehouse::app
