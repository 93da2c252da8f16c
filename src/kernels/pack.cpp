#include "kernels/pack.h"

#include <emmintrin.h>

#include <algorithm>
#include <array>
#include <cstring>

#include "base/check.h"
#include "tensor/numeric.h"

namespace moestro::kernels {
namespace {

using tensor::kKStepBytes;
using tensor::kPanelChannels;
using tensor::kTileChannels;
using tensor::PackedFormat;
using tensor::PackedMatrix;
using tensor::WeightType;

constexpr int64_t kTileBytes = kKStepBytes / 2;
constexpr int32_t kRowBytes = 64;  // of a channel in a k-step

// A channel's bytes of one k-step, and those of a tile's 16 channels.
using StepRow = std::array<uint8_t, kRowBytes>;
struct alignas(64) StepRows {
  std::array<StepRow, kTileChannels> of{};
};

float read_float(const std::byte* p, DType dtype) {
  if (dtype == DType::kF32) {
    float v;
    std::memcpy(&v, p, sizeof v);
    return v;
  }
  uint16_t bits;
  std::memcpy(&bits, p, sizeof bits);
  return dtype == DType::kBF16 ? to_float(Bf16{bits}) : to_float(F16{bits});
}

// Values that are stored as they are packed; past the row's end stands zero.
void take_stored(const std::byte* row, int64_t row_bytes, int32_t step, StepRow& out) {
  const int64_t at = int64_t{step} * kRowBytes;
  const auto bytes = static_cast<size_t>(std::clamp<int64_t>(row_bytes - at, 0, kRowBytes));
  if (bytes < kRowBytes) out.fill(0);
  std::memcpy(out.data(), row + at, bytes);
}

// Floats of another type.
void take_floats(WeightType type, const SourceMatrix& src, const std::byte* row, int32_t step,
                 StepRow& out) {
  const int32_t per_step = tensor::values_per_step(type), first = step * per_step;
  const int32_t values = std::clamp(src.k - first, 0, per_step);
  const int64_t width = bits(src.dtype) / 8;
  if (values < per_step) out.fill(0);
  const std::byte* from = row + first * width;
  if (type == WeightType::kF32) {
    for (int32_t i = 0; i < values; ++i) {
      const float v = read_float(from + i * width, src.dtype);
      std::memcpy(out.data() + 4 * i, &v, sizeof v);
    }
    return;
  }
  for (int32_t i = 0; i < values; ++i) {
    const Bf16 v = to_bf16(read_float(from + i * width, src.dtype));
    std::memcpy(out.data() + 2 * i, &v.bits, sizeof v.bits);
  }
}

// Four-bit codes: value j and value 64 + j of a k-step share a byte. Past k stands the code of
// zero.
void take_codes(const SourceMatrix& src, const std::byte* row, int32_t step, uint8_t zero,
                StepRow& out) {
  const int32_t first = step * 128;
  if (first + 128 <= src.k) {
    const auto* low = reinterpret_cast<const uint8_t*>(row) + first / 2;
    const uint8_t* high = low + 32;
    for (size_t i = 0; i < 32; ++i) {
      out[2 * i] = static_cast<uint8_t>((low[i] & 15) | high[i] << 4);
      out[2 * i + 1] = static_cast<uint8_t>(low[i] >> 4 | (high[i] & 0xf0));
    }
    return;
  }
  const auto code_at = [&](int32_t i) -> uint32_t {
    if (i >= src.k) return zero;
    const auto byte = std::to_integer<uint32_t>(row[i / 2]);
    return i % 2 ? byte >> 4 : byte & 15;
  };
  for (int32_t i = 0; i < kRowBytes; ++i)
    out[static_cast<size_t>(i)] =
        static_cast<uint8_t>(code_at(first + i) | code_at(first + 64 + i) << 4);
}

// Rows of channels become rows of k: [16 channels][16 x 4 bytes] transposed, by blocks of 4 x 4
// (SSE2, which every x86-64 has).
void write_tile(const StepRows& rows, std::byte* dst) {
  for (size_t unit = 0; unit < 16; unit += 4)
    for (size_t c = 0; c < 16; c += 4) {
      const auto load = [&](size_t i) {
        return _mm_load_si128(reinterpret_cast<const __m128i*>(rows.of[c + i].data() + 4 * unit));
      };
      const __m128i r0 = load(0), r1 = load(1), r2 = load(2), r3 = load(3);
      const __m128i a = _mm_unpacklo_epi32(r0, r1), b = _mm_unpackhi_epi32(r0, r1),
                    x = _mm_unpacklo_epi32(r2, r3), y = _mm_unpackhi_epi32(r2, r3);
      const auto store = [&](size_t i, __m128i v) {
        _mm_store_si128(reinterpret_cast<__m128i*>(dst + (unit + i) * kRowBytes + 4 * c), v);
      };
      store(0, _mm_unpacklo_epi64(a, x));
      store(1, _mm_unpackhi_epi64(a, x));
      store(2, _mm_unpacklo_epi64(b, y));
      store(3, _mm_unpackhi_epi64(b, y));
    }
}

// Channels of one tile: take(c, step, row) gives channel c's bytes of a k-step.
template <class Take>
void write_steps(int32_t channels, int32_t steps, std::byte* dst, Take take) {
  StepRows rows;
  for (int32_t s = 0; s < steps; ++s) {
    for (int32_t c = 0; c < channels; ++c) take(c, s, rows.of[static_cast<size_t>(c)]);
    write_tile(rows, dst + s * kKStepBytes);
  }
}

void pack_weights(const PackedMatrix& m, const SourceMatrix& src, int32_t first, int32_t channels,
                  std::byte* dst) {
  const WeightType type = m.format.weight;
  const auto row = [&](int32_t c) { return src.data + (first + c) * src.row_bytes; };
  if (tensor::bits_of(type) == 4) {
    const uint8_t zero = type == WeightType::kInt4 ? 8 : 0;
    write_steps(channels, m.k_steps(), dst,
                [&](int32_t c, int32_t s, StepRow& out) { take_codes(src, row(c), s, zero, out); });
  } else if (src.dtype == source_dtype(type)) {
    const int64_t row_bytes = int64_t{src.k} * tensor::bits_of(type) / 8;
    write_steps(channels, m.k_steps(), dst, [&](int32_t c, int32_t s, StepRow& out) {
      take_stored(row(c), row_bytes, s, out);
    });
  } else {
    write_steps(channels, m.k_steps(), dst, [&](int32_t c, int32_t s, StepRow& out) {
      take_floats(type, src, row(c), s, out);
    });
  }
}

int32_t sum_of_row(const SourceMatrix& src, int32_t c) {
  const auto* row = reinterpret_cast<const int8_t*>(src.data + c * src.row_bytes);
  int32_t sum = 0;
  for (int32_t i = 0; i < src.k; ++i) sum += row[i];
  return sum;
}

// The parts of dst that packing writes beside the weights.
struct Target {
  float* scales;
  int32_t* compensation;
  std::byte* group_scales;
  uint8_t* zero_points;
  Target(const PackedMatrix& m, std::byte* dst) {
    const tensor::PackedLayout layout = tensor::packed_layout(m.format, m.n, m.k);
    scales = reinterpret_cast<float*>(dst + layout.scales);
    compensation = reinterpret_cast<int32_t*>(dst + layout.compensation);
    group_scales = dst + layout.group_scales;
    zero_points = reinterpret_cast<uint8_t*>(dst + layout.zero_points);
  }
};

// Group scales and zero points of source channel c to packed channel p.
void pack_groups(const PackedMatrix& m, const SourceMatrix& src, const Target& to, int32_t c,
                 int32_t p) {
  const int32_t groups = m.groups(), width = tensor::group_scale_bytes(m.format);
  for (int32_t g = 0; g < groups; ++g) {
    const int64_t cell =
        (int64_t{p / kPanelChannels} * groups + g) * kPanelChannels + p % kPanelChannels;
    const int64_t from = int64_t{c} * groups + g;
    std::memcpy(to.group_scales + cell * width, src.group_scales + from * width,
                static_cast<size_t>(width));
    if (m.format.zero_points) to.zero_points[cell] = src.zero_points[from];
  }
}

// Rows first … of src become tile `tile` of m: its panel's half, 16 channels or what is left.
void pack_tile(const PackedMatrix& m, const SourceMatrix& src, int32_t first, int32_t tile,
               std::byte* dst) {
  const int32_t channels = std::min(kTileChannels, src.n - first);
  pack_weights(m, src, first, channels, dst + tile / 2 * m.panel_bytes() + tile % 2 * kTileBytes);
  const Target to(m, dst);
  for (int32_t c = 0; c < channels; ++c) {
    const int32_t p = tile * kTileChannels + c, from = first + c;
    if (tensor::has_channel_scales(m.format)) to.scales[p] = src.scales ? src.scales[from] : 1.0f;
    if (tensor::has_compensation(m.format)) to.compensation[p] = 128 * sum_of_row(src, from);
    pack_groups(m, src, to, from, p);
  }
}

void check_source(const PackedMatrix& m, const SourceMatrix& src, int32_t first) {
  CHECK(src.dtype == source_dtype(m.format.weight) ||
            (!tensor::has_channel_scales(m.format) &&
             (src.dtype == DType::kF32 || src.dtype == DType::kBF16 || src.dtype == DType::kF16)),
        "quantised sources are packed as they are, float sources as f32 or bf16");
  CHECK(first % kTileChannels == 0 && src.k == m.k, "a band is whole tiles of the matrix");
}

// A view over dst with room for [n, k]; every byte is zero afterwards, which is what padding holds.
PackedMatrix zeroed_view(const PackedFormat& format, int32_t n, int32_t k, std::byte* dst) {
  DCHECK(reinterpret_cast<uintptr_t>(dst) % 64 == 0, "packed matrices are 64-byte aligned");
  std::memset(dst, 0, static_cast<size_t>(tensor::packed_bytes(format, n, k)));
  return packed_view(format, n, k, dst);
}

}  // namespace

DType source_dtype(WeightType type) {
  switch (type) {
    case WeightType::kF32:
      return DType::kF32;
    case WeightType::kBf16:
      return DType::kBF16;
    case WeightType::kInt8:
      return DType::kI8;
    case WeightType::kFp8:
      return DType::kF8E4M3;
    case WeightType::kInt4:
      return DType::kU8;
    case WeightType::kFp4:
      break;
  }
  return DType::kF4;
}

PackedMatrix packed_view(const PackedFormat& f, int32_t n, int32_t k, const std::byte* data) {
  PackedMatrix m;
  m.format = f;
  m.n = n;
  m.k = k;
  if (data == nullptr) return m;
  const tensor::PackedLayout layout = tensor::packed_layout(f, n, k);
  m.data = data;
  if (tensor::has_channel_scales(f))
    m.scales = reinterpret_cast<const float*>(data + layout.scales);
  if (tensor::has_compensation(f))
    m.compensation = reinterpret_cast<const int32_t*>(data + layout.compensation);
  if (f.group_k) m.group_scales = data + layout.group_scales;
  if (f.zero_points) m.zero_points = reinterpret_cast<const uint8_t*>(data + layout.zero_points);
  return m;
}

void pack_channels(const PackedMatrix& m, const SourceMatrix& band, int32_t first, std::byte* dst) {
  check_source(m, band, first);
  for (int32_t c = 0; c < band.n; c += kTileChannels)
    pack_tile(m, band, c, (first + c) / kTileChannels, dst);
}

void pack_gate_up_channels(const PackedMatrix& m, const SourceMatrix& gate, const SourceMatrix& up,
                           int32_t first, std::byte* dst) {
  CHECK(gate.n == up.n && gate.k == up.k, "gate and up have one shape");
  check_source(m, gate, first);
  check_source(m, up, first);
  for (int32_t c = 0; c < gate.n; c += kTileChannels) {
    const int32_t panel = (first + c) / kTileChannels;
    pack_tile(m, gate, c, 2 * panel, dst);
    pack_tile(m, up, c, 2 * panel + 1, dst);
  }
}

PackedMatrix pack_matrix(const PackedFormat& format, const SourceMatrix& src, std::byte* dst) {
  const PackedMatrix m = zeroed_view(format, src.n, src.k, dst);
  pack_channels(m, src, 0, dst);
  return m;
}

PackedMatrix pack_gate_up(const PackedFormat& format, const SourceMatrix& gate,
                          const SourceMatrix& up, std::byte* dst) {
  const PackedMatrix m = zeroed_view(format, 2 * gate.n, gate.k, dst);
  pack_gate_up_channels(m, gate, up, 0, dst);
  return m;
}

}  // namespace moestro::kernels
