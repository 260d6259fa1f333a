# What every target shares: packages, flags, the precompiled header, and how a floor is declared.

find_program(CCACHE ccache)
if(CCACHE AND NOT CMAKE_CXX_COMPILER_LAUNCHER)
  # The sloppiness lets ccache serve objects built with the precompiled header; the base folder lets
  # a second checkout use what the first one built. GCC never writes the same precompiled header
  # twice, so what goes into it stands for it (CCACHE_PCH_EXTSUM, see gatehouse_precompile).
  set(CMAKE_CXX_COMPILER_LAUNCHER ${CMAKE_COMMAND} -E env
    CCACHE_SLOPPINESS=pch_defines,time_macros,include_file_mtime,include_file_ctime
    CCACHE_BASEDIR=${CMAKE_SOURCE_DIR} CCACHE_NOHASHDIR=1 CCACHE_PCH_EXTSUM=1 ${CCACHE})
endif()

find_package(Threads REQUIRED)
find_package(OpenSSL 3.0 REQUIRED)
find_package(Boost 1.81 REQUIRED COMPONENTS json url)
find_package(fmt REQUIRED)
find_package(spdlog REQUIRED)
find_package(PkgConfig REQUIRED)
pkg_check_modules(curl REQUIRED IMPORTED_TARGET libcurl)
pkg_check_modules(psl REQUIRED IMPORTED_TARGET libpsl)
pkg_check_modules(ldns REQUIRED IMPORTED_TARGET ldns)
pkg_check_modules(nghttp2 REQUIRED IMPORTED_TARGET libnghttp2)
pkg_check_modules(tomlplusplus REQUIRED IMPORTED_TARGET tomlplusplus)
pkg_check_modules(systemd REQUIRED IMPORTED_TARGET libsystemd)

add_library(gatehouse_options INTERFACE)
target_include_directories(gatehouse_options INTERFACE ${CMAKE_SOURCE_DIR})
target_compile_definitions(gatehouse_options INTERFACE
  BOOST_ASIO_SEPARATE_COMPILATION BOOST_ASIO_NO_DEPRECATED BOOST_ASIO_HAS_CO_AWAIT
  BOOST_BEAST_SEPARATE_COMPILATION BOOST_BEAST_USE_STD_STRING_VIEW
  GATEHOUSE_VERSION="${PROJECT_VERSION}")
target_compile_options(gatehouse_options INTERFACE -Wall -Wextra -Wshadow -Wnon-virtual-dtor
  -Woverloaded-virtual -fno-plt -fstack-protector-strong)
target_link_options(gatehouse_options INTERFACE -Wl,-z,relro,-z,now)
if(GATEHOUSE_WERROR)
  target_compile_options(gatehouse_options INTERFACE -Werror)
endif()
if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
  # GCC 12 reports false positives in coroutine frames and inlined std::string code.
  target_compile_options(gatehouse_options INTERFACE -fpch-preprocess -Wno-maybe-uninitialized
    -Wno-restrict -Wno-stringop-overflow -Wno-array-bounds -Wno-mismatched-new-delete
    -Wno-dangling-pointer)
endif()
if(CMAKE_CXX_COMPILER_ID STREQUAL "Clang")
  # Another checkout's precompiled header is as good, whenever it was made.
  target_compile_options(gatehouse_options INTERFACE "SHELL:-Xclang -fno-pch-timestamp")
  # CMake adds the header itself, which changes nothing, by a path that ccache takes as it stands.
  set(CMAKE_CXX_COMPILE_OPTIONS_USE_PCH -include-pch <PCH_FILE>)
endif()
if(NOT CMAKE_BUILD_TYPE STREQUAL "Release")
  # Symmetric transfer between coroutines needs tail calls in every build.
  target_compile_options(gatehouse_options INTERFACE -O1 -foptimize-sibling-calls)
endif()
if(GATEHOUSE_SANITIZE)
  target_compile_options(gatehouse_options INTERFACE -fsanitize=${GATEHOUSE_SANITIZE}
    -fno-omit-frame-pointer -fno-sanitize-recover=all)
  target_link_options(gatehouse_options INTERFACE -fsanitize=${GATEHOUSE_SANITIZE})
  if(GATEHOUSE_SANITIZE STREQUAL "thread")
    # It does not see what a fence orders: Asio's are left out, and the rest is not warned about.
    target_compile_definitions(gatehouse_options INTERFACE BOOST_ASIO_DISABLE_FENCED_BLOCK)
    if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
      target_compile_options(gatehouse_options INTERFACE -Wno-tsan)
    endif()
  endif()
endif()
if(GATEHOUSE_FUZZ)
  # Every library tells libFuzzer where it goes; only the targets of tests/fuzz link its main().
  # What the function sanitizer puts before each function, clang 14 cannot put before coroutines.
  target_compile_options(gatehouse_options INTERFACE -fsanitize=fuzzer-no-link
    -fno-sanitize=function)
endif()
target_link_libraries(gatehouse_options INTERFACE Threads::Threads Boost::boost)

# One precompiled header, built once with gatehouse_base and reused by every other target.
function(gatehouse_precompile target)
  if(target STREQUAL "gatehouse_base")
    target_precompile_headers(${target} PRIVATE ${CMAKE_SOURCE_DIR}/cmake/precompiled.hpp)
    file(SHA256 ${CMAKE_SOURCE_DIR}/cmake/precompiled.hpp content)
    get_target_property(options gatehouse_options INTERFACE_COMPILE_OPTIONS)
    get_target_property(definitions gatehouse_options INTERFACE_COMPILE_DEFINITIONS)
    string(TOUPPER "${CMAKE_BUILD_TYPE}" type)
    list(APPEND content ${CMAKE_CXX_COMPILER_ID} ${CMAKE_CXX_COMPILER_VERSION} ${CMAKE_CXX_FLAGS}
      ${CMAKE_CXX_FLAGS_${type}} ${options} ${definitions} ${Boost_VERSION} ${fmt_VERSION})
    string(SHA256 sum "${content}")
    foreach(kind gch pch)  # GCC's and clang's
      file(WRITE ${CMAKE_BINARY_DIR}/CMakeFiles/${target}.dir/cmake_pch.hxx.${kind}.sum ${sum})
    endforeach()
  else()
    target_precompile_headers(${target} REUSE_FROM gatehouse_base)
  endif()
endfunction()

# gatehouse_library(name FLOORS lower… LIBRARIES external…): the folder `name` as one library.
function(gatehouse_library name)
  cmake_parse_arguments(arg "" "" "FLOORS;LIBRARIES" ${ARGN})
  file(GLOB_RECURSE sources CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/${name}/*.cpp)
  list(REMOVE_ITEM sources ${CMAKE_SOURCE_DIR}/app/main.cpp)
  add_library(gatehouse_${name} STATIC ${sources})
  target_link_libraries(gatehouse_${name} PUBLIC gatehouse_options ${arg_LIBRARIES})
  foreach(floor IN LISTS arg_FLOORS)
    target_link_libraries(gatehouse_${name} PUBLIC gatehouse_${floor})
  endforeach()
  gatehouse_precompile(gatehouse_${name})
endfunction()
