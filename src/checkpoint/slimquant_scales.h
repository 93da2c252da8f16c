// slimquant_w4a8's int4 experts: is X.weight_scale the scale, or a sixteenth of it? The vendor's
// converter writes the latter, the vendor's loader has a switch for either. Called once when a
// checkpoint is opened, on the main thread.
#pragma once
#include "base/status.h"
#include "checkpoint/quant_config.h"
#include "checkpoint/weight_source.h"

namespace moestro::checkpoint {

// Fills in QuantGroup::scale_divisor and scale_reading of such a group, by the first that says:
// - the key int4_scale_divisor of quantization_config, 1 or 16 (for --hf-overrides);
// - the weights: routed experts are about as large as the shared expert of their layer, which is
//   int8 with a plain scale, and the two readings are a factor of 16 apart;
// - the converter's habit: 16, and the group says that nothing decided (scale_is_guess).
// Other configs stay as they are. An unreadable scale tensor: its error.
Status settle_slimquant_scales(const WeightSource& source, QuantConfig& quant);

}  // namespace moestro::checkpoint
