# MPI as MPI::MPI_C. Sets SLUICE_MPI_KIND (openmpi, mpich or other) and SLUICE_MPIEXEC, the launcher's words before "-n N".
set(SLUICE_MPI "auto" CACHE STRING "auto, openmpi or mpich: which MPI is taken where there are several")
if(NOT SLUICE_MPI MATCHES "^(auto|openmpi|mpich)$")
  message(FATAL_ERROR "SLUICE_MPI=${SLUICE_MPI}: allowed are auto, openmpi, mpich")
endif()
if(NOT SLUICE_MPI STREQUAL "auto")
  # Debian keeps several side by side, each with its name behind the command.
  find_program(MPI_C_COMPILER NAMES mpicc.${SLUICE_MPI} mpicc)
  find_program(MPIEXEC_EXECUTABLE NAMES mpiexec.${SLUICE_MPI} mpirun.${SLUICE_MPI} mpiexec)
endif()
find_package(MPI QUIET COMPONENTS C)

# Sets `out` to whose mpi.h this is. MPICH's relatives (Intel's, MVAPICH's, Cray's) count as MPICH.
function(_sluice_mpi_kind out)
  set(${out} "other" PARENT_SCOPE)
  find_file(_mpi_header mpi.h PATHS ${MPI_C_INCLUDE_DIRS} NO_DEFAULT_PATH NO_CACHE)
  if(NOT _mpi_header)
    return()
  endif()
  file(STRINGS ${_mpi_header} lines REGEX "^ *# *define +(OPEN_MPI|MPICH_VERSION)[ \t]")
  if(lines MATCHES "OPEN_MPI")
    set(${out} "openmpi" PARENT_SCOPE)
  elseif(lines MATCHES "MPICH_VERSION")
    set(${out} "mpich" PARENT_SCOPE)
  endif()
endfunction()

# A launcher of another MPI starts N jobs of one rank each: it has to be of the same kind as the library.
function(_sluice_check_launcher)
  execute_process(COMMAND ${MPIEXEC_EXECUTABLE} --version OUTPUT_VARIABLE text ERROR_VARIABLE text)
  if((SLUICE_MPI_KIND STREQUAL "openmpi" AND text MATCHES "HYDRA") OR
     (SLUICE_MPI_KIND STREQUAL "mpich" AND text MATCHES "Open MPI|OpenRTE|PRRTE"))
    message(FATAL_ERROR "${MPI_C_INCLUDE_DIRS} is ${SLUICE_MPI_KIND}'s, but ${MPIEXEC_EXECUTABLE} belongs to another MPI: "
                        "name one with -DSLUICE_MPI=openmpi|mpich, or its launcher with -DMPIEXEC_EXECUTABLE=FILE")
  endif()
endfunction()

if(MPI_C_FOUND)
  _sluice_mpi_kind(SLUICE_MPI_KIND)
  if(NOT SLUICE_MPI STREQUAL "auto" AND NOT SLUICE_MPI STREQUAL SLUICE_MPI_KIND)
    message(FATAL_ERROR "SLUICE_MPI=${SLUICE_MPI}, but ${MPI_C_INCLUDE_DIRS} holds the mpi.h of: ${SLUICE_MPI_KIND} (in a build "
                        "folder that was configured for another one, remove CMakeCache.txt)")
  endif()
  _sluice_check_launcher()
  set(SLUICE_MPIEXEC ${MPIEXEC_EXECUTABLE})
  if(SLUICE_MPI_KIND STREQUAL "openmpi")
    list(APPEND SLUICE_MPIEXEC --oversubscribe --bind-to none)
  endif()
  # launch/mpirun.sh takes the launcher that belongs to the program.
  file(CONFIGURE OUTPUT ${PROJECT_BINARY_DIR}/mpiexec.path CONTENT "@MPIEXEC_EXECUTABLE@\n" @ONLY)
endif()
