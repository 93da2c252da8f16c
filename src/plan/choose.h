// choose(): the one policy. Of the kernels whose instruction set and shape fit, measured times
// decide where they are there, else the order of the list; every other kernel gets its reason.
#pragma once
#include <array>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/format.h"
#include "kernels/kernel_list.h"
#include "kernels/op_counts.h"
#include "plan/kernel_table.h"
#include "plan/plan.h"
#include "platform/cpu_features.h"

namespace moestro::plan {

// Why a kernel is out of the question, whatever the number of tokens; empty: it is not.
inline std::string forbidden(std::string_view name, platform::IsaSet needs,
                             std::string_view shape_reason, platform::IsaSet isa,
                             std::string_view forced) {
  if (!isa.contains(needs)) return format("isa: needs {}", platform::isa_names(needs - isa));
  if (!shape_reason.empty()) return format("shape: {}", shape_reason);
  if (!forced.empty() && name != forced) return format("flag: --kernel asks for {}", forced);
  return {};
}

// Of candidates (why_not empty: it could run), picks one a bucket and gives the others their
// reason. times null: the first. Returns its index, or -1 if there is none.
int pick(std::vector<Candidate>& candidates, const KernelTimes* times, int bucket);

// Of one bucket. forced: a kernel's name, or empty. Null when nothing fits.
template <class Shape, class Args>
const kernels::Kernel<Shape, Args>* choose(std::span<const kernels::Kernel<Shape, Args>> list,
                                           const Shape& shape, platform::IsaSet isa,
                                           std::string_view forced,
                                           std::vector<Candidate>& candidates,
                                           const KernelTimes* times = nullptr, int bucket = 0) {
  for (const auto& kernel : list)
    candidates.push_back(
        {std::string(kernel.name),
         forbidden(kernel.name, kernel.needs,
                   isa.contains(kernel.needs) ? kernel.why_not(shape) : std::string_view{}, isa,
                   forced)});
  const int index = pick(candidates, times, bucket);
  return index < 0 ? nullptr : &list[static_cast<size_t>(index)];
}

}  // namespace moestro::plan
