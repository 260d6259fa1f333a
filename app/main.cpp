// The program: everything else is in commands (the command line) and application (the proxy).
#include "app/commands.hpp"
#include "tls/record_memory.hpp"

int main(int argc, char** argv) {
  gatehouse::tls::keep_record_memory();
  return gatehouse::app::run_command_line(argc, argv);
}
