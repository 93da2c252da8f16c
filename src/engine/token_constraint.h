// TokenConstraint: which tokens may come next in one request's output. A request carries one to
// bind its answer to a grammar; the engine tells it each token and the sampler asks it for the
// mask.
#pragma once
#include <cstdint>
#include <span>

namespace moestro::engine {

class TokenConstraint {
 public:
  virtual ~TokenConstraint() = default;
  // The request has generated this token. Engine thread, between steps: starts work elsewhere,
  // takes no lock and no memory.
  virtual void advance(int32_t token) noexcept = 0;
  // One bit an id, that of id i in word i / 32; ids beyond are not allowed. A worker of the gang
  // calls it when the logits are there, by when it mostly is ready; else it waits. Valid until the
  // next advance().
  virtual std::span<const uint32_t> mask() noexcept = 0;
};

}  // namespace moestro::engine
