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

# sluice_unity(TARGET): the release build compiles its sources four at a time, in half the time: headers of LibTorch, fmt and
# GoogleTest cost more than what includes them. Names in unnamed namespaces must not clash.
function(sluice_unity target)
  if(CMAKE_BUILD_TYPE STREQUAL "Release")
    set_target_properties(${target} PROPERTIES UNITY_BUILD ON UNITY_BUILD_BATCH_SIZE 4 UNITY_BUILD_RELOCATABLE ON)
    # GCC takes a source that a unity file includes for a header.
    target_compile_options(${target} PRIVATE $<$<COMPILE_LANGUAGE:CXX>:-Wno-subobject-linkage>)
  endif()
endfunction()

# sluice_library(NAME SOURCES ... PUBLIC ... PRIVATE ...): a static library of this project, includes from the root.
function(sluice_library name)
  cmake_parse_arguments(ARG "" "" "SOURCES;PUBLIC;PRIVATE" ${ARGN})
  add_library(${name} STATIC ${ARG_SOURCES})
  target_include_directories(${name} PUBLIC ${PROJECT_SOURCE_DIR})
  target_link_libraries(${name} PUBLIC ${ARG_PUBLIC} PRIVATE ${ARG_PRIVATE} sluice_warnings)
  sluice_unity(${name})
endfunction()

# sluice_cold(TARGET): code that runs once a command, or in tests, is not worth the compiler's best: two thirds of the time.
function(sluice_cold target)
  target_compile_options(${target} PRIVATE $<$<AND:$<CONFIG:Release>,$<COMPILE_LANGUAGE:CXX>>:-O1>)
endfunction()
