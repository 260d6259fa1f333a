// REQUIRE(result) shows the error's own sentence.
#pragma once

#include <string>

#include <catch2/catch.hpp>

#include "base/error.hpp"

namespace Catch {

template <class T>
struct StringMaker<boost::system::result<T, gatehouse::base::Error>> {
  static std::string convert(const boost::system::result<T, gatehouse::base::Error>& result) {
    return result ? std::string("well") : result.error().context;
  }
};

}  // namespace Catch
