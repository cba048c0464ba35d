# nvcc for the .cu files. They hold kernels on plain pointers and include neither LibTorch nor anything heavy.
set(CMAKE_CUDA_COMPILER ${SLUICE_NVCC} CACHE FILEPATH "CUDA compiler")
# The process has one CUDA runtime, the wheel's shared one, which the torch_cuda target links.
set(CMAKE_CUDA_RUNTIME_LIBRARY None)
# Machine code for A100 and H100/H200, and code that newer GPUs translate.
set(CMAKE_CUDA_ARCHITECTURES 80-real 90 CACHE STRING "GPU architectures")
set(CMAKE_CUDA_STANDARD 20)
set(CMAKE_CUDA_STANDARD_REQUIRED ON)
set(CMAKE_CUDA_EXTENSIONS OFF)
enable_language(CUDA)
