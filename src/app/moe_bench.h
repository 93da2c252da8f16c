// Made-up MoE layers in the shapes of published models, and their timing against the machine's
// ceilings: the work of `moestro bench moe`. The layer that runs is the serving one
// (moe/moe_layer.h): router, dispatch, experts, combine. Main thread.
#pragma once
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"
#include "moe/moe_layer.h"
#include "platform/arena.h"
#include "platform/ceilings.h"
#include "platform/gang.h"
#include "tensor/packed_matrix.h"

namespace moestro::app {

struct MoeBenchShape {
  std::string_view name;
  int32_t hidden, intermediate;
  moe::RouterSpec router;
};
// null: no such shape (the flag table lists them).
const MoeBenchShape* find_moe_bench_shape(std::string_view name);

// "int8", "fp8-block", …; an unknown one lists all.
Result<tensor::PackedFormat> moe_bench_format(std::string_view scheme);

kernels::LinearShape gate_shape(const MoeBenchShape& shape, int32_t max_tokens);
kernels::ExpertMlpShape expert_shape(const MoeBenchShape& shape, const tensor::PackedFormat& format,
                                     int32_t max_tokens);

// Layers of one shape and scheme, at least 1 GiB together, so that taking turns reads weights from
// memory. A layer of more than 2 GiB lets several experts share bytes (num_distinct below its
// experts), which changes nothing for a reader: the shared bytes come round only after 2 GiB.
class MoeBenchLayers {
 public:
  // max_tokens: the largest step. No memory: kResourceExhausted.
  static Result<std::unique_ptr<MoeBenchLayers>> make(const MoeBenchShape& shape,
                                                      const tensor::PackedFormat& format,
                                                      int32_t max_tokens, platform::Gang& gang);

  const MoeBenchShape& shape() const { return shape_; }
  const tensor::PackedFormat& format() const { return format_; }
  int num_layers() const { return num_layers_; }
  int32_t num_distinct() const { return num_distinct_; }
  int64_t expert_bytes() const { return gate_up_bytes_ + down_bytes_; }
  int64_t gate_bytes() const { return gate_bytes_; }
  std::span<const std::byte> memory() const { return {memory_.data(), memory_.size()}; }

  // The layers, running these kernels.
  std::vector<std::unique_ptr<moe::MoeLayer>> with(const kernels::LinearKernel& gate,
                                                   const kernels::ExpertMlpKernel& experts,
                                                   int32_t max_tokens) const;

 private:
  MoeBenchLayers(const MoeBenchShape& shape, const tensor::PackedFormat& format)
      : shape_(shape), format_(format) {}
  Status fill(platform::Gang& gang);
  std::byte* expert_at(int layer, int32_t distinct) const;

  const MoeBenchShape& shape_;
  const tensor::PackedFormat format_;
  int num_layers_ = 0;
  int32_t num_distinct_ = 0;
  int64_t gate_bytes_ = 0, gate_up_bytes_ = 0, down_bytes_ = 0;
  platform::Buffer memory_;                  // [layer] gate, then [distinct expert] gate_up, down
  std::vector<tensor::PackedMatrix> gates_;  // [layer]
  std::vector<tensor::PackedMatrix> gate_up_, down_;  // [layer, distinct]
  std::unique_ptr<moe::Dispatch> dispatch_;
};

struct MoeBenchRow {
  int32_t tokens = 0;
  std::string kernel, unit;  // unit: what multiplies, "amx int8"
  double us = 0, best_us = 0;
  double weight_bytes = 0;  // of the experts that were hit and the router, mean of the runs
  double read_share = 0;    // weight bytes a second over the read bandwidth of the same moment
  double peak_share = 0;    // operations a second over the unit's peak
  double floor_ratio = 0;   // time over the larger of bytes / read bandwidth and operations / peak
  double over_best = 1;     // time over that of the fastest kernel of the same turns, median
  double rel_error = 0;     // |y - reference| / |reference| over sampled tokens
  double read_gbs = 0;      // read bandwidth while this row ran, median
};

// What one row needs beside the layers.
struct MoeBenchRun {
  int32_t tokens;
  int64_t iterations;
  const kernels::LinearKernel* gate;
  std::vector<const kernels::ExpertMlpKernel*> kernels;  // timed in turns
  const kernels::RowOps* ops;
};
// A row a kernel. read_samples: appended with every measurement of the read bandwidth, bytes a
// second, to see slow phases by.
Result<std::vector<MoeBenchRow>> run_moe_bench(const MoeBenchLayers& layers, const MoeBenchRun& run,
                                               platform::Gang& gang,
                                               std::vector<double>& read_samples);

// The unit that a kernel multiplies with.
platform::Unit unit_of(const kernels::ExpertMlpKernel& kernel, const tensor::PackedFormat& format);

double median(std::vector<double> values);

}  // namespace moestro::app
