# cmake --install BUILD --prefix DIR: a tree that may be moved as a whole, and is only read. LibTorch's libraries are copied
# into lib/, in the wheel's own arrangement, by which they find one another; MPI stays the site's.
set(_install_rpath "$ORIGIN/../lib")
get_filename_component(_torch_folder ${SLUICE_TORCH} NAME)
list(APPEND _install_rpath "$ORIGIN/../lib/${_torch_folder}/lib")
if(SLUICE_CUDA)
  list(APPEND _install_rpath "$ORIGIN/../lib/nvidia/nccl/lib" "$ORIGIN/../lib/nvidia/cu13/lib")
endif()
# What launch/setup unpacked travels along (packages/); of an MPI in a module's folder the place is kept.
if(SLUICE_PACKAGES)
  list(APPEND _install_rpath "$ORIGIN/../packages/usr/lib/${CMAKE_LIBRARY_ARCHITECTURE}")
endif()
foreach(_library ${MPI_C_LIBRARIES})
  get_filename_component(_library ${_library} REALPATH)
  get_filename_component(_folder ${_library} DIRECTORY)
  set(_travels FALSE)
  if(SLUICE_PACKAGES)
    cmake_path(IS_PREFIX SLUICE_PACKAGES "${_folder}" _travels)
  endif()
  if(NOT _travels AND NOT _folder IN_LIST CMAKE_C_IMPLICIT_LINK_DIRECTORIES)
    list(APPEND _install_rpath ${_folder})
  endif()
endforeach()
set_target_properties(sluice PROPERTIES INSTALL_RPATH "${_install_rpath}")
# RPATH, not RUNPATH: it also leads the libraries in lib/ to one another, which have no path of their own.
target_link_options(sluice PRIVATE "LINKER:--disable-new-dtags")

install(TARGETS sluice RUNTIME DESTINATION bin)
install(DIRECTORY configs docs DESTINATION .)
install(FILES README.md CHANGELOG.md DESTINATION .)
install(DIRECTORY launch/ DESTINATION launch USE_SOURCE_PERMISSIONS
        FILES_MATCHING PATTERN "mpirun.sh" PATTERN "remote_shell.sh" PATTERN "*.sbatch" PATTERN "job.sh" PATTERN "README.md")
configure_file(${PROJECT_SOURCE_DIR}/cmake/modulefile.in ${PROJECT_BINARY_DIR}/modulefile @ONLY)
install(FILES ${PROJECT_BINARY_DIR}/modulefile DESTINATION share/modulefiles/sluice RENAME ${PROJECT_VERSION})

configure_file(${PROJECT_SOURCE_DIR}/cmake/install_libraries.cmake.in ${PROJECT_BINARY_DIR}/install_libraries.cmake @ONLY)
install(SCRIPT ${PROJECT_BINARY_DIR}/install_libraries.cmake)
