// Which activations a quantised module runs with, and what is said where they are not those that
// the checkpoint declares. Pure functions.
#pragma once
#include <string_view>

#include "quant/quant_method.h"

namespace moestro::quant {

// spec.format.weight is set; sets the format's activation side, spec.activations and, where the
// declared ones are not kept, spec.substitution. Rules: activations declared of the weight's own
// type are rounded dynamically, per token (static or per-tensor scales are not used); int4 takes
// int8 and bfloat16; fp8 and fp4 weights without declared activations take bfloat16; whatever no
// kernel computes runs in floats (run_in_floats), as does every pair of codes and float32.
void choose_activations(const ModuleFacts& facts, std::string_view weights, ModuleSpec& spec);

}  // namespace moestro::quant
