// The packed cache around a start: which file --packed-cache means for a plan, whether it fits, and
// the store that loading takes weights from. A cache that does not fit costs a line in the log,
// never the start. Main thread.
#pragma once
#include <memory>
#include <string>

#include "base/status.h"
#include "config/options.h"
#include "platform/gang.h"
#include "quant/packed_cache.h"

namespace moestro::app {

struct PlannedModel;

struct PackedWeights {
  std::string path;                           // the plan's cache file; empty: it can have none
  std::shared_ptr<quant::PackedCache> cache;  // it is there and fits
  std::string why_not;                        // else
  bool is_warning = false;                    // it is there and does not fit
};

// What a cache of this plan is made from. kUnsupported: weights that cannot be recognised again
// (made-up ones, the built-in model).
Result<quant::PackedCacheKey> packed_cache_key(const PlannedModel& planned);
// The file for that key. kInvalidArgument: --packed-cache none; kUnsupported: no home directory.
Result<std::string> packed_cache_path(const config::Options& options, const PlannedModel& planned,
                                      const quant::PackedCacheKey& key);

PackedWeights find_packed_weights(const config::Options& options, const PlannedModel& planned);
void log_packed_weights(const PackedWeights& packed);
std::string packed_text(const PackedWeights& packed);  // one line for explain

// The cache, its pages read as --packed-cache-mode says, or memory to pack into.
Result<std::shared_ptr<quant::WeightStore>> open_store(const config::Options& options,
                                                       const PackedWeights& packed,
                                                       platform::Gang& gang,
                                                       const quant::ByteProgress& progress);

}  // namespace moestro::app
