# Tests as data; each has a timeout, and labels for launch/check: "slow" is left out by --fast, "long" runs only with --long.
#   add_unit_test(NAME SOURCES a.cpp ... LIBRARIES dataio ... [TIMEOUT s] [LABELS slow])    one GoogleTest program
#   add_mpi_test(NAME RANKS 1 2 3 SOURCES ... LIBRARIES ... [TIMEOUT s] [LABELS slow])      one ctest for each rank count
#   add_gpu_test(NAME SOURCES ... LIBRARIES ... [TIMEOUT s] [LABELS slow])                  skips visibly without a GPU
#   add_gpu_mpi_test(NAME RANKS 2 4 SOURCES ... LIBRARIES ... [TIMEOUT s] [LABELS slow])    the same under mpirun; ranks share
#                                                                                           a GPU where there are too few
#   add_script_test(NAME COMMAND words ... [TIMEOUT s] [LABELS slow])                       a script; exit code 77 skips
# One compute thread for each process: tests run side by side, and are the same on any number of cores.
add_library(test_tools INTERFACE)
target_include_directories(test_tools SYSTEM INTERFACE ${RAPIDCHECK_INCLUDE})
target_link_libraries(test_tools INTERFACE GTest::gtest GTest::gmock ${RAPIDCHECK_LIBRARY})

# The Python of tests: LibTorch's own environment, which has numpy, safetensors and h5py beside it.
find_program(SLUICE_PYTHON python3 HINTS ${SLUICE_TORCH_DIR}/bin REQUIRED)

set(SLUICE_TEST_ENVIRONMENT
    OMP_NUM_THREADS=1 OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
    MPIRUN=${MPIEXEC_EXECUTABLE})

function(_sluice_test_program name sources libraries)
  add_executable(${name} ${sources})
  target_link_libraries(${name} PRIVATE test_tools ${libraries} sluice_warnings)
  sluice_unity(${name})
  # A main's names clash with what it serves.
  set_source_files_properties(${PROJECT_SOURCE_DIR}/tests/support/mpi_main.cpp PROPERTIES SKIP_UNITY_BUILD_INCLUSION ON)
  sluice_cold(${name})
endfunction()

# _sluice_test_properties(NAME DEFAULT_TIMEOUT TIMEOUT LABELS...)
function(_sluice_test_properties name default_timeout timeout)
  if(NOT timeout)
    set(timeout ${default_timeout})
  endif()
  set_tests_properties(${name} PROPERTIES TIMEOUT ${timeout} LABELS "${ARGN}" ENVIRONMENT "${SLUICE_TEST_ENVIRONMENT}")
endfunction()

function(add_unit_test name)
  cmake_parse_arguments(ARG "" "TIMEOUT" "SOURCES;LIBRARIES;LABELS" ${ARGN})
  _sluice_test_program(${name} "${ARG_SOURCES}" "${ARG_LIBRARIES};GTest::gtest_main")
  add_test(NAME ${name} COMMAND ${name})
  _sluice_test_properties(${name} 120 "${ARG_TIMEOUT}" unit ${ARG_LABELS})
endfunction()

function(add_mpi_test name)
  cmake_parse_arguments(ARG "" "TIMEOUT" "RANKS;SOURCES;LIBRARIES;LABELS" ${ARGN})
  _sluice_test_program(${name} "${ARG_SOURCES};${PROJECT_SOURCE_DIR}/tests/support/mpi_main.cpp"
                       "${ARG_LIBRARIES};MPI::MPI_C")
  foreach(ranks ${ARG_RANKS})
    add_test(NAME ${name}_${ranks} COMMAND ${SLUICE_MPIEXEC} -n ${ranks} $<TARGET_FILE:${name}>)
    _sluice_test_properties(${name}_${ranks} 120 "${ARG_TIMEOUT}" mpi ${ARG_LABELS})
    set_tests_properties(${name}_${ranks} PROPERTIES PROCESSORS 2)
  endforeach()
endfunction()

function(add_gpu_test name)
  cmake_parse_arguments(ARG "" "TIMEOUT" "SOURCES;LIBRARIES;LABELS" ${ARGN})
  _sluice_test_program(${name} "${ARG_SOURCES}" "${ARG_LIBRARIES};GTest::gtest_main")
  add_test(NAME ${name} COMMAND ${name})
  _sluice_test_properties(${name} 300 "${ARG_TIMEOUT}" gpu ${ARG_LABELS})
  set_tests_properties(${name} PROPERTIES SKIP_REGULAR_EXPRESSION "\\[  SKIPPED \\]" RUN_SERIAL ON)
endfunction()

function(add_gpu_mpi_test name)
  cmake_parse_arguments(ARG "" "TIMEOUT" "RANKS;SOURCES;LIBRARIES;LABELS" ${ARGN})
  set(support ${PROJECT_SOURCE_DIR}/tests/support)
  _sluice_test_program(${name} "${ARG_SOURCES};${support}/mpi_main.cpp;${support}/gpu_ranks.cpp;${support}/share_gpus.cpp"
                       "${ARG_LIBRARIES};MPI::MPI_C;parallel")
  foreach(ranks ${ARG_RANKS})
    add_test(NAME ${name}_${ranks} COMMAND ${SLUICE_MPIEXEC} -n ${ranks} $<TARGET_FILE:${name}>)
    _sluice_test_properties(${name}_${ranks} 300 "${ARG_TIMEOUT}" gpu mpi ${ARG_LABELS})
    set_tests_properties(${name}_${ranks} PROPERTIES SKIP_REGULAR_EXPRESSION "\\[  SKIPPED \\]" RUN_SERIAL ON)
  endforeach()
endfunction()

function(add_script_test name)
  cmake_parse_arguments(ARG "" "TIMEOUT" "COMMAND;LABELS" ${ARGN})
  add_test(NAME ${name} COMMAND ${ARG_COMMAND} WORKING_DIRECTORY ${PROJECT_SOURCE_DIR})
  _sluice_test_properties(${name} 120 "${ARG_TIMEOUT}" script ${ARG_LABELS})
  set_tests_properties(${name} PROPERTIES SKIP_RETURN_CODE 77)
endfunction()
