// AMX tiles by inline assembly: configuration, loads, stores and products on tile registers 0..7.
// Used by gemm_*_amx.cpp on gang workers; the configuration belongs to the calling thread, which
// must have the kernel's permission (detect_isa asks). Why not the intrinsics: g++ 12's
// _tile_loadconfig claims to read 8 of the 64 bytes, so filling a local configuration is optimised
// away, and its _tile_loadd / _tile_stored name no memory at all, so packing may move past them.
#pragma once
#include <cstdint>

namespace moestro::platform {

// The 64-byte operand of ldtilecfg, palette 1. A tile with 0 rows and 0 bytes is not to be used.
struct alignas(64) TileConfig {
  uint8_t palette = 1;
  uint8_t start_row = 0;
  uint8_t reserved[14] = {};
  uint16_t row_bytes[16] = {};
  uint8_t rows[16] = {};

  void set(int tile, int num_rows) {  // rows of 64 bytes
    rows[tile] = static_cast<uint8_t>(num_rows);
    row_bytes[tile] = num_rows ? 64 : 0;
  }
};
static_assert(sizeof(TileConfig) == 64);

inline void load_tile_config(const TileConfig& config) {
  asm volatile("ldtilecfg %0" ::"m"(config) : "memory");
}
// Gives the tile state back: it keeps a core from deep sleep and makes context switches longer.
inline void release_tiles() { asm volatile("tilerelease" ::: "memory"); }

template <int tile>
inline void zero_tile() {
  asm volatile("tilezero %%tmm%c0" ::"i"(tile));
}
template <int tile>
inline void load_tile(const void* rows, int64_t stride) {
  asm volatile("tileloadd (%0,%1,1), %%tmm%c2" ::"r"(rows), "r"(stride), "i"(tile) : "memory");
}
// For rows that are read once: they do not push others out of L1.
template <int tile>
inline void stream_tile(const void* rows, int64_t stride) {
  asm volatile("tileloaddt1 (%0,%1,1), %%tmm%c2" ::"r"(rows), "r"(stride), "i"(tile) : "memory");
}
template <int tile>
inline void store_tile(void* rows, int64_t stride) {
  asm volatile("tilestored %%tmm%c2, (%0,%1,1)" ::"r"(rows), "r"(stride), "i"(tile) : "memory");
}
// c += a * b, a unsigned and b signed bytes, sums in int32.
template <int c, int a, int b>
inline void dot_u8s8() {
  asm volatile("tdpbusd %%tmm%c2, %%tmm%c1, %%tmm%c0" ::"i"(c), "i"(a), "i"(b));
}
// The same with a signed and b unsigned, and with both signed.
template <int c, int a, int b>
inline void dot_s8u8() {
  asm volatile("tdpbsud %%tmm%c2, %%tmm%c1, %%tmm%c0" ::"i"(c), "i"(a), "i"(b));
}
template <int c, int a, int b>
inline void dot_s8s8() {
  asm volatile("tdpbssd %%tmm%c2, %%tmm%c1, %%tmm%c0" ::"i"(c), "i"(a), "i"(b));
}
// c += a * b, bfloat16 pairs, sums in float32.
template <int c, int a, int b>
inline void dot_bf16() {
  asm volatile("tdpbf16ps %%tmm%c2, %%tmm%c1, %%tmm%c0" ::"i"(c), "i"(a), "i"(b));
}

}  // namespace moestro::platform
