// The dispatch of one rank: a stable counting sort of (token, choice) pairs by expert; nothing is
// copied but indices.
#pragma once
#include <memory>

#include "base/status.h"
#include "moe/dispatch/dispatch.h"

namespace moestro::moe {

struct LocalDispatchShape {
  int32_t max_tokens = 0, top_k = 0, experts = 0, hidden = 0;
  int64_t bytes() const;  // of its arrays
};
// Allocates its arrays; no memory: kResourceExhausted.
Result<std::unique_ptr<Dispatch>> make_local_dispatch(const LocalDispatchShape& shape);

}  // namespace moestro::moe
