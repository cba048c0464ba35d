# LibTorch out of the PyPI wheel, as imported targets of our own: find_package(Torch) demands a CUDA toolkit even
# where only the CPU libraries are wanted. Sets SLUICE_CUDA.
file(GLOB _torch_candidates ${SLUICE_TORCH_DIR}/lib/python3*/site-packages/torch ${SLUICE_TORCH_DIR})
foreach(_dir ${_torch_candidates})
  if(EXISTS ${_dir}/lib/libtorch_cpu.so)
    set(SLUICE_TORCH ${_dir})
    break()
  endif()
endforeach()
if(NOT SLUICE_TORCH)
  message(FATAL_ERROR "LibTorch not found under SLUICE_TORCH_DIR=${SLUICE_TORCH_DIR}: run launch/setup first, or name "
                      "a virtual environment or LibTorch folder with -DSLUICE_TORCH_DIR=DIR")
endif()
get_filename_component(SLUICE_SITE_PACKAGES ${SLUICE_TORCH} DIRECTORY)

find_path(SLUICE_CUDA_INCLUDE cuda_runtime_api.h HINTS $ENV{CUDA_HOME}/include /usr/local/cuda/include
          PATH_SUFFIXES targets/x86_64-linux/include NO_DEFAULT_PATH)
find_program(SLUICE_NVCC nvcc HINTS $ENV{CUDA_HOME}/bin /usr/local/cuda/bin)
file(GLOB _cudart ${SLUICE_SITE_PACKAGES}/nvidia/cu13/lib/libcudart.so.*)
file(GLOB _cublaslt ${SLUICE_SITE_PACKAGES}/nvidia/cu13/lib/libcublasLt.so.*)

# Sets `out` to what a CUDA flavour lacks here, or to "".
function(_sluice_cuda_lacks out)
  set(${out} "" PARENT_SCOPE)
  if(NOT _cudart OR NOT _cublaslt OR NOT EXISTS ${SLUICE_SITE_PACKAGES}/nvidia/nccl/lib/libnccl.so.2)
    set(${out} "the full LibTorch (launch/setup --device cuda)" PARENT_SCOPE)
  elseif(NOT SLUICE_CUDA_INCLUDE OR NOT SLUICE_NVCC OR NOT EXISTS ${SLUICE_CUDA_INCLUDE}/cublasLt.h)
    set(${out} "a CUDA toolkit with nvcc and cuBLAS's headers (on PATH, in CUDA_HOME or /usr/local/cuda)" PARENT_SCOPE)
  else()
    # Kernels register themselves with the wheel's runtime, so both must be of one major version.
    string(REGEX MATCH "so\\.([0-9]+)$" _ "${_cudart}")
    set(runtime ${CMAKE_MATCH_1})
    execute_process(COMMAND ${SLUICE_NVCC} --version OUTPUT_VARIABLE text ERROR_QUIET)
    string(REGEX MATCH "release ([0-9]+)" _ "${text}")
    if(NOT CMAKE_MATCH_1 STREQUAL runtime)
      set(${out} "a CUDA ${runtime} toolkit (${SLUICE_NVCC} is of release ${CMAKE_MATCH_1})" PARENT_SCOPE)
    endif()
  endif()
endfunction()

set(SLUICE_CUDA OFF)
if(SLUICE_DEVICE MATCHES "^(auto|cuda)$")
  _sluice_cuda_lacks(_lacks)
  if(NOT _lacks)
    set(SLUICE_CUDA ON)
  elseif(SLUICE_DEVICE STREQUAL "cuda")
    message(FATAL_ERROR "SLUICE_DEVICE=cuda needs ${_lacks}")
  else()
    message(STATUS "CPU sources only: CUDA sources need ${_lacks}")
  endif()
elseif(NOT SLUICE_DEVICE STREQUAL "cpu")
  message(FATAL_ERROR "SLUICE_DEVICE=${SLUICE_DEVICE}: allowed are auto, cpu, cuda")
endif()

add_library(torch_headers INTERFACE)
target_include_directories(torch_headers SYSTEM INTERFACE ${SLUICE_TORCH}/include
                                                          ${SLUICE_TORCH}/include/torch/csrc/api/include)
add_library(torch INTERFACE)
target_link_libraries(torch INTERFACE torch_headers ${SLUICE_TORCH}/lib/libtorch_cpu.so ${SLUICE_TORCH}/lib/libc10.so)
# LibTorch's libraries export parts of an older std::filesystem (libtorch.so's remove_all() jumps to nowhere): libstdc++ comes
# before them in the order in which symbols are looked up.
target_link_options(torch INTERFACE "LINKER:--push-state,--no-as-needed" -lstdc++ "LINKER:--pop-state")

# at::parallel_for shares its work among LibTorch's threads only where its caller is compiled with OpenMP; without, it is a loop
# of one thread, silently. At run time it is the libgomp that LibTorch has loaded.
add_library(torch_threads INTERFACE)
target_compile_options(torch_threads INTERFACE $<$<COMPILE_LANGUAGE:CXX>:-fopenmp>)
target_link_libraries(torch_threads INTERFACE gomp)

if(SLUICE_CUDA)
  # The wheel's own NCCL, cuBLASLt and CUDA runtime: the very files that libtorch_cuda.so loads.
  add_library(torch_cuda INTERFACE)
  target_include_directories(torch_cuda SYSTEM INTERFACE ${SLUICE_CUDA_INCLUDE}
                                                         ${SLUICE_SITE_PACKAGES}/nvidia/nccl/include)
  target_link_libraries(torch_cuda INTERFACE torch
    "LINKER:--no-as-needed" ${SLUICE_TORCH}/lib/libtorch_cuda.so ${SLUICE_TORCH}/lib/libtorch.so "LINKER:--as-needed"
    ${SLUICE_TORCH}/lib/libc10_cuda.so ${SLUICE_SITE_PACKAGES}/nvidia/nccl/lib/libnccl.so.2 ${_cublaslt} ${_cudart})
  target_link_options(torch_cuda INTERFACE "LINKER:-rpath-link,${SLUICE_SITE_PACKAGES}/nvidia/cu13/lib")
  include(SluiceCudaLanguage)
endif()
message(STATUS "LibTorch: ${SLUICE_TORCH} (CUDA sources: ${SLUICE_CUDA})")
