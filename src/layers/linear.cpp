#include "layers/linear.h"

#include <algorithm>
#include <array>

#include "base/check.h"

namespace moestro::layers {

LinearSpec LinearSpec::make(std::vector<quant::ModuleSpec> parts, int32_t max_rows) {
  LinearSpec spec;
  spec.op.shape = {
      .format = parts.front().format, .max_rows = max_rows, .total_n = 0, .k = parts.front().k};
  for (const quant::ModuleSpec& p : parts) {
    CHECK(p.format == spec.op.shape.format && p.k == spec.op.shape.k,
          "parts of one linear call differ in format or k");
    spec.op.shape.total_n += p.n;
  }
  CHECK(parts.size() <= Linear::kMaxParts, "too many parts in one linear call");
  spec.parts = std::move(parts);
  return spec;
}

Result<Linear> Linear::load(quant::LoadContext& context, const LinearSpec& spec) {
  Linear linear;
  linear.op_ = spec.op;
  for (const quant::ModuleSpec& part : spec.parts) {
    MOESTRO_ASSIGN(tensor::PackedMatrix weight, quant::load_matrix(context, part));
    // Parts that were calibrated on one input have one order: they can then share its packed rows.
    for (const tensor::PackedMatrix& other : linear.weights_)
      if (weight.k_order && other.k_order &&
          std::equal(weight.k_order, weight.k_order + weight.k, other.k_order))
        weight.k_order = other.k_order;
    linear.weights_.push_back(weight);
  }
  return linear;
}

void Linear::forward(StepContext& c, const float* x, int64_t x_stride, int32_t rows,
                     std::span<const Output> outputs, bool accumulate) const {
  DCHECK(outputs.size() == weights_.size(), "one output a part");
  std::array<kernels::LinearOutput, kMaxParts> list;
  for (size_t i = 0; i < weights_.size(); ++i)
    list[i] = {.weight = &weights_[i], .y = outputs[i].y, .y_stride = outputs[i].stride};
  op_.run({.x = x,
           .x_stride = x_stride,
           .rows = rows,
           .outputs = std::span(list.data(), weights_.size()),
           .accumulate = accumulate,
           .scratch = c.scratch},
          c.worker);
}

LinearGroups group_by_format(std::vector<quant::ModuleSpec> modules, int32_t max_rows) {
  LinearGroups result;
  std::vector<std::vector<quant::ModuleSpec>> lists;
  for (size_t i = 0; i < modules.size(); ++i) {
    size_t g = 0;
    while (g < lists.size() && lists[g].front().format != modules[i].format) ++g;
    if (g == lists.size()) {
      lists.emplace_back();
    }
    result.places.push_back({g, lists[g].size()});
    lists[g].push_back(std::move(modules[i]));
  }
  for (std::vector<quant::ModuleSpec>& list : lists)
    result.groups.push_back(LinearSpec::make(std::move(list), max_rows));
  return result;
}

Result<GroupedLinear> GroupedLinear::load(quant::LoadContext& context, const LinearGroups& spec) {
  GroupedLinear linear;
  linear.places_ = spec.places;
  for (const LinearSpec& s : spec.groups) {
    MOESTRO_ASSIGN(Linear group, Linear::load(context, s));
    linear.groups_.push_back(std::move(group));
  }
  return linear;
}

void GroupedLinear::forward(StepContext& c, const float* x, int64_t x_stride, int32_t rows,
                            std::span<const Linear::Output> outputs) const {
  DCHECK(outputs.size() == places_.size(), "one output a module");
  for (size_t g = 0; g < groups_.size(); ++g) {
    std::array<Linear::Output, Linear::kMaxParts> list;
    size_t n = 0;
    for (size_t i = 0; i < places_.size(); ++i)
      if (places_[i].group == g) list[n++] = outputs[i];
    groups_[g].forward(c, x, x_stride, rows, std::span<const Linear::Output>(list.data(), n));
    c.worker.barrier();  // scratch is used again, and the outputs are read next
  }
}

}  // namespace moestro::layers
