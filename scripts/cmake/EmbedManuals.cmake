# SPDX-License-Identifier: BSD-3-Clause
# Run with -P: turns the Markdown files MANUALS (paths joined by ',') into functions of OUTPUT.
set(code "// Made by the build from commands/*.md.\n#include \"manuals.h\"\n\nnamespace ckpt::cli {\n\n")
string(REPLACE "," ";" manuals "${MANUALS}")
foreach(manual ${manuals})
  get_filename_component(name "${manual}" NAME_WE)
  file(READ "${manual}" text)
  string(APPEND code "std::string_view manual_${name}() {\n  return R\"MANUAL(${text})MANUAL\";\n}\n\n")
endforeach()
string(APPEND code "}  // namespace ckpt::cli\n")
file(WRITE "${OUTPUT}" "${code}")
