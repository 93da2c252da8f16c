// What the int4 schemes share: which packed format group scales and zero points lead to. Called by
// pack_quantized, gptq and awq.
#pragma once
#include <string>

#include "quant/quant_method.h"

namespace moestro::quant {

// How int4 (or int8) weights in words are stored.
struct Grouping {
  int32_t bits = 4;
  int32_t group_k = 0;       // values of k that share a scale; may exceed k where there is one
  bool per_channel = false;  // a scale a channel, not groups of k: gate and down then agree
  bool zero_points = false;
  bool permuted = false;  // groups are not runs of columns: a group index
  DType scale = DType::kBF16;
};

// Sets group_k and per_channel from the header, k / the scales' `groups` (0: a made-up tensor), and
// what the config declares. kUnsupported: k is not a multiple of the group.
Status set_groups(const ModuleFacts& facts, int64_t groups_in_header, Grouping& g);

// Fills in format, words and substitution. what: "GPTQ int4".
void describe_grouping(const ModuleFacts& facts, const Grouping& g, ModuleSpec& spec);

// The groups that a channel's scale and zero point are repeated for, where there is one of each a
// channel: the packed format has zero points only by group.
inline constexpr int32_t kRepeatedGroup = 128;

// The stored side of codes of that grouping; repeated says whether the above happens.
tensor::PackedFormat stored_format(const Grouping& g);
inline bool is_repeated(const Grouping& g) { return g.zero_points && g.per_channel; }

}  // namespace moestro::quant
