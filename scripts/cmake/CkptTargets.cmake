# SPDX-License-Identifier: BSD-3-Clause
# What every target of ours shares: language level, warnings, sanitizers, the compiler cache, and the
# libraries from the distribution.

set(CMAKE_CXX_STANDARD 20)
set(CMAKE_CXX_STANDARD_REQUIRED ON)
set(CMAKE_CXX_EXTENSIONS OFF)
set(CMAKE_POSITION_INDEPENDENT_CODE ON)
set(CMAKE_CXX_VISIBILITY_PRESET hidden)
set(CMAKE_VISIBILITY_INLINES_HIDDEN ON)

find_program(CCACHE_PROGRAM ccache)
if(CCACHE_PROGRAM AND NOT CMAKE_CXX_COMPILER_LAUNCHER)
  set(CMAKE_CXX_COMPILER_LAUNCHER ${CCACHE_PROGRAM})
endif()

find_package(PkgConfig REQUIRED)
find_package(fmt REQUIRED)
find_package(nlohmann_json REQUIRED)
pkg_check_modules(libdeflate REQUIRED IMPORTED_TARGET libdeflate)
pkg_check_modules(zlib REQUIRED IMPORTED_TARGET zlib)
pkg_check_modules(re2 REQUIRED IMPORTED_TARGET re2)

# The libraries of all code. Nearly all of the time that a short command takes goes to the dynamic linker, most of it
# to the C++ library's own symbols: a standalone program has these libraries inside. libckpt.so never does.
add_library(ckpt_libraries INTERFACE)
if(CKPT_STANDALONE)
  set(is_program $<STREQUAL:$<TARGET_PROPERTY:TYPE>,EXECUTABLE>)
  list(JOIN re2_STATIC_LIBRARIES " -l" re2_static)
  target_link_options(ckpt_libraries INTERFACE $<${is_program}:-static-libstdc++> $<${is_program}:-static-libgcc>)
  target_link_libraries(ckpt_libraries INTERFACE fmt::fmt-header-only
    $<IF:${is_program},-Wl$<COMMA>-Bstatic -Wl$<COMMA>--start-group -l${re2_static} -ldeflate -lz -Wl$<COMMA>--end-group -Wl$<COMMA>-Bdynamic,PkgConfig::libdeflate$<SEMICOLON>PkgConfig::zlib$<SEMICOLON>PkgConfig::re2>)
else()
  target_link_libraries(ckpt_libraries INTERFACE fmt::fmt PkgConfig::libdeflate PkgConfig::zlib PkgConfig::re2)
endif()

add_library(ckpt_settings INTERFACE)
target_include_directories(ckpt_settings INTERFACE "${PROJECT_SOURCE_DIR}/lib")
if(CKPT_SANITIZE)
  target_compile_options(ckpt_settings INTERFACE
    -fsanitize=${CKPT_SANITIZE} -fno-sanitize-recover=all -fno-omit-frame-pointer
    $<$<CXX_COMPILER_ID:GNU>:-Wno-maybe-uninitialized>)  # GCC 12 sees ghosts in instrumented std::optional
  target_link_options(ckpt_settings INTERFACE -fsanitize=${CKPT_SANITIZE})
endif()

if(CMAKE_INTERPROCEDURAL_OPTIMIZATION)  # GCC 12 sees strings of impossible sizes once all files are one
  target_link_options(ckpt_settings INTERFACE $<$<CXX_COMPILER_ID:GNU>:-Wno-stringop-overflow>)
endif()

add_library(ckpt_warnings INTERFACE)
target_compile_options(ckpt_warnings INTERFACE
  -Wall -Wextra -Wpedantic -Wshadow -Wconversion -Wsign-conversion -Wold-style-cast
  -Wnon-virtual-dtor -Woverloaded-virtual -Wimplicit-fallthrough
  $<$<BOOL:${CKPT_DEVELOPER}>:-Werror>)
