// Target regions: an ISA file opens one after its last include and closes it at the end, so that
// code inside may use the instructions while standard-library templates, instantiated outside, stay
// baseline. No per-file -m flags. (g++ 12 knows amx-* targets; its _tile_loadconfig must not be
// used, see platform/amx_tile.h.)
#pragma once

#define MOESTRO_PRAGMA(x) _Pragma(#x)
#if defined(__clang__)
#define MOESTRO_TARGET_BEGIN(features) \
  MOESTRO_PRAGMA(clang attribute push(__attribute__((target(features))), apply_to = function))
#define MOESTRO_TARGET_END MOESTRO_PRAGMA(clang attribute pop)
#else
// g++ 12 takes the deliberately undefined operand inside its own AVX-512 intrinsics for a mistake.
#define MOESTRO_TARGET_BEGIN(features)                           \
  MOESTRO_PRAGMA(GCC push_options)                               \
  MOESTRO_PRAGMA(GCC diagnostic push)                            \
  MOESTRO_PRAGMA(GCC diagnostic ignored "-Wuninitialized")       \
  MOESTRO_PRAGMA(GCC diagnostic ignored "-Wmaybe-uninitialized") \
  MOESTRO_PRAGMA(GCC target(features))
#define MOESTRO_TARGET_END           \
  MOESTRO_PRAGMA(GCC diagnostic pop) \
  MOESTRO_PRAGMA(GCC pop_options)
#endif

#define MOESTRO_TARGET_AVX2_BEGIN MOESTRO_TARGET_BEGIN("avx,avx2,fma,f16c,bmi,bmi2")
#define MOESTRO_TARGET_AVX512_BEGIN \
  MOESTRO_TARGET_BEGIN("avx,avx2,fma,f16c,bmi,bmi2,avx512f,avx512bw,avx512dq,avx512vl,avx512cd")
#define MOESTRO_TARGET_AVX512_VNNI_BEGIN \
  MOESTRO_TARGET_BEGIN(                  \
      "avx,avx2,fma,f16c,bmi,bmi2,avx512f,avx512bw,avx512dq,avx512vl,avx512cd,avx512vnni")
#define MOESTRO_TARGET_AVX512_BF16_BEGIN \
  MOESTRO_TARGET_BEGIN(                  \
      "avx,avx2,fma,f16c,bmi,bmi2,avx512f,avx512bw,avx512dq,avx512vl,avx512cd,avx512bf16")
#define MOESTRO_TARGET_AMX_BEGIN                                                           \
  MOESTRO_TARGET_BEGIN(                                                                    \
      "avx,avx2,fma,f16c,bmi,bmi2,avx512f,avx512bw,avx512dq,avx512vl,avx512cd,avx512vnni," \
      "avx512bf16,amx-tile,amx-int8,amx-bf16")
