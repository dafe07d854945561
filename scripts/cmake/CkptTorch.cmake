# SPDX-License-Identifier: BSD-3-Clause
# Finds the headers of a LibTorch with the stable ABI that libckpt_torch.so is built with. Sets CKPT_TORCH_INCLUDE, empty if
# there is none, CKPT_TORCH_VERSION, CKPT_TORCH_LIBRARIES, the folder of its libraries, and CKPT_TORCH_INSTALLED, those that
# scripts/install-libtorch has installed. No find_package(Torch): of a CUDA build that wants the whole CUDA toolkit, for a module that
# links to nothing.

set(CKPT_WITH_TORCH "AUTO" CACHE STRING "Build the module that computes with LibTorch: AUTO (if its headers are found), ON or OFF")
set_property(CACHE CKPT_WITH_TORCH PROPERTY STRINGS AUTO ON OFF)
set(CKPT_LIBTORCH "" CACHE PATH "LibTorch, or the folder 'torch' of an installed wheel; empty: looked for")

# The same places as the program's, and what scripts/install-libtorch has installed, the newest first.
function(ckpt_find_torch)
  set(places "")
  foreach(place "${CKPT_LIBTORCH}" "$ENV{CKPT_LIBTORCH}")
    if(place)
      list(APPEND places "${place}" "${place}/torch" "${place}/..")
    endif()
  endforeach()
  foreach(environment "$ENV{VIRTUAL_ENV}" "$ENV{CONDA_PREFIX}")
    if(environment)
      file(GLOB found LIST_DIRECTORIES true "${environment}/lib/python3*/site-packages/torch")
      list(APPEND places ${found})
    endif()
  endforeach()
  set(cache "$ENV{CKPT_CACHE}")
  if(NOT cache)
    set(cache "$ENV{HOME}/.cache/ckpt")
  endif()
  file(GLOB installed LIST_DIRECTORIES true "${cache}/libtorch-*/torch")
  list(SORT installed COMPARE NATURAL ORDER DESCENDING)
  list(TRANSFORM installed APPEND "/lib" OUTPUT_VARIABLE installed_libraries)
  set(CKPT_TORCH_INSTALLED "${installed_libraries}" PARENT_SCOPE)

  foreach(place ${places} ${installed})
    if(NOT EXISTS "${place}/include/torch/csrc/stable/c/shim.h" OR NOT EXISTS "${place}/lib/libtorch_cpu.so")
      continue()  # older than 2.10, or without headers
    endif()
    file(STRINGS "${place}/include/torch/headeronly/version.h" numbers REGEX "#define TORCH_VERSION_(MAJOR|MINOR|PATCH) ")
    list(TRANSFORM numbers REPLACE "[^0-9]*([0-9]+).*" "\\1")
    list(JOIN numbers "." version)
    file(REAL_PATH "${place}" place)
    set(CKPT_TORCH_INCLUDE "${place}/include" PARENT_SCOPE)
    set(CKPT_TORCH_LIBRARIES "${place}/lib" PARENT_SCOPE)
    set(CKPT_TORCH_VERSION "${version}" PARENT_SCOPE)
    return()
  endforeach()
endfunction()

set(CKPT_TORCH_INCLUDE "")
set(CKPT_TORCH_LIBRARIES "")
set(CKPT_TORCH_VERSION "")
set(CKPT_TORCH_INSTALLED "")
if(CKPT_WITH_TORCH)
  ckpt_find_torch()
  if(NOT CKPT_TORCH_INCLUDE AND NOT CKPT_WITH_TORCH STREQUAL "AUTO")
    message(FATAL_ERROR "CKPT_WITH_TORCH: no LibTorch from 2.10 on was found; scripts/install-libtorch 2.15.0 installs one, "
                        "CKPT_LIBTORCH names another")
  endif()
endif()
