// The KV cache of one step as layers see it: per layer up to three paged arrays. MLA uses `key` for
// the latent and the rotary part side by side ([kv_lora_rank + rope]), `index` for DSA's index
// keys; grouped-query attention uses `key` and `value`.
#pragma once
#include <span>

#include "tensor/paged_view.h"

namespace moestro::kernels {

struct LayerKv {
  tensor::PagedView key, value, index;  // width 0: not there
};

struct KvView {
  std::span<const LayerKv> layers;
};

}  // namespace moestro::kernels
