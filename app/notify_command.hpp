// `gatehouse notify test`: one message by every configured way, and what became of each.
//
// Sends by itself, as the user who calls it; no running gatehouse takes part. Command line only.
#pragma once

#include <string>
#include <vector>

#include "config/snapshot.hpp"

namespace gatehouse::app {

struct NotifyResult {
  std::string way;     // "email", "webhook", "exec"
  std::string target;  // "smtp://mail.example.com:587"
  std::string error;   // empty: delivered
};

/// Tries every way at once and waits for all; empty: none is configured.
std::vector<NotifyResult> send_test_notifications(const config::Notify& settings);

/// A line for each way.
std::string notify_results_text(const std::vector<NotifyResult>& results);

/// One JSON object on a line.
std::string notify_results_json(const std::vector<NotifyResult>& results);

}  // namespace gatehouse::app
