// Owners of CUDA resources: device memory, streams, events, captured graphs, and what the device
// is. Errors are Status. Only included in CUDA builds (it is a CUDA header); any thread that has
// set the device.
#pragma once
#include <cuda_runtime.h>

#include <cstddef>
#include <memory>
#include <string>
#include <utility>

#include "base/status.h"

namespace moestro::platform {

inline Status cuda_status(cudaError_t e, const std::string& what) {
  if (e == cudaSuccess) return {};
  return {e == cudaErrorMemoryAllocation ? Code::kResourceExhausted : Code::kInternal,
          what + ": " + cudaGetErrorString(e)};
}

struct CudaDeviceInfo {
  std::string name;
  int compute_major = 0, compute_minor = 0, num_sms = 0;
  size_t memory_bytes = 0, l2_bytes = 0;
  bool is_hopper() const { return compute_major == 9 && compute_minor == 0; }
};

// Unavailable when the machine has no driver or no device.
inline Result<CudaDeviceInfo> read_cuda_device(int index) {
  int count = 0;
  if (cudaError_t e = cudaGetDeviceCount(&count); e != cudaSuccess || index >= count)
    return Status(
        Code::kUnavailable,
        "no CUDA device " + std::to_string(index) + " (" +
            (e == cudaSuccess ? std::to_string(count) + " found" : cudaGetErrorString(e)) + ")");
  cudaDeviceProp p;
  MOESTRO_TRY(
      cuda_status(cudaGetDeviceProperties(&p, index), "reading a CUDA device's properties"));
  return CudaDeviceInfo{p.name,           p.major,
                        p.minor,          p.multiProcessorCount,
                        p.totalGlobalMem, static_cast<size_t>(p.l2CacheSize)};
}

namespace cuda_detail {
struct FreeMemory {
  void operator()(void* p) const { cudaFree(p); }
};
struct DestroyStream {
  void operator()(cudaStream_t s) const { cudaStreamDestroy(s); }
};
struct DestroyEvent {
  void operator()(cudaEvent_t e) const { cudaEventDestroy(e); }
};
struct DestroyGraph {
  void operator()(cudaGraphExec_t g) const { cudaGraphExecDestroy(g); }
};
}  // namespace cuda_detail

// Device memory of one type, 256-byte aligned at least.
template <class T>
class DeviceArray {
 public:
  DeviceArray() = default;
  static Result<DeviceArray> allocate(size_t count) {
    void* p = nullptr;
    MOESTRO_TRY(
        cuda_status(cudaMalloc(&p, count * sizeof(T) + (count == 0)),
                    "allocating " + std::to_string(count * sizeof(T)) + " bytes on the GPU"));
    DeviceArray a;
    a.memory_.reset(static_cast<T*>(p));
    a.count_ = count;
    return std::move(a);
  }
  T* data() const { return memory_.get(); }
  size_t size() const { return count_; }
  size_t bytes() const { return count_ * sizeof(T); }
  Status upload(const T* from, size_t count, cudaStream_t stream) {
    return cuda_status(
        cudaMemcpyAsync(data(), from, count * sizeof(T), cudaMemcpyHostToDevice, stream), "upload");
  }
  Status download(T* to, size_t count, cudaStream_t stream) const {
    return cuda_status(
        cudaMemcpyAsync(to, data(), count * sizeof(T), cudaMemcpyDeviceToHost, stream), "download");
  }

 private:
  std::unique_ptr<T, cuda_detail::FreeMemory> memory_;
  size_t count_ = 0;
};

// A stream that does not synchronise with the default one.
class CudaStream {
 public:
  static Result<CudaStream> create() {
    cudaStream_t s = nullptr;
    MOESTRO_TRY(
        cuda_status(cudaStreamCreateWithFlags(&s, cudaStreamNonBlocking), "creating a stream"));
    CudaStream stream;
    stream.stream_.reset(s);
    return std::move(stream);
  }
  cudaStream_t get() const { return stream_.get(); }
  Status synchronize() const {
    return cuda_status(cudaStreamSynchronize(get()), "work on the GPU");
  }

 private:
  std::unique_ptr<CUstream_st, cuda_detail::DestroyStream> stream_;
};

class CudaEvent {
 public:
  static Result<CudaEvent> create() {
    cudaEvent_t e = nullptr;
    MOESTRO_TRY(cuda_status(cudaEventCreate(&e), "creating an event"));
    CudaEvent event;
    event.event_.reset(e);
    return std::move(event);
  }
  Status record(const CudaStream& s) {
    return cuda_status(cudaEventRecord(event_.get(), s.get()), "recording an event");
  }
  // Milliseconds from `begin` to this event; waits for both.
  Result<float> since(const CudaEvent& begin) const {
    float ms = 0;
    MOESTRO_TRY(cuda_status(cudaEventSynchronize(event_.get()), "work before an event"));
    MOESTRO_TRY(cuda_status(cudaEventElapsedTime(&ms, begin.event_.get(), event_.get()),
                            "reading an event"));
    return ms;
  }

 private:
  std::unique_ptr<CUevent_st, cuda_detail::DestroyEvent> event_;
};

// What `enqueue` (a callable () -> Status) puts on the stream, recorded once and launched often.
class CudaGraph {
 public:
  template <class F>
  static Result<CudaGraph> capture(const CudaStream& s, F&& enqueue) {
    MOESTRO_TRY(cuda_status(cudaStreamBeginCapture(s.get(), cudaStreamCaptureModeThreadLocal),
                            "beginning a capture"));
    Status enqueued = std::forward<F>(enqueue)();
    cudaGraph_t graph = nullptr;
    Status ended = cuda_status(cudaStreamEndCapture(s.get(), &graph), "ending a capture");
    MOESTRO_TRY(enqueued);
    MOESTRO_TRY(ended);
    cudaGraphExec_t exec = nullptr;
    Status made = cuda_status(cudaGraphInstantiate(&exec, graph, 0), "instantiating a graph");
    cudaGraphDestroy(graph);
    MOESTRO_TRY(made);
    CudaGraph g;
    g.graph_.reset(exec);
    return std::move(g);
  }
  Status launch(const CudaStream& s) const {
    return cuda_status(cudaGraphLaunch(graph_.get(), s.get()), "launching a graph");
  }

 private:
  std::unique_ptr<CUgraphExec_st, cuda_detail::DestroyGraph> graph_;
};

}  // namespace moestro::platform
