#define CATCH_CONFIG_RUNNER
#include <catch2/catch.hpp>

#include "base/log.hpp"

int main(int argc, char** argv) {
  // What the program tells a person would bury what a failed test says.
  gatehouse::base::log::Settings quiet;
  quiet.level = gatehouse::base::log::Level::error;
  gatehouse::base::log::configure(quiet);
  return Catch::Session().run(argc, argv);
}
