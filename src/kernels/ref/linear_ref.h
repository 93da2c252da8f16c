// The scalar truth of kernels/linear.h, any format. Always built, last in every list.
#pragma once
#include "kernels/linear.h"

namespace moestro::kernels::ref {

std::string_view linear_why_not(const LinearShape& shape) noexcept;
int64_t linear_scratch_bytes(const LinearShape& shape, int num_workers) noexcept;
void linear_run(const LinearArgs& args, platform::Worker& worker) noexcept;

std::string_view head_linear_why_not(const HeadLinearShape& shape) noexcept;
int64_t head_linear_scratch_bytes(const HeadLinearShape& shape, int num_workers) noexcept;
void head_linear_run(const HeadLinearArgs& args, platform::Worker& worker) noexcept;

}  // namespace moestro::kernels::ref
