// The program: everything else is in commands (the command line) and application (the proxy).
#include "app/commands.hpp"

int main(int argc, char** argv) {
  return gatehouse::app::run_command_line(argc, argv);
}
