// From codes to float values, for modules that are multiplied in float whatever their storage. Pure
// functions, any thread.
#pragma once
#include <string>
#include <string_view>
#include <utility>

#include "quant/quant_method.h"

namespace moestro::quant {

// What a module does otherwise than the checkpoint says.
std::string substitution(std::string_view asked, std::string_view got, std::string_view because,
                         std::string_view cost);

// spec runs in floats of the compute type (kF32, kBF16), stated as a substitution. asked: "int4
// weights with a group index"; stored_bits: of one weight.
void run_in_floats(ModuleSpec& spec, DType compute, std::string_view asked,
                   std::string_view because, int32_t stored_bits);

// Float32 values of a stored matrix: (code - zero point) * scales[n] * group scale, made row by
// row. Float matrices come back as they are.
LoadedMatrix dequantised(LoadedMatrix stored);

// m becomes a float32 matrix [n, k] whose rows are made on demand: make(c, row) writes row c's k
// values.
template <class Make>
void make_float_rows(LoadedMatrix& m, int32_t n, int32_t k, Make make) {
  m.stored = tensor::PackedFormat::kF32;
  m.source = {.data = nullptr, .dtype = DType::kF32, .n = n, .k = k, .row_bytes = int64_t{k} * 4};
  m.make_rows = [k, make = std::move(make)](int32_t begin, int32_t end, std::byte* out) {
    for (int32_t c = begin; c < end; ++c, out += int64_t{k} * 4)
      make(c, reinterpret_cast<float*>(out));
  };
}

// values[c, i] = (code(c, i) - zero(c, g)) * scale(c, g), g = group(i), for codes that no packed
// format holds. The functions are kept with the matrix.
template <class Code, class Zero, class Scale, class Group>
void set_values(LoadedMatrix& m, int32_t n, int32_t k, Code code, Zero zero, Scale scale,
                Group group) {
  make_float_rows(m, n, k, [=](int32_t c, float* row) {
    for (int32_t i = 0; i < k; ++i) {
      const int32_t g = group(i);
      row[i] = static_cast<float>(code(c, i) - zero(c, g)) * scale(c, g);
    }
  });
}

}  // namespace moestro::quant
