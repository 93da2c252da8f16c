// From codes to float values, for modules that are multiplied in float whatever their storage. Pure
// functions, any thread.
#pragma once
#include <string>
#include <string_view>

#include "quant/quant_method.h"

namespace moestro::quant {

// What a module does otherwise than the checkpoint says.
std::string substitution(std::string_view asked, std::string_view got, std::string_view because,
                         std::string_view cost);

// spec runs in floats of the compute type (kF32, kBF16), stated as a substitution. asked: "int4
// weights with a group index"; stored_bits: of one weight.
void run_in_floats(ModuleSpec& spec, DType compute, std::string_view asked,
                   std::string_view because, int32_t stored_bits);

// Float32 values of a stored matrix: (code - zero point) * scales[n] * group scale. Float matrices
// come back as they are.
LoadedMatrix dequantised(LoadedMatrix stored);

// values[c, i] = (code(c, i) - zero(c, g)) * scale(c, g), g = group(i), for codes that no packed
// format holds.
template <class Code, class Zero, class Scale, class Group>
void set_values(LoadedMatrix& m, int32_t n, int32_t k, Code code, Zero zero, Scale scale,
                Group group) {
  m.values.resize(static_cast<size_t>(n) * static_cast<size_t>(k));
  size_t at = 0;
  for (int32_t c = 0; c < n; ++c)
    for (int32_t i = 0; i < k; ++i, ++at) {
      const int32_t g = group(i);
      m.values[at] = static_cast<float>(code(c, i) - zero(c, g)) * scale(c, g);
    }
  m.stored = tensor::PackedFormat::kF32;
  m.source = {.data = reinterpret_cast<const std::byte*>(m.values.data()),
              .dtype = DType::kF32,
              .n = n,
              .k = k,
              .row_bytes = int64_t{k} * 4};
}

}  // namespace moestro::quant
