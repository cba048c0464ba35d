# sluice_job_script(SCRIPT FILE): FILE defines the text of SCRIPT, which `sluice submit` writes into batch scripts: these
# then need no file of this checkout.
function(sluice_job_script script file)
  set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS ${script})
  file(READ ${script} text)
  file(CONFIGURE OUTPUT ${file} CONTENT [[
// Written by cmake/SluiceJobScript.cmake.
#include "trainer/cli/batch_script.h"

namespace sluice::cli {

const char* job_script_text() { return R"sluice(@text@)sluice"; }

}  // namespace sluice::cli
]] @ONLY)
endfunction()
