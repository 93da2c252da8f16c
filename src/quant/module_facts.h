// What headers and config say of one linear module, looked up once and shown to every QuantMethod.
#pragma once
#include <array>
#include <cstdint>
#include <optional>
#include <string_view>

#include "base/dtype.h"
#include "checkpoint/quant_config.h"
#include "checkpoint/weight_source.h"

namespace moestro::quant {

// The tensors that a module may consist of: "weight" is kWeight, "weight_scale_inv" kScaleInv, …
enum class Part : uint8_t {
  kWeight,
  kScale,
  kScaleInv,
  kScale2,
  kZeroPoint,
  kPacked,
  kGlobalScale,
  kGroupIndex,  // weight_g_idx
  kQweight,     // GPTQ, AWQ, slimquant's provider dialect
  kQzeros,
  kQscales,  // "scales"
  kGIdx,     // GPTQ's g_idx
};
inline constexpr size_t kNumParts = 12;
std::string_view part_suffix(Part part);  // "weight_scale_inv"

struct ModuleFacts {
  const checkpoint::WeightSource& source;
  std::string_view module;
  const checkpoint::QuantGroup* declared = nullptr;
  bool pow2_scales = false;         // scale_fmt "ue8m0"
  bool actorder_in_floats = false;  // QuantConfig's
  DType compute = DType::kBF16;
  int32_t n = 0, k = 0;
  std::array<bool, kNumParts> present{};
  std::array<const checkpoint::TensorInfo*, kNumParts> infos{};  // null: absent, or made up

  bool has(Part p) const { return present[static_cast<size_t>(p)]; }
  // Header facts; null if the tensor is absent or its source makes tensors up.
  const checkpoint::TensorInfo* info(Part p) const { return infos[static_cast<size_t>(p)]; }
  // Is the tensor there with one of these types? Of a made-up tensor: `otherwise`.
  bool is_type(Part p, std::initializer_list<DType> types, bool otherwise) const;
  // Has the config a group of this format for the module?
  bool declares(std::string_view format) const { return declared && declared->format == format; }
  const checkpoint::QuantArgs* weight_args() const {
    return declared && declared->weights ? &*declared->weights : nullptr;
  }
  const checkpoint::QuantArgs* activation_args() const {
    return declared && declared->input_activations ? &*declared->input_activations : nullptr;
  }
};

ModuleFacts module_facts(const checkpoint::WeightSource& source,
                         const checkpoint::QuantConfig& config, std::string_view module, int32_t n,
                         int32_t k, DType compute);

// declared: what the config says of the module, or null.
ModuleFacts module_facts(const checkpoint::WeightSource& source,
                         const checkpoint::QuantGroup* declared, std::string_view module, int32_t n,
                         int32_t k);

}  // namespace moestro::quant
