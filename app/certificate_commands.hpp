// `gatehouse certs …`: asked of the running gatehouse, or read from its storage.
//
// Each returns the exit status, after its answer or one line on standard error. Never changes the
// storage itself. Blocks; command line only.
#pragma once

#include "app/console.hpp"

namespace gatehouse::app {

int list_certificates(const Options& options);
int show_certificate(const Options& options);
/// Waits for the end of the order.
int renew_certificate(const Options& options);
int revoke_certificate(const Options& options);
/// cert.pem, chain.pem, fullchain.pem and privkey.pem, from storage.
int export_certificate(const Options& options);
int print_root(const Options& options);
int roll_over_accounts(const Options& options);

}  // namespace gatehouse::app
