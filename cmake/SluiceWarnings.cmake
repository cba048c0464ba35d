# Own code is compiled with these; libraries are reached as SYSTEM includes and stay silent.
add_library(sluice_warnings INTERFACE)
target_compile_options(sluice_warnings INTERFACE
  $<$<COMPILE_LANGUAGE:C,CXX>:-Wall;-Wextra;-Wpedantic;-Wshadow;-Wconversion;-Wno-restrict>  # GCC 12 sees an overlap in every "literal" + std::string
  # -Wpedantic and -Wconversion would complain about what nvcc itself writes.
  "$<$<COMPILE_LANGUAGE:CUDA>:-Xcompiler=-Wall,-Wextra,-Wshadow;-Wno-deprecated-gpu-targets>")
# Of the compilers that are tested: another one warns of other things, and a user is not to pay for it.
option(SLUICE_WERROR "warnings in own code are errors, as launch/check has it" OFF)
if(SLUICE_WERROR)
  target_compile_options(sluice_warnings INTERFACE $<$<COMPILE_LANGUAGE:C,CXX>:-Werror>
                         "$<$<COMPILE_LANGUAGE:CUDA>:-Werror=all-warnings;-Xcompiler=-Werror>")
endif()

# sluice_library(NAME [UNITY] SOURCES ... PUBLIC ... PRIVATE ...): a static library of this project, includes from the
# root. UNITY: its sources include LibTorch; the release build compiles them four at a time, in half the time.
function(sluice_library name)
  cmake_parse_arguments(ARG "UNITY" "" "SOURCES;PUBLIC;PRIVATE" ${ARGN})
  add_library(${name} STATIC ${ARG_SOURCES})
  target_include_directories(${name} PUBLIC ${PROJECT_SOURCE_DIR})
  target_link_libraries(${name} PUBLIC ${ARG_PUBLIC} PRIVATE ${ARG_PRIVATE} sluice_warnings)
  if(ARG_UNITY AND CMAKE_BUILD_TYPE STREQUAL "Release")
    set_target_properties(${name} PROPERTIES UNITY_BUILD ON UNITY_BUILD_BATCH_SIZE 4)
  endif()
endfunction()
