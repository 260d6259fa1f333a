#include "app/notify_systemd.hpp"

#include <chrono>
#include <systemd/sd-daemon.h>

namespace gatehouse::app {

void notify_ready() {
  ::sd_notify(0, "READY=1");
}

void notify_reloading() {
  // Type=notify-reload wants the moment too, to tell this reload from the one before.
  const auto now = std::chrono::steady_clock::now().time_since_epoch();
  const auto microseconds = std::chrono::duration_cast<std::chrono::microseconds>(now).count();
  ::sd_notifyf(0, "RELOADING=1\nMONOTONIC_USEC=%lld", static_cast<long long>(microseconds));
}

void notify_stopping() {
  ::sd_notify(0, "STOPPING=1");
}

}  // namespace gatehouse::app
