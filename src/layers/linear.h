// Linear: one or several weight matrices of one packed format that share their input, in one kernel
// call. Built at load, called by attention and models on all workers.
#pragma once
#include <initializer_list>
#include <span>
#include <vector>

#include "kernels/op_choice.h"
#include "layers/step_context.h"
#include "quant/load.h"

namespace moestro::layers {

struct LinearSpec {
  std::vector<quant::ModuleSpec> parts;  // same format and k
  kernels::LinearChoice op;

  static LinearSpec make(std::vector<quant::ModuleSpec> parts, int32_t max_rows);
};

class Linear {
 public:
  static Result<Linear> load(quant::LoadContext& context, const LinearSpec& spec);
  struct Output {
    float* y;        // [rows, n of the part]
    int64_t stride;  // in floats
  };
  // y_i = x W_i^T (+ the part's bias), or y_i += … with accumulate. outputs: one a part, in order.
  void forward(StepContext& c, const float* x, int64_t x_stride, int32_t rows,
               std::span<const Output> outputs, bool accumulate = false) const;
  void forward(StepContext& c, const float* x, int64_t x_stride, int32_t rows,
               std::initializer_list<Output> outputs, bool accumulate = false) const {
    forward(c, x, x_stride, rows, std::span(outputs.begin(), outputs.size()), accumulate);
  }
  static constexpr size_t kMaxParts = 8;

 private:
  std::vector<tensor::PackedMatrix> weights_;
  kernels::LinearChoice op_;
};

// Modules that share their input but may be stored in different formats: a linear call a format.
struct LinearGroups {
  std::vector<LinearSpec> groups;
  struct Place {
    size_t group, part;
  };
  std::vector<Place> places;  // one a module
};
LinearGroups group_by_format(std::vector<quant::ModuleSpec> modules, int32_t max_rows);

class GroupedLinear {
 public:
  static Result<GroupedLinear> load(quant::LoadContext& context, const LinearGroups& spec);
  // outputs: one a module, in the order given to group_by_format. Ends with a barrier.
  void forward(StepContext& c, const float* x, int64_t x_stride, int32_t rows,
               std::span<const Linear::Output> outputs) const;
  void forward(StepContext& c, const float* x, int64_t x_stride, int32_t rows,
               std::initializer_list<Linear::Output> outputs) const {
    forward(c, x, x_stride, rows, std::span(outputs.begin(), outputs.size()));
  }

 private:
  std::vector<Linear> groups_;
  std::vector<LinearGroups::Place> places_;
};

}  // namespace moestro::layers
