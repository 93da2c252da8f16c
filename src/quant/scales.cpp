#include "quant/scales.h"

#include <cmath>
#include <cstring>

#include "base/format.h"
#include "tensor/numeric.h"

namespace moestro::quant {

float float_at(const std::byte* p, DType type, int64_t i) {
  switch (type) {
    case DType::kF32: {
      float v;
      std::memcpy(&v, p + i * 4, sizeof v);
      return v;
    }
    case DType::kF8E4M3:
      return e4m3_to_float(std::to_integer<uint8_t>(p[i]));
    case DType::kU8:
    case DType::kF8E8M0:
      return e8m0_to_float(std::to_integer<uint8_t>(p[i]));
    default: {
      uint16_t half;
      std::memcpy(&half, p + i * 2, sizeof half);
      return type == DType::kBF16 ? to_float(Bf16{half}) : to_float(F16{half});
    }
  }
}

uint32_t word_at(const checkpoint::TensorView& t, int64_t i) {
  uint32_t w;
  std::memcpy(&w, t.bytes.data() + i * 4, sizeof w);
  return w;
}

std::string tensor_name(std::string_view module, Part part) {
  return format("{}.{}", module, part_suffix(part));
}

Result<checkpoint::TensorView> read_scale_tensor(const checkpoint::WeightSource& source,
                                                 const std::string& name,
                                                 std::span<const int64_t> shape,
                                                 std::initializer_list<DType> accepted,
                                                 LoadedMatrix& m) {
  MOESTRO_ASSIGN(checkpoint::TensorView t, source.get(name, shape, accepted));
  for (int64_t i = 0, size = t.num_elements(); i < size; ++i)
    if (const float s = float_at(t.bytes.data(), t.dtype, i); !std::isfinite(s))
      return data_loss(
          format("tensor {}: scale {} of element {} is not a finite number", name, s, i));
  m.tensors.push_back(t);
  return t;
}

Status read_channel_scales(const checkpoint::WeightSource& source, const std::string& name,
                           int32_t n, LoadedMatrix& m, float factor) {
  const checkpoint::TensorInfo* info = source.find(name);
  const bool one =
      info && (info->shape.empty() || (info->shape.size() == 1 && info->shape[0] == 1));
  checkpoint::TensorView t;
  if (one || (info && info->shape.size() == 1)) {
    const std::vector<int64_t> shape = one ? info->shape : std::vector<int64_t>{n};
    MOESTRO_ASSIGN(t, read_scale_tensor(source, name, shape, kFloatTypes, m));
  } else {
    MOESTRO_ASSIGN(t, read_scale_tensor(source, name, {n, 1}, kFloatTypes, m));
  }
  m.scales.resize(static_cast<size_t>(n));
  for (int32_t i = 0; i < n; ++i)
    m.scales[static_cast<size_t>(i)] = float_at(t.bytes.data(), t.dtype, one ? 0 : i) * factor;
  m.source.scales = m.scales.data();
  return {};
}

Result<float> read_scalar(const checkpoint::WeightSource& source, const std::string& name,
                          LoadedMatrix& m) {
  const checkpoint::TensorInfo* info = source.find(name);
  const std::vector<int64_t> shape =
      info && info->shape.empty() ? std::vector<int64_t>() : std::vector<int64_t>{1};
  MOESTRO_ASSIGN(const checkpoint::TensorView t,
                 read_scale_tensor(source, name, shape, kFloatTypes, m));
  return float_at(t.bytes.data(), t.dtype, 0);
}

Status read_group_scales(const checkpoint::WeightSource& source, const std::string& name, int32_t n,
                         int32_t groups, std::initializer_list<DType> accepted, LoadedMatrix& m) {
  MOESTRO_ASSIGN(const checkpoint::TensorView t,
                 read_scale_tensor(source, name, {n, groups}, accepted, m));
  m.source.group_scales = t.bytes.data();
  m.stored.group_scale = t.dtype == DType::kU8 ? DType::kF8E8M0 : t.dtype;
  return {};
}

}  // namespace moestro::quant
