// choose(): the one policy: the first kernel of the ordered list whose instruction set and shape
// fit; all others get their reason.
#pragma once
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/format.h"
#include "kernels/kernel_list.h"
#include "plan/plan.h"
#include "platform/cpu_features.h"

namespace moestro::plan {

// Returns null when nothing fits. forced: a kernel's name, or empty.
template <class Shape, class Args>
const kernels::Kernel<Shape, Args>* choose(std::span<const kernels::Kernel<Shape, Args>> list,
                                           const Shape& shape, platform::IsaSet isa,
                                           std::string_view forced,
                                           std::vector<Candidate>& candidates) {
  const kernels::Kernel<Shape, Args>* chosen = nullptr;
  for (const auto& kernel : list) {
    std::string why_not;
    if (!isa.contains(kernel.needs)) {
      why_not = format("isa: needs {}", platform::isa_names(kernel.needs - isa));
    } else if (const std::string_view reason = kernel.why_not(shape); !reason.empty()) {
      why_not = format("shape: {}", reason);
    } else if (!forced.empty() && kernel.name != forced) {
      why_not = format("flag: --kernel asks for {}", forced);
    } else if (chosen) {
      why_not = format("order: after {}", chosen->name);
    } else {
      chosen = &kernel;
    }
    candidates.push_back({std::string(kernel.name), std::move(why_not)});
  }
  return chosen;
}

}  // namespace moestro::plan
