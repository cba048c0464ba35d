# Own code is compiled with these; libraries are reached as SYSTEM includes and stay silent.
add_library(sluice_warnings INTERFACE)
target_compile_options(sluice_warnings INTERFACE -Wall -Wextra -Wpedantic -Wshadow -Wconversion
                       -Wno-restrict)  # GCC 12 sees an overlap in every "literal" + std::string
option(SLUICE_WERROR "warnings in own code are errors" ON)
if(SLUICE_WERROR)
  target_compile_options(sluice_warnings INTERFACE -Werror)
endif()

# sluice_library(NAME SOURCES ... PUBLIC ... PRIVATE ...): a static library of this project, includes from the root.
function(sluice_library name)
  cmake_parse_arguments(ARG "" "" "SOURCES;PUBLIC;PRIVATE" ${ARGN})
  add_library(${name} STATIC ${ARG_SOURCES})
  target_include_directories(${name} PUBLIC ${PROJECT_SOURCE_DIR})
  target_link_libraries(${name} PUBLIC ${ARG_PUBLIC} PRIVATE ${ARG_PRIVATE} sluice_warnings)
endfunction()
