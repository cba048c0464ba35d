# Tests as data:
#   add_unit_test(NAME SOURCES a.cpp ... LIBRARIES dataio ... [TIMEOUT s])        one GoogleTest program, one ctest
#   add_mpi_test(NAME RANKS 1 2 3 SOURCES ... LIBRARIES ... [TIMEOUT s])          one ctest for each rank count
#   add_gpu_test(NAME SOURCES ... LIBRARIES ... [TIMEOUT s])                      label gpu; skips visibly without a GPU
find_package(GTest REQUIRED)
find_path(RAPIDCHECK_INCLUDE rapidcheck.h REQUIRED)
find_library(RAPIDCHECK_LIBRARY rapidcheck REQUIRED)
add_library(test_tools INTERFACE)
target_include_directories(test_tools SYSTEM INTERFACE ${RAPIDCHECK_INCLUDE})
target_link_libraries(test_tools INTERFACE GTest::gtest GTest::gmock ${RAPIDCHECK_LIBRARY})

function(_sluice_test_program name sources libraries)
  add_executable(${name} ${sources})
  target_link_libraries(${name} PRIVATE test_tools ${libraries} sluice_warnings)
endfunction()

function(add_unit_test name)
  cmake_parse_arguments(ARG "" "TIMEOUT" "SOURCES;LIBRARIES" ${ARGN})
  _sluice_test_program(${name} "${ARG_SOURCES}" "${ARG_LIBRARIES};GTest::gtest_main")
  add_test(NAME ${name} COMMAND ${name})
  set_tests_properties(${name} PROPERTIES TIMEOUT $<IF:$<BOOL:${ARG_TIMEOUT}>,${ARG_TIMEOUT},120> LABELS unit)
endfunction()

function(add_mpi_test name)
  cmake_parse_arguments(ARG "" "TIMEOUT" "RANKS;SOURCES;LIBRARIES" ${ARGN})
  _sluice_test_program(${name} "${ARG_SOURCES};${PROJECT_SOURCE_DIR}/tests/support/mpi_main.cpp"
                       "${ARG_LIBRARIES};MPI::MPI_C")
  foreach(ranks ${ARG_RANKS})
    add_test(NAME ${name}_${ranks} COMMAND ${MPIEXEC_EXECUTABLE} -n ${ranks} --oversubscribe --bind-to none
                                           $<TARGET_FILE:${name}>)
    set_tests_properties(${name}_${ranks} PROPERTIES
      TIMEOUT $<IF:$<BOOL:${ARG_TIMEOUT}>,${ARG_TIMEOUT},120> LABELS mpi PROCESSORS 2
      ENVIRONMENT "OMPI_ALLOW_RUN_AS_ROOT=1;OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1;OMP_NUM_THREADS=1")
  endforeach()
endfunction()

function(add_gpu_test name)
  cmake_parse_arguments(ARG "" "TIMEOUT" "SOURCES;LIBRARIES" ${ARGN})
  _sluice_test_program(${name} "${ARG_SOURCES}" "${ARG_LIBRARIES};GTest::gtest_main")
  add_test(NAME ${name} COMMAND ${name})
  set_tests_properties(${name} PROPERTIES TIMEOUT $<IF:$<BOOL:${ARG_TIMEOUT}>,${ARG_TIMEOUT},300> LABELS gpu)
endfunction()
