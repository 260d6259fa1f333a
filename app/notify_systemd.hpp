// Tells systemd where the service stands (Type=notify). Does nothing when systemd did not start us.
// Control thread.
#pragma once

namespace gatehouse::app {

void notify_ready();
void notify_reloading();
void notify_stopping();

}  // namespace gatehouse::app
