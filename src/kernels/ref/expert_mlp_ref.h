// The scalar truth of kernels/expert_mlp.h, any format. Always built, last in every list.
#pragma once
#include "kernels/expert_mlp.h"

namespace moestro::kernels::ref {

std::string_view expert_mlp_why_not(const ExpertMlpShape& shape) noexcept;
int64_t expert_mlp_scratch_bytes(const ExpertMlpShape& shape, int num_workers) noexcept;
void expert_mlp_run(const ExpertMlpArgs& args, platform::Worker& worker) noexcept;

}  // namespace moestro::kernels::ref
