# sluice_commit_source(FILE TARGET): FILE defines the program's version and commit. It is looked at on every build and
# written only when it changes, so that a new commit recompiles this file alone.
if(CMAKE_SCRIPT_MODE_FILE)
  # Without git on the machine a clone still says what its HEAD is.
  function(read_head out)
    set(${out} "unknown" PARENT_SCOPE)
    if(NOT EXISTS ${SOURCE}/.git/HEAD)
      return()
    endif()
    file(STRINGS ${SOURCE}/.git/HEAD head LIMIT_COUNT 1)
    if(head MATCHES "^ref: (.+)$" AND EXISTS ${SOURCE}/.git/${CMAKE_MATCH_1})
      file(STRINGS ${SOURCE}/.git/${CMAKE_MATCH_1} head LIMIT_COUNT 1)
    endif()
    if(head MATCHES "^[0-9a-f]+$")
      string(SUBSTRING ${head} 0 12 head)
      set(${out} ${head} PARENT_SCOPE)
    endif()
  endfunction()

  execute_process(COMMAND git rev-parse --short=12 HEAD WORKING_DIRECTORY ${SOURCE}
                  OUTPUT_VARIABLE commit OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_QUIET RESULT_VARIABLE failed)
  if(failed)
    read_head(commit)
  else()
    execute_process(COMMAND git status --porcelain --untracked-files=no WORKING_DIRECTORY ${SOURCE}
                    OUTPUT_VARIABLE changes ERROR_QUIET)
    if(changes)
      string(APPEND commit ", modified")
    endif()
  endif()
  file(CONFIGURE OUTPUT ${OUT} CONTENT [[
// Written by cmake/SluiceCommit.cmake.
#include "trainer/cli/version.h"

namespace sluice::cli {

const char* program_version() { return "@VERSION@"; }
const char* program_commit() { return "@commit@"; }

}  // namespace sluice::cli
]] @ONLY)
  return()
endif()

set(_sluice_commit_script ${CMAKE_CURRENT_LIST_FILE})
function(sluice_commit_source file target)
  add_custom_target(${target}
    COMMAND ${CMAKE_COMMAND} -DSOURCE=${PROJECT_SOURCE_DIR} -DOUT=${file} -DVERSION=${PROJECT_VERSION}
            -P ${_sluice_commit_script}
    BYPRODUCTS ${file}
    VERBATIM)
endfunction()
