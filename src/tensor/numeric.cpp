// tensor/ is headers so far; this keeps it a library target like every folder.
#include "tensor/numeric.h"

#include "tensor/packed_matrix.h"
#include "tensor/paged_view.h"

namespace moestro {
static_assert(sizeof(Bf16) == 2 && sizeof(F16) == 2);
static_assert(tensor::packed_bytes(tensor::PackedFormat::kInt8, 33, 65) ==
              2 * 2 * 2048 + 2 * 32 * 8);
}  // namespace moestro
