// Launch of a kernel that may start while its predecessor drains (programmatic dependent launch);
// the kernel itself waits with ptx::wait_for_previous_kernel before it touches the predecessor's
// results.
#pragma once
#include <cuda_runtime.h>

#include <string>

#include "base/status.h"

namespace moestro::kernels::cuda {

inline Status cuda_status(cudaError_t e, const char* what) {
  if (e == cudaSuccess) return {};
  return internal_error(std::string(what) + ": " + cudaGetErrorString(e));
}

template <class... Params, class... Args>
Status launch_dependent(const char* what, void (*kernel)(Params...), int grid, int block,
                        int shared_bytes, cudaStream_t stream, Args&&... args) {
  cudaLaunchConfig_t config{};
  config.gridDim = dim3(static_cast<unsigned>(grid));
  config.blockDim = dim3(static_cast<unsigned>(block));
  config.dynamicSmemBytes = static_cast<size_t>(shared_bytes);
  config.stream = stream;
  cudaLaunchAttribute attribute{};
  attribute.id = cudaLaunchAttributeProgrammaticStreamSerialization;
  attribute.val.programmaticStreamSerializationAllowed = 1;
  config.attrs = &attribute;
  config.numAttrs = 1;
  return cuda_status(cudaLaunchKernelEx(&config, kernel, static_cast<Params>(args)...), what);
}

}  // namespace moestro::kernels::cuda
