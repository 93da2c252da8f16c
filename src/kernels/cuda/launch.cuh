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

struct LaunchSize {
  int grid = 1, block = 1, shared_bytes = 0, cluster = 1;
  bool cooperative = false;  // all blocks run at once: those of them that wait for others may
};

template <class... Params, class... Args>
Status launch_dependent(const char* what, void (*kernel)(Params...), const LaunchSize& size,
                        cudaStream_t stream, Args&&... args) {
  cudaLaunchConfig_t config{};
  config.gridDim = dim3(static_cast<unsigned>(size.grid));
  config.blockDim = dim3(static_cast<unsigned>(size.block));
  config.dynamicSmemBytes = static_cast<size_t>(size.shared_bytes);
  config.stream = stream;
  cudaLaunchAttribute attributes[3]{};
  attributes[0].id = cudaLaunchAttributeProgrammaticStreamSerialization;
  attributes[0].val.programmaticStreamSerializationAllowed = 1;
  config.attrs = attributes;
  config.numAttrs = 1;
  if (size.cluster > 1) {
    auto& a = attributes[config.numAttrs++];
    a.id = cudaLaunchAttributeClusterDimension;
    a.val.clusterDim = {static_cast<unsigned>(size.cluster), 1, 1};
  }
  if (size.cooperative) {
    auto& a = attributes[config.numAttrs++];
    a.id = cudaLaunchAttributeCooperative;
    a.val.cooperative = 1;
  }
  return cuda_status(cudaLaunchKernelEx(&config, kernel, static_cast<Params>(args)...), what);
}

}  // namespace moestro::kernels::cuda
