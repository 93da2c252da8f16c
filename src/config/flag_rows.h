// The groups of the flag table, one function a group; flags.cpp puts them together.
#pragma once
#include "config/flags.h"

namespace moestro::config {

FlagGroup general_flags();
FlagGroup process_flags();
FlagGroup model_flags();
FlagGroup load_flags();
FlagGroup cache_flags();
FlagGroup offload_flags();
FlagGroup scheduler_flags();
FlagGroup parallel_flags();
FlagGroup kernel_flags();
FlagGroup attention_flags();
FlagGroup compilation_flags();
FlagGroup mamba_flags();
FlagGroup frontend_flags();
FlagGroup structured_outputs_flags();
FlagGroup observability_flags();
FlagGroup config_objects_flags();
FlagGroup lora_flags();
FlagGroup multimodal_flags();
FlagGroup client_flags();
FlagGroup tools_flags();
FlagGroup bench_flags();
FlagGroup removed_flags();

}  // namespace moestro::config
