// Mixtral (mixtral): plain grouped-query attention, softmax routing whose weights always sum to
// one; experts under their own names.
#include "models/families.h"
#include "models/gqa_family.h"

namespace moestro::models {

Result<std::unique_ptr<ModelSpec>> mixtral(const SpecRequest& request) {
  return make_gqa_family(
      request, {.moe = {.block = "block_sparse_moe.", .gate = "w1", .up = "w3", .down = "w2"}});
}

}  // namespace moestro::models
