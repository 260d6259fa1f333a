// The ways to prove control of a name that this process has. Plain data; control thread.
#pragma once

#include "acme/solver/http01.hpp"
#include "acme/solver/tls_alpn01.hpp"

namespace gatehouse::acme {

/// Both outlive whoever is given them.
struct Solvers {
  Http01& http01;
  TlsAlpn01& tls_alpn01;
};

}  // namespace gatehouse::acme
